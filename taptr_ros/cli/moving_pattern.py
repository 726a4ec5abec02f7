"""A video of a textured plane that goes round in a circle: what the live measurements show the tracker."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidPointsError
from taptr_ros.sources.grid import grid_points

PERIOD = 60
"""Frames of one turn, after which the picture repeats without a jump."""

RADIUS = 20.0
"""Radius of the circle in pixels: 2.1 pixels from frame to frame."""

MARGIN = 2.5 * RADIUS
"""A point of the first frame that is so far from the border stays in view, in pixels."""


def write_pattern(path: Path, width: int, height: int, rate: float) -> None:
    """Write one turn as a Motion JPEG video (.avi), which is cheap to decode.

    Raises `OSError` if the file cannot be written.
    """
    plane = _texture(width + 2 * math.ceil(RADIUS), height + 2 * math.ceil(RADIUS))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    if not writer.isOpened():
        raise OSError(f"{path} cannot be written as a video")
    for frame in range(PERIOD):
        angle = 2 * math.pi * frame / PERIOD
        corner = np.array([[1, 0, RADIUS * (1 + math.cos(angle))], [0, 1, RADIUS * (1 + math.sin(angle))]])
        writer.write(cv2.warpAffine(plane, corner, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))
    writer.release()


def spread_points(count: int, width: int, height: int) -> NDArray[np.float32]:
    """Return points of the first frame that stay in view: [count,2] in pixels, spread evenly.

    Raises `InvalidPointsError` if the image is too small for points that stay in view.
    """
    inner_width, inner_height = width - 2 * MARGIN, height - 2 * MARGIN
    if min(inner_width, inner_height) < 1:
        raise InvalidPointsError(f"Images of {width}x{height} are too small; use more than {2 * MARGIN:g} pixels.")
    grid = grid_points(math.ceil(math.sqrt(count)), round(inner_width), round(inner_height))[:count]
    return np.asarray(grid + MARGIN, np.float32)


def _texture(width: int, height: int) -> NDArray[np.uint8]:
    """Return noise of several scales, uint8 [height,width,3]."""
    generator = np.random.default_rng(0)
    texture = np.zeros((height, width, 3), np.float32)
    for scale in (2.0, 6.0, 18.0):
        noise = cv2.GaussianBlur(generator.standard_normal((height, width, 3)).astype(np.float32), (0, 0), scale)
        texture += noise / noise.std()
    return np.clip(128 + 32 * texture, 0, 255).astype(np.uint8)
