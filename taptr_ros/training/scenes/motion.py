"""Random smooth motion, and 3x3 matrices made of it. Everything is float64; T frames, one value per frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""Float64 array; in this package positions are [...,2] and matrices [...,3,3]."""


def smooth_path(rng: np.random.Generator, frames: int, speed: float, reach: float) -> Floats:
    """Return a path [T] with a root-mean-square step of about `speed` that stays within +-`reach`.

    One of: steady, swinging, both, or starting and stopping. Folding by a sine keeps it within reach, slows it down
    near the ends and makes it come back, as people and machines do.
    """
    time = np.arange(frames, dtype=np.float64)
    style = rng.integers(4)
    velocity = np.zeros(frames)
    if style in (0, 2):
        velocity += rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.5)
    if style in (1, 2):
        for _ in range(2):
            velocity += rng.standard_normal() * np.sin(2 * np.pi * (time / rng.uniform(8, 60) + rng.random()))
    if style == 3:
        # Phases of motion that last some 6 frames, between rests.
        starts = rng.integers(0, frames, max(1, frames // 8))
        for start in starts:
            velocity += rng.standard_normal() * np.exp(-0.5 * np.square((time - start) / rng.uniform(1.5, 5.0)))
    velocity *= speed / (np.sqrt(np.mean(np.square(velocity))) + 1e-9)
    path = np.cumsum(velocity)
    return np.asarray(reach * np.sin((path - path[rng.integers(frames)]) / reach))


def shake(rng: np.random.Generator, frames: int, amplitude: float) -> Floats:
    """Return the tremor [T] of a hand with standard deviation `amplitude`: noise of 2 to 10 frames' period."""
    noise = rng.standard_normal((frames + 16, 1))
    smooth = cv2.GaussianBlur(noise, (1, 15), sigmaX=0.1, sigmaY=rng.uniform(0.6, 2.0))[8:-8, 0]
    if frames == 1:
        return np.zeros(1)
    return np.asarray(smooth * amplitude / (smooth.std() + 1e-9), np.float64)


def translation(x: Floats | float, y: Floats | float) -> Floats:
    """Return the matrix, [3,3] of numbers or [T,3,3] of paths, that adds (x, y)."""
    x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
    matrix = np.tile(np.eye(3), (*x.shape, 1, 1))
    matrix[..., 0, 2], matrix[..., 1, 2] = x, y
    return matrix


def scaling(scale: Floats | float) -> Floats:
    """Return the matrix that multiplies by `scale`."""
    scale = np.asarray(scale, np.float64)
    matrix = np.tile(np.eye(3), (*scale.shape, 1, 1))
    matrix[..., 0, 0] = matrix[..., 1, 1] = scale
    return matrix


def rotation(angle: Floats | float) -> Floats:
    """Return the matrix that turns by `angle` radians, from x to y."""
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.tile(np.eye(3), (*np.shape(angle), 1, 1))
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1] = cosine, -sine, sine, cosine
    return matrix


def tilt(around_x: Floats, around_y: Floats, distance: float) -> Floats:
    """Return [T,3,3]: how a plane turned out of the image plane about its origin looks from `distance` pixels away."""
    (cx, sx), (cy, sy) = (np.cos(around_x), np.sin(around_x)), (np.cos(around_y), np.sin(around_y))
    matrix = np.tile(np.eye(3), (len(around_x), 1, 1))
    matrix[:, 0, 0] = cy
    matrix[:, 1, 0], matrix[:, 1, 1] = sx * sy, cx
    matrix[:, 2, 0], matrix[:, 2, 1] = -cx * sy / distance, sx / distance
    return matrix


def apply(matrix: Floats, points: Floats) -> Floats:
    """Map points [...,2] by matrices [...,3,3] of the same leading shape, or by one [3,3]."""
    x, y = points[..., 0], points[..., 1]
    if matrix.ndim == 2:
        (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    else:
        (a, b, c), (d, e, f), (g, h, i) = ([matrix[..., row, column] for column in range(3)] for row in range(3))
    placed = np.empty(np.broadcast_shapes(points.shape, (*matrix.shape[:-2], 2)))
    # Some points of some planes lie at infinity; whoever asks for them sorts them out.
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1.0 / (g * x + h * y + i)
        placed[..., 0] = (a * x + b * y + c) * share
        placed[..., 1] = (d * x + e * y + f) * share
    return placed


def in_front(matrix: Floats, points: Floats) -> NDArray[np.bool_]:
    """Return whether `apply(matrix, points)` keeps points in front of the camera: their depth stays above 0.

    Of an inverse, it tells of places in the image whether the plane is seen there, and not what lies behind the camera.
    """
    depth = matrix[..., 2, 0] * points[..., 0] + matrix[..., 2, 1] * points[..., 1] + matrix[..., 2, 2]
    return np.asarray(depth > 0.0)


def inverse(matrix: Floats) -> Floats:
    """Return the inverse of matrices [...,3,3]."""
    return np.asarray(np.linalg.inv(matrix), np.float64)
