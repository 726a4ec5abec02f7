"""Tracks as messages, whoever made the message types: rclpy or rosbags."""

from __future__ import annotations

import operator
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidMessageError
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.tracking.states import COLUMNS, Tracks, TrackState

FIELDS = [(column, name) for column in COLUMNS for name in column.message]
"""The fields of a TrackedPoint, each with the column that it is a part of."""


_NAMES = [name for _, name in FIELDS]
_VALUES = operator.attrgetter(*_NAMES)
"""Reads all fields of a TrackedPoint at once."""

_POINT = np.dtype([(name, column.dtype) for column, name in FIELDS], align=True)
"""A TrackedPoint in a serialized message: its fields have the alignment of C, and so has CDR."""

_POINT_END = max(offset + dtype.itemsize for dtype, offset, *_ in (_POINT.fields or {}).values())
"""Bytes of the last one, which no padding follows."""

_CDR_LITTLE_ENDIAN = b"\0\1"
"""How a serialized message begins that is written as below; every machine that ROS 2 supports writes so."""

_STAMP, _SIZES = struct.Struct("<iII"), struct.Struct("<IIII")
"""What is before and after the frame_id: seconds, nanoseconds, length; width, height, stream, number of points."""

_ENCAPSULATION = 4
"""Bytes before the message; alignment counts from their end."""


class TracksFrom(NamedTuple):
    """Tracks, and the frame_id of their image."""

    tracks: Tracks
    frame_id: str


def tracked_points(tracks: Tracks, header: Any, points_kind: Any, point_kind: Any) -> Any:
    """Return the tracks of one image as `points_kind`, a class TrackedPoints, with points of `point_kind`."""
    columns: list[list[Any]] = []
    for column in COLUMNS:
        if column.message:
            columns += getattr(tracks, column.name).reshape(len(tracks.ids), len(column.message)).T.tolist()
    points = [point_kind(**dict(zip(_NAMES, values, strict=True))) for values in zip(*columns, strict=True)]
    return points_kind(header=header, width=tracks.width, height=tracks.height, stream=tracks.stream, points=points)


def tracks_of(message: Any) -> Tracks:
    """Return the tracks that a TrackedPoints message holds; `scene_cut` is not part of it and False."""
    points = message.points
    fields = dict(zip(_NAMES, zip(*map(_VALUES, points), strict=True), strict=True)) if points else {}
    values = {name: np.array(fields.get(name, ()), column.dtype) for column, name in FIELDS}
    return _tracks(values, nanoseconds(message.header.stamp), message.width, message.height, message.stream)


def tracks_of_serialized(data: bytes) -> TracksFrom:
    """Return the tracks in a serialized TrackedPoints (CDR, OMG DDSI-RTPS 2.5 section 10), as `tracks_of` does.

    256 points take a tenth of the time that making a Python object of each takes. Raises `InvalidMessageError` if the
    bytes are no such message.
    """
    try:
        if data[:2] != _CDR_LITTLE_ENDIAN:
            raise ValueError
        body = memoryview(data)[_ENCAPSULATION:]
        seconds, nanosecond, length = _STAMP.unpack_from(body)
        text_end = _STAMP.size + length
        if not length or text_end > len(body):
            raise ValueError
        frame_id = bytes(body[_STAMP.size : text_end - 1]).decode()
        sizes = _aligned(text_end, 4)
        width, height, stream, count = _SIZES.unpack_from(body, sizes)
        start = _aligned(sizes + _SIZES.size, _POINT.alignment)
        end = start + (count - 1) * _POINT.itemsize + _POINT_END
        if count and end > len(body):
            raise ValueError
        padding = bytes(_POINT.itemsize - _POINT_END)
        points = np.frombuffer(bytes(body[start:end]) + padding if count else b"", _POINT)
    except (ValueError, struct.error) as error:
        raise InvalidMessageError(
            f"A message of {len(data)} bytes cannot be read as TrackedPoints; publish with the same version of its "
            "definition."
        ) from error
    values = {name: np.array(points[name], column.dtype) for column, name in FIELDS}
    return TracksFrom(_tracks(values, seconds * NANOSECONDS + nanosecond, width, height, stream), frame_id)


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _tracks(values: dict[str, NDArray[Any]], stamp: int, width: int, height: int, stream: int) -> Tracks:
    """Return tracks with the values [n] of the fields of their points."""
    arrays: dict[str, Any] = {}
    for column in COLUMNS:
        if column.message:
            parts = [values[name] for name in column.message]
            arrays[column.name] = np.stack(parts, axis=1) if len(parts) > 1 else parts[0]
    visible = arrays["state"] == TrackState.VISIBLE
    return Tracks(**arrays, visible=visible, stamp=stamp, width=width, height=height, scene_cut=False, stream=stream)
