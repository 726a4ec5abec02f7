#!/usr/bin/env python3
"""Make the pictures of the documents with the package's network.

docs/tracking.jpg: a rendered scene with a robot arm, tracked, at three moments.
docs/failures.jpg: scenes that are hard to track, with what is right and what is wrong marked.

    python scripts/pictures.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.drawing.overlay import TrackOverlay
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.loading import load_backend
from taptr_ros.sources.grid import grid_points
from taptr_ros.tracking import PointTracker, TrackerConfig
from taptr_ros.training.scenes import SceneConfig, generate

DOCS = Path(__file__).resolve().parent.parent / "docs"
SEED = 17
SCENE = SceneConfig(
    kind="simulated",
    height=384,
    width=512,
    frames=30,
    slowest=0.5,
    fastest=1.5,
    motion_blur_share=0.0,
    compression_share=0.0,
)
MOMENTS = (0, 14, 29)
"""Frames that the picture shows side by side."""
GRID = 13
"""Points per side."""
PERIOD = 40_000_000
"""Nanoseconds between frames."""

HARD_SCENES = (
    (SceneConfig(kind="layered", points=48, slowest=6.0), 5),
    (SceneConfig(kind="spatial", points=48, slowest=4.0), 3),
)
"""Scenes, with their seeds, in which much goes wrong."""
HARD_MOMENTS = (0, 8, 16, 23)
RIGHT, WRONG = (70, 220, 90), (235, 60, 60)
"""RGB of points within `REACH` pixels of the truth, and of others."""
REACH = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="taptr_small", help="model to track with")
    backend = load_backend(parser.parse_args().model)
    write("tracking.jpg", tracking(backend))
    write("failures.jpg", np.vstack([failures(backend, config, seed) for config, seed in HARD_SCENES]))


def write(name: str, picture: NDArray[np.uint8]) -> None:
    """Write a picture [H,W,3] RGB."""
    cv2.imwrite(str(DOCS / name), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def tracking(backend: Backend) -> NDArray[np.uint8]:
    """Return moments of a tracked scene, side by side."""
    tracker = PointTracker(backend, TrackerConfig(capacity=GRID**2))
    tracker.add(grid_points(GRID, SCENE.width, SCENE.height))
    overlay = TrackOverlay()
    images = generate(SCENE, SEED).frames
    drawn = [overlay.draw(image, tracker.step(image, index * PERIOD)) for index, image in enumerate(images)]
    return np.hstack([drawn[moment] for moment in MOMENTS])


def failures(backend: Backend, config: SceneConfig, seed: int) -> NDArray[np.uint8]:
    """Return moments of a scene, side by side: points as they are tracked, and lines to where those far off belong."""
    clip = generate(config, seed)
    chosen = clip.visible[:, 0]
    tracker = PointTracker(backend, TrackerConfig(scene_cut_threshold=0.0))
    tracker.add(clip.xy[chosen, 0])
    moments = []
    for number, image in enumerate(clip.frames):
        tracks = tracker.step(image, number * PERIOD)
        if number not in HARD_MOMENTS:
            continue
        picture = image.copy()
        for found, true, shown, seen in zip(
            tracks.xy, clip.xy[chosen, number], clip.visible[chosen, number], tracks.visible, strict=True
        ):
            if not shown:
                continue
            right = np.linalg.norm(found - true) < REACH
            place, aim = (tuple(np.rint(xy).astype(int).tolist()) for xy in (found, true))
            if not right:
                cv2.line(picture, place, aim, WRONG, 1, cv2.LINE_AA)
            cv2.circle(picture, place, 3, RIGHT if right else WRONG, -1 if seen else 1, cv2.LINE_AA)
        moments.append(picture)
    return np.hstack(moments)


if __name__ == "__main__":
    main()
