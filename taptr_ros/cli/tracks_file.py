"""The npz file that `taptr track` writes."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.tracking.states import COLUMNS, Tracks


@dataclasses.dataclass(frozen=True)
class TracksFile:
    """Tracks of N points over T frames, as the arrays of the npz file."""

    columns: dict[str, NDArray[Any]]
    """[T,N,...] for each column of `Tracks` that has a value for frames in which the track does not exist: xy in ROS
    pixels of the source (else NaN), visibility (0), visible (False), state (`TrackState.LOST`), by these names."""
    ids: NDArray[np.uint64]
    """[N] in the order in which the points were given."""
    groups: NDArray[np.uint32]
    """[N] groups of points that belong to one body each; 0 is none."""
    stamps: NDArray[np.int64]
    """[T] nanoseconds."""

    @classmethod
    def collect(cls, ids: NDArray[np.uint64], frames: Sequence[Tracks]) -> TracksFile:
        """Put the tracks of T frames side by side, one column for each of `ids` and for each that follows on them."""
        ids = np.array(list(dict.fromkeys([*ids.tolist(), *(id_ for tracks in frames for id_ in tracks.ids.tolist())])))
        saved = [column for column in COLUMNS if column.absent is not None]
        arrays: dict[str, NDArray[Any]] = {}
        for column in saved:
            numbers = (len(column.message),) if len(column.message) > 1 else ()
            arrays[column.name] = np.full((len(frames), len(ids), *numbers), column.absent, column.dtype)
        column_of = {identifier: place for place, identifier in enumerate(ids.tolist())}
        groups = np.zeros(len(ids), np.uint32)
        for row, tracks in enumerate(frames):
            places = [column_of[identifier] for identifier in tracks.ids.tolist()]
            for name, array in arrays.items():
                array[row, places] = getattr(tracks, name)
            groups[places] = tracks.group
        stamps = np.array([tracks.stamp for tracks in frames], np.int64)
        return cls(arrays, ids=np.asarray(ids, np.uint64), groups=groups, stamps=stamps)

    def save(self, path: Path) -> None:
        """Write the npz file, under exactly this name; raises `OSError` if that is not possible."""
        with path.open("wb") as file:
            arrays: dict[str, Any] = {**self.columns, "ids": self.ids, "groups": self.groups, "stamps": self.stamps}
            np.savez_compressed(file, **arrays)

    def save_csv(self, path: Path) -> None:
        """Write one line for each track in each frame in which it exists, with a header; raises `OSError` if it cannot.

        Columns: frame (from 0), stamp, id, group, then those of the npz file, with positions in x and y.
        """
        exists = ~np.isnan(self.columns["xy"][..., 0])
        names = [name for name in self.columns if name != "xy"]
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["frame", "stamp", "id", "group", "x", "y", *names])
            for frame, place in np.argwhere(exists).tolist():
                x, y = self.columns["xy"][frame, place].tolist()
                values = [_plain(self.columns[name][frame, place]) for name in names]
                identity = [self.ids[place], self.groups[place]]
                writer.writerow([frame, self.stamps[frame], *identity, f"{x:.3f}", f"{y:.3f}", *values])


def _plain(value: Any) -> str:
    """Return a value as the CSV has it: truth as 0 or 1, decimals with four digits."""
    return f"{value:.4f}" if isinstance(value, np.floating) else str(int(value))
