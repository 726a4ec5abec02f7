"""Message classes by their names, whoever makes them: rclpy or rosbags."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class MessageKinds(Protocol):
    """Makes messages of one of the two libraries."""

    def __call__(self, name: str) -> Any:
        """Return the class of messages of a type, for instance sensor_msgs/msg/PointCloud2; it takes all fields."""

    def octets(self, data: NDArray[Any]) -> Any:
        """Return an array's bytes as the library takes a field of type uint8[]."""


def header(kinds: MessageKinds, stamp: int, frame_id: str) -> Any:
    """Return a std_msgs/Header with a stamp in nanoseconds."""
    time = kinds("builtin_interfaces/msg/Time")(sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000)
    return kinds("std_msgs/msg/Header")(stamp=time, frame_id=frame_id)


class BagKinds:
    """The messages of rosbags."""

    def __init__(self, types: Any) -> None:
        """`types` are those of a typestore."""
        self._types = types

    def __call__(self, name: str) -> Any:
        """See `MessageKinds`."""
        return self._types[name]

    def octets(self, data: NDArray[Any]) -> Any:
        """See `MessageKinds`."""
        return np.frombuffer(np.ascontiguousarray(data).data.cast("B"), np.uint8)
