"""Support points: where they are, that they stay hidden, and how they come and go."""

from __future__ import annotations

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import stamp, true_position, view

from taptr_ros.tracking import PointTracker, TrackerConfig, TrackState
from taptr_ros.tracking.support import support_layout

POINTS = np.array([[100.0, 90.0], [60.0, 50.0]])


def make_tracker(support: str, self_attention: bool = True, **changes) -> PointTracker:
    config = TrackerConfig(support=support, capacity=4, memory_slots=8, **changes)
    return PointTracker(ReferenceBackend(self_attention=self_attention), config)


def rows(tracker: PointTracker) -> np.ndarray:
    return tracker._live._table.live


def test_layout_is_that_of_the_benchmark():
    layout = support_layout("local_and_grid", ReferenceBackend().info)
    assert layout.grid.shape == (36, 2)
    assert layout.local.shape == (63, 2)
    raster = layout.grid * 256
    np.testing.assert_allclose([raster.min(), raster.max()], [16.5, 239.5])  # pixel centres 16 and 239
    np.testing.assert_allclose(raster[1] - raster[0], [223 / 5, 0.0], atol=1e-4)
    assert np.abs(layout.local).max() * 256 == pytest.approx(24.0)
    side = np.linspace(-24, 24, 8)
    left_out = np.array([side[0], side[4]])  # entry 32 of the 8x8 grid, row by row
    assert np.abs(layout.local * 256 - left_out).sum(axis=1).min() > 1.0


@pytest.mark.parametrize(
    ("support", "self_attention", "hidden"),
    [
        ("auto", True, 36),
        ("auto", False, 0),
        ("none", True, 0),
        ("grid", False, 36),
        ("local_and_grid", True, 36 + 2 * 63),
    ],
)
def test_hidden_rows_accompany_the_tracks_and_are_never_reported(support, self_attention, hidden):
    tracker = make_tracker(support, self_attention)
    tracker.step(view(0), stamp(0))
    assert len(rows(tracker)) == 0
    tracker.add(POINTS)
    for frame in range(1, 4):
        tracks = tracker.step(view(frame), stamp(frame))
        assert tracks.ids.tolist() == tracker.ids.tolist() == [1, 2]
        assert len(rows(tracker)) == 2 + hidden


def test_support_does_not_touch_the_capacity():
    tracker = make_tracker("local_and_grid")
    tracker.add(np.repeat(POINTS, 2, axis=0))
    assert len(tracker.step(view(0), stamp(0)).ids) == 4
    assert len(rows(tracker)) == 4 * 64 + 36


def test_with_self_attention_support_changes_the_tracks_and_without_it_does_not():
    def final(support: str, self_attention: bool) -> np.ndarray:
        tracker = make_tracker(support, self_attention)
        tracker.add(POINTS)
        return [tracker.step(view(frame), stamp(frame)) for frame in range(10)][-1].xy

    assert np.abs(final("none", True) - final("grid", True)).max() > 1e-2
    np.testing.assert_allclose(final("none", False), final("local_and_grid", False), atol=1e-4)


def test_local_points_start_round_their_track_and_leave_with_it():
    tracker = make_tracker("local_and_grid")
    tracker.add(POINTS)
    tracker.step(view(0), stamp(0))
    local = rows(tracker)[rows(tracker)["owner"] == 1]
    pixels = local["xy"] * [160, 120] - 0.5
    assert len(local) == 63
    assert (np.abs(pixels - POINTS[0]) <= [15.01, 11.26]).all()  # 24/256 of the image
    tracker.remove([1])
    assert (rows(tracker)["owner"] == 2).sum() == 63
    assert not (rows(tracker)["owner"] == 1).any()
    tracker.step(view(1), stamp(1))
    assert len(rows(tracker)) == 1 + 63 + 36


