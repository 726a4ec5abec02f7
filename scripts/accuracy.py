#!/usr/bin/env python3
"""Measure a model beside another on the same frames: sequences, scenes, occlusions, cuts, round trips, jitter.

    python scripts/accuracy.py --sequences DIR --clips DIR --photos DIR --json accuracy.json

Prints a table in Markdown as it goes. Every part is left out whose folder is not given; scenes without --photos have
procedural textures only.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from taptr_ros.evaluation.datasets import AnnotatedSequence, load_dataset, resize_frame
from taptr_ros.evaluation.evaluate import evaluate
from taptr_ros.evaluation.metrics import METRIC_RASTER
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.coordinates import RASTER_OFFSET
from taptr_ros.runtime.loading import LUCAS_KANADE, TAPTR_SMALL, load_backend
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking import PointTracker, TrackerConfig, Tracks
from taptr_ros.training.measure import FIRST_SEED, as_sequence
from taptr_ros.training.scenes import Clip, SceneConfig, generate
from taptr_ros.training.scenes.config import Kind

SIZE = (METRIC_RASTER, METRIC_RASTER)
"""(height, width) of all frames."""

PERIOD = 33_333_333
"""Nanoseconds between two frames."""

OCCLUSION_SCENES = 96, 120
"""Points and frames of the scenes with long occlusions."""

HIDDEN_FRAMES = 20
"""Occlusions longer than this many frames are long."""

LONG_OCCLUSIONS = f"occlusions longer than {HIDDEN_FRAMES} frames"

FOUND_WITHIN, FOUND_IN = 8.0, 10
"""A track counts as found again if it is seen within so many pixels of its point in one of so many frames after it."""

ROUND_TRIP_FRAMES = 60
"""Most frames of a clip that are played forwards and then backwards."""

GRID = 8
"""Points per side of the grid that is followed through clips and still pictures."""

TURN, TURNS = 3.0, (30, 60, 90)
"""Degrees per frame by which a picture is turned, and after which points are looked at."""

STILL_FRAMES, NOISE = 60, 2.0
"""Length of the still stream, and the standard deviation of its noise in grey levels."""

NO_CUTS = TrackerConfig(scene_cut_threshold=0.0)
"""Tracking without looking for scene cuts."""

Result = dict[str, Any]


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    backends = [load_backend(name, threads=arguments.threads) for name in (arguments.model, arguments.baseline)]
    print(f"| measurement | | {' | '.join(backend.info.model for backend in backends)} |\n|---|---|---|---|")
    results: dict[str, list[Result]] = {}
    for name, measure in measurements(arguments):
        values = results[name] = [measure(backend) for backend in backends]
        for key in values[0]:
            print(f"| {name} | {key} | {' | '.join(f'{value[key]:.1f}' for value in values)} |", flush=True)
    if arguments.json:
        models = [backend.info.model for backend in backends]
        arguments.json.write_text(json.dumps({"models": models, "results": results}, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=TAPTR_SMALL, help="name, model file or exported folder")
    parser.add_argument("--baseline", default=LUCAS_KANADE, help="what to compare with")
    parser.add_argument("--sequences", type=Path, help="folder of sequences with ground truth")
    parser.add_argument("--clips", type=Path, help="folder of videos")
    parser.add_argument("--photos", help="folder of photos for the scenes' textures")
    parser.add_argument("--scenes", type=int, default=8, help="number of scenes of each kind, half as many long ones")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file for the results")
    return parser.parse_args()


def measurements(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[Backend], Result]]]:
    """Yield the names of all measurements, and what measures a model."""
    if arguments.sequences:
        sequences = sorted(load_dataset(arguments.sequences), key=lambda sequence: sequence.name)
        for group, members in itertools.groupby(sequences, key=lambda sequence: sequence.name.partition("_")[0]):
            group_members = list(members)
            yield f"sequences {group}", functools.partial(scores, sequences=group_members)
            clips = [clip for sequence in group_members for clip in both_ways(as_clip(sequence))]
            if any(returns(clip.visible) for clip in clips):
                yield f"sequences {group} and back, {LONG_OCCLUSIONS}", functools.partial(found_again, clips=clips)
    short = SceneConfig(photos=arguments.photos, points=64)
    yield "scenes of 24 frames", functools.partial(scores, sequences=named(scenes(short, arguments.scenes)))
    long = dataclasses.replace(short, frames=300, fastest=2.0)
    clips = scenes(long, max(arguments.scenes // 2, 1))
    for slots in (16, 64, 256, 512):
        config = dataclasses.replace(NO_CUTS, memory_slots=slots)
        yield f"scenes of 300 frames, memory {slots}", functools.partial(scores, sequences=named(clips), tracker=config)
    points, frames = OCCLUSION_SCENES
    slow = dataclasses.replace(short, points=points, frames=frames, fastest=2.0)
    for kind in get_args(Kind):
        clips = scenes(dataclasses.replace(slow, kind=kind), arguments.scenes)
        yield f"{kind} scenes, {LONG_OCCLUSIONS}", functools.partial(found_again, clips=clips)
    cuts = named(scenes(dataclasses.replace(short, frames=48, cut_share=1.0), arguments.scenes))
    yield "scene cuts, not looked for", functools.partial(scores, sequences=cuts)
    yield "scene cuts, global matching", functools.partial(scores, sequences=cuts, tracker=TrackerConfig())
    if arguments.clips:
        videos = sorted(arguments.clips.glob("*.mp4"))
        yield "first pictures of clips, turned", functools.partial(turned_pictures, videos=videos)
        yield "forwards and backwards", functools.partial(round_trips, videos=videos)
    picture = scenes(dataclasses.replace(short, frames=1), 1)[0].frames[0]
    yield "still picture with noise", functools.partial(jitter, picture=picture)


def scenes(config: SceneConfig, count: int) -> list[Clip]:
    """Generate scenes that training does not draw."""
    return [generate(config, FIRST_SEED + 1000 + index) for index in tqdm(range(count), leave=False)]


def named(clips: Sequence[Clip]) -> list[AnnotatedSequence]:
    """Return scenes as sequences."""
    return [as_sequence(f"scene_{index}", clip) for index, clip in enumerate(clips)]


def as_clip(sequence: AnnotatedSequence) -> Clip:
    """Return a sequence as a clip; points count as hidden where nothing is known of them."""
    frames = np.stack([resize_frame(frame, SIZE) for frame in sequence.frames])
    xy = sequence.points * [SIZE[1] / sequence.size[1], SIZE[0] / sequence.size[0]] - RASTER_OFFSET
    visible = ~sequence.occluded & sequence.valid
    seen = visible.any(axis=1)
    return Clip(frames, xy[seen].astype(np.float32), visible[seen])


def both_ways(clip: Clip) -> tuple[Clip, Clip]:
    """Return a clip and the same one played backwards: other points, and other sides of things, are seen first."""
    return clip, clip.at(slice(None, None, -1))


def scores(backend: Backend, sequences: Sequence[AnnotatedSequence], tracker: TrackerConfig = NO_CUTS) -> Result:
    """Return the metrics on sequences."""
    mean = evaluate(backend, sequences, tracker_config=tracker)["mean"]
    return {name: mean[name] for name in ("AJ", "delta_avg", "OA")}


def found_again(backend: Backend, clips: Sequence[Clip]) -> Result:
    """Return the share of points that are found again, right place and visible, after a long occlusion."""
    found: list[bool] = []
    followed: list[bool] = []
    for clip in clips:
        first = clip.visible.argmax(axis=1)
        tracker = PointTracker(backend, dataclasses.replace(NO_CUTS, capacity=len(first)))
        near, seen = np.zeros(clip.visible.shape, bool), np.zeros(clip.visible.shape, bool)
        for frame, image in enumerate(clip.frames):
            starting = np.flatnonzero(first == frame)
            if len(starting):
                tracker.add(clip.xy[starting, frame], ids=starting + 1)
            tracks = tracker.step(image, frame * PERIOD)
            rows = tracks.ids.astype(np.int64) - 1
            near[rows, frame] = np.linalg.norm(tracks.xy - clip.xy[rows, frame], axis=1) < FOUND_WITHIN
            seen[rows, frame] = tracks.visible
        for track, before, after in returns(clip.visible):
            shown = slice(after, after + FOUND_IN)
            found.append(bool((near & seen & clip.visible)[track, shown].any()))
            followed.append(bool(near[track, before]))
    return {
        "found again within 8 px, per cent": percent(found),
        "of those followed until hidden, per cent": percent(
            [again for again, until in zip(found, followed, strict=True) if until]
        ),
        "number": len(found),
        "number followed until hidden": sum(followed),
    }


def percent(cases: Sequence[bool]) -> float:
    """Return the share of cases that are true; NaN if there are none."""
    return 100.0 * sum(cases) / len(cases) if cases else float("nan")


def returns(visible: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return tracks, the last frame before a long occlusion and the first after it."""
    return [
        (track, before, after)
        for track, seen in enumerate(visible)
        for before, after in itertools.pairwise(np.flatnonzero(seen).tolist())
        if after - before > HIDDEN_FRAMES
    ]


