"""ROS messages from tracks and images."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from taptr_ros.messages.tracks import FIELDS
from taptr_ros.tracking import Tracks
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.tracking.states import COLUMNS, Column

_DATATYPES = {"f4": PointField.FLOAT32, "u4": PointField.UINT32, "u1": PointField.UINT8}
"""PointField's names of the types in a cloud."""


def _cloud_layout() -> tuple[np.dtype[Any], list[PointField]]:
    """Return the layout of one point of the cloud, as numpy and as PointField name it.

    First x, y and z = 0, then decimal numbers, whole ones and bytes, filled up to whole words. PointField has no 64-bit
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
    return layout, [
        PointField(name=name, offset=offsets[name], datatype=_DATATYPES[kind], count=1) for name, kind in parts
    ]


CLOUD_POINT, _POINT_FIELDS = _cloud_layout()


def point_cloud(tracks: Tracks, header: Header) -> PointCloud2:
    """Return the tracks as a cloud: x and y in pixels, z = 0, in the order of the tracks."""
    points = np.zeros(len(tracks.ids), CLOUD_POINT)
    for column in COLUMNS:
        if column.in_cloud:
            _fill(points, column, getattr(tracks, column.name))
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=_POINT_FIELDS,
        is_bigendian=False,
        point_step=CLOUD_POINT.itemsize,
        row_step=CLOUD_POINT.itemsize * len(points),
        data=_bytes(points),
        is_dense=True,
    )


def rgb_image(image: NDArray[np.uint8], header: Header) -> Image:
    """Return a uint8 [H,W,3] RGB image as an rgb8 message."""
    height, width = image.shape[:2]
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=_bytes(image))


def time_message(nanoseconds: int) -> Time:
    """Return a stamp in nanoseconds as builtin_interfaces/Time."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def _fill(points: NDArray[np.void], column: Column, values: NDArray[Any]) -> None:
    """Put the values of a column into the points."""
    for part, name in zip(values.reshape(len(points), len(column.message)).T, column.message, strict=True):
        if column.dtype == np.uint64:
            points[name], points[f"{name}_high"] = part & np.uint64(0xFFFFFFFF), part >> np.uint64(32)
        else:
            points[name] = part


def _bytes(data: NDArray[Any]) -> array.array[int]:
    """Return an array's bytes as the one type that rclpy takes over without looking at every byte."""
    result = array.array("B")
    result.frombytes(np.ascontiguousarray(data).data.cast("B"))
    return result
