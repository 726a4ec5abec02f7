"""How much memory is left, asked before much of it is taken: the system ends a process that takes too much."""

from __future__ import annotations

from pathlib import Path

from taptr_ros.errors import InvalidConfigError
from taptr_ros.runtime.processors import CGROUP

MEMORY = Path("/proc/meminfo")
"""Where Linux says how much memory there is."""

LARGE = 1 << 28
"""Bytes up to which nobody is asked: 256 MiB."""


def free_memory() -> int | None:
    """Return the bytes that this process could still take, None if the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        # A container may have less than the machine.
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        return min(free, max(int(limit) - int(used), 0))
    except (OSError, ValueError):
        return free


def check_memory(needed: int, what: str, advice: str) -> None:
    """Raise `InvalidConfigError`, a sentence of what takes the memory and what to do, if it is not there.

    `needed` is in bytes.
    """
    free = free_memory() if needed > LARGE else None
    if free is not None and needed > free:
        raise InvalidConfigError(
            f"{what} take {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free; {advice}."
        )
