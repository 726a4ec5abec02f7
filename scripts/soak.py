#!/usr/bin/env python3
"""Run the tracker through a long synthetic stream with points coming and going, and check that nothing grows.

Prints resident memory and CPU time per frame at intervals. Exit status 1 if, after the warm-up, resident memory rose by
more than the tolerance or the CPU time per frame by more than its own.

    python scripts/soak.py --model lucas_kanade --frames 20000
    python scripts/soak.py --model model.safetensors --backend torch --points 64 --memory 128 --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.loading import BACKENDS, LUCAS_KANADE, load_backend
from taptr_ros.tracking import PointTracker, TrackerConfig

PERIOD = 33_333_333
"""Nanoseconds between two frames."""
SCENE_LENGTH = 400
"""Frames between two scene cuts."""
MEMORY_TOLERANCE = 16.0
"""MiB by which resident memory may rise after the warm-up."""
TIME_TOLERANCE = 1.3
"""Factor by which the median CPU time per frame may rise after the warm-up; other programs disturb it a little."""


def main() -> int:
    """Run the soak test and return the exit status."""
    arguments = parse_arguments()
    backend = load_backend(
        arguments.model, arguments.backend, device=arguments.device, size=arguments.size, threads=arguments.threads
    )
    config = TrackerConfig(capacity=arguments.points, memory_slots=arguments.memory)
    print(f"{backend.info.model} on {backend.info.backend} ({backend.info.device}), {arguments.points} points at most")
    print(f"{'frame':>8} {'RSS MiB':>9} {'CPU ms':>9} {'tracks':>7}")
    intervals = run(backend, config, arguments.frames, arguments.interval)
    return judge(intervals[1:])


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=LUCAS_KANADE, help="model file, exported folder, or lucas_kanade")
    parser.add_argument("--backend", choices=BACKENDS, help="default: chosen by the model")
    parser.add_argument("--device", help="cpu, cuda, cuda:INDEX or tensorrt; default cpu")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="the network's input size")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--points", type=int, default=64, help="capacity of the tracker")
    parser.add_argument("--memory", type=int, default=128, help="memory slots per track")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--interval", type=int, default=1000, help="frames between two lines; the first is the warm-up")
    arguments = parser.parse_args()
    if arguments.frames < 3 * arguments.interval or arguments.interval < 2 * arguments.memory:
        parser.error("give at least 3 intervals of frames, and intervals of at least twice the memory slots")
    return arguments


def parse_size(text: str) -> tuple[int, int]:
    """Parse HxW."""
    height, width = text.split("x")
    return int(height), int(width)


def run(backend: Backend, config: TrackerConfig, frames: int, interval: int) -> list[tuple[float, float]]:
    """Track through the stream; return resident memory in MiB and CPU ms per frame of every interval."""
    tracker = PointTracker(backend, config)
    rng = np.random.default_rng(0)
    scenes = [make_scene(seed) for seed in range(4)]
    intervals: list[tuple[float, float]] = []
    durations: list[float] = []
    for frame in range(frames):
        image = view(scenes[frame // SCENE_LENGTH % len(scenes)], frame)
        change_points(tracker, frame, rng)
        start = time.process_time()
        tracks = tracker.step(image, frame * PERIOD)
        durations.append(time.process_time() - start)
        if (frame + 1) % interval == 0:
            intervals.append((resident_memory(), 1000 * statistics.median(durations)))
            durations.clear()
            print(f"{frame + 1:>8} {intervals[-1][0]:>9.1f} {intervals[-1][1]:>9.2f} {len(tracks.ids):>7}", flush=True)
    return intervals


def change_points(tracker: PointTracker, frame: int, rng: np.random.Generator) -> None:
    """Keep the tracker about full: add points, one in five with the stamp of a past frame, and remove others."""
    if len(tracker.ids) < tracker.config.capacity:
        chosen_in_past = frame > 10 and rng.random() < 0.2
        stamp = (frame - int(rng.integers(1, 8))) * PERIOD if chosen_in_past else None
        tracker.add(rng.uniform([0, 0], [319, 239], (1, 2)), stamp=stamp)
    if len(tracker.ids) and rng.random() < 0.5:
        tracker.remove([rng.choice(tracker.ids)])


def make_scene(seed: int) -> NDArray[np.uint8]:
    """Return a texture, uint8 [480,640,3], whose opposite borders meet."""
    noise = np.random.default_rng(seed).integers(0, 256, (480, 640, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(np.tile(noise, (3, 3, 1)), (0, 0), 5)[480:960, 640:1280]
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def view(scene: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
    """Return the 320x240 window on the scene, which moves on with the frames."""
    return np.ascontiguousarray(np.roll(scene, (-frame % 480, -2 * frame % 640), axis=(0, 1))[:240, :320])


def resident_memory() -> float:
    """Return this process's resident memory in MiB (Linux)."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def judge(intervals: list[tuple[float, float]]) -> int:
    """Compare the last third of the intervals after the warm-up with the first third; return the exit status."""
    memory, milliseconds = zip(*intervals, strict=True)
    third = (len(intervals) + 2) // 3
    memory_rise = memory[-1] - memory[0]
    time_rise = statistics.median(milliseconds[-third:]) / statistics.median(milliseconds[:third])
    print(f"After the warm-up: memory {memory_rise:+.1f} MiB, CPU time per frame x {time_rise:.2f}")
    flat = memory_rise <= MEMORY_TOLERANCE and time_rise <= TIME_TOLERANCE
    print("flat" if flat else "NOT flat")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
