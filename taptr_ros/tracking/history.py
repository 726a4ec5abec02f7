"""The last frames, kept so that points may start in the past."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidStampError
from taptr_ros.runtime.backend import Features
from taptr_ros.runtime.coordinates import UnitCoordinates

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second."""

LONGEST_WAIT = 10.0
"""How far, in seconds, the stamp of points may be ahead of the newest image: more is a clock of another kind."""


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedFrame:
    """What is kept of one frame."""

    number: int
    """Frames since the start of the stream; the clock of the tracks' memory."""
    stamp: int
    """Stamp in nanoseconds."""
    coordinates: UnitCoordinates
    """The image's size, and its conversion between pixels and unit coordinates."""
    features: Features
    """What the backend's encoder made of the image."""
    grey: NDArray[np.uint8]
    """The image as `regions.shrunk_grey` keeps it, to choose points in."""
    scene_cut: bool
    """Whether a scene cut lies between the previous frame and this one."""
    decoded: bool = False
    """Whether the decoder ran in this frame."""


class FrameHistory:
    """The last frames of the stream: at most `frames` of them, none older than `seconds`, but always the last one.

    `tolerance` in seconds says how far a frame may be from a stamp that is looked up.
    """

    def __init__(self, seconds: float, frames: int, tolerance: float) -> None:
        self._frames: collections.deque[EncodedFrame] = collections.deque(maxlen=frames)
        self.reconfigure(seconds, tolerance)

    def reconfigure(self, seconds: float, tolerance: float) -> None:
        """Take another length and tolerance in seconds; frames that are too old go with the next new one."""
        self._span = int(seconds * NANOSECONDS)
        self._tolerance = int(tolerance * NANOSECONDS)

    @property
    def last(self) -> EncodedFrame | None:
        """The newest frame, or None before the first one."""
        return self._frames[-1] if self._frames else None

    def append(self, frame: EncodedFrame) -> None:
        """Keep a new frame and forget those that are too old."""
        self._frames.append(frame)
        while frame.stamp - self._frames[0].stamp > self._span:
            self._frames.popleft()

    def start_of(self, chosen: int) -> EncodedFrame | None:
        """Return the frame in which points chosen at the stamp `chosen` start, None if it has yet to come.

        Raises `InvalidStampError` for a stamp that no frame is near, and for one that is far ahead.
        """
        last = self.last
        if last is None:
            return None
        if chosen > last.stamp:
            _check_wait(chosen, last.stamp)
            return None
        if (frame := self._nearest(chosen)) is None:
            raise self._no_frame(chosen)
        return frame

    def due(self, chosen: int | None, stamp: int) -> tuple[bool, EncodedFrame | None]:
        """Return whether what was chosen at a stamp starts when the image with `stamp` comes, and in which frame.

        That is None for the new frame, which is not in the history yet. What has no stamp starts in every new frame.
        Raises `InvalidStampError` for what can never start.
        """
        if chosen is None:
            return True, None
        if chosen > stamp:
            _check_wait(chosen, stamp)
            return False, None
        past = self._nearest(chosen)
        if past is not None and chosen - past.stamp < stamp - chosen:
            return True, past
        if stamp - chosen <= self._tolerance:
            return True, None
        raise self._no_frame(chosen)

    def since(self, frame: EncodedFrame) -> Iterator[tuple[EncodedFrame, Features | None]]:
        """Yield `frame` and all later ones, each with the features of the frame before it.

        `frame` itself comes with None: for tracks that start in it there is no frame before.
        """
        previous_features = None
        for kept in self._frames:
            if kept.number >= frame.number:
                yield kept, previous_features
                previous_features = kept.features

    def clear(self) -> None:
        """Forget all frames."""
        self._frames.clear()

    def _nearest(self, stamp: int) -> EncodedFrame | None:
        """Return the frame whose stamp is nearest to `stamp`, or None if none is within the tolerance."""
        frame = min(self._frames, key=lambda candidate: abs(candidate.stamp - stamp), default=None)
        return frame if frame is not None and abs(frame.stamp - stamp) <= self._tolerance else None

    def _no_frame(self, stamp: int) -> InvalidStampError:
        span = f"{self._frames[0].stamp} to {self._frames[-1].stamp} ns" if self._frames else "empty"
        return InvalidStampError(
            f"No image near the query stamp {stamp} ns is in the frame history ({span}); use newer points or raise "
            "`history_seconds`, `history_frames` or `stamp_tolerance`."
        )


def _check_wait(chosen: int, newest: int) -> None:
    """Raise `InvalidStampError` for points whose stamp is of another clock than the newest image's."""
    seconds = (chosen - newest) / NANOSECONDS
    if seconds > LONGEST_WAIT:
        raise InvalidStampError(
            f"The query stamp {chosen} ns is {seconds:.1f} s later than the newest image; use the stamp of the image "
            "in which the points were chosen, or 0."
        )
