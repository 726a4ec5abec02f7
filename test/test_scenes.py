"""Clips: shapes, determinism, choices in the configuration, and statistics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.training.scenes import Clip, SceneConfig, generate
from taptr_ros.training.scenes.motion import shake
from taptr_ros.training.scenes.statistics import clip_statistics

SMALL = SceneConfig(height=96, width=128, frames=8, points=64)


def equal(first: Clip, second: Clip) -> bool:
    return all(
        np.array_equal(getattr(first, field.name), getattr(second, field.name)) for field in dataclasses.fields(Clip)
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pictures, both larger than wide textures are."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, size in (("wide.jpg", (300, 500)), ("high.png", (1200, 700))):
        picture = cv2.resize(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), size[::-1])
        cv2.imwrite(str(folder / name), picture)
    (folder / "notes.txt").write_text("not a photo")
    return folder


@pytest.mark.parametrize("size", [(96, 128), (130, 64)])
def test_clip_has_the_shapes_asked_for(size) -> None:
    clip = generate(dataclasses.replace(SMALL, height=size[0], width=size[1], points=50), 3)
    assert clip.frames.shape == (8, *size, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.xy.shape == (50, 8, 2)
    assert clip.xy.dtype == np.float32
    assert clip.visible.shape == (50, 8)
    assert clip.visible.dtype == bool


@pytest.mark.parametrize("kind", ["layered", "spatial"])
def test_seed_alone_decides(photos, kind) -> None:
    config = dataclasses.replace(SMALL, kind=kind, photos=str(photos), cut_share=0.5)
    clips = [generate(config, seed) for seed in range(4)]
    assert not equal(clips[0], clips[1])
    for seed in (3, 0):
        assert equal(clips[seed], generate(config, seed))


@pytest.mark.parametrize(("kind", "cut_share"), [("layered", 0.0), ("layered", 1.0), ("spatial", 1.0)])
def test_every_point_is_seen_and_visible_points_lie_inside(kind, cut_share) -> None:
    for seed in range(4):
        clip = generate(dataclasses.replace(SMALL, kind=kind, cut_share=cut_share), seed)
        assert np.isfinite(clip.xy).all()
        assert clip.visible.any(axis=1).all()
        seen = clip.xy[clip.visible]
        assert (seen >= -0.5).all()
        assert (seen < np.array([SMALL.width, SMALL.height]) - 0.5).all()


def test_scene_cuts_change_the_picture_and_end_tracks() -> None:
    """Between scenes no point is seen in both; views of one scene share points."""
    config = dataclasses.replace(SMALL, cut_share=1.0, slowest=0.1, fastest=0.3, motion_blur_share=0.0)
    hidden_by_cut = jumps = 0
    for seed in range(8):
        clip = generate(config, seed)
        change = np.abs(np.diff(clip.frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
        cut = int(change.argmax())
        assert change[cut] > 1.5 * np.median(change)
        both = clip.visible[:, cut] & clip.visible[:, cut + 1]
        hidden_by_cut += not both.any()
        if both.any():
            jumps += np.linalg.norm(np.diff(clip.xy[both, cut : cut + 2], axis=1), axis=-1).mean() > 1.0
    assert hidden_by_cut >= 3
    assert jumps >= 1


def test_single_frame_and_many_frames() -> None:
    assert generate(dataclasses.replace(SMALL, frames=1), 0).visible.all()
    assert generate(dataclasses.replace(SMALL, frames=60, points=7), 0).xy.shape == (7, 60, 2)
    np.testing.assert_array_equal(shake(np.random.default_rng(0), 1, 2.0), [0.0])


def test_faster_clips_move_more() -> None:
    def motion(slowest: float, fastest: float) -> float:
        config = dataclasses.replace(SMALL, height=128, slowest=slowest, fastest=fastest)
        steps = [np.linalg.norm(np.diff(generate(config, seed).xy, axis=1), axis=-1) for seed in range(5)]
        return float(np.median(np.concatenate(steps)))

    assert motion(8.0, 10.0) > 2.0 * motion(0.2, 0.4)


def test_statistics_stay_in_the_documented_ranges() -> None:
    """The ranges are those of docs/scenes.md, widened for the few clips that a test has time for."""
    clips = [generate(dataclasses.replace(SMALL, height=128, width=128, frames=24), seed) for seed in range(10)]
    statistics = clip_statistics(clips)
    assert 0.6 < statistics.visible < 0.88
    assert 0.03 < statistics.hidden < 0.25
    # Half the size of the documented clips: half the motion.
    assert 0.7 < statistics.motion_median < 4.0
    assert 4.0 < statistics.motion_high < 15.0
    assert 0.05 < statistics.found_again < 0.5


def test_statistics_of_a_clip_worked_by_hand() -> None:
    xy = np.array([[[0, 0], [3, 4], [9, 9], [9, 9]], [[-5, 0], [0, 0], [0, 1], [0, 2]]], np.float32)
    visible = np.array([[True, True, False, True], [False, True, True, True]])
    statistics = clip_statistics([Clip(np.zeros((4, 10, 10, 3), np.uint8), xy, visible)])
    assert statistics.visible == 6 / 8
    assert statistics.hidden == 1 / 8
    assert statistics.found_again == 0.5
    assert statistics.motion_median == 1.0
    assert statistics.motion_high == pytest.approx(np.quantile([5, 1, 1], 0.95))


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "opera"), ("height", 8), ("frames", 0), ("points", 0), ("cut_share", 1.5), ("slowest", 20.0)],
)
def test_bad_values_are_named(field, value) -> None:
    with pytest.raises(InvalidConfigError, match=field):
        SceneConfig(**{field: value})


def test_folder_without_usable_photos_is_named(tmp_path) -> None:
    config = dataclasses.replace(SMALL, photos=str(tmp_path), photo_share=1.0)
    with pytest.raises(SourceError, match="no photos"):
        generate(config, 0)
    (tmp_path / "broken.jpg").write_text("no picture")
    with pytest.raises(SourceError, match=r"broken\.jpg"):
        generate(config, 0)
