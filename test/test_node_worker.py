"""The thread that runs the tracker, and the tracker that several threads share."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import HEIGHT, WIDTH, stamp, view

from taptr_ros.nodes import frame_worker
from taptr_ros.nodes.frame_worker import FrameWorker
from taptr_ros.nodes.shared_tracker import SharedTracker
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackStream

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
    worker = FrameWorker("worker", gate, waiting)
    assert not worker.put(0)
    gate.wait_for_frame()
    superseded = sum(worker.put(frame) for frame in (1, 2, 3, 4))
    for _ in processed[1:]:
        gate.let_through()
        gate.wait_for_frame()
    gate.let_through()
    assert worker.stop(TIMEOUT)
    assert gate.frames == processed
    assert superseded == 5 - len(processed)


def test_frames_that_take_too_much_memory_give_way_to_newer_ones(monkeypatch):
    monkeypatch.setattr(frame_worker, "MOST_BYTES", 10)
    gate = Gate()
    worker = FrameWorker("worker", gate, 100, size=int)
    worker.put(0)
    gate.wait_for_frame()
    assert [worker.put(frame) for frame in (4, 5, 1, 3, 12)] == [0, 0, 0, 1, 3]
    gate.let_through()
    gate.wait_for_frame()
    gate.let_through()
    assert worker.stop(TIMEOUT)
    assert gate.frames == [0, 12]


def test_a_worker_that_is_stopped_finishes_the_frame_in_work_and_ends():
    gate = Gate()
    worker = FrameWorker("worker", gate, 1)
    worker.put(0)
    gate.wait_for_frame()
    stopping = threading.Thread(target=worker.stop, args=(TIMEOUT,))
    stopping.start()
    assert stopping.is_alive()
    gate.let_through()
    stopping.join(TIMEOUT)
    assert not stopping.is_alive()
    worker.put(1)
    assert gate.frames == [0]


def test_a_worker_that_hangs_is_not_waited_for():
    gate = Gate()
    worker = FrameWorker("worker", gate, 1)
    worker.put(0)
    gate.wait_for_frame()
    assert not worker.stop(0.05)
    gate.let_through()


@pytest.fixture
def tracker() -> SharedTracker:
    return SharedTracker(TrackStream(PointTracker(ReferenceBackend(), TrackerConfig(capacity=64, memory_slots=4))))


def test_warming_up_leaves_no_trace(tracker):
    tracker.warm_up(WIDTH, HEIGHT)
    assert tracker.newest([])[0].tracks is None
    assert tracker.add(POINTS, [0, 0], 0, replace=False) == ([1, 2], ["", ""])
    step = tracker.step(view(0)[:110, :150], 1)
    assert step.new_stream
    assert not step.notices
    assert step.tracks.ids.tolist() == [1, 2]


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
        assert tracker.newest(ids)[0].unknown_ids == []
        assert tracker.remove([*ids[:1], 10**9]) == ([10**9], [])
        assert tracker.newest(ids)[0].unknown_ids == ids[:1]
    stopped.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert not errors
