"""Scene cuts and gaps in the stamps: tracks are found again or said to be lost."""

from __future__ import annotations

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import stamp, true_position, view

from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackState

POINTS = np.array([[100.0, 90.0], [60.0, 50.0], [130.0, 60.0]])
JUMP = 24
"""Frames by which the view jumps in a cut within the same scene."""


def elsewhere(frame: int):
    return np.full_like(view(0), 255 * (frame % 2))


def run(tracker: PointTracker, frames: range, image):
    return [tracker.step(image(frame), stamp(frame)) for frame in frames]


@pytest.fixture
def tracker():
    """Three points tracked through ten frames."""
    config = TrackerConfig(match_gate=0.7, rematch_interval=5, memory_slots=16)
    tracker = PointTracker(ReferenceBackend(), config)
    tracker.add(POINTS)
    run(tracker, range(10), view)
    return tracker


def test_a_cut_to_another_view_of_the_scene_is_bridged(tracker):
    tracks = run(tracker, range(10, 16), lambda frame: view(frame + JUMP))
    assert [frame.scene_cut for frame in tracks] == [True] + [False] * 5
    assert (tracks[0].state == TrackState.VISIBLE).all()
    assert np.abs(tracks[-1].xy - true_position(POINTS, 15 + JUMP)).max() < 3.0
    assert tracks[-1].age.tolist() == [15] * 3


def jumped(**options) -> float:
    """The error in pixels after a jump that is not looked for, of a track that goes on, in doubt, on what is near."""
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(scene_cut_threshold=0.0, **options))
    tracker.add(POINTS[2:])
    run(tracker, range(10), view)
    tracks = run(tracker, range(10, 14), lambda frame: view(frame + JUMP))
    assert not any(frame.scene_cut for frame in tracks)
    assert 0.5 < tracks[1].visibility[0] < 0.8
    return float(np.abs(tracks[-1].xy - true_position(POINTS[2:], 13 + JUMP)).max())


def test_without_scene_cuts_the_jump_would_not_be_bridged():
    assert jumped(rematch_interval=0) > 10.0


def test_a_cut_to_another_scene_loses_the_tracks_where_they_were(tracker):
    before = tracker.step(view(10), stamp(10))
    tracks = run(tracker, range(11, 14), lambda _: elsewhere(0))
    for number, frame in enumerate(tracks, start=1):
        assert (frame.state == TrackState.LOST).all()
        assert not frame.visible.any()
        assert (frame.visibility == 0.0).all()
        np.testing.assert_array_equal(frame.xy, before.xy)
        assert frame.frames_since_seen.tolist() == [number] * 3


def test_lost_tracks_are_found_again_within_the_interval(tracker):
    run(tracker, range(10, 13), lambda _: elsewhere(0))
    # The same picture fades back without a cut that the detector could see.
    tracker._scene_cuts.reset()
    tracks = run(tracker, range(13, 20), view)
    assert not any(frame.scene_cut for frame in tracks)
    found = [bool((frame.state == TrackState.VISIBLE).all()) for frame in tracks]
    assert found == [False, False] + [True] * 5  # due after 5 frames unseen, of which 3 had passed
    assert np.abs(tracks[-1].xy - true_position(POINTS, 19)).max() < 3.0


def test_a_cut_back_finds_the_tracks_at_once(tracker):
    run(tracker, range(10, 13), lambda _: elsewhere(0))
    tracks = run(tracker, range(13, 14), view)
    assert tracks[0].scene_cut
    assert (tracks[0].state == TrackState.VISIBLE).all()


def test_an_interval_of_0_never_tries_again():
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(rematch_interval=0))
    tracker.add(POINTS)
    run(tracker, range(5), view)
    run(tracker, range(5, 7), lambda _: elsewhere(0))
    tracker._scene_cuts.reset()
    assert (run(tracker, range(7, 40), view)[-1].state == TrackState.LOST).all()


def test_nothing_is_remembered_of_a_scene_in_which_a_track_is_lost(tracker):
    remembered = tracker._live.tracks["remembered"].copy()
    run(tracker, range(10, 14), lambda _: elsewhere(0))
    np.testing.assert_array_equal(tracker._live.tracks["remembered"], remembered)


def test_a_gap_in_the_stamps_is_answered_like_a_cut(tracker):
    tracks = tracker.step(view(9), stamp(9) + 2_100_000_000)
    assert tracks.scene_cut
    assert (tracks.state == TrackState.VISIBLE).all()


def test_points_added_after_a_cut_are_unaffected(tracker):
    tracker.add([[50.0, 60.0]])
    tracks = tracker.step(view(10, seed=2), stamp(10))
    assert tracks.scene_cut
    assert tracks.state[3] == TrackState.VISIBLE


def test_a_backend_without_content_loses_its_tracks_in_a_cut():
    tracker = PointTracker(LucasKanadeBackend())
    tracker.add(POINTS)
    run(tracker, range(5), view)
    tracks = run(tracker, range(5, 8), lambda frame: view(frame, seed=2))
    assert tracks[0].scene_cut
    assert all((frame.state == TrackState.LOST).all() for frame in tracks)
    tracker.add(POINTS)
    assert (
        run(tracker, range(8, 10), lambda frame: view(frame, seed=2))[-1].visible.tolist() == [False] * 3 + [True] * 3
    )


def test_a_track_long_out_of_sight_is_found_elsewhere():
    """No cut: the point is covered, and when the cover goes the view has moved on further than the decoder reaches."""
    points = np.array([[100.0, 90.0], [130.0, 60.0]])
    config = TrackerConfig(lost_after=4, rematch_interval=5, match_gate=0.7, scene_cut_threshold=0.0)
    tracker = PointTracker(ReferenceBackend(), config)
    tracker.add(points)
    run(tracker, range(5), view)
    run(tracker, range(5, 10), lambda _: elsewhere(0))
    tracks = run(tracker, range(10, 20), lambda frame: view(frame + JUMP))
    assert (tracks[-1].state == TrackState.VISIBLE).all()
    assert np.abs(tracks[-1].xy - true_position(points, 19 + JUMP)).max() < 3.0


def test_a_track_that_the_decoder_does_not_see_where_it_matched_goes_back():
    """Any place passes for a match here, in a black frame the first corner; the point stays hidden."""
    config = TrackerConfig(
        rematch_interval=3, match_gate=0.0, match_margin=0.0, scene_cut_threshold=0.0, memory_slots=16
    )
    tracker = PointTracker(ReferenceBackend(), config)
    tracker.add([[60.0, 50.0]])
    run(tracker, range(1), view)
    tracks = run(tracker, range(1, 8), lambda _: np.zeros_like(view(0)))
    for hidden in tracks:
        assert not hidden.visible.any()
        np.testing.assert_allclose(hidden.xy, [[60.0, 50.0]], atol=0.5)
