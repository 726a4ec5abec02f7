"""What /diagnostics says of the stream: rate, latency, images that were not tracked, memory."""

from __future__ import annotations

import collections
import dataclasses
import resource
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from taptr_ros.runtime.backend import BackendInfo

REMEMBERED_IMAGES = 1800
"""Images over which latencies are reported: one minute at 30 per second."""


class Latency(NamedTuple):
    """Where the time of one image went, in seconds."""

    total: float
    """From the image's stamp to the publication of its tracks."""
    tracker: float
    """Of that, in the tracker."""


@dataclasses.dataclass
class _Window:
    """What happened since the last report."""

    processed: int = 0
    superseded: int = 0
    lost: int = 0
    refused: int = 0
    left_out: int = 0
    reason: str = ""
    """Why the last of those that were refused or left out was not used."""


class StreamStatistics:
    """Counts what becomes of images, from any thread, and reports it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window = _Window()
        self._window_start = time.monotonic()
        self._latencies: collections.deque[Latency] = collections.deque(maxlen=REMEMBERED_IMAGES)
        self._superseded = self._lost = self._refused = self._left_out = self._processed = 0
        self._tracks = 0

    def begin_stream(self) -> None:
        """Forget the tracks and the latencies of the stream before; what was counted stays."""
        with self._lock:
            self._latencies.clear()
            self._tracks = 0

    def processed(self, latency: Latency, tracks: int) -> None:
        """Count an image whose tracks were published."""
        with self._lock:
            self._latencies.append(latency)
            self._window.processed += 1
            self._processed += 1
            self._tracks = tracks

    def superseded(self, images: int) -> None:
        """Count images that gave way to newer ones."""
        with self._lock:
            self._window.superseded += images
            self._superseded += images

    def lost(self, images: int) -> None:
        """Count images that the transport lost."""
        with self._lock:
            self._window.lost += images
            self._lost += images

    def refused(self, reason: str) -> None:
        """Count an image that cannot be used."""
        with self._lock:
            self._window.refused += 1
            self._window.reason = reason
            self._refused += 1

    def left_out(self, reason: str) -> None:
        """Count a good image that has no place in the stream: late, repeated, of another size."""
        with self._lock:
            self._window.left_out += 1
            self._window.reason = reason
            self._left_out += 1

    def report(self, name: str, state: str, info: BackendInfo | None) -> DiagnosticStatus:
        """Return the state of the stream since the last report. `info` is None while no model is loaded."""
        with self._lock:
            window, self._window = self._window, _Window()
            now = time.monotonic()
            seconds, self._window_start = max(now - self._window_start, 1e-9), now
            level, message = _judgement(state, window)
            values = {
                "lifecycle state": state,
                "model": info.model if info else "none",
                "backend": info.backend if info else "none",
                "device": info.device if info else "none",
                "precision": info.precision if info else "none",
                "rate [Hz]": f"{window.processed / seconds:.1f}",
                **self._latency_values(),
                "active tracks": str(self._tracks if state == "active" else 0),
                "images processed": str(self._processed),
                "images skipped": str(self._superseded),
                "images lost in transport": str(self._lost),
                "images refused": str(self._refused),
                "images left out": str(self._left_out),
                "memory [MB]": _resident_memory(),
                "peak memory [MB]": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f}",
            }
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=name, message=message, hardware_id="", values=pairs)

    def _latency_values(self) -> dict[str, str]:
        """Return percentiles over the remembered images: of the whole, of the tracker, and of what is added to it."""
        total, tracker = np.array(self._latencies, np.float64).reshape(-1, 2).T
        return {
            f"{name} p{percentile} [ms]": f"{1e3 * np.percentile(seconds, percentile):.1f}" if len(seconds) else "none"
            for name, seconds in (("latency", total), ("tracker", tracker), ("overhead", total - tracker))
            for percentile in (50, 95, 99)
        }


def _judgement(state: str, window: _Window) -> tuple[bytes, str]:
    if state != "active":
        return DiagnosticStatus.OK, f"The node is {state}."
    unused = window.refused + window.left_out
    if unused:
        level = DiagnosticStatus.WARN if window.processed else DiagnosticStatus.ERROR
        return level, f"{window.refused} images were refused and {window.left_out} left out. {window.reason}"
    if window.lost:
        return DiagnosticStatus.WARN, f"The transport lost {window.lost} images."
    if not window.processed:
        return DiagnosticStatus.WARN, "No image was processed since the last report."
    return DiagnosticStatus.OK, f"Tracking; {window.superseded} images were skipped in favour of newer ones."


def _resident_memory() -> str:
    """Return the memory that this process holds now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return f"{pages * resource.getpagesize() / 1e6:.0f}"
