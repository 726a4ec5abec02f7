"""A long stream in accelerated time: what a tracker node holds, and what a frame costs it, must stay the same.

The node runs in this process and is given its messages one after another, as fast as it takes them: points come and go,
scenes are cut, thresholds change, and the node is deactivated, cleaned up and configured again.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from reliability import scene
from reliability.fuzz_nodes import FuzzedNode
from reliability.measures import holdings

HOURS_8 = 8 * 3600 * 30
"""Frames of eight hours at 30 per second."""
SCENE_FRAMES = 400
"""Frames between two cuts."""
RECONFIGURED = 1000
"""Frames between two changes of a threshold."""
RESTARTED = 20_000
"""Frames between two rounds of deactivate, clean up, configure, activate."""
MEMORY_TOLERANCE = 16.0
"""MiB by which resident memory may rise after the warm-up."""
TIME_TOLERANCE = 1.3
"""Factor by which the median processor time per frame may rise after the warm-up; other programs disturb it."""


def long_run(
    model: str,
    frames: int,
    seconds: float,
    interval: int,
    *,
    points: int = 24,
    memory_slots: int = 16,
    time_tolerance: float = TIME_TOLERANCE,
) -> dict[str, Any]:
    """Track until so many frames, or so many seconds, are over; return a row for every interval, and the judgement.

    At most `points` are tracked at once, 64 or fewer. `time_tolerance` is a factor by which processor time may rise.
    """
    node = FuzzedNode(model=model, memory_slots=memory_slots)
    rng = np.random.default_rng(0)
    images = [[scene.view(0.033 * step, seed) for step in range(120)] for seed in range(4)]
    rows: list[dict[str, float]] = []
    ids: list[int] = []
    durations: list[float] = []
    counts = {"frames": 0, "points": 0, "cuts": 0, "reconfigurations": 0, "restarts": 0}
    began = time.monotonic()
    while counts["frames"] < frames and time.monotonic() - began < seconds:
        frame = counts["frames"]
        if frame and frame % RESTARTED == 0:
            node.restart()
            ids, counts["restarts"] = [], counts["restarts"] + 1
        if frame and frame % RECONFIGURED == 0:
            node.set("visibility_hysteresis", 0.05 + 0.01 * float(rng.integers(5)))
            counts["reconfigurations"] += 1
        counts["cuts"] += bool(frame) and frame % SCENE_FRAMES == 0
        image = images[frame // SCENE_FRAMES % len(images)][frame % 120]
        before = time.process_time()
        node.track(image)
        durations.append(time.process_time() - before)
        if len(ids) < points and rng.random() < 0.5:
            ids += node.add(scene.points(4)[int(rng.integers(16))] + rng.uniform(-5, 5, 2))
            counts["points"] += 1
        elif ids and rng.random() < 0.3:
            node.remove(ids.pop(int(rng.integers(len(ids)))))
        counts["frames"] += 1
        if counts["frames"] % interval == 0:
            held = holdings()
            milliseconds = 1000 * statistics.median(durations)
            rows.append({"frame": frame + 1, **held._asdict(), "milliseconds": milliseconds, "tracks": len(ids)})
            durations.clear()
            print(" ".join(f"{key} {value:.2f}" for key, value in rows[-1].items()), flush=True)
    node.close()
    return {
        "model": model,
        **counts,
        "seconds": time.monotonic() - began,
        "rows": rows,
        **judgement(rows[1:], time_tolerance),
    }


def judgement(rows: list[dict[str, float]], time_tolerance: float) -> dict[str, Any]:
    """Compare the last third of the rows after the warm-up with the first third."""
    third = (len(rows) + 2) // 3
    first, last = rows[:third], rows[-third:]

    def median(name: str, part: list[dict[str, float]]) -> float:
        return statistics.median(row[name] for row in part)

    rise = {name: median(name, last) - median(name, first) for name in ("memory", "files", "threads")}
    factor = median("milliseconds", last) / median("milliseconds", first)
    flat = (
        rise["memory"] <= MEMORY_TOLERANCE and rise["files"] <= 0 and rise["threads"] <= 0 and factor <= time_tolerance
    )
    return {"rise": rise, "time_factor": factor, "defects": 0 if flat else 1}
