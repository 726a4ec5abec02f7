"""Tracks as sensor_msgs/PointCloud2: in pixels, or in metres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.bodies.points import LiftedTracks
from taptr_ros.messages.kinds import MessageKinds
from taptr_ros.messages.tracks import FIELDS
from taptr_ros.tracking.states import COLUMNS, Column, Tracks

_DATATYPES = {"f4": 7, "u4": 6, "u1": 2}
"""PointField's numbers of the types in a cloud: FLOAT32, UINT32 and UINT8."""


def _cloud_layout() -> tuple[np.dtype[Any], list[tuple[str, int, int]]]:
    """Return the layout of one point of the cloud, as numpy has it, and name, offset and type of the fields.

    First x, y and z, then decimal numbers, whole ones and bytes, filled up to whole words. PointField has no 64-bit
    integers: `id` and `id_high` are the two halves of an id.
    """
    parts = [("z", "f4")]
    for column, name in FIELDS:
        if column.in_cloud:
            kind = column.dtype.str[1:]
            parts += [(name, "u4"), (f"{name}_high", "u4")] if kind == "u8" else [(name, kind)]
    rank = {"f4": 1, "u4": 2, "u1": 3}
    parts.sort(key=lambda part: ("xyz".find(part[0]) if part[0] in "xyz" else 3, rank[part[1]]))
    size = sum(int(kind[1]) for _, kind in parts)
    padding = [("padding", "u1", (-size) % 4)] if size % 4 else []
    layout = np.dtype([*((name, f"<{kind}") for name, kind in parts), *padding])
    offsets = {name: layout.fields[name][1] for name, _ in parts} if layout.fields else {}
    return layout, [(name, offsets[name], _DATATYPES[kind]) for name, kind in parts]


CLOUD_POINT, _POINT_FIELDS = _cloud_layout()


def pixel_cloud(tracks: Tracks, header: Any, kinds: MessageKinds) -> Any:
    """Return the tracks as a cloud: x and y in pixels, z = 0, in the order of the tracks."""
    return _cloud(_filled(tracks), header, kinds, is_dense=True)


def metric_cloud(lifted: LiftedTracks, header: Any, kinds: MessageKinds) -> Any:
    """Return the tracks as a cloud in metres, in the order of the tracks; x, y and z are NaN without depth."""
    points = _filled(lifted.tracks)
    points["x"], points["y"], points["z"] = lifted.xyz.T
    return _cloud(points, header, kinds, is_dense=bool(np.isfinite(lifted.xyz).all()))


def _cloud(points: NDArray[np.void], header: Any, kinds: MessageKinds, *, is_dense: bool) -> Any:
    field = kinds("sensor_msgs/msg/PointField")
    return kinds("sensor_msgs/msg/PointCloud2")(
        header=header,
        height=1,
        width=len(points),
        fields=[field(name=name, offset=offset, datatype=kind, count=1) for name, offset, kind in _POINT_FIELDS],
        is_bigendian=False,
        point_step=CLOUD_POINT.itemsize,
        row_step=CLOUD_POINT.itemsize * len(points),
        data=kinds.octets(points),
        is_dense=is_dense,
    )


def _filled(tracks: Tracks) -> NDArray[np.void]:
    points = np.zeros(len(tracks.ids), CLOUD_POINT)
    for column in COLUMNS:
        if column.in_cloud:
            _fill(points, column, getattr(tracks, column.name))
    return points


def _fill(points: NDArray[np.void], column: Column, values: NDArray[Any]) -> None:
    """Put the values of a column into the points."""
    for part, name in zip(values.reshape(len(points), len(column.message)).T, column.message, strict=True):
        if column.dtype == np.uint64:
            points[name], points[f"{name}_high"] = part & np.uint64(0xFFFFFFFF), part >> np.uint64(32)
        else:
            points[name] = part
