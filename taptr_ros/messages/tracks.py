"""Tracks as messages, whoever made the message types: rclpy or rosbags."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.tracking.states import COLUMNS, Tracks, TrackState

FIELDS = [(column, name) for column in COLUMNS for name in column.message]
"""The fields of a TrackedPoint, each with the column that it is a part of."""


_NAMES = [name for _, name in FIELDS]
_VALUES = operator.attrgetter(*_NAMES)
"""Reads all fields of a TrackedPoint at once."""


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
    arrays: dict[str, Any] = {}
    for column in COLUMNS:
        if column.message:
            parts = [np.array(fields.get(name, ()), column.dtype) for name in column.message]
            arrays[column.name] = np.stack(parts, axis=1) if len(parts) > 1 else parts[0]
    return Tracks(
        **arrays,
        visible=arrays["state"] == TrackState.VISIBLE,
        stamp=nanoseconds(message.header.stamp),
        width=message.width,
        height=message.height,
        scene_cut=False,
        stream=message.stream,
    )
