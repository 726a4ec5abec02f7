"""Tracks and depth images of one moment, found by their stamps."""

from __future__ import annotations

import bisect
import collections
from typing import Generic, NamedTuple, TypeVar

TracksT = TypeVar("TracksT")
DepthT = TypeVar("DepthT")

_MOST_WAITING = 300
"""Tracks, and depth images, that wait at most, whatever their stamps say."""


class Pair(NamedTuple, Generic[TracksT, DepthT]):
    """Tracks and the depth image that belongs to them."""

    stamp: int
    """Of the tracks, in nanoseconds."""
    tracks: TracksT
    depth: DepthT | None
    """None if no depth image is near enough."""
    apart: int | None
    """Nanoseconds from the tracks to the nearest depth image, negative if that is older; None if there is none."""


class StampPairs(Generic[TracksT, DepthT]):
    """Pairs what two topics say of the same moment, in the order of the tracks.

    An equal stamp wins. Otherwise tracks wait until a later depth image shows that none with their stamp will come, or
    until newer tracks are `kept` nanoseconds ahead; then they get the nearest one within `tolerance` nanoseconds, or
    none. Depth images are kept for `kept` nanoseconds. A depth image serves several tracks if it is nearest to them.
    """

    def __init__(self, tolerance: int, kept: int) -> None:
        self._tolerance, self._kept = tolerance, kept
        self._waiting: collections.deque[tuple[int, TracksT]] = collections.deque(maxlen=_MOST_WAITING)
        self._depths: list[tuple[int, DepthT]] = []

    def add_tracks(self, stamp: int, tracks: TracksT) -> list[Pair[TracksT, DepthT]]:
        """Take tracks in, and return what is settled now."""
        settled = []
        if len(self._waiting) == _MOST_WAITING:
            settled.append(self._settle())
        self._waiting.append((stamp, tracks))
        return settled + self._settled()

    def add_depth(self, stamp: int, depth: DepthT) -> list[Pair[TracksT, DepthT]]:
        """Take a depth image in, and return what is settled now."""
        if self._depths and stamp < self._depths[-1][0] - self._kept:
            self._depths = []  # its clock has jumped back
        bisect.insort(self._depths, (stamp, depth), key=lambda entry: entry[0])
        settled = self._settled()
        oldest = self._depths[-1][0] - self._kept
        while self._depths[0][0] < oldest or len(self._depths) > _MOST_WAITING:
            del self._depths[0]
        return settled

    def finish(self) -> list[Pair[TracksT, DepthT]]:
        """Settle all tracks that wait: nothing more will come."""
        return [self._settle() for _ in range(len(self._waiting))]

    def _settled(self) -> list[Pair[TracksT, DepthT]]:
        settled = []
        while self._waiting and self._is_decided(self._waiting[0][0]):
            settled.append(self._settle())
        return settled

    def _is_decided(self, stamp: int) -> bool:
        """Return whether nothing that is still to come could be nearer to tracks."""
        if self._depths and self._depths[-1][0] >= stamp:
            return True
        return self._waiting[-1][0] - stamp > self._kept

    def _settle(self) -> Pair[TracksT, DepthT]:
        """Take out the oldest tracks, with their depth image."""
        stamp, tracks = self._waiting.popleft()
        if not self._depths:
            return Pair(stamp, tracks, None, None)
        # Of two that are equally near, the older one: it is on its way longest.
        nearest, depth = min(self._depths, key=lambda entry: abs(entry[0] - stamp))
        apart = nearest - stamp
        return Pair(stamp, tracks, depth if abs(apart) <= self._tolerance else None, apart)
