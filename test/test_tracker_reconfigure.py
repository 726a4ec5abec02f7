"""Thresholds that change while points are tracked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import stamp, view

from taptr_ros.errors import InvalidConfigError, InvalidStampError
from taptr_ros.settings import settings_of
from taptr_ros.tracking import PointTracker, TrackerConfig

CONFIG = TrackerConfig(capacity=8, memory_slots=16)
POINTS = np.array([[100.0, 90.0], [60.25, 50.0]])


@pytest.fixture
def tracker() -> PointTracker:
    tracker = PointTracker(ReferenceBackend(), CONFIG)
    tracker.add(POINTS)
    tracker.step(view(0), stamp(0))
    return tracker


def test_visibility_is_decided_with_the_new_threshold(tracker):
    assert tracker.step(view(1), stamp(1)).visible.all()
    tracker.reconfigure(dataclasses.replace(CONFIG, visible_threshold=1.0, visibility_hysteresis=0.0))
    assert not tracker.step(view(2), stamp(2)).visible.any()
    tracker.reconfigure(CONFIG)
    assert tracker.step(view(3), stamp(3)).visible.all()


def test_points_from_the_past_obey_the_new_threshold(tracker):
    for frame in (1, 2, 3):
        tracker.add(POINTS[:1], stamp=stamp(frame - 1))
        tracker.step(view(frame), stamp(frame))
    tracker.reconfigure(dataclasses.replace(CONFIG, visible_threshold=1.0, visibility_hysteresis=0.0))
    (added,) = tracker.add(POINTS[:1], stamp=stamp(2))
    tracks = tracker.step(view(4), stamp(4))
    # Not seen since it started, neither on the way to the present nor in this frame.
    assert tracks.frames_since_seen[tracks.ids == added] == 2


def test_history_and_tolerance_follow(tracker):
    tracker.reconfigure(dataclasses.replace(CONFIG, history_seconds=0.0, stamp_tolerance=0.0))
    tracker.step(view(1), stamp(1))
    with pytest.raises(InvalidStampError):
        tracker.add(POINTS, stamp=stamp(0))


def test_scene_cuts_follow(tracker):
    gap = dataclasses.replace(CONFIG, gap_seconds=0.01)
    tracker.reconfigure(gap)
    assert tracker.step(view(1), stamp(1)).scene_cut
    tracker.reconfigure(CONFIG)
    assert not tracker.step(view(2), stamp(2)).scene_cut
    assert tracker.step(view(3, seed=5), stamp(3)).scene_cut


def test_a_detector_switched_on_again_does_not_compare_with_the_past(tracker):
    tracker.reconfigure(dataclasses.replace(CONFIG, scene_cut_threshold=0.0))
    assert not tracker.step(view(1, seed=5), stamp(1)).scene_cut
    tracker.reconfigure(CONFIG)
    assert not tracker.step(view(2, seed=5), stamp(2)).scene_cut


@pytest.mark.parametrize("name", [entry.name for entry in settings_of(TrackerConfig) if not entry.live])
def test_the_layout_of_the_memory_cannot_change(tracker, name):
    other = {"pin_query_frame": False, "support": "grid"}.get(name, 4)
    with pytest.raises(InvalidConfigError, match=f"^{name} is"):
        tracker.reconfigure(dataclasses.replace(CONFIG, match_gate=0.1, **{name: other}))
    assert tracker.config == CONFIG
