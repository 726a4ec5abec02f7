"""Points that start in a past frame, and points that wait for one to come."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import PERIOD, stamp, view

from taptr_ros.errors import CapacityError, DuplicateIdError, InvalidConfigError, InvalidStampError
from taptr_ros.runtime.coordinates import UnitCoordinates
from taptr_ros.tracking import PointTracker, TrackerConfig
from taptr_ros.tracking.history import EncodedFrame, FrameHistory

POINTS = np.array([[100.0, 90.0], [60.0, 50.0]])


def history_of(count: int, **limits: float) -> FrameHistory:
    history = FrameHistory(**{"seconds": 10.0, "frames": 100, "tolerance": 0.01, **limits})
    for frame in range(count):
        grey = np.zeros((4, 4), np.uint8)
        history.append(
            EncodedFrame(frame, stamp(frame), UnitCoordinates(4, 4, False), f"features {frame}", grey, False)
        )
    return history


def held(history: FrameHistory) -> list[int]:
    frames = []
    for frame in range(history.last.number + 1):
        with contextlib.suppress(InvalidStampError):
            frames.append(history.start_of(stamp(frame)).number)
    return frames


def test_history_is_limited_in_frames_and_in_time():
    assert held(history_of(50, frames=7)) == list(range(43, 50))
    assert held(history_of(50, seconds=5 * PERIOD / 1e9)) == list(range(44, 50))
    assert held(history_of(50, seconds=0.0)) == [49]


def test_history_gives_each_frame_with_the_features_before_it():
    history = history_of(20, frames=8)
    frames = list(history.since(history.start_of(stamp(17))))
    assert [frame.number for frame, _ in frames] == [17, 18, 19]
    assert [previous for _, previous in frames] == [None, "features 17", "features 18"]


def run(tracker: PointTracker, frames: range):
    return [tracker.step(view(frame), stamp(frame)) for frame in frames][-1]


def test_a_point_of_the_last_frame_moves_in_the_next():
    tracker = PointTracker(ReferenceBackend())
    run(tracker, range(4))
    tracker.add(POINTS, stamp=stamp(3))
    assert run(tracker, range(4, 5)).age.tolist() == [1, 1]


@pytest.mark.parametrize("offset", [-0.4, 0.4])
def test_a_point_of_a_frame_never_seen_starts_in_the_nearest(offset):
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(stamp_tolerance=0.02))
    run(tracker, range(10))
    tracker.add(POINTS, stamp=stamp(5) + int(offset * PERIOD))
    assert run(tracker, range(10, 11)).age.tolist() == [5, 5]


def test_without_tolerance_only_the_exact_stamp_is_taken():
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(stamp_tolerance=0.0))
    run(tracker, range(10))
    with pytest.raises(InvalidStampError, match="frame history"):
        tracker.add(POINTS, stamp=stamp(5) + 1)
    tracker.add(POINTS, stamp=stamp(5))
    assert run(tracker, range(10, 11)).age.tolist() == [5, 5]


def test_a_point_of_a_coming_frame_waits_for_it():
    tracker = PointTracker(ReferenceBackend())
    tracker.add(POINTS, stamp=stamp(3))
    assert len(run(tracker, range(3)).ids) == 0
    assert tracker.ids.tolist() == [1, 2]
    tracks = run(tracker, range(3, 4))
    np.testing.assert_allclose(tracks.xy, POINTS, atol=1e-4)
    assert tracks.age.tolist() == [0, 0]


def test_a_point_whose_frame_was_left_out_starts_in_the_nearest_of_both_sides():
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(stamp_tolerance=0.05))
    run(tracker, range(4))
    tracker.add(POINTS[:1], stamp=stamp(4))
    tracker.add(POINTS[1:], stamp=stamp(5))
    tracks = run(tracker, range(6, 7))  # frames 4 and 5 never come
    assert tracks.ids.tolist() == [1, 2]
    assert tracks.age.tolist() == [1, 0]
    np.testing.assert_allclose(tracks.xy[1], POINTS[1], atol=1e-4)


def test_a_point_whose_frame_never_came_is_dropped_and_reported_once():
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(stamp_tolerance=0.05))
    tracker.add(POINTS[:1])
    run(tracker, range(4))
    tracker.add(POINTS[1:], stamp=stamp(10))
    tracks = tracker.step(view(20), stamp(20))
    (refused,) = tracks.refused
    assert refused.id == 2
    assert "frame history" in refused.reason
    assert tracker.ids.tolist() == [1]
    assert tracks.age.tolist() == [4]


def test_points_that_catch_up_together_attend_to_each_other_only():
    config = TrackerConfig(support="none")
    tracker = PointTracker(ReferenceBackend(self_attention=True), config)
    tracker.add([[30.0, 30.0]])
    run(tracker, range(3))
    run(tracker, range(3, 10))
    tracker.add(POINTS, stamp=stamp(3))

    apart = PointTracker(ReferenceBackend(self_attention=True), config)
    run(apart, range(3))
    apart.add(POINTS)
    expected = run(apart, range(3, 10))
    live = tracker._live.tracks
    np.testing.assert_allclose(UnitCoordinates(160, 120, False).to_pixels(live["xy"][1:]), expected.xy, atol=1e-4)


def test_catching_up_goes_through_a_scene_cut():
    """A point chosen before a cut is sought after it, as if it had been there in time."""

    def image(frame: int):
        return view(frame) if frame < 6 else view(frame, seed=1)

    late, in_time = PointTracker(ReferenceBackend()), PointTracker(ReferenceBackend())
    for frame in range(10):
        if frame == 3:
            in_time.add(POINTS)
        late.step(image(frame), stamp(frame))
        in_time.step(image(frame), stamp(frame))
    late.add(POINTS, stamp=stamp(3))
    actual, expected = (tracker.step(image(10), stamp(10)) for tracker in (late, in_time))
    np.testing.assert_array_equal(actual.state, expected.state)
    np.testing.assert_array_equal(actual.frames_since_seen, expected.frames_since_seen)
    np.testing.assert_allclose(actual.xy, expected.xy, atol=1e-4)


def late_follower(first: int, ids: list[int], **config: int) -> PointTracker:
    """A tracker whose points start in an earlier frame, and that has seen the frames since, up to frame 9."""
    follower = PointTracker(ReferenceBackend(), TrackerConfig(**config), first_number=first)
    follower.add(POINTS, ids=ids)
    run(follower, range(first, 10))
    return follower


def test_tracks_of_another_tracker_go_on_as_if_they_had_always_been_here():
    expected = PointTracker(ReferenceBackend())
    run(expected, range(4))
    expected.add(POINTS, ids=[7, 8])
    run(expected, range(4, 10))
    tracker = PointTracker(ReferenceBackend())
    first = tracker.add([[80.0, 60.0]]).tolist()
    run(tracker, range(10))
    tracker.take_over(late_follower(4, [7, 8]))
    assert tracker.tracks.ids.tolist() == [*first, 7, 8]
    one, other = run(tracker, range(10, 16)), run(expected, range(10, 16))
    assert one.age.tolist()[1:] == other.age.tolist()
    np.testing.assert_array_equal(one.xy[1:], other.xy)
    assert tracker.add([[80.0, 60.0]]).tolist() == [9]  # ids do not repeat


def test_tracks_of_a_tracker_that_does_not_fit_are_not_taken():
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(capacity=2))
    tracker.add([[80.0, 60.0]], ids=[7])
    run(tracker, range(10))
    for follower, error, words in (
        (PointTracker(ReferenceBackend()), InvalidStampError, "not seen the same"),
        (late_follower(4, [1, 2], memory_slots=3), InvalidConfigError, "memory_slots"),
        (late_follower(4, [7, 8]), DuplicateIdError, "Id 7"),
        (late_follower(4, [8, 9]), CapacityError, "capacity of 2"),
    ):
        with pytest.raises(error, match=words):
            tracker.take_over(follower)
    assert tracker.ids.tolist() == [7]
