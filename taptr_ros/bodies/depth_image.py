"""Depth of points from a depth image: from one surface only, never from both sides of an edge."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.bodies.camera import Floats

_EDGE = 0.02
"""Share of the depth by which neighbouring depths of one surface differ at most; more is an edge."""

_SUPPORT = 0.35
"""Share of the window that must lie on the point's surface."""

_STEEPEST = 0.004
"""Change of depth per pixel, as a share of the depth, that is common for surfaces; steeper ones must show it."""


@dataclasses.dataclass(frozen=True)
class DepthImage:
    """Depth along the optical axis, as REP 118 has it."""

    values: NDArray[Any]
    """[H,W] uint16 or float32; 0 and NaN mean that nothing is known."""
    metres: float
    """Metres that a value of 1 stands for."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.values.shape
        return width, height


def depth_noise(depth: Floats, at_one_metre: float) -> Floats:
    """Return the standard deviation of measured depths, in metres: it grows with the square of the distance."""
    return np.asarray(at_one_metre * np.maximum(depth, 0.3) ** 2)


def depth_at(image: DepthImage, xy: Floats, radius: int, noise: float) -> Floats:
    """Return the depths [n] in metres at positions [n,2] in pixels; NaN where none can be told.

    Each comes from the square window of 2 * radius + 1 pixels around its position. The pixels that belong to the
    surface at the middle are those that differ from it by less than an edge does; a plane through them (in inverse
    depth, in which planes are flat) is evaluated at the position itself, so that slopes and windows that an edge cuts
    off do not shift it. There is no depth for a position outside the image, in a hole between two surfaces, on a pixel
    that mixes two surfaces, or on one that is too thin for the window.

    noise: standard deviation of the depth at one metre, in metres.
    """
    depths = np.full(len(xy), np.nan)
    width, height = image.size
    # Comparisons with NaN are false.
    inside = np.asarray(((xy >= -0.5) & (xy < np.array([width, height]) - 0.5)).all(axis=1))
    if inside.any():
        depths[inside] = _depth_inside(image, xy[inside], radius, noise)
    return depths


def _depth_inside(image: DepthImage, xy: Floats, radius: int, noise: float) -> Floats:
    width, height = image.size
    centre = np.rint(xy).astype(np.int64).clip(0, np.array([width, height]) - 1)
    steps = np.arange(-radius, radius + 1)
    down, right = (step.ravel() for step in np.meshgrid(steps, steps, indexing="ij"))
    columns, rows = centre[:, :1] + right, centre[:, 1:] + down
    exists = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    values = image.values[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    depth = values.astype(np.float64) * image.metres
    valid = exists & np.isfinite(depth) & (depth > 0)
    depth[~valid] = np.inf

    # The surface at the middle: the depth of the pixel there or, where that is a hole, of the ones beside it.
    middle = len(right) // 2
    near = (np.abs(right) <= 1) & (np.abs(down) <= 1)
    ring = depth[:, near]
    nearest, farthest = ring.min(axis=1), np.where(valid[:, near], ring, -np.inf).max(axis=1)
    seed = np.where(valid[:, middle], depth[:, middle], nearest)
    with np.errstate(invalid="ignore"):
        edge = np.maximum(_EDGE * seed, 5.0 * depth_noise(seed, noise))
        between = ~valid[:, middle] & (farthest - nearest > edge)
        mixed = (nearest < seed - edge) & (farthest > seed + edge)
        same = valid & (np.abs(depth - seed[:, np.newaxis]) <= edge[:, np.newaxis])
    count = same.sum(axis=1)
    good = np.isfinite(seed) & ~between & ~mixed & (count >= _SUPPORT * same.shape[1])
    result = np.full(len(xy), np.nan)
    if not good.any():
        return result

    # A plane through the inverse depths of the surface, relative to the one in the middle.
    same, seed = same[good], seed[good]
    offsets = np.stack([np.ones(same.shape), columns[good] - xy[good, :1], rows[good] - xy[good, 1:]], axis=-1)
    with np.errstate(invalid="ignore"):
        inverse = np.where(same, seed[:, np.newaxis] / depth[good] - 1.0, 0.0)
    weighted = offsets * same[..., np.newaxis]
    normal = np.swapaxes(weighted, 1, 2) @ offsets
    steepness = depth_noise(seed, noise) / seed / _STEEPEST
    normal[:, 1, 1] += steepness**2
    normal[:, 2, 2] += steepness**2
    plane = np.linalg.solve(normal, (np.swapaxes(weighted, 1, 2) @ inverse[..., np.newaxis]))[..., 0]
    result[good] = seed / (1.0 + plane[:, 0].clip(-0.5, 0.5))
    return result
