"""The thread that runs the tracker, and the tracker that several threads share."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import HEIGHT, WIDTH, stamp, view

from taptr_ros.errors import InvalidStampError
from taptr_ros.nodes.frame_worker import FrameWorker
from taptr_ros.nodes.shared_tracker import SharedTracker
from taptr_ros.tracking import PointTracker, TrackerConfig

TIMEOUT = 60.0
POINTS = np.array([[100.0, 90.0], [60.25, 50.0]])


class Gate:
    """A worker's process that stops in every frame until it is let through."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self._entered, self._open = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, frame: int) -> None:
        self.frames.append(frame)
        self._entered.release()
        assert self._open.acquire(timeout=TIMEOUT)

    def wait_for_frame(self) -> None:
        assert self._entered.acquire(timeout=TIMEOUT)

    def let_through(self) -> None:
        self._open.release()


@pytest.mark.parametrize(("waiting", "processed"), [(1, [0, 4]), (2, [0, 3, 4]), (10, [0, 1, 2, 3, 4])])
def test_frames_that_cannot_wait_give_way_to_newer_ones(waiting, processed):
    gate = Gate()
    worker = FrameWorker(gate, waiting)
    assert not worker.put(0)
    gate.wait_for_frame()
    superseded = sum(worker.put(frame) for frame in (1, 2, 3, 4))
    for _ in processed[1:]:
        gate.let_through()
        gate.wait_for_frame()
    gate.let_through()
    worker.stop()
    assert gate.frames == processed
    assert superseded == 5 - len(processed)


def test_a_worker_that_is_stopped_finishes_the_frame_in_work_and_ends():
    gate = Gate()
    worker = FrameWorker(gate, 1)
    worker.put(0)
    gate.wait_for_frame()
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    assert stopping.is_alive()
    gate.let_through()
    stopping.join(TIMEOUT)
    assert not stopping.is_alive()
    worker.put(1)
    assert gate.frames == [0]


@pytest.fixture
def tracker() -> SharedTracker:
    return SharedTracker(PointTracker(ReferenceBackend(), TrackerConfig(capacity=64, memory_slots=4)))


def test_warming_up_leaves_no_trace(tracker):
    tracker.warm_up(WIDTH, HEIGHT)
    assert tracker.newest([])[0] is None
    assert tracker.add(POINTS, [0, 0], 0, replace=False) == ([1, 2], ["", ""])
    step = tracker.step(view(0)[:110, :150], 1)
    assert step.new_stream
    assert not step.notices
    assert step.tracks.ids.tolist() == [1, 2]


def test_an_image_twice_is_refused_and_changes_nothing(tracker):
    tracker.add(POINTS, [7, 8], 0, replace=False)
    tracker.step(view(0), stamp(0))
    with pytest.raises(InvalidStampError, match="image before"):
        tracker.step(view(0), stamp(0))
    step = tracker.step(view(1), stamp(1))
    assert (step.tracks.ids.tolist(), step.new_stream) == ([7, 8], False)


def test_many_points_of_which_few_are_bad_keep_their_order(tracker):
    tracker.step(view(0), stamp(0))
    tracker.step(view(1), stamp(1))
    points = np.full((40, 2), 50.0)
    points[[3, 17, 39]] = np.nan
    ids, refusals = tracker.add(points, [0] * 40, stamp(0), replace=False)
    assert [index for index, reason in enumerate(refusals) if reason] == [3, 17, 39]
    assert [index for index, id_ in enumerate(ids) if id_ == 0] == [3, 17, 39]
    assert tracker.step(view(2), stamp(2)).tracks.ids.tolist() == [id_ for id_ in ids if id_]


def test_points_come_and_go_while_images_are_tracked(tracker):
    errors: list[BaseException] = []
    stopped = threading.Event()

    def stream() -> None:
        try:
            for number in range(10**6):
                if stopped.is_set():
                    return
                tracks = tracker.step(view(number % 40), stamp(number)).tracks
                assert len(set(tracks.ids.tolist())) == len(tracks.ids)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=stream)
    thread.start()
    for turn in range(30):
        ids, refusals = tracker.add(POINTS, [0, 0], 0, replace=turn % 7 == 0)
        assert refusals == ["", ""]
        assert tracker.newest(ids)[2] == []
        assert tracker.remove([*ids[:1], 10**9]) == [10**9]
        assert tracker.newest(ids)[2] == ids[:1]
    stopped.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert not errors
