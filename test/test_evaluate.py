"""Evaluation end to end: real tracker, real backend, made videos whose motion is known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taptr_ros.errors import DatasetError
from taptr_ros.evaluation.datasets import AnnotatedSequence
from taptr_ros.evaluation.evaluate import evaluate
from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend
from taptr_ros.tracking.config import TrackerConfig

FRAMES, SIDE = 12, 128
STEP = np.array([1.5, -0.75], np.float32)
CONFIG = TrackerConfig(memory_slots=1, scene_cut_threshold=0.0)


def moving_texture() -> NDArray[np.uint8]:
    """Return a video, uint8 [T,SIDE,SIDE,3], of a texture that moves by STEP per frame."""
    noise = np.random.default_rng(0).random((3 * SIDE, 3 * SIDE), np.float32)
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for t in range(FRAMES):
        shift = STEP * t - SIDE
        to_frame = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
        frame = np.clip(cv2.warpAffine(wide, to_frame, (SIDE, SIDE), flags=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
        frames.append(np.repeat(frame[..., np.newaxis], 3, axis=2))
    return np.stack(frames)


def moving_sequence(name: str = "moving", **changes: object) -> AnnotatedSequence:
    """Return the moving texture with 9 points on it, all visible throughout."""
    x, y = np.meshgrid([40.0, 60.0, 80.0], [45.0, 65.0, 85.0])
    at_start = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    points = (at_start + np.arange(FRAMES)[:, np.newaxis] * STEP).astype(np.float32)
    fields = {
        "name": name,
        "frames": moving_texture(),
        "points": points,
        "occluded": np.zeros(points.shape[:2], np.bool_),
        "valid": np.ones(points.shape[:2], np.bool_),
        "size": (SIDE, SIDE),
    }
    return AnnotatedSequence(**{**fields, **changes})


def run(*sequences: AnnotatedSequence, **options: object) -> dict:
    return evaluate(LucasKanadeBackend(), sequences, **{"tracker_config": CONFIG, **options})


@pytest.mark.parametrize("raster", [(256, 256), (100, 180), None])
@pytest.mark.parametrize("query_mode", ["first", "strided"])
def test_a_motion_that_can_be_followed_scores_100(query_mode: str, raster: tuple[int, int] | None) -> None:
    result = run(moving_sequence(), query_mode=query_mode, raster=raster)
    # 1 px on the metric's raster is half a pixel of this video: pixel conventions half a pixel off would miss it.
    assert result["mean"] == {"AJ": 100.0, "delta_avg": 100.0, "OA": 100.0, "n": 1}


def test_the_result_can_be_written_as_json_and_has_the_documented_keys() -> None:
    result = json.loads(json.dumps(run(moving_sequence("a"), moving_sequence("b"))))
    assert result["mean"].keys() == {"AJ", "delta_avg", "OA", "n"}
    assert result["mean"]["n"] == 2
    assert list(result["sequences"]) == ["a", "b"]
    for values in result["sequences"].values():
        assert values.keys() == {"AJ", "delta_avg", "OA", "frames", "points", "seconds"}
        assert (values["frames"], values["points"]) == (FRAMES, 9)
        assert values["seconds"] > 0


def test_wrong_ground_truth_scores_as_counted_by_hand() -> None:
    sequence = moving_sequence()
    points = sequence.points.copy()
    points[0, 6:, 0] += 3.0  # 6 px on the metric's raster: beyond 1, 2 and 4, within 8 and 16
    occluded = np.zeros_like(sequence.occluded)
    occluded[1, 11] = True
    values = run(moving_sequence(points=points, occluded=occluded))["sequences"]["moving"]
    # Evaluated: 9 tracks of 11 frames, 99 entries, of which 98 visible. All are predicted visible.
    assert values["OA"] == pytest.approx(100 * 98 / 99)
    # Within 1, 2, 4: 92 of 98; within 8, 16: all.
    assert values["delta_avg"] == pytest.approx((3 * 100 * 92 / 98 + 2 * 100) / 5)
    # False positives: the hidden entry, and 6 more below 8 px.
    assert values["AJ"] == pytest.approx((3 * 100 * 92 / (98 + 7) + 2 * 100 * 98 / (98 + 1)) / 5)


def test_entries_without_ground_truth_are_left_out() -> None:
    sequence = moving_sequence()
    points = sequence.points.copy()
    points[0, 6:] = 0.0
    occluded = sequence.occluded.copy()
    occluded[1, 9] = True
    valid = np.ones_like(sequence.valid)
    valid[0, 6:] = valid[1, 9] = False
    assert run(moving_sequence(points=points, occluded=occluded, valid=valid))["mean"]["AJ"] == 100.0


def test_points_start_where_they_are_first_visible() -> None:
    sequence = moving_sequence()
    points, occluded = sequence.points.copy(), sequence.occluded.copy()
    # Were the track started earlier, it would start at a wrong place.
    points[4, :5] = 20.0
    occluded[4, :5] = True
    occluded[8] = True
    result = run(moving_sequence(points=points, occluded=occluded))
    assert result["sequences"]["moving"]["points"] == 8
    assert result["mean"]["AJ"] == 100.0


def test_strided_queries_start_in_every_fifth_frame_and_count_to_both_ends() -> None:
    sequence = moving_sequence()
    points = sequence.points.copy()
    points[0, 0] += 40.0  # wrong in frame 0 alone: its own query fails everywhere, the two others fail in frame 0
    values = run(moving_sequence(points=points), query_mode="strided")["sequences"]["moving"]
    # 9 points in frames 0, 5 and 10, each over the 11 other frames: 297 entries, of which 11 + 1 + 1 are wrong.
    assert values["points"] == 27
    assert values["delta_avg"] == pytest.approx(100 * (297 - 13) / 297)


@pytest.mark.parametrize("query_mode", ["first", "strided"])
def test_more_queries_than_the_tracker_holds_take_further_passes(query_mode: str) -> None:
    together = run(moving_sequence(), query_mode=query_mode)
    apart = run(
        moving_sequence(), query_mode=query_mode, tracker_config=TrackerConfig(capacity=4, scene_cut_threshold=0.0)
    )
    assert apart["mean"] == together["mean"]
    assert apart["sequences"]["moving"]["points"] == together["sequences"]["moving"]["points"]


@pytest.mark.parametrize(("query_mode", "steps"), [("first", FRAMES), ("strided", FRAMES + 11)])
def test_progress_counts_every_frame_of_every_pass(query_mode: str, steps: int) -> None:
    told: list[tuple[str, int, int]] = []
    run(moving_sequence(), query_mode=query_mode, progress=lambda *step: told.append(step))
    # Strided, the backward pass begins in the last query frame, 10.
    assert told == [("moving", done, steps) for done in range(1, steps + 1)]


def test_a_query_on_the_very_edge_is_tracked() -> None:
    sequence = moving_sequence()
    points = sequence.points.copy()
    points[0, 0] = [SIDE + 0.001, SIDE]
    assert run(moving_sequence(points=points))["sequences"]["moving"]["points"] == 9


def test_a_sequence_with_nothing_to_measure_is_left_out_of_the_mean() -> None:
    nothing = moving_sequence("nothing", occluded=np.ones((9, FRAMES), np.bool_))
    result = run(nothing, moving_sequence())
    assert result["mean"] == {"AJ": 100.0, "delta_avg": 100.0, "OA": 100.0, "n": 1}
    assert result["sequences"]["nothing"] == {
        "AJ": None,
        "delta_avg": None,
        "OA": None,
        "frames": FRAMES,
        "points": 0,
        "seconds": 0.0,
    }


def test_visibility_is_decided_by_the_models_threshold_alone() -> None:
    strict = TrackerConfig(visible_threshold=1.0, visibility_hysteresis=0.5, scene_cut_threshold=0.0)
    assert run(moving_sequence(), tracker_config=strict)["mean"]["OA"] == 100.0


def test_two_sequences_of_one_name_are_refused() -> None:
    with pytest.raises(DatasetError, match="two sequences named moving"):
        run(moving_sequence(), moving_sequence())


def test_a_dataset_without_sequences_is_refused() -> None:
    with pytest.raises(DatasetError, match="no sequence"):
        run()


def test_sequences_are_read_one_at_a_time() -> None:
    events: list[str] = []

    def dataset() -> Iterator[AnnotatedSequence]:
        for name in ("a", "b"):
            events.append(f"read {name}")
            yield moving_sequence(name)

    evaluate(
        LucasKanadeBackend(),
        dataset(),
        tracker_config=CONFIG,
        progress=lambda name, done, total: events.append(f"tracked {name}") if done == total else None,
    )
    assert events == ["read a", "tracked a", "read b", "tracked b"]


def test_evaluating_lucas_kanade_needs_neither_torch_nor_onnxruntime() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnxruntime'] = None\n"
        "import taptr_ros.evaluation.evaluate, taptr_ros.runtime.lucas_kanade"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
