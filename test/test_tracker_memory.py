"""A long stream with points coming and going: nothing grows."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import HEIGHT, WIDTH, stamp, view

import taptr_ros
from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend
from taptr_ros.tracking import PointTracker, TrackerConfig

VIEWS = [view(frame, seed=frame // 10) for frame in range(20)]


def live_on(tracker: PointTracker, frames: range, rng: np.random.Generator) -> None:
    """Track through `frames`; points are added, in the present and in the past, and removed at random."""
    for frame in frames:
        tracker.step(VIEWS[frame % len(VIEWS)], stamp(frame))
        if frame % 2 == 0 and len(tracker.ids) < tracker.config.capacity:
            past = stamp(frame - int(rng.integers(0, 3))) if frame % 8 == 4 else None
            tracker.add([rng.uniform([0, 0], [WIDTH - 1, HEIGHT - 1])], stamp=past)
        if frame % 3 == 0 and len(tracker.ids):
            tracker.remove([rng.choice(tracker.ids)])
        if frame % 97 == 0:
            tracker.clear()


def memory_in_use() -> tracemalloc.Snapshot:
    """Return what lines of taptr_ros and of its tests hold, and all arrays.

    Of other libraries Python keeps short strings and frames for their next use, up to some thousands (its cache of
    attribute names), and which of them are already there depends on what ran before.
    """
    gc.collect()
    folders = (Path(taptr_ros.__file__).parent, Path(__file__).parent)
    counted = [tracemalloc.Filter(True, f"{folder}/*") for folder in folders]
    arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    return tracemalloc.take_snapshot().filter_traces([*counted, arrays])


def array_ids(tracker: PointTracker) -> list[int]:
    """Return which objects hold the tracks."""
    return [id(array) for array in vars(tracker._live._arrays).values() if isinstance(array, np.ndarray)]


@pytest.mark.parametrize("backend", [ReferenceBackend(), LucasKanadeBackend()], ids=["memory", "lucas_kanade"])
def test_memory_stays_flat(backend):
    config = TrackerConfig(
        capacity=6, memory_slots=16, support="grid", history_frames=4, history_seconds=0.2, match_grid=8
    )
    tracker = PointTracker(backend, config)
    arrays = array_ids(tracker)
    rng = np.random.default_rng(0)
    live_on(tracker, range(250), rng)
    tracemalloc.start()
    # Python and libraries keep some small objects for their next use: these are there after a while.
    live_on(tracker, range(250, 450), rng)
    early = memory_in_use()
    live_on(tracker, range(450, 850), rng)
    grown = memory_in_use().compare_to(early, "lineno")
    tracemalloc.stop()
    # Less than one small image; 50 bytes left behind by every frame would be seen.
    assert sum(line.size_diff for line in grown) < 20_000, "\n".join(map(str, grown[:10]))
    assert arrays == array_ids(tracker)
