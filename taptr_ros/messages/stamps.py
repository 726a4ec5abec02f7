"""Stamps of messages in nanoseconds."""

from __future__ import annotations

from typing import Any

from taptr_ros.tracking.history import NANOSECONDS


def nanoseconds(stamp: Any) -> int:
    """Return a builtin_interfaces/Time, whoever made it, in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)
