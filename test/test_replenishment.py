"""Lost points of a group are replaced on its body, and nowhere else."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray
from streams import stamp, texture

from taptr_ros.runtime.loading import load_backend
from taptr_ros.tracking import PointTracker, TrackerConfig, Tracks
from taptr_ros.tracking.regions import LabelMask
from taptr_ros.tracking.replenishment import Replenishment

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="needs ONNX Runtime for the shipped model"
)

HEIGHT, WIDTH, SIDE = 240, 320, 100
COUNT = 12
COVERED_FROM = 4
FRAMES = 31
CONFIG = TrackerConfig(capacity=COUNT, memory_slots=32, lost_after=4, scene_cut_threshold=0.0, replenish=True)


def corner(frame: int) -> tuple[int, int]:
    """Column and row of the body's first pixel."""
    return 60 + 2 * frame, 50 + frame


def image(frame: int) -> NDArray[np.uint8]:
    """A textured square that moves before a background; from some frame on its left half is behind something."""
    x, y = corner(frame)
    shown = texture(1)[100 - frame : 100 - frame + HEIGHT, 100:][:, :WIDTH].copy()
    shown[y : y + SIDE, x : x + SIDE] = texture(2)[:SIDE, :SIDE]
    if frame >= COVERED_FROM:
        shown[y - 20 : y + SIDE + 20, x - 30 : x + SIDE // 2] = texture(3)[: SIDE + 40, : SIDE // 2 + 30]
    return shown


def on_visible_body(xy: NDArray[np.float32], frame: int) -> NDArray[np.bool_]:
    """Which places [N,2] of a frame show the body."""
    x, y = corner(frame)
    left = x + SIDE // 2 if frame >= COVERED_FROM else x
    inside = (xy >= (left, y)) & (xy <= (x + SIDE - 1, y + SIDE - 1))
    return np.asarray(inside.all(axis=1))


def begin(config: TrackerConfig) -> PointTracker:
    """A tracker that has seen the first image and the body in it."""
    tracker = PointTracker(load_backend("taptr_small", threads=1), config)
    tracker.step(image(0), stamp(0))
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = corner(0)
    labels[y : y + SIDE, x : x + SIDE] = 1
    (added,) = tracker.add_regions(LabelMask.of(labels).regions(), COUNT, groups=[9], stamp=stamp(0))
    assert len(added.ids) == COUNT
    return tracker


def follow(tracker: PointTracker, frames: range) -> list[Tracks]:
    return [tracker.step(image(frame), stamp(frame)) for frame in frames]


def test_points_that_something_hides_for_long_are_replaced_on_the_part_that_is_seen() -> None:
    seen = follow(begin(CONFIG), range(1, FRAMES))
    first = set(range(1, COUNT + 1))
    replaced = 0
    for frame, tracks in enumerate(seen, 1):
        assert len(tracks.ids) <= COUNT
        assert set(tracks.group.tolist()) == {9}
        new = (tracks.age == 0) & ~np.isin(tracks.ids, list(first))
        assert on_visible_body(tracks.xy[new], frame).all()
        replaced += int(new.sum())
    last = seen[-1]
    assert replaced >= 3
    assert len(last.ids) == COUNT
    kept = set(last.ids.tolist()) & first
    assert len(kept) == COUNT - replaced
    # What was replaced is followed like the others.
    new = ~np.isin(last.ids, list(first))
    assert last.visible[new].all()
    assert on_visible_body(last.xy[new], FRAMES - 1).all()


def test_nothing_is_replaced_unless_it_is_wanted_and_it_can_be_wanted_at_any_time() -> None:
    tracker = begin(dataclasses.replace(CONFIG, replenish=False))
    seen = follow(tracker, range(1, 21))
    assert seen[-1].ids.tolist() == list(range(1, COUNT + 1))
    tracker.reconfigure(CONFIG)
    assert max(follow(tracker, range(21, 26))[-1].ids) > COUNT


def test_points_that_a_caller_removes_stay_removed() -> None:
    tracker = begin(CONFIG)
    follow(tracker, range(1, 3))
    tracker.remove([1, 2, 3, 4])
    assert len(follow(tracker, range(3, 17))[-1].ids) == COUNT - 4


def test_nothing_takes_the_place_of_a_body_that_has_gone() -> None:
    tracker = begin(CONFIG)
    follow(tracker, range(1, 4))
    tracks = [
        tracker.step(np.ascontiguousarray(texture(1)[100 : 100 + HEIGHT, 100 : 100 + WIDTH]), stamp(frame))
        for frame in range(4, 17)
    ]
    assert tracks[-1].ids.tolist() == list(range(1, COUNT + 1))


def test_views_are_forgotten_with_their_groups() -> None:
    views = Replenishment()
    grey = texture(0)[..., 0].copy()
    inside = np.zeros_like(grey)
    inside[50:450, 100:600] = 1
    for group in (1, 2):
        views.begin(group, grey, inside, [group], np.array([[300.0, 200.0]]))
    assert sum(view.grey.size for view in views._views.values()) < 2 * 132_000  # large ones are shrunk
    views.keep([2])
    assert list(views._views) == [2]
    views.keep(())
    assert not views._views
