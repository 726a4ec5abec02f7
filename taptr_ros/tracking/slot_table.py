"""Which row of the backend's arrays belongs to which track, and which memory slot each track writes next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taptr_ros.tracking.states import COLUMNS

RECORD = np.dtype(
    [
        ("id", np.uint64),  # of the track; 0 for a support point
        ("owner", np.uint64),  # id of the track that a local support point stands by; 0 for all others
        ("place", np.int16),  # of a support point in the global grid; -1 for all others
        ("sequence", np.int64),  # order in which tracks were added
        ("start", np.int64),  # number of the first frame
        ("remembered", np.int64),  # memories written so far, those forgotten since included
        ("xy", np.float32, 2),  # position in unit coordinates
        ("frozen", np.bool_),  # lost in a scene cut: stays where it is until it is found again
        *((column.name, column.dtype) for column in COLUMNS if column.in_table),
    ]
)
"""What is kept of one track or support point beside the backend's arrays."""

Rows = NDArray[np.int64]


def seen_probability(records: NDArray[np.void]) -> NDArray[np.float32]:
    """Return the probability [N] that points are visible and close to where their records (dtype `RECORD`) have them.

    It decides what counts as visible, weighs memories, and starts searches and renewals.
    """
    return np.asarray(records["visibility"] * records["confidence"], np.float32)


class SlotTable:
    """Records of the tracks in rows 0..size-1; nothing here grows or is reallocated.

    Rows stay contiguous: `remove` moves the last row into each hole and says so, for the backend's arrays to follow.
    Every track has a memory of `slots` slots that fill from 0 upwards. With `pin_first`, slot 0 keeps the first
    memory and the others form a ring; otherwise all of them do.
    """

    def __init__(self, capacity: int, slots: int, pin_first: bool) -> None:
        self.size = 0
        self._records = np.zeros(capacity, RECORD)
        self._slots = slots
        self._pinned = 1 if pin_first else 0

    @property
    def live(self) -> NDArray[np.void]:
        """The records of all rows in use: a view, to be read and written."""
        return self._records[: self.size]

    def append(self, records: NDArray[np.void]) -> Rows:
        """Take new rows for `records` [N] (dtype `RECORD`) and return them. The caller keeps to the capacity."""
        rows = np.arange(self.size, self.size + len(records))
        self._records[rows] = records
        self.size += len(records)
        return rows

    def remove(self, rows: Rows) -> list[tuple[int, int]]:
        """Free `rows` (distinct). Return the moves (to, from), in order, that closed the holes."""
        moves = []
        for row in np.sort(rows)[::-1].tolist():
            self.size -= 1
            if row != self.size:
                self._records[row] = self._records[self.size]
                moves.append((row, self.size))
        return moves

    def clear(self) -> None:
        """Free all rows."""
        self.size = 0

    def take_slots(self, rows: Rows) -> Rows:
        """Reserve the next memory slot of each of `rows` [N] and return them, [N].

        -1 says that there is none: the only slot is pinned and taken.
        """
        written = self._records["remembered"][rows]
        self._records["remembered"][rows] += 1
        ring = self._slots - self._pinned
        if ring == 0:
            return np.where(written == 0, 0, -1)
        return np.where(written < self._pinned, 0, self._pinned + (written - self._pinned) % ring)

    @property
    def filled_slots(self) -> int:
        """Memory slots that the fullest row has in use."""
        return int(min(self.live["remembered"].max(initial=0), self._slots))


def blank_records(count: int) -> NDArray[np.void]:
    """Return `count` records of support points or tracks without id, place and position."""
    records = np.zeros(count, RECORD)
    records["place"] = -1
    return records
