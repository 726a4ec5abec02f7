"""Memory is looked for before it is taken: what does not fit is refused with a sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from reference_backend import ReferenceBackend

from taptr_ros import MAX_IMAGE_PIXELS
from taptr_ros.errors import InvalidConfigError, InvalidImageError
from taptr_ros.messages.images import image_to_rgb
from taptr_ros.runtime import memory
from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend
from taptr_ros.tracking import PointTracker, TrackerConfig

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with one gibibyte free, and no control group."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {GIB // 1024} kB\n")
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return tmp_path


def test_the_least_of_machine_and_container_counts(machine: Path) -> None:
    assert memory.free_memory() == GIB
    (machine / "memory.max").write_text(f"{GIB // 2}\n")
    (machine / "memory.current").write_text(f"{GIB // 4}\n")
    assert memory.free_memory() == GIB // 4
    (machine / "memory.max").write_text("max\n")
    assert memory.free_memory() == GIB
    (machine / "meminfo").write_text("nothing\n")
    assert memory.free_memory() is None


@pytest.mark.usefixtures("machine")
def test_tracks_that_do_not_fit_are_refused_before_memory_is_taken() -> None:
    backend = ReferenceBackend()
    with pytest.raises(InvalidConfigError, match=r"65536 tracks with 512 memory slots take .* GB .* 1\.1 GB are free"):
        PointTracker(backend, TrackerConfig(capacity=65536))
    PointTracker(backend, TrackerConfig(capacity=100, memory_slots=8))


@pytest.mark.usefixtures("machine")
def test_a_history_that_does_not_fit_is_refused_at_the_first_image() -> None:
    tracker = PointTracker(LucasKanadeBackend(), TrackerConfig(history_frames=10_000, capacity=4))
    tracker.step(np.zeros((120, 160, 3), np.uint8), 1)
    tracker.reset()
    with pytest.raises(InvalidConfigError, match=r"The features of 10000 past images take 12\.3 GB .*`history_frames`"):
        tracker.step(np.zeros((480, 640, 3), np.uint8), 1)


def test_images_above_the_largest_are_refused() -> None:
    width = MAX_IMAGE_PIXELS // 4 + 1
    message = SimpleNamespace(
        height=4, width=width, encoding="mono8", is_bigendian=0, step=width, data=bytes(4 * width)
    )
    with pytest.raises(InvalidImageError, match=f"{width}x4, more than {MAX_IMAGE_PIXELS} pixels"):
        image_to_rgb(message)
