"""Query points before they become tracks: their ids, and their wait for the right frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptr_ros.errors import DuplicateIdError, InvalidPointsError
from taptr_ros.tracking.checks import as_ids, refuse_repeated

OWN_IDS_END = 2**63
"""Ids below this that a caller chose are never assigned automatically later on."""


@dataclasses.dataclass(frozen=True)
class Query:
    """One query point."""

    id: int
    """Id that the track will have."""
    sequence: int
    """Order in which points were added."""
    xy: tuple[float, float]
    """Position in pixels of the incoming image."""
    stamp: int | None
    """Stamp in nanoseconds of the image in which the point was chosen; None is the next image, whichever it is."""


class IdAllocator:
    """Gives out track ids: 1, 2, 3 and so on, none twice, or those that the caller chose."""

    def __init__(self) -> None:
        self._next = 1

    def assign(self, ids: ArrayLike | None, count: int, taken: Collection[int]) -> NDArray[np.uint64]:
        """Return `count` ids: those in `ids` [count] as they are, new ones for 0 and None.

        Raises `InvalidPointsError` if `ids` are not `count` whole numbers of 64 bits, `DuplicateIdError` if one is
        among the `taken` ids or given twice.
        """
        chosen = np.zeros(count, np.uint64) if ids is None else as_ids(ids)
        if len(chosen) != count:
            raise InvalidPointsError(f"{count} points came with {len(chosen)} ids; give one id per point, or none.")
        given = [id_ for id_ in chosen.tolist() if id_]
        refuse_repeated(given)
        if live := sorted(set(given) & set(taken)):
            raise DuplicateIdError(f"Id {live[0]} is in use; choose another or remove that point first.")
        self._next = max([self._next, *(id_ + 1 for id_ in given if id_ < OWN_IDS_END)])
        unavailable = {*given, *taken}
        return np.array([id_ or self._new(unavailable) for id_ in chosen.tolist()], np.uint64)

    def _new(self, unavailable: set[int]) -> int:
        while self._next in unavailable:
            self._next += 1
        self._next += 1
        return self._next - 1
