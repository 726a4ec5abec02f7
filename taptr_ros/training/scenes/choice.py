"""Choice of the points to track, as people who annotate videos choose them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.motion import Floats
from taptr_ros.training.scenes.world import World

ANCHOR_FRAMES = 4
"""Frames of a clip in which points are chosen."""

_CANDIDATES = 6
"""Candidates per chosen point."""

_FLAT_WEIGHT, _TEXTURE_WEIGHT, _BOUNDARY_WEIGHT, _OBJECT_WEIGHT = 0.3, 1.0, 0.5, 2.0
"""How a candidate's chance to be chosen grows: by itself, with texture (0..1), near the edge of an object, and, as a
factor, on objects. People choose so: corners, texture and outlines of things that move."""

_EDGE_PIXELS = 3.0
"""A candidate this near to another surface counts as near an edge, in an image whose shorter side is 256."""


def choose_points(
    rng: np.random.Generator, world: World, frames: NDArray[np.uint8], count: int, usable: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64]]:
    """Return positions [N,2] of N = `count` points and the one of the `usable` frames [N] in which each is seen there.

    `frames` are the painted ones [T,H,W,3].
    """
    height, width = frames.shape[1:3]
    reach = _EDGE_PIXELS * min(height, width) / 256.0
    anchors = rng.choice(usable, size=min(ANCHOR_FRAMES, len(usable)), replace=False)
    chosen: list[Floats] = []
    starts: list[NDArray[np.int64]] = []
    for index, anchor in enumerate(anchors.tolist()):
        wanted = count // len(anchors) + (index < count % len(anchors))
        xy = rng.uniform(-0.5, (width - 0.5, height - 0.5), (_CANDIDATES * wanted + 16, 2))
        surface = world.surfaces(xy, anchor)
        weight = _FLAT_WEIGHT + _TEXTURE_WEIGHT * _textured(frames[anchor], xy)
        weight += _BOUNDARY_WEIGHT * _near_edge(world, xy, surface, anchor, reach)
        weight *= np.where(surface > 0, _OBJECT_WEIGHT, 1.0)
        # Where too little can be tracked, points repeat.
        weight *= surface >= 0
        repeat = np.count_nonzero(weight) < wanted
        rows = rng.choice(len(xy), wanted, replace=bool(repeat), p=weight / weight.sum())
        chosen.append(xy[rows])
        starts.append(np.full(wanted, anchor))
    return np.concatenate(chosen), np.concatenate(starts)


def _textured(image: NDArray[np.uint8], xy: Floats) -> Floats:
    """Return how textured, 0..1, the image [H,W,3] is at positions [N,2]."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    texture = np.sqrt(cv2.blur(slope, (5, 5)))
    column, row = np.rint(xy).astype(np.int64).clip(0, (image.shape[1] - 1, image.shape[0] - 1)).T
    return np.asarray(texture[row, column] / (texture.max() + 1e-6), np.float64)


def _near_edge(world: World, xy: Floats, surface: NDArray[np.int64], frame: int, reach: float) -> NDArray[np.bool_]:
    """Return whether another surface is seen within `reach` pixels of positions [N,2]."""
    steps = np.array([(reach, 0.0), (-reach, 0.0), (0.0, reach), (0.0, -reach)])
    around = world.surfaces((xy + steps[:, np.newaxis]).reshape(-1, 2), frame).reshape(4, -1)
    return np.asarray((around != surface).any(axis=0))
