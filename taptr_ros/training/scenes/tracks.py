"""Choice of the points of a scene, their true positions, and their true visibility."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.motion import Floats
from taptr_ros.training.scenes.scene import Scene

FAR = 4.0
"""Positions are clipped to this many image sizes outside the image."""

ANCHOR_FRAMES = 4
"""Frames of a clip in which points are chosen."""

_CANDIDATES = 6
"""Candidates per chosen point."""

_FLAT_WEIGHT, _TEXTURE_WEIGHT, _BOUNDARY_WEIGHT, _OBJECT_WEIGHT = 0.3, 1.0, 0.5, 2.0
"""How a candidate's chance to be chosen grows: by itself, with texture (0..1), near the edge of an object, and, as a
factor, on objects. People who annotate choose so: corners, texture and outlines of things that move."""

_EDGE_PIXELS = 3.0
"""A candidate this near to another surface counts as near an edge, at an image size of 256."""


def choose_points(
    rng: np.random.Generator, scene: Scene, frames: NDArray[np.uint8], count: int, usable: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:
    """Return the layers [N] and texels [N,2] of N = `count` points, each visible in one of the `usable` frames.

    `frames` are the painted ones [T,H,W,3].
    """
    anchors = rng.choice(usable, size=min(ANCHOR_FRAMES, len(usable)), replace=False)
    layers: list[NDArray[np.int64]] = []
    texels: list[Floats] = []
    for index, anchor in enumerate(anchors):
        wanted = count // len(anchors) + (index < count % len(anchors))
        xy = rng.uniform(-0.5, (scene.width - 0.5, scene.height - 0.5), (_CANDIDATES * wanted + 16, 2))
        owner = owners(scene, xy, anchor)
        weight = _FLAT_WEIGHT + _TEXTURE_WEIGHT * _textured(frames[anchor], xy)
        weight += _BOUNDARY_WEIGHT * _near_edge(scene, xy, owner, anchor)
        weight *= np.where(owner > 0, _OBJECT_WEIGHT, 1.0)
        chosen = rng.choice(len(xy), wanted, replace=False, p=weight / weight.sum())
        layers.append(owner[chosen])
        texels.append(_texels(scene, owner[chosen], xy[chosen], anchor))
    return np.concatenate(layers), np.concatenate(texels)


def track_points(scene: Scene, layers: NDArray[np.int64], texels: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return positions [N,T,2] and visibility [N,T] of texels [N,2] of layers [N]."""
    xy = np.empty((len(layers), scene.frames, 2))
    for index in np.unique(layers):
        own = layers == index
        xy[own] = scene.layers[index].to_image(texels[own])
    size = np.array([scene.width, scene.height])
    far = FAR * size
    xy = np.clip(np.nan_to_num(xy, nan=0.0, posinf=1e9, neginf=-1e9), -far, size + far)
    visible: NDArray[np.bool_] = np.all((xy >= -0.5) & (xy < size - 0.5), axis=-1)
    # Place of every layer in the order of painting, [T,L].
    rank = np.argsort(scene.order, axis=1)
    frame = np.broadcast_to(np.arange(scene.frames), visible.shape)
    for index, layer in enumerate(scene.layers):
        if layer.drawn is not None:
            visible[layers == index] &= layer.drawn
        nearer = rank[np.newaxis, :, index] > rank[:, layers].T
        rows = np.nonzero(visible & nearer)
        if len(rows[0]):
            visible[rows] = layer.opacity(xy[rows], frame[rows]) <= 0.5
    return xy, visible


def owners(scene: Scene, xy: Floats, frame: int) -> NDArray[np.int64]:
    """Return which layer [N] is seen at positions [N,2] of a frame: the nearest that covers them by more than half."""
    owner = np.full(len(xy), scene.order[frame, 0])
    frames = np.full(len(xy), frame)
    for index in scene.order[frame, 1:]:
        owner[scene.layers[index].opacity(xy, frames) > 0.5] = index
    return owner


def _texels(scene: Scene, owner: NDArray[np.int64], xy: Floats, frame: int) -> Floats:
    texels = np.empty_like(xy)
    for index in np.unique(owner):
        own = owner == index
        texels[own] = scene.layers[index].to_texels(xy[own], np.full(own.sum(), frame))
    return texels


def _textured(image: NDArray[np.uint8], xy: Floats) -> Floats:
    """Return how textured, 0..1, the image [H,W,3] is at positions [N,2]."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    texture = np.sqrt(cv2.blur(slope, (5, 5)))
    column, row = np.rint(xy).astype(np.int64).clip(0, (image.shape[1] - 1, image.shape[0] - 1)).T
    return np.asarray(texture[row, column] / (texture.max() + 1e-6), np.float64)


def _near_edge(scene: Scene, xy: Floats, owner: NDArray[np.int64], frame: int) -> NDArray[np.bool_]:
    """Return whether another layer is seen near positions [N,2]."""
    reach = _EDGE_PIXELS * min(scene.height, scene.width) / 256.0
    steps = np.array([(reach, 0.0), (-reach, 0.0), (0.0, reach), (0.0, -reach)])
    around = owners(scene, (xy + steps[:, np.newaxis]).reshape(-1, 2), frame).reshape(4, -1)
    return np.asarray((around != owner).any(axis=0))