def test_the_grid_goes_with_the_last_track_and_comes_back_with_the_next():
    tracker = make_tracker("grid")
    tracker.add(POINTS)
    tracker.step(view(0), stamp(0))
    tracker.remove([1, 2])
    assert len(rows(tracker)) == 0
    tracker.step(view(1), stamp(1))
    tracker.add(POINTS)
    tracker.step(view(2), stamp(2))
    assert len(rows(tracker)) == 2 + 36


def test_grid_points_that_wander_off_start_again_at_their_place():
    # Grid points stay put in the scene, so the moving view carries them to its left border.
    tracker = make_tracker("grid", self_attention=False, lost_after=3)
    tracker.add([[150.0, 100.0]])
    started = set()
    for frame in range(40):
        tracker.step(view(frame), stamp(frame))
        grid = rows(tracker)[rows(tracker)["place"] >= 0]
        assert sorted(grid["place"].tolist()) == list(range(36))
        started |= set(grid["start"].tolist())
        fresh = grid[grid["start"] == frame]
        np.testing.assert_array_equal(fresh["xy"], tracker._live._layout.grid[fresh["place"]])
        stale = np.isin(grid["state"], [TrackState.OUT_OF_VIEW, TrackState.LOST])
        assert (grid["start"][stale] < frame).all()
    assert len(started) > 1


def test_in_a_cut_support_starts_anew_and_local_points_follow_their_track():
    tracker = make_tracker("local_and_grid", self_attention=False, match_gate=0.7)
    tracker.add(POINTS)
    for frame in range(5):
        tracker.step(view(frame), stamp(frame))
    tracks = tracker.step(view(30), stamp(5))
    assert tracks.scene_cut
    assert tracks.visible.all()
    assert np.abs(tracks.xy - true_position(POINTS, 30)).max() < 4.0
    hidden = rows(tracker)[rows(tracker)["id"] == 0]
    assert len(hidden) == 36 + 2 * 63
    assert (hidden["start"] == 5).all()
    local = hidden["xy"][hidden["owner"] == 1] * [160, 120] - 0.5
    assert np.abs(np.median(local, axis=0) - tracks.xy[0]).max() < 6.0


def test_lost_tracks_have_no_local_support():
    tracker = make_tracker("local_and_grid", self_attention=False)
    tracker.add(POINTS)
    tracker.step(view(0), stamp(0))
    tracks = tracker.step(np.full_like(view(0), 255), stamp(1))
    assert (tracks.state == TrackState.LOST).all()
    assert len(rows(tracker)) == 2 + 36


def test_local_points_follow_a_track_that_is_found_again_without_a_cut():
    tracker = make_tracker(
        "local_and_grid",
        self_attention=False,
        match_gate=0.7,
        scene_cut_threshold=0.0,
        lost_after=4,
        rematch_interval=3,
    )
    tracker.add(POINTS)
    tracker.step(view(0), stamp(0))
    black = np.zeros_like(view(0))
    lost = [tracker.step(black, stamp(frame)) for frame in range(1, 6)][-1]
    assert (lost.state == TrackState.LOST).all()
    found = tracker.step(view(30), stamp(6))
    assert (found.state == TrackState.VISIBLE).all()
    local = rows(tracker)[rows(tracker)["owner"] != 0]
    assert len(local) == 2 * 63
    assert (local["start"] == 6).all()


def test_a_point_that_catches_up_brings_its_support_along():
    tracker = make_tracker("local_and_grid")
    tracker.add(POINTS[:1])
    for frame in range(5):
        tracker.step(view(frame), stamp(frame))
    tracker.add(POINTS[1:], stamp=stamp(2))
    live = rows(tracker)
    assert len(live) == 2 * 64 + 36
    assert (live["start"][live["owner"] == 2] == 2).all()
    assert (live["owner"] == 2).sum() == 63
    np.testing.assert_array_equal(np.sort(live["place"])[-36:], np.arange(36))
    tracker.step(view(5), stamp(5))
    assert len(rows(tracker)) == 2 * 64 + 36
