"""A textured scene that moves on a circle, so that where every point is follows from the time alone."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 160, 120
RADIUS = 8.0
"""Pixels; a point that is further than this from the border never leaves the image."""
TURN = 4.0
"""Seconds of one turn."""


@functools.cache
def texture(seed: int) -> NDArray[np.uint8]:
    """Return a smooth colourful texture, uint8 [240,320,3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (240, 320, 3)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def shift(seconds: float) -> tuple[float, float]:
    """Return how far (x, y), in pixels, the scene is from where it is at time 0."""
    angle = 2 * math.pi * seconds / TURN
    return RADIUS * math.sin(angle), RADIUS * (1 - math.cos(angle)) / 2


def view(seconds: float, seed: int = 0) -> NDArray[np.uint8]:
    """Return the image at a time, uint8 [HEIGHT,WIDTH,3] RGB."""
    x, y = shift(seconds)
    matrix = np.array([[1, 0, 60 - x], [0, 1, 60 - y]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(texture(seed), matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_WRAP)


def points(side: int) -> NDArray[np.float64]:
    """Return side x side points [N,2] in pixels, in the scene at time 0, that are never outside the image."""
    x = np.linspace(RADIUS + 12, WIDTH - RADIUS - 12, side)
    y = np.linspace(RADIUS + 12, HEIGHT - RADIUS - 12, side)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
