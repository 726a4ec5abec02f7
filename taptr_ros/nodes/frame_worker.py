"""One thread that works on the newest frames, so that nobody waits for it."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

FrameT = TypeVar("FrameT")


MOST_BYTES = 1 << 30
"""Bytes that may wait: a number of frames says nothing of their size."""


class FrameWorker(Generic[FrameT]):
    """Calls `process` with frames in the order in which they came, in a thread of its own.

    At most `waiting` frames wait; a new one supersedes the oldest. With 1, the newest frame wins. Nor do frames wait
    that together take more than `MOST_BYTES`, by the bytes that `size` says one takes. `process` must not raise.
    """

    def __init__(
        self,
        name: str,
        process: Callable[[FrameT], None],
        waiting: int,
        size: Callable[[FrameT], int] = lambda _: 0,
    ) -> None:
        self._process = process
        self._size = size
        self._frames: collections.deque[FrameT] = collections.deque(maxlen=waiting)
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, frame: FrameT) -> int:
        """Hand over a frame; return how many older ones were superseded."""
        with self._changed:
            superseded = int(len(self._frames) == self._frames.maxlen)
            self._frames.append(frame)
            while len(self._frames) > 1 and sum(map(self._size, self._frames)) > MOST_BYTES:
                self._frames.popleft()
                superseded += 1
            self._changed.notify()
        # Gives way to the worker's thread, which would else wait until the caller has finished its bookkeeping; how
        # soon it can come is `process.SWITCH_INTERVAL`.
        time.sleep(0)
        return superseded

    def stop(self, timeout: float) -> bool:
        """Finish the frame in work, drop those that wait, and end the thread.

        Return whether that was done within `timeout` seconds; if not, the thread ends when it has finished its frame.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._stopped)
                if self._stopped:
                    return
                frame = self._frames.popleft()
            self._process(frame)
