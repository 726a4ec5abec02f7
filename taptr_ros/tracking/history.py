"""The last frames, kept so that points may start in the past."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from taptr_ros.runtime.backend import Features
from taptr_ros.runtime.coordinates import UnitCoordinates

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second."""


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
        self.tolerance = int(tolerance * NANOSECONDS)
        """How far, in nanoseconds, a frame may be from the stamp that is looked up."""

    @property
    def last(self) -> EncodedFrame | None:
        """The newest frame, or None before the first one."""
        return self._frames[-1] if self._frames else None

    @property
    def span(self) -> str:
        """The stamps that the history reaches over, in words."""
        return f"{self._frames[0].stamp} to {self._frames[-1].stamp} ns" if self._frames else "empty"

    def append(self, frame: EncodedFrame) -> None:
        """Keep a new frame and forget those that are too old."""
        self._frames.append(frame)
        while frame.stamp - self._frames[0].stamp > self._span:
            self._frames.popleft()

    def nearest(self, stamp: int) -> EncodedFrame | None:
        """Return the frame whose stamp is nearest to `stamp`, or None if none is within the tolerance."""
        frame = min(self._frames, key=lambda candidate: abs(candidate.stamp - stamp), default=None)
        return frame if frame is not None and abs(frame.stamp - stamp) <= self.tolerance else None

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
