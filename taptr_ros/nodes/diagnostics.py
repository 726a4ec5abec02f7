"""What /diagnostics says of the stream: rate, latency, images that did not make it, memory."""

from __future__ import annotations

import dataclasses
import resource
import threading
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from taptr_ros.runtime.backend import BackendInfo


@dataclasses.dataclass
class _Window:
    """What happened since the last report."""

    latencies: list[float] = dataclasses.field(default_factory=list)
    """Seconds from an image's stamp to the publication of its tracks, one per processed image."""
    superseded: int = 0
    lost: int = 0
    refused: int = 0
    refusal: str = ""
    """Why the last refused image was refused."""


class StreamStatistics:
    """Counts what becomes of images, from any thread, and reports it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window = _Window()
        self._window_start = time.monotonic()
        self._superseded = self._lost = self._refused = self._processed = 0
        self._tracks = 0

    def processed(self, latency: float, tracks: int) -> None:
        """Count an image whose tracks were published, `latency` seconds after its stamp."""
        with self._lock:
            self._window.latencies.append(latency)
            self._processed += 1
            self._tracks = tracks

    def superseded(self) -> None:
        """Count an image that gave way to a newer one."""
        with self._lock:
            self._window.superseded += 1
            self._superseded += 1

    def lost(self, images: int) -> int:
        """Count images that the transport lost; return how many it lost so far."""
        with self._lock:
            self._window.lost += images
            self._lost += images
            return self._lost

    def refused(self, reason: str) -> None:
        """Count an image that cannot be used."""
        with self._lock:
            self._window.refused += 1
            self._window.refusal = reason
            self._refused += 1

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
                "rate [Hz]": f"{len(window.latencies) / seconds:.1f}",
                "latency p50 [ms]": _milliseconds(window.latencies, 50),
                "latency p95 [ms]": _milliseconds(window.latencies, 95),
                "active tracks": str(self._tracks if state == "active" else 0),
                "images processed": str(self._processed),
                "images superseded": str(self._superseded),
                "images lost in transport": str(self._lost),
                "images refused": str(self._refused),
                "peak memory [MB]": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}",
            }
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=name, message=message, hardware_id="", values=pairs)


def _judgement(state: str, window: _Window) -> tuple[bytes, str]:
    if state != "active":
        return DiagnosticStatus.OK, f"The node is {state}."
    if window.refused:
        return DiagnosticStatus.ERROR, f"{window.refused} images were refused. {window.refusal}"
    if window.lost:
        return DiagnosticStatus.WARN, f"The transport lost {window.lost} images."
    if not window.latencies:
        return DiagnosticStatus.WARN, "No image was processed since the last report."
    return DiagnosticStatus.OK, f"Tracking; {window.superseded} images gave way to newer ones."


def _milliseconds(seconds: list[float], percentile: float) -> str:
    return f"{1e3 * float(np.percentile(seconds, percentile)):.1f}" if seconds else "none"
