"""Stamps: nanoseconds as a whole number, and ROS's own form of them."""

from __future__ import annotations

from typing import Any

NANOSECONDS = 1_000_000_000
"""Nanoseconds per second."""


def nanoseconds(stamp: Any) -> int:
    """Return a builtin_interfaces/Time, whoever made it, in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)