def round_trips(backend: Backend, videos: Sequence[Path]) -> Result:
    """Return how far points end from their start after clips are played forwards and backwards, over all clips."""
    distances = []
    for video in videos:
        frames = [resize_frame(frame.image, SIZE) for frame in itertools.islice(open_source(video), ROUND_TRIP_FRAMES)]
        start, tracks = follow(backend, [*frames, *frames[-2::-1]])
        distances.append(np.linalg.norm(tracks[-1].xy - start, axis=1))
    every = np.concatenate(distances)
    return {
        "median distance to the start, px": float(np.median(every)),
        "within 4 px, per cent": float(100.0 * (every < 4.0).mean()),
        "worst clip's median, px": float(max(np.median(distance) for distance in distances)),
    }


def turned_pictures(backend: Backend, videos: Sequence[Path]) -> Result:
    """Return the share of points that are within reach of their places in pictures that turn about their middle."""
    middle = (METRIC_RASTER - 1) / 2
    near = []
    for video in videos:
        picture = resize_frame(next(iter(open_source(video))).image, SIZE)
        turns = [
            cv2.getRotationMatrix2D((middle, middle), TURN * frame, 1.0) for frame in range(round(TURNS[-1] / TURN) + 1)
        ]
        start, tracks = follow(backend, [cv2.warpAffine(picture, turn, SIZE) for turn in turns])
        true = np.stack([start @ turn[:, :2].T + turn[:, 2] for turn in turns])
        inside = ((true > 0) & (true < METRIC_RASTER - 1)).all(axis=(0, -1))
        xy = np.stack([track.xy for track in tracks])
        near.append((np.linalg.norm(xy - true, axis=-1) < FOUND_WITHIN)[:, inside])
    within = np.concatenate(near, axis=1).mean(axis=1)
    return {f"within 8 px after {turn} degrees, per cent": 100.0 * within[round(turn / TURN)] for turn in TURNS}


