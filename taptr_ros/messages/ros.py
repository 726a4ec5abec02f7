"""ROS messages from tracks and images."""

from __future__ import annotations

import array
import functools
import importlib
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from taptr_ros.messages.clouds import pixel_cloud
from taptr_ros.tracking import Tracks
from taptr_ros.tracking.history import NANOSECONDS


class RosKinds:
    """The messages of rclpy; `MessageKinds`."""

    def __call__(self, name: str) -> Any:
        """Return the class of messages of a type; raises `ImportError` if its package is not installed."""
        return _kind(name)

    def octets(self, data: NDArray[Any]) -> array.array[int]:
        """Return an array's bytes as the one type that rclpy takes over without looking at every byte."""
        result = array.array("B")
        result.frombytes(np.ascontiguousarray(data).data.cast("B"))
        return result


ROS_KINDS = RosKinds()


@functools.cache
def _kind(name: str) -> Any:
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


def point_cloud(tracks: Tracks, header: Header) -> PointCloud2:
    """Return the tracks as a cloud: x and y in pixels, z = 0, in the order of the tracks."""
    return pixel_cloud(tracks, header, ROS_KINDS)


def rgb_image(image: NDArray[np.uint8], header: Header) -> Image:
    """Return a uint8 [H,W,3] RGB image as an rgb8 message."""
    height, width = image.shape[:2]
    data = ROS_KINDS.octets(image)
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def time_message(nanoseconds: int) -> Time:
    """Return a stamp in nanoseconds as builtin_interfaces/Time."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)
