"""The rows of the Parquet dataset: one for every track in every image, with the columns of `Tracks`."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from taptr_ros.errors import SourceError
from taptr_ros.tracking.states import COLUMNS, Tracks, TrackState

_TEXT = pa.dictionary(pa.int32(), pa.string())

PLACE = (
    pa.field("recording", _TEXT),
    pa.field("topic", _TEXT),
    pa.field("piece", pa.int32()),
    pa.field("frame", pa.int32()),
    pa.field("stamp", pa.int64()),
)
"""Where a row belongs: the name of the recording, the topic of a bag or nothing, the number of the piece, the number of
the image in the recording, both from 0, and the image's stamp in nanoseconds."""

SCHEMA = pa.schema(
    [
        *PLACE,
        *(pa.field(name, pa.from_numpy_dtype(column.dtype)) for column in COLUMNS for name in column.message),
    ]
)
"""All columns: further ones of `Tracks` follow by themselves."""

ROWS_PER_GROUP = 1 << 17
"""Rows that are collected before they are compressed: a few megabytes."""


_SUMMARY = b"taptr_ros"
"""Key of the summary among the metadata of a file."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is told of a recording, or of a part of one, that was tracked."""

    frames: int
    points: int
    rows: int
    visible: int
    """Rows of points that are seen."""
    seconds: float
    """How long it took."""
    notices: tuple[str, ...]
    """Sentences on images that were left out, and the like."""


class RowsFile:
    """A Parquet file in memory, written image by image."""

    def __init__(self, recording: str, topic: str) -> None:
        self._recording, self._topic = recording, topic
        self._file = io.BytesIO()
        self._writer = pq.ParquetWriter(self._file, SCHEMA, compression="zstd")
        self._waiting: list[tuple[int, int, Tracks]] = []
        self._waiting_rows = 0
        self._frames = self._rows = self._visible = 0

    def append(self, piece: int, frame: int, tracks: Tracks) -> None:
        """Add the tracks of the image with this number."""
        self._waiting.append((piece, frame, tracks))
        self._waiting_rows += len(tracks.ids)
        self._frames += 1
        self._rows += len(tracks.ids)
        self._visible += int((tracks.state == TrackState.VISIBLE).sum())
        if self._waiting_rows >= ROWS_PER_GROUP:
            self._write()

    def close(self, points: int, seconds: float, notices: Sequence[str]) -> tuple[bytes, Summary]:
        """Complete the file and return it with its summary, which it holds too."""
        self._write()
        summary = Summary(self._frames, points, self._rows, self._visible, seconds, tuple(notices))
        self._writer.add_key_value_metadata({_SUMMARY: json.dumps(dataclasses.asdict(summary))})
        self._writer.close()
        return self._file.getvalue(), summary

    def _write(self) -> None:
        """Write what waits as one row group."""
        if not self._waiting_rows:
            return
        counts = [len(tracks.ids) for _, _, tracks in self._waiting]
        arrays: list[Any] = [_repeated(text, self._waiting_rows) for text in (self._recording, self._topic)]
        for dtype, values in (
            (np.int32, [piece for piece, _, _ in self._waiting]),
            (np.int32, [number for _, number, _ in self._waiting]),
            (np.int64, [tracks.stamp for _, _, tracks in self._waiting]),
        ):
            arrays.append(pa.array(np.repeat(np.array(values, dtype), counts)))
        for column in COLUMNS:
            if column.message:
                joined = np.concatenate([getattr(tracks, column.name) for _, _, tracks in self._waiting])
                arrays += [pa.array(part) for part in _parts(joined, len(column.message))]
        self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
        self._waiting, self._waiting_rows = [], 0


def summary_in(path: Path) -> Summary:
    """Return the summary that a file holds; raises `SourceError` if it cannot be read."""
    try:
        facts = json.loads(pq.read_metadata(path).metadata[_SUMMARY])
        return Summary(**facts | {"notices": tuple(facts["notices"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{path} is damaged ({error}); remove it, and start the command again.") from error


def _parts(array: NDArray[Any], count: int) -> list[NDArray[Any]]:
    """Return the `count` numbers of every entry as arrays of their own."""
    return [np.ascontiguousarray(part) for part in array.reshape(len(array), count).T]


def _repeated(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text], pa.string()))
