"""What a stream does with images that are late, repeated, unstamped or of another size, and with requests."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import HEIGHT, PERIOD, WIDTH, stamp, view

from taptr_ros.errors import InvalidImageError
from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackState, TrackStream
from taptr_ros.tracking.stream import IMAGES_OF_A_NEW_SIZE, MOST_POINTS

POINTS = np.array([[100.0, 90.0], [60.25, 50.0]])
CONFIG = TrackerConfig(capacity=64, memory_slots=16)


@pytest.fixture
def stream() -> TrackStream:
    """Two points, tracked into frame 0."""
    stream = TrackStream(PointTracker(ReferenceBackend(), CONFIG))
    stream.add(POINTS, [1, 2], 0, replace=False)
    stream.step(view(0), stamp(0))
    return stream


def small(frame: int) -> np.ndarray:
    return np.ascontiguousarray(view(frame)[: HEIGHT // 2, : WIDTH // 2])


def test_swapped_images_cost_one_image_and_no_track(stream: TrackStream) -> None:
    order = [1, 2, 4, 3, 5]
    steps = [stream.step(view(frame), stamp(frame)) for frame in order]
    assert [step.tracks is None for step in steps] == [False, False, False, True, False]
    assert "0.033000 s older" in steps[3].left_out
    last = steps[-1].tracks
    assert (last.ids.tolist(), last.age.tolist(), last.stream) == ([1, 2], [4, 4], 1)


def test_the_tolerance_for_late_images_is_a_parameter(stream: TrackStream) -> None:
    stream.step(view(1), stamp(10))
    stream.reconfigure(dataclasses.replace(CONFIG, late_tolerance=2 * PERIOD / 1e9))
    assert stream.step(view(1), stamp(8)).tracks is None
    assert stream.step(view(1), stamp(6)).tracks is None
    step = stream.step(view(1), stamp(7))
    assert (step.new_stream, step.tracks.ids.tolist(), step.tracks.stream) == (True, [], 2)
    assert "jumped back by 0.099 s: a new stream begins" in step.notices[0]


def test_a_repeated_stamp_and_a_missing_one_are_left_out(stream: TrackStream) -> None:
    for bad, words in ((stamp(0), "same as the previous image's"), (0, "no stamp")):
        step = stream.step(view(1), bad)
        assert (step.tracks, step.new_stream) == (None, False)
        assert words in step.left_out
    assert stream.step(view(1), stamp(1)).tracks.ids.tolist() == [1, 2]


def test_a_simulation_that_starts_again_begins_a_new_stream() -> None:
    stream = TrackStream(PointTracker(ReferenceBackend(), CONFIG))
    stamps = [0, PERIOD, 100 * PERIOD, 0, PERIOD, 2 * PERIOD]
    steps = [stream.step(view(0), at) for at in stamps]
    # A zero may be a stamp that was not set, and a single one that is older is doubted: the images after it tell.
    assert [step.tracks.stream if step.tracks else None for step in steps] == [1, 1, 1, None, None, 2]


def test_single_images_of_another_size_are_left_out(stream: TrackStream) -> None:
    """As when two cameras share a topic: the first one goes on."""
    for frame in range(1, 20):
        other = stream.step(small(frame), stamp(frame) - PERIOD // 2)
        assert other.tracks is None
        assert "80x60 pixels but the stream 160x120" in other.left_out
        assert stream.step(view(frame), stamp(frame)).tracks.ids.tolist() == [1, 2]


def test_a_size_that_stays_begins_a_new_stream(stream: TrackStream) -> None:
    steps = [stream.step(small(frame), stamp(frame)) for frame in range(1, IMAGES_OF_A_NEW_SIZE + 2)]
    assert [step.tracks is None for step in steps] == [True] * (IMAGES_OF_A_NEW_SIZE - 1) + [False] * 2
    assert [step.new_stream for step in steps[-2:]] == [True, False]
    assert (steps[-1].tracks.width, steps[-1].tracks.stream) == (WIDTH // 2, 2)


def test_a_jump_back_with_another_size_begins_a_new_stream_as_any_jump_back_does(stream: TrackStream) -> None:
    stream.step(view(1), stamp(100))
    assert [stream.step(small(frame), stamp(frame)).new_stream for frame in (1, 2)] == [False, True]


@pytest.mark.parametrize(
    "wrong",
    [1, -5 * 10**9, stamp(1) - 90 * 10**9, 2**31 * 10**9 - 1, 1_700_000_000 * 10**9],
    ids=["one", "negative", "old", "largest", "another clock"],
)
def test_a_single_wrong_stamp_costs_one_image_and_no_track(stream: TrackStream, wrong: int) -> None:
    steps = [stream.step(view(frame), wrong if frame == 2 else stamp(frame)) for frame in range(1, 5)]
    assert [step.tracks is None for step in steps] == [False, True, False, False]
    assert "otherwise its stamp was wrong" in steps[1].left_out
    last = steps[-1].tracks
    assert (last.ids.tolist(), last.age.tolist(), last.stream) == ([1, 2], [3, 3], 1)


def test_two_clocks_on_one_topic_cost_the_images_of_one(stream: TrackStream) -> None:
    """As a driver does whose stamps come now from the sensor, now from the system."""
    for frame in range(1, 6):
        assert stream.step(view(frame), stamp(frame)).tracks.ids.tolist() == [1, 2]
        assert stream.step(view(frame), stamp(frame) - 5 * 10**9).tracks is None


def test_an_image_every_two_hours_is_a_stream(stream: TrackStream) -> None:
    steps = [stream.step(view(0), stamp(0) + hours * 3600 * 10**9) for hours in (2, 4, 6)]
    assert [step.tracks.ids.tolist() if step.tracks else None for step in steps] == [None, [1, 2], None]


def test_a_stream_goes_on_after_a_long_pause(stream: TrackStream) -> None:
    night = 12 * 3600 * 10**9
    steps = [stream.step(view(frame), stamp(frame) + night) for frame in range(1, 4)]
    assert [step.tracks is None for step in steps] == [True, False, False]
    assert "43200.033 s later" in steps[0].left_out
    assert (steps[-1].tracks.ids.tolist(), steps[-1].tracks.stream) == ([1, 2], 1)


def test_what_is_no_image_raises_and_changes_nothing(stream: TrackStream) -> None:
    for bad in (view(0).astype(np.float32), view(0)[:0]):
        with pytest.raises(InvalidImageError):
            stream.step(bad, stamp(1))
    assert stream.step(view(1), stamp(1)).tracks.ids.tolist() == [1, 2]


def test_streams_are_counted_and_warming_up_is_none() -> None:
    stream = TrackStream(PointTracker(ReferenceBackend(), CONFIG))
    stream.warm_up(WIDTH, HEIGHT)
    assert stream.newest([]).tracks is None
    counted = [stream.step(view(0), stamp(1)).tracks.stream]
    stream.reset()
    counted.append(stream.step(view(0), stamp(2)).tracks.stream)
    stream.warm_up(WIDTH, HEIGHT)
    counted.append(stream.step(view(0), stamp(1)).tracks.stream)
    assert counted == [1, 2, 3]


def test_good_points_are_added_and_keep_their_order(stream: TrackStream) -> None:
    stream.step(view(1), stamp(1))
    points = np.full((40, 2), 50.0)
    points[[3, 17]], points[39] = np.nan, (WIDTH, 5.0)
    chosen = [0] * 40
    chosen[5], chosen[6], chosen[7] = 2, 77, 77
    ids, refusals = stream.add(points, chosen, stamp(0), replace=False)
    bad = {3: "(nan, nan)", 5: "in use", 7: "twice", 17: "(nan, nan)", 39: "outside"}
    assert {index for index, reason in enumerate(refusals) if reason} == set(bad)
    assert all(words in refusals[index] for index, words in bad.items())
    assert [index for index, id_ in enumerate(ids) if id_ == 0] == sorted(bad)
    assert stream.step(view(2), stamp(2)).tracks.ids.tolist() == [1, 2, *(id_ for id_ in ids if id_)]


def test_the_first_points_take_the_room_that_is_left(stream: TrackStream) -> None:
    ids, refusals = stream.add(np.full((100, 2), 50.0), [0] * 100, 0, replace=False)
    assert [bool(id_) for id_ in ids] == [not reason for reason in refusals] == [True] * 62 + [False] * 38
    assert "capacity of 64" in refusals[-1]


def test_a_refused_replacement_removes_nothing(stream: TrackStream) -> None:
    for points, at in ((POINTS, stamp(0) + 60 * 10**9), (POINTS + 1000.0, 0), (POINTS, 1)):
        ids, _ = stream.add(points, [0, 0], at, replace=True)
        assert ids == [0, 0]
        assert stream.newest([]).tracks.ids.tolist() == [1, 2]
    ids, _ = stream.add([POINTS[0], (np.nan, 0.0)], [2, 0], 0, replace=True)
    assert ids == [2, 0]
    assert stream.newest([]).tracks.ids.tolist() == [2]
    stream.add(np.empty((0, 2)), [], 0, replace=True)
    assert stream.newest([]).tracks.ids.tolist() == []


def test_points_of_another_clock_do_not_wait_for_ever() -> None:
    stream = TrackStream(PointTracker(ReferenceBackend(), CONFIG))
    wall_clock = 1_700_000_000 * 10**9
    ids, _ = stream.add(np.full((64, 2), 50.0), [0] * 64, wall_clock, replace=False)
    assert stream.newest([]).waiting_ids == ids
    step = stream.step(view(0), stamp(0))
    assert "64 waiting points were dropped. Point 1: The query stamp" in step.notices[0]
    assert stream.add(POINTS, [0, 0], 0, replace=False)[1] == ["", ""]


def test_twenty_thousand_points_are_answered_at_once() -> None:
    stream = TrackStream(PointTracker(LucasKanadeBackend(), TrackerConfig()))
    stream.step(view(0), stamp(0))
    stream.step(view(1), stamp(1))
    xy = np.random.default_rng(0).uniform(0.0, HEIGHT - 1.0, (20_000, 2))
    xy[::2] = np.nan
    began = time.process_time()
    ids, refusals = stream.add(xy, [*range(1, 10_001)] * 2, stamp(0), replace=False)
    assert time.process_time() - began < 1.0  # it takes 0.05 s; point by point it took 5 s
    assert sum(bool(id_) for id_ in ids) == 256
    assert sum(not reason for reason in refusals) == 256


def test_requests_without_end_are_refused_as_a_whole(stream: TrackStream) -> None:
    count = MOST_POINTS + 1
    ids, refusals = stream.add(np.full((count, 2), 50.0), [0] * count, 0, replace=True)
    assert not any(ids)
    assert refusals[0] == refusals[-1]
    assert f"more than {MOST_POINTS}" in refusals[0]
    assert stream.newest([]).tracks.ids.tolist() == [1, 2]


def test_every_id_is_a_track_waits_or_is_unknown(stream: TrackStream) -> None:
    stream.add(POINTS[:1], [77], 0, replace=False)
    stream.add(POINTS[:1], [78], stamp(5), replace=False)
    answer = stream.newest([1, 77, 78, 79, 79])
    assert (answer.tracks.ids.tolist(), answer.waiting_ids, answer.unknown_ids) == ([1, 77], [78], [79])
    assert stream.remove([77, 78, 79]) == ([79], [])
    assert stream.newest([]).tracks.ids.tolist() == [1, 2]
    assert stream.newest([]).waiting_ids == []


def test_a_point_in_the_newest_image_starts_there_without_another_decoder_run() -> None:
    backend = ReferenceBackend()
    tracker = PointTracker(backend, CONFIG)
    for frame in range(3):
        tracker.step(view(frame), stamp(frame))
    tracker.add(POINTS, stamp=stamp(2))
    assert backend.calls == 0
    assert tracker.tracks.age.tolist() == [0, 0]
    np.testing.assert_allclose(tracker.tracks.xy, POINTS, atol=1e-4)
    assert tracker.step(view(3), stamp(3)).age.tolist() == [1, 1]


def test_tracks_that_are_gone_for_long_are_removed() -> None:
    config = TrackerConfig(removed_after=6, lost_after=4, scene_cut_threshold=0.0, rematch_interval=0)
    tracker = PointTracker(ReferenceBackend(), config)
    tracker.add([[40.0, 60.0], [120.0, 60.0]], ids=[1, 2])
    tracker.step(view(0), stamp(0))
    covered = view(0).copy()
    covered[:, : WIDTH // 2] = 128
    tracks = [tracker.step(covered, stamp(frame)) for frame in range(1, 8)]
    assert [frame.ids.tolist() for frame in tracks] == [[1, 2]] * 5 + [[2]] * 2
    assert tracks[4].state[0] == TrackState.LOST
    # What is only hidden stays.
    hidden = dataclasses.replace(config, lost_after=0)
    tracker = PointTracker(ReferenceBackend(), hidden)
    tracker.add([[40.0, 60.0]])
    tracker.step(view(0), stamp(0))
    assert [len(tracker.step(covered, stamp(frame)).ids) for frame in range(1, 12)] == [1] * 11
