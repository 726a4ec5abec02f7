"""ROS messages from tracks and images."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from taptr_ros.tracking import Tracks
from taptr_ros.tracking.history import NANOSECONDS

CLOUD_POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("visibility", "<f4"),
        ("id", "<u4"),
        ("id_high", "<u4"),
        ("state", "u1"),
        ("padding", "u1", 3),
    ]
)
"""One point of the cloud. PointField has no 64-bit integers: `id` and `id_high` are the two halves of a track's id."""

_POINT_FIELDS = [
    PointField(name="x", offset=0, datatype=PointField.FLOAT32, count=1),
    PointField(name="y", offset=4, datatype=PointField.FLOAT32, count=1),
    PointField(name="z", offset=8, datatype=PointField.FLOAT32, count=1),
    PointField(name="visibility", offset=12, datatype=PointField.FLOAT32, count=1),
    PointField(name="id", offset=16, datatype=PointField.UINT32, count=1),
    PointField(name="id_high", offset=20, datatype=PointField.UINT32, count=1),
    PointField(name="state", offset=24, datatype=PointField.UINT8, count=1),
]


def point_cloud(tracks: Tracks, header: Header) -> PointCloud2:
    """Return the tracks as a cloud: x and y in pixels, z = 0, in the order of the tracks."""
    points = np.zeros(len(tracks.ids), CLOUD_POINT)
    points["x"], points["y"] = tracks.xy[:, 0], tracks.xy[:, 1]
    points["visibility"], points["state"] = tracks.visibility, tracks.state
    points["id"], points["id_high"] = tracks.ids & np.uint64(0xFFFFFFFF), tracks.ids >> np.uint64(32)
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


def _bytes(data: NDArray[Any]) -> array.array[int]:
    """Return an array's bytes as the one type that rclpy takes over without looking at every byte."""
    result = array.array("B")
    result.frombytes(np.ascontiguousarray(data).data.cast("B"))
    return result
