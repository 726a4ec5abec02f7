"""The npz file that `taptr track` writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.tracking.states import Tracks, TrackState


@dataclasses.dataclass(frozen=True)
class TracksFile:
    """Tracks of N points over T frames; every field is an array of the npz file of the same name.

    A track that does not exist in a frame, because its point starts later, has xy NaN, visibility 0, visible False
    and state LOST there.
    """

    xy: NDArray[np.float32]
    """[T,N,2] ROS pixels of the source."""
    visibility: NDArray[np.float32]
    """[T,N] probability that the point is visible."""
    visible: NDArray[np.bool_]
    """[T,N] whether the point counts as visible."""
    state: NDArray[np.uint8]
    """[T,N] `TrackState` values."""
    ids: NDArray[np.uint64]
    """[N] in the order in which the points were given."""
    stamps: NDArray[np.int64]
    """[T] nanoseconds."""

    @classmethod
    def collect(cls, ids: NDArray[np.uint64], frames: Sequence[Tracks]) -> TracksFile:
        """Put the tracks of T frames side by side, one column for each of `ids` [N]."""
        shape = (len(frames), len(ids))
        arrays: dict[str, NDArray[Any]] = {
            "xy": np.full((*shape, 2), np.nan, np.float32),
            "visibility": np.zeros(shape, np.float32),
            "visible": np.zeros(shape, np.bool_),
            "state": np.full(shape, TrackState.LOST, np.uint8),
        }
        column_of = {identifier: column for column, identifier in enumerate(ids.tolist())}
        for row, tracks in enumerate(frames):
            columns = [column_of[identifier] for identifier in tracks.ids.tolist()]
            for name, array in arrays.items():
                array[row, columns] = getattr(tracks, name)
        stamps = np.array([tracks.stamp for tracks in frames], np.int64)
        return cls(**arrays, ids=np.asarray(ids, np.uint64), stamps=stamps)

    def save(self, path: Path) -> None:
        """Write the npz file, under exactly this name; raises `OSError` if that is not possible."""
        with path.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})
