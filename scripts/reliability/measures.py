"""What a process holds, read from /proc (Linux)."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path
from typing import NamedTuple


class Holdings(NamedTuple):
    """What a process holds at one moment."""

    memory: float
    """Resident memory in MiB."""
    files: int
    """Open file descriptors."""
    threads: int


def holdings(process: int | str = "self") -> Holdings:
    """Return what a process holds, by its number."""
    folder = Path("/proc") / str(process)
    values = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    return Holdings(
        memory=int(values["VmRSS"].split()[0]) / 1024,
        files=sum(1 for _ in (folder / "fd").iterdir()),
        threads=int(values["Threads"]),
    )


def peak_memory() -> float:
    """Return the most memory in MiB that this process held at once so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def give_back_memory() -> None:
    """Let the allocator return what it keeps for later to the system, where it can: what is left is in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
