#!/usr/bin/env python3
"""Measure groups: whether points that replace lost ones are on the same body, and what that is good for.

    python scripts/groups.py --scenes 12 --json groups.json

In simulated rooms, which know what every pixel shows, points are chosen in the regions of bodies and tracked with and
without `replenish`. Prints a table in Markdown. Rooms with even seeds were used to choose constants with; the table is
of rooms with odd ones unless --even is set.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.loading import TAPTR_SMALL, load_backend
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackState
from taptr_ros.tracking.regions import Box, LabelMask, Region
from taptr_ros.training.scenes import SceneConfig
from taptr_ros.training.scenes.simulated import SimulatedWorld, simulated_world

SIZE = 480, 640
"""(height, width) of the images."""

PERIOD = 33_333_333
"""Nanoseconds between two frames."""

FIRST_SEED = 8_000_000
"""Of the rooms; training draws none of these."""

LEAST_AREA = 1500
"""Pixels of a body in the first frame with which it is followed."""

POINTS = 16
"""Points per body."""

LANDED = 30
"""Frames after which what was thrown has mostly come to rest, and the camera moves on."""

LOST_AFTER = 10
"""Frames after which a point that is not seen is replaced."""


@dataclasses.dataclass
class Room:
    """A simulated room and what is true in it."""

    world: SimulatedWorld
    images: list[NDArray[np.uint8]]
    labels: NDArray[np.uint8]
    """[H,W] the number of the body that the first image shows; 0 for what does not count as one."""


def room(seed: int, frames: int) -> Room | None:
    """Return the room of a seed; None if it shows no body that is large enough."""
    height, width = SIZE
    config = SceneConfig(kind="simulated", height=height, width=width, frames=LANDED + frames, slowest=0.4, fastest=2.0)
    rng, times = np.random.default_rng(seed), np.arange(LANDED + frames, dtype=np.float64)
    world = simulated_world(rng, config, times, 0.0)
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    shown = bodies(world, np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64), LANDED).reshape(SIZE)
    labels = np.zeros(SIZE, np.uint8)
    for body in np.unique(shown[shown > 0]).tolist():
        whole = cv2.morphologyEx((shown == body).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        if whole.sum() >= LEAST_AREA:
            labels[whole > 0] = body
    images = [world.paint(frame) for frame in range(LANDED, LANDED + frames)]
    return Room(world, images, labels) if labels.any() else None


def bodies(world: SimulatedWorld, xy: NDArray[np.float64], frame: int) -> NDArray[np.int64]:
    """Return which body is seen at places [N,2] of a frame, 0 for walls, floor and table."""
    parts = world.surfaces(xy, frame)
    return np.where(parts > 0, world.model.geom_bodyid[np.maximum(parts, 0)], 0)


def regions_of(labels: NDArray[np.uint8], kind: str) -> tuple[list[Region], list[int]]:
    """Return the bodies' regions as masks or as boxes, and their numbers."""
    mask = LabelMask.of(labels)
    if kind == "mask":
        return list(mask.regions()), mask.present
    boxes = [cv2.boundingRect((labels == body).astype(np.uint8)) for body in mask.present]
    return [Box(f"body {body}", *box) for body, box in zip(mask.present, boxes, strict=True)], mask.present


def follow(backend: Backend, scene: Room, kind: str, *, replenish: bool) -> dict[str, list[Any]]:
    """Track the bodies; return for every point whether it began on its body, and for every frame how many are on it."""
    height, width = SIZE
    regions, numbers = regions_of(scene.labels, kind)
    config = TrackerConfig(capacity=POINTS * len(regions), lost_after=LOST_AFTER, replenish=replenish)
    tracker = PointTracker(backend, config)
    added = tracker.add_regions(regions, POINTS, groups=numbers)
    assert all(not region.refusal for region in added)
    known: set[int] = set()
    result: dict[str, list[Any]] = {"began": [], "replaced": [], "on body": []}
    for frame, image in enumerate(scene.images):
        tracks = tracker.step(image, frame * PERIOD)
        new = ~np.isin(tracks.ids, np.array(list(known), np.uint64))
        inside = ((tracks.xy >= 0) & (tracks.xy <= (width - 1, height - 1))).all(axis=1)
        right = np.zeros(len(new), bool)
        right[inside] = (
            bodies(scene.world, tracks.xy[inside].astype(np.float64), LANDED + frame) == tracks.group[inside]
        )
        result["replaced" if frame else "began"] += right[new].tolist()
        known.update(tracks.ids[new].tolist())
        result["on body"].append(int((right & (tracks.state == TrackState.VISIBLE)).sum()))
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=TAPTR_SMALL, help="name, model file or exported folder")
    parser.add_argument("--scenes", type=int, default=12, help="rooms")
    parser.add_argument("--frames", type=int, default=100, help="frames of each")
    parser.add_argument("--even", action="store_true", help="the rooms that constants were chosen with")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    backend = load_backend(arguments.model, threads=arguments.threads)
    totals: dict[str, dict[str, list[Any]]] = {}
    last: dict[str, list[tuple[int, int]]] = {"mask": [], "box": []}
    for number in tqdm(range(arguments.scenes), leave=False):
        scene = room(FIRST_SEED + 2 * number + (not arguments.even), arguments.frames)
        if scene is None:
            continue
        for kind in ("mask", "box"):
            with_, without = (follow(backend, scene, kind, replenish=replenish) for replenish in (True, False))
            total = totals.setdefault(kind, {"began": [], "replaced": []})
            for name in total:
                total[name] += with_[name]
            last[kind].append((with_["on body"][-1], without["on body"][-1]))
    results = {}
    print(
        "| regions | points chosen at first | of those on their body | replacements | of those on their body "
        "| seen on their body in the last frame | the same without `replenish` |\n|---|---|---|---|---|---|---|"
    )
    for kind, total in totals.items():
        ends = np.array(last[kind]).sum(axis=0).tolist()
        shares = {name: 100.0 * float(np.mean(values)) if values else None for name, values in total.items()}
        results[kind] = {
            **{name: len(values) for name, values in total.items()},
            **{f"{name}, on their body, per cent": share for name, share in shares.items()},
            "seen at the end": ends[0],
            "seen at the end without": ends[1],
        }
        words = ["-" if share is None else f"{share:.1f} %" for share in shares.values()]
        counts = [len(values) for values in total.values()]
        print(f"| {kind} | {counts[0]} | {words[0]} | {counts[1]} | {words[1]} | {ends[0]} | {ends[1]} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
