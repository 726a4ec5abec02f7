"""True positions and visibility of points on layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.motion import Floats
from taptr_ros.training.scenes.scene import Scene

FAR = 4.0
"""Positions are clipped to this many image sizes outside the image."""


def owners(scene: Scene, xy: Floats, frame: int) -> NDArray[np.int64]:
    """Return which layer [N] is seen at positions [N,2] of a frame: the nearest that covers them by more than half."""
    owner = np.full(len(xy), scene.order[frame, 0])
    frames = np.full(len(xy), frame)
    for index in scene.order[frame, 1:]:
        drawn = scene.layers[index].drawn
        if drawn is not None and not drawn[frame]:
            continue
        owner[scene.layers[index].opacity(xy, frames) > 0.5] = index
    return owner


def locate_points(scene: Scene, xy: Floats, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Return the layers [N] and texels [N,2] that are seen at positions [N,2] of the frames `starts` [N]."""
    layers, texels = np.empty(len(xy), np.int64), np.empty_like(xy)
    for frame in np.unique(starts).tolist():
        layers[starts == frame] = owners(scene, xy[starts == frame], frame)
    for index in np.unique(layers):
        own = layers == index
        texels[own] = scene.layers[index].to_texels(xy[own], starts[own])
    return layers, texels


def track_points(scene: Scene, layers: NDArray[np.int64], texels: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return positions [N,T,2] and visibility [N,T] of texels [N,2] of layers [N]."""
    xy = np.empty((len(layers), scene.frames, 2))
    for index in np.unique(layers):
        own = layers == index
        xy[own] = scene.layers[index].to_image(texels[own])
    xy = near_image(xy, scene.height, scene.width)
    visible = inside_image(xy, scene.height, scene.width)
    # Place of every layer in the order of painting, [T,L].
    rank = np.argsort(scene.order, axis=1)
    frame = np.broadcast_to(np.arange(scene.frames), visible.shape)
    for index, layer in enumerate(scene.layers):
        if layer.drawn is not None:
            visible[layers == index] &= layer.drawn
        covers = rank[np.newaxis, :, index] > rank[:, layers].T
        if layer.drawn is not None:
            covers &= layer.drawn
        rows = np.nonzero(visible & covers)
        if len(rows[0]):
            visible[rows] = layer.opacity(xy[rows], frame[rows]) <= 0.5
    return xy, visible


def near_image(xy: Floats, height: int, width: int) -> Floats:
    """Return positions [...,2] as finite ones that are not further than `FAR` image sizes from the image."""
    size = np.array([width, height], np.float64)
    return np.clip(np.nan_to_num(xy, nan=-1e9, posinf=1e9, neginf=-1e9), -FAR * size, (1.0 + FAR) * size)


def inside_image(xy: Floats, height: int, width: int) -> NDArray[np.bool_]:
    """Return whether positions [...,2] are inside the image, its outermost pixels' outer halves included."""
    inside: NDArray[np.bool_] = np.all((xy >= -0.5) & (xy < np.array([width, height]) - 0.5), axis=-1)
    return inside
