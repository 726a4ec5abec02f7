"""Messages as they came from the network, read so that no bytes can end the process."""

from __future__ import annotations

from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.serialization import deserialize_message

from taptr_ros.errors import InvalidMessageError

_HEAD = 4
"""Bytes that say how the others are written; the two lowest bits of the last one count bytes of padding at the end."""


def deserialized(data: bytes, kind: type) -> Any:
    """Return a serialized message (CDR) as the message class `kind`.

    Raises `InvalidMessageError` if it is none. Fast DDS 3.2 believes the padding that a message announces: one that is
    shorter than that makes it read beyond the end, which ends the process.
    """
    if len(data) >= _HEAD and len(data) - _HEAD >= data[_HEAD - 1] & 3:
        try:
            return deserialize_message(data, kind)
        except rclpy_implementation.RMWError:
            pass
    raise InvalidMessageError(
        f"A message of {len(data)} bytes cannot be read as {kind.__name__}; publish with the same version of its "
        "definition."
    )
