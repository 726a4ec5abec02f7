"""Synthetic image streams with known motion, for the tests of `PointTracker`."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 160, 120
PERIOD = 33_000_000
"""Nanoseconds between two frames."""


@functools.cache
def texture(seed: int) -> NDArray[np.uint8]:
    """Return a smooth colourful texture, uint8 [480,640,3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (480, 640, 3)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def view(frame: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return the image of a frame: the window on the texture moves so that points move by (-1.5, -0.5) pixels."""
    shift = np.array([[1, 0, 150 + 1.5 * frame], [0, 1, 150 + 0.5 * frame]], np.float32)
    size = (WIDTH, HEIGHT)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(texture(seed), shift, size, flags=flags, borderMode=cv2.BORDER_WRAP)


def true_position(xy: NDArray[np.floating], frames: int) -> NDArray[np.float64]:
    """Return where points `xy` [N,2] of a frame are `frames` later."""
    return np.asarray(xy, np.float64) - np.array([1.5, 0.5]) * frames


def stamp(frame: int) -> int:
    """Return the stamp of a frame in nanoseconds."""
    return 1_000_000_000 + frame * PERIOD
