"""Query points before they become tracks: their ids, and their wait for the right frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from taptr_ros.errors import InvalidPointsError, InvalidStampError
from taptr_ros.runtime.coordinates import UnitCoordinates
from taptr_ros.tracking.checks import as_groups, as_ids, outside, outside_error
from taptr_ros.tracking.history import EncodedFrame, FrameHistory
from taptr_ros.tracking.regions import Region
from taptr_ros.tracking.states import RefusedPoint

OWN_IDS_END, OWN_GROUPS_END = 2**63, 2**31
"""Ids and groups below this that a caller chose are never assigned automatically later on."""


@dataclasses.dataclass(frozen=True)
class WaitingPoint:
    """One query point."""

    id: int
    """Id that the track will have."""
    sequence: int
    """Order in which points were added."""
    xy: tuple[float, float]
    """Position in pixels of the incoming image."""
    stamp: int | None
    """Stamp in nanoseconds of the image in which the point was chosen; None is the next image, whichever it is."""
    group: int
    """Group that the track will have; 0 is none."""


@dataclasses.dataclass(frozen=True)
class WaitingRegion:
    """A region whose points are chosen once its image is there."""

    region: Region
    """Where the points are."""
    group: int
    """Group that they will have."""
    count: int
    """How many are wanted."""
    stamp: int | None
    """As for `WaitingPoint`."""


@dataclasses.dataclass(frozen=True)
class AddedRegion:
    """What became of a region."""

    group: int
    """Group of its points; 0 if it was refused."""
    ids: list[int]
    """Ids of its points; empty if it was refused, or waits for its image."""
    refusal: str
    """Why it was refused, as one sentence; empty if it was not."""


class WaitingQueries:
    """Points and regions that wait for the frame in which they start."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.points: list[WaitingPoint] = []
        self.regions: list[WaitingRegion] = []

    def remove(self, ids: Collection[int], groups: Collection[int]) -> None:
        """Forget the points with these ids, and all of these groups."""
        self.points = [point for point in self.points if point.id not in ids and point.group not in groups]
        self.regions = [region for region in self.regions if region.group not in groups]

    def take_due(
        self, stamp: int, coordinates: UnitCoordinates, history: FrameHistory
    ) -> tuple[dict[WaitingPoint, EncodedFrame | None], tuple[RefusedPoint, ...]]:
        """Return the points that start now that the image with `stamp` comes, and those that never can.

        They do not wait any more. Each of the first comes with the past frame that it starts in, None for the new one.
        """
        due: dict[WaitingPoint, EncodedFrame | None] = {}
        refused: list[RefusedPoint] = []
        waiting: list[WaitingPoint] = []
        places = np.array([point.xy for point in self.points], np.float64).reshape(-1, 2)
        for point, is_outside in zip(self.points, outside(places, coordinates).tolist(), strict=True):
            try:
                if is_outside:
                    raise outside_error(*point.xy, coordinates)
                is_due, past = history.due(point.stamp, stamp)
            except (InvalidPointsError, InvalidStampError) as error:
                refused.append(RefusedPoint(point.id, str(error)))
                continue
            if is_due:
                due[point] = past
            else:
                waiting.append(point)
        self.points = waiting
        return due, tuple(refused)


class IdAllocator:
    """Gives out ids of tracks, or groups: 1, 2, 3 and so on, none twice, or those that the caller chose.

    Those below `own_end` that a caller chose are never assigned automatically later on.
    """

    def __init__(self, own_end: int = OWN_IDS_END) -> None:
        self._own_end = own_end
        self._next = 1

    def assign(self, chosen: Sequence[int], taken: Collection[int]) -> list[int]:
        """Return the `chosen` ids, distinct and not `taken`, with new ones in place of 0."""
        given = [id_ for id_ in chosen if id_]
        self.note(given)
        unavailable = {*given, *taken}
        return [id_ or self._new(unavailable) for id_ in chosen]

    def note(self, given: Collection[int]) -> None:
        """Take note of ids that a caller chose."""
        self._next = max([self._next, *(id_ + 1 for id_ in given if id_ < self._own_end)])

    def _new(self, unavailable: set[int]) -> int:
        while self._next in unavailable:
            self._next += 1
        self._next += 1
        return self._next - 1


def chosen_ids(ids: ArrayLike | None, count: int) -> list[int]:
    """Return one id for each of `count` points, 0 for those that get a new one.

    Raises `InvalidPointsError` if `ids` are not `count` whole numbers of 64 bits.
    """
    chosen = [0] * count if ids is None else as_ids(ids).tolist()
    if len(chosen) != count:
        raise InvalidPointsError(f"{count} points came with {len(chosen)} ids; pass one id per point, or none.")
    return chosen


def chosen_groups(groups: ArrayLike | None, count: int) -> list[int]:
    """Return one group for each of `count` points, 0 for those that are in none.

    Raises `InvalidPointsError` if `groups` are not `count` whole numbers of 32 bits.
    """
    chosen = [0] * count if groups is None else as_groups(groups).tolist()
    if len(chosen) != count:
        raise InvalidPointsError(f"{count} points came with {len(chosen)} groups; pass one group per point, or none.")
    return chosen