def jitter(backend: Backend, picture: NDArray[np.uint8]) -> Result:
    """Return how much points move in a picture that stands still but for its noise."""
    rng = np.random.default_rng(0)
    noise: Callable[[], NDArray[np.float64]] = lambda: rng.normal(0.0, NOISE, picture.shape)  # noqa: E731
    frames = [np.clip(picture + noise(), 0, 255).astype(np.uint8) for _ in range(STILL_FRAMES)]
    start, tracks = follow(backend, frames)
    xy = np.stack([track.xy for track in tracks[1:]])
    steps = np.linalg.norm(np.diff(xy, axis=0), axis=-1)
    return {
        "step per frame, 1/100 px": float(100.0 * np.median(steps)),
        "distance to the start at the end, 1/100 px": float(100.0 * np.median(np.linalg.norm(xy[-1] - start, axis=-1))),
    }


def follow(backend: Backend, frames: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float64], list[Tracks]]:
    """Follow a grid of points; returns where they start and the tracks of every frame."""
    line = np.linspace(0.1, 0.9, GRID) * (METRIC_RASTER - 1)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    tracker = PointTracker(backend, NO_CUTS)
    tracker.add(grid)
    return grid, [tracker.step(frame, number * PERIOD) for number, frame in enumerate(frames)]


if __name__ == "__main__":
    main()
