"""What `PointTracker` reports and how points come and go."""

from __future__ import annotations

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import HEIGHT, WIDTH, stamp, true_position, view

from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackState
from taptr_ros.tracking.states import is_visible, track_states

POINTS = np.array([[100.0, 90.0], [60.25, 50.0], [130.0, 60.5]])


@pytest.fixture
def tracker() -> PointTracker:
    return PointTracker(ReferenceBackend(), TrackerConfig(capacity=8, memory_slots=16))


def test_follows_a_moving_texture(tracker):
    tracker.add(POINTS)
    for frame in range(20):
        tracks = tracker.step(view(frame), stamp(frame))
        assert np.abs(tracks.xy - true_position(POINTS, frame)).max() < 2.5
        assert tracks.visible.all()


def test_lucas_kanade_runs_behind_the_same_interface():
    tracker = PointTracker(LucasKanadeBackend())
    tracker.add(POINTS)
    for frame in range(20):
        tracks = tracker.step(view(frame), stamp(frame))
    np.testing.assert_allclose(tracks.xy, true_position(POINTS, 19), atol=0.5)
    assert tracks.visible.all()


def test_first_frame_reports_the_query(tracker):
    ids = tracker.add(POINTS)
    tracks = tracker.step(view(0), stamp(0))
    assert tracks.ids.tolist() == ids.tolist() == [1, 2, 3]
    np.testing.assert_allclose(tracks.xy, POINTS, atol=1e-4)
    np.testing.assert_allclose(tracks.visibility, 0.999)
    assert tracks.visible.all()
    assert tracks.state.tolist() == [TrackState.VISIBLE] * 3
    assert tracks.age.tolist() == tracks.frames_since_seen.tolist() == [0, 0, 0]
    assert (tracks.stamp, tracks.width, tracks.height, tracks.scene_cut) == (stamp(0), WIDTH, HEIGHT, False)


def test_arrays_have_the_promised_types(tracker):
    for count in (0, 3):
        tracker.add(POINTS[:count])
        tracks = tracker.step(view(count), stamp(count))
        assert [tracks.ids.dtype, tracks.xy.dtype, tracks.visibility.dtype] == [np.uint64, np.float32, np.float32]
        assert [tracks.visible.dtype, tracks.state.dtype] == [np.bool_, np.uint8]
        assert [tracks.age.dtype, tracks.frames_since_seen.dtype] == [np.uint32, np.uint32]
        assert tracks.xy.shape == (count, 2)


def test_a_report_is_not_changed_by_later_frames(tracker):
    tracker.add(POINTS)
    tracker.step(view(0), stamp(0))
    tracks = tracker.step(view(1), stamp(1))
    xy, age = tracks.xy.copy(), tracks.age.copy()
    tracker.step(view(2), stamp(2))
    tracker.remove([1])
    np.testing.assert_array_equal(tracks.xy, xy)
    np.testing.assert_array_equal(tracks.age, age)


def test_order_is_that_of_addition_through_removals(tracker):
    tracker.add(POINTS, ids=[30, 20, 10])
    tracker.step(view(0), stamp(0))
    tracker.remove([30])
    tracker.add(POINTS[:2], ids=[5, 40])
    assert tracker.ids.tolist() == [20, 10, 5, 40]
    assert tracker.step(view(1), stamp(1)).ids.tolist() == [20, 10, 5, 40]


def test_automatic_ids_are_never_given_out_twice(tracker):
    assert tracker.add(POINTS).tolist() == [1, 2, 3]
    tracker.remove([1, 2, 3])
    assert tracker.add(POINTS[:2]).tolist() == [4, 5]
    assert tracker.add(POINTS[:2], ids=[9, 0]).tolist() == [9, 10]
    tracker.clear()
    assert tracker.add(POINTS[:1]).tolist() == [11]
    tracker.reset()
    assert tracker.add(POINTS[:1]).tolist() == [12]


def test_large_ids_chosen_by_the_caller_stay_exact(tracker):
    ids = [1, 2**63, 2**64 - 1]
    assert tracker.add(POINTS, ids=ids).tolist() == ids
    assert tracker.step(view(0), stamp(0)).ids.tolist() == ids
    assert tracker.add(POINTS[:1]).tolist() == [2]
    tracker.remove(2**64 - 1)
    assert tracker.ids.tolist() == [1, 2**63, 2]


def test_a_chosen_id_may_come_back_after_removal(tracker):
    tracker.add(POINTS[:1], ids=[7])
    tracker.step(view(0), stamp(0))
    tracker.remove([7])
    tracker.add(POINTS[1:2], ids=[7])
    tracks = tracker.step(view(1), stamp(1))
    assert tracks.age.tolist() == [0]
    np.testing.assert_allclose(tracks.xy, POINTS[1:2], atol=1e-4)


def test_points_can_be_removed_before_they_start(tracker):
    tracker.add(POINTS)
    tracker.remove([2])
    assert tracker.step(view(0), stamp(0)).ids.tolist() == [1, 3]


