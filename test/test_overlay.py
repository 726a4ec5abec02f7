"""What is drawn for tracks, what is not, and that the videos and npz files hold what was given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from taptr_ros.cli.tracks_file import TracksFile
from taptr_ros.drawing.overlay import LABELLED_POINTS, TRAIL_FRAMES, OverlayVideo, TrackOverlay, is_overlay
from taptr_ros.tracking.states import Tracks, TrackState

HEIGHT, WIDTH = 120, 160
GREY = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def tracks(positions: dict[int, tuple[float, float]], state: TrackState = TrackState.VISIBLE, stamp: int = 0) -> Tracks:
    """Tracks by id, all in one state."""
    count = len(positions)
    visible = np.full(count, state == TrackState.VISIBLE)
    zeros = np.zeros(count, np.uint32)
    return Tracks(
        ids=np.array(list(positions), np.uint64),
        group=zeros,
        xy=np.array(list(positions.values()), np.float32).reshape(count, 2),
        visibility=np.where(visible, 0.75, 0.25).astype(np.float32),
        confidence=np.ones(len(visible), np.float32),
        visible=visible,
        state=np.full(count, state, np.uint8),
        age=zeros,
        frames_since_seen=zeros,
        stamp=stamp,
        width=WIDTH,
        height=HEIGHT,
        scene_cut=False,
    )


def changed(image: np.ndarray) -> np.ndarray:
    """Pixels that differ from the grey background."""
    return (image != GREY).any(axis=2)


def saturation(colour: np.ndarray) -> int:
    return int(colour.max()) - int(colour.min())


def test_visible_point_is_a_disc_and_occluded_one_has_a_dark_core() -> None:
    visible = TrackOverlay().draw(GREY, tracks({1: (50, 60)}))
    occluded = TrackOverlay().draw(GREY, tracks({1: (50, 60)}, TrackState.OCCLUDED))
    assert saturation(visible[60, 50]) > 100
    assert occluded[60, 50].max() < 40
    ring = occluded[60, 50:56]
    assert max(saturation(colour) for colour in ring) > 60
    assert (GREY == 128).all()


@pytest.mark.parametrize("state", [TrackState.LOST, TrackState.OUT_OF_VIEW])
def test_points_without_a_known_position_are_not_drawn(state: TrackState) -> None:
    assert not changed(TrackOverlay().draw(GREY, tracks({1: (50, 60)}, state))).any()


def test_ids_have_different_colours() -> None:
    image = TrackOverlay().draw(GREY, tracks({1: (40, 60), 2: (80, 60), 3: (120, 60)}))
    colours = [image[60, x].astype(int) for x in (40, 80, 120)]
    assert all(np.abs(a - b).max() > 80 for index, a in enumerate(colours) for b in colours[:index])


def test_trail_follows_the_point_fades_and_ends() -> None:
    overlay = TrackOverlay()
    for x in range(20, 20 + TRAIL_FRAMES + 1):
        image = overlay.draw(GREY, tracks({1: (3.0 * x - 50, 100)}))
    oldest, newest = image[100, 12], image[100, 60]
    assert saturation(newest) > saturation(oldest) > 0
    for _ in range(TRAIL_FRAMES + 1):
        image = overlay.draw(GREY, tracks({1: (82, 100)}))
    assert not changed(image)[95:, :70].any()


def test_trail_is_broken_while_the_point_is_lost() -> None:
    overlay = TrackOverlay()
    for x in (20, 30, 40):
        overlay.draw(GREY, tracks({1: (x, 100)}))
    overlay.draw(GREY, tracks({1: (60, 100)}, TrackState.LOST))
    overlay.draw(GREY, tracks({1: (90, 100)}))
    image = overlay.draw(GREY, tracks({1: (110, 100)}))
    on_line = changed(image)[100]
    assert on_line[21:40].all()
    assert not on_line[42:89].any()
    assert on_line[91:110].all()


def test_a_lost_point_takes_its_trail_along() -> None:
    overlay = TrackOverlay()
    for x in range(20, 60):
        assert changed(overlay.draw(GREY, tracks({1: (x, 60)}))).any()
    assert not changed(overlay.draw(GREY, tracks({1: (60, 60)}, TrackState.LOST))).any()


def test_trails_belong_to_ids_whatever_the_rows() -> None:
    overlay = TrackOverlay()
    overlay.draw(GREY, tracks({7: (20, 40), 9: (20, 100)}))
    overlay.draw(GREY, tracks({7: (60, 40), 9: (60, 100)}))
    image = overlay.draw(GREY, tracks({9: (100, 100), 8: (100, 70)}))
    assert changed(image)[100, 21:100].all()
    assert not changed(image)[40].any()
    assert not changed(image)[70, :90].any()


def test_ids_are_written_inside_the_picture_unless_there_are_many() -> None:
    corner = changed(TrackOverlay().draw(GREY, tracks({123: (WIDTH - 2, 1)})))
    assert corner[:, : WIDTH - 12].any()
    side = int(np.ceil(np.sqrt(LABELLED_POINTS + 1)))
    grid = {1 + row * side + column: (8 + 16 * column, 8 + 13 * row) for row in range(side) for column in range(side)}
    image = TrackOverlay().draw(GREY, tracks(grid))
    near_points = np.zeros((HEIGHT, WIDTH), bool)
    for x, y in grid.values():
        near_points[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = True
    assert not (changed(image) & ~near_points).any()


def test_no_tracks_leave_the_image_as_it_is() -> None:
    assert np.array_equal(TrackOverlay().draw(GREY, tracks({})), GREY)


def test_video_holds_the_frames_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with OverlayVideo(path, 12.5) as video:
        for level in (40, 120, 200):
            video.write(np.full((64, 80, 3), (level, 60, 90), np.uint8))
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    means = []
    while (read := capture.read())[0]:
        assert read[1].shape == (64, 80, 3)
        means.append(read[1].mean(axis=(0, 1)))
    assert np.allclose(means, [[90, 60, 40], [90, 60, 120], [90, 60, 200]], atol=6)


@pytest.mark.parametrize("rate", [24000 / 1001, 65.536, 66.667, 89.987, 196.263, 655.361, 1000.0, 0.01])
def test_video_has_nearly_the_rate_that_was_asked_for_whatever_its_digits(tmp_path: Path, rate: float) -> None:
    path = tmp_path / "out.mp4"
    with OverlayVideo(path, rate) as video:
        for _ in range(3):
            video.write(GREY)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(
    ("size", "written"),
    [((9000, 64), (8190, 58)), ((64, 16380), (32, 8190)), ((8190, 64), (8190, 64)), ((64, 1), (64, 2))],
)
def test_video_has_a_size_that_the_codec_takes(tmp_path: Path, size: tuple[int, int], written: tuple[int, int]) -> None:
    path = tmp_path / "out.mp4"
    with OverlayVideo(path, 30.0) as video:
        video.write(np.zeros((size[1], size[0], 3), np.uint8))
    assert cv2.VideoCapture(str(path)).read()[1].shape == (written[1], written[0], 3)


def test_frames_of_another_size_are_stretched_to_that_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with OverlayVideo(path, 30.0) as video:
        video.write(np.full((64, 80, 3), 40, np.uint8))
        video.write(np.full((32, 20, 3), 200, np.uint8))
    capture = cv2.VideoCapture(str(path))
    assert [capture.read()[1].mean() for _ in range(2)] == pytest.approx([40, 200], abs=5)


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with OverlayVideo(Path("12:30:00.mp4"), 30.0) as video:
        video.write(GREY)
    assert is_overlay(tmp_path / "12:30:00.mp4")


def test_an_overlay_is_told_from_other_videos(tmp_path: Path) -> None:
    ours, other, empty = tmp_path / "ours.mp4", tmp_path / "other.mp4", tmp_path / "empty.mp4"
    with OverlayVideo(ours, 30.0) as video:
        video.write(GREY)
    writer = cv2.VideoWriter(str(other), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (WIDTH, HEIGHT))
    writer.write(GREY)
    writer.release()
    empty.touch()
    assert [is_overlay(path) for path in (ours, other, empty)] == [True, False, False]


def test_video_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with (
        OverlayVideo(tmp_path / "missing" / "out.mp4", 30.0) as video,
        pytest.raises(OSError, match="cannot be written"),
    ):
        video.write(GREY)


def test_tracks_file_puts_every_track_into_the_column_of_its_id(tmp_path: Path) -> None:
    frames = [tracks({5: (1, 2)}, stamp=10), tracks({5: (3, 4), 2: (5, 6)}, TrackState.OCCLUDED, stamp=20)]
    frames[1] = dataclasses.replace(frames[1], group=np.array([0, 9], np.uint32))
    path = tmp_path / "tracks"
    TracksFile.collect(np.array([2, 5], np.uint64), frames).save(path)
    with np.load(path) as arrays:
        content = dict(arrays)
    assert {name: (array.dtype.name, array.shape) for name, array in content.items()} == {
        "xy": ("float32", (2, 2, 2)),
        "visibility": ("float32", (2, 2)),
        "confidence": ("float32", (2, 2)),
        "visible": ("bool", (2, 2)),
        "state": ("uint8", (2, 2)),
        "ids": ("uint64", (2,)),
        "groups": ("uint32", (2,)),
        "stamps": ("int64", (2,)),
    }
    assert np.array_equal(content["xy"], [[[np.nan, np.nan], [1, 2]], [[5, 6], [3, 4]]], equal_nan=True)
    assert content["visibility"].tolist() == [[0.0, 0.75], [0.25, 0.25]]
    assert content["confidence"].tolist() == [[0.0, 1.0], [1.0, 1.0]]
    assert content["visible"].tolist() == [[False, True], [False, False]]
    assert content["state"].tolist() == [[TrackState.LOST, TrackState.VISIBLE], [TrackState.OCCLUDED] * 2]
    assert content["ids"].tolist() == [2, 5]
    assert content["groups"].tolist() == [9, 0]
    assert content["stamps"].tolist() == [10, 20]
