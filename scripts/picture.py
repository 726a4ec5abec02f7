#!/usr/bin/env python3
"""Makes docs/tracking.jpg: a rendered scene with a robot arm, tracked, at three moments.

scripts/picture.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from taptr_ros.media.overlay import TrackOverlay
from taptr_ros.media.points import grid_points
from taptr_ros.runtime.loading import load_backend
from taptr_ros.tracking import PointTracker, TrackerConfig
from taptr_ros.training.scenes import SceneConfig, generate

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "tracking.jpg"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="taptr_small", help="model to track with")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the scene")
    parser.add_argument("--out", type=Path, default=PICTURE, help="picture to write")
    arguments = parser.parse_args()
    tracker = PointTracker(load_backend(arguments.model), TrackerConfig(capacity=GRID**2))
    tracker.add(grid_points(GRID, SCENE.width, SCENE.height).xy)
    overlay = TrackOverlay()
    images = generate(SCENE, arguments.seed).frames
    drawn = [overlay.draw(image, tracker.step(image, index * PERIOD)) for index, image in enumerate(images)]
    picture = np.hstack([drawn[moment] for moment in MOMENTS])
    cv2.imwrite(str(arguments.out), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