def test_points_of_a_group_are_reported_with_it_and_removed_together(tracker):
    tracker.add(POINTS, ids=[1, 2, 3], groups=[7, 0, 2**32 - 1])
    tracks = tracker.step(view(0), stamp(0))
    assert (tracks.group.tolist(), tracks.group.dtype) == ([7, 0, 2**32 - 1], np.uint32)
    tracker.add(POINTS[:2], ids=[4, 5], groups=[7, 0])  # in the next image
    assert tracker.groups == [7, 2**32 - 1]
    tracker.remove([3], groups=[7])
    assert (tracker.ids.tolist(), tracker.groups) == ([2, 5], [])
    assert tracker.step(view(1), stamp(1)).group.tolist() == [0, 0]


def test_clear_keeps_the_stream_and_reset_begins_a_new_one(tracker):
    tracker.add(POINTS)
    tracker.step(view(0), stamp(0))
    tracker.clear()
    assert len(tracker.step(view(1), stamp(1)).ids) == 0
    tracker.add(POINTS, stamp=stamp(0))
    assert tracker.step(view(2), stamp(2)).age.tolist() == [2, 2, 2]
    tracker.reset()
    tracker.add([[20.0, 20.0]])
    tracks = tracker.step(np.ascontiguousarray(view(0)[:50]), stamp(0))
    assert (tracks.height, tracks.age.tolist()) == (50, [0])


def test_the_decoder_rests_while_no_track_needs_it():
    backend = ReferenceBackend()
    tracker = PointTracker(backend)
    tracker.step(view(0), stamp(0))
    tracker.add(POINTS)
    tracker.step(view(1), stamp(1))
    assert backend.calls == 0
    tracker.step(view(2), stamp(2))
    assert backend.calls == 1


def test_hysteresis_keeps_the_decision_between_the_two_thresholds():
    probabilities = np.array([0.5, 0.56, 0.5, 0.46, 0.44, 0.5, 0.54, 0.56], np.float32)
    expected = [False, True, True, True, False, False, False, True]
    visible = np.array([False])
    for probability, decision in zip(probabilities, expected, strict=True):
        visible = is_visible(probability[None], visible, threshold=0.5, hysteresis=0.05)
        assert visible.tolist() == [decision]


def test_without_hysteresis_the_threshold_decides_alone():
    probabilities = np.array([0.45, 0.4500001, 0.3, 0.9], np.float32)
    for before in (True, False):
        decision = is_visible(probabilities, np.full(4, before), threshold=np.float32(0.45), hysteresis=0.0)
        assert decision.tolist() == [False, True, False, True]


def test_states():
    xy = np.array([[0.5, 0.5], [0.5, 0.5], [0.001, 0.5], [0.5, 0.999], [0.001, 0.5], [0.5, 0.5]], np.float32)
    visible = np.array([True, False, False, False, True, False])
    lost = np.array([False, False, False, False, False, True])
    assert track_states(visible, lost, xy, border_margin=0.002).tolist() == [
        TrackState.VISIBLE,
        TrackState.OCCLUDED,
        TrackState.OUT_OF_VIEW,
        TrackState.OUT_OF_VIEW,
        TrackState.VISIBLE,
        TrackState.LOST,
    ]


def occluded(frame: int):
    """The view with a grey bar over the left half."""
    image = view(frame)
    image[:, : WIDTH // 2] = 128
    return image


def test_a_covered_point_is_occluded_then_lost_and_visible_again():
    config = TrackerConfig(lost_after=6, scene_cut_threshold=0, rematch_interval=0)
    tracker = PointTracker(ReferenceBackend(), config)
    tracker.add([[40.0, 60.0], [120.0, 60.0]])
    tracker.step(view(0), stamp(0))
    tracks = [tracker.step(occluded(0), stamp(frame)) for frame in range(1, 9)]
    assert [frame.state[0] for frame in tracks] == [TrackState.OCCLUDED] * 5 + [TrackState.LOST] * 3
    assert [frame.frames_since_seen[0] for frame in tracks] == list(range(1, 9))
    assert all(frame.state[1] == TrackState.VISIBLE and frame.frames_since_seen[1] == 0 for frame in tracks)
    tracks = [tracker.step(view(0), stamp(frame)) for frame in range(9, 14)]
    assert tracks[-1].state[0] == TrackState.VISIBLE
    assert tracks[-1].frames_since_seen[0] == 0
    np.testing.assert_allclose(tracks[-1].xy[0], [40.0, 60.0], atol=2.0)


def test_a_point_that_leaves_the_image_is_out_of_view():
    tracker = PointTracker(LucasKanadeBackend(), TrackerConfig(lost_after=0))
    tracker.add([[10.0, 60.0]])
    tracks = [tracker.step(view(frame), stamp(frame)) for frame in range(25)]
    assert tracks[0].state[0] == TrackState.VISIBLE
    assert tracks[-1].state[0] == TrackState.OUT_OF_VIEW
