"""A flat piece of texture that moves and bends: what is painted, and where each of its points is in every frame."""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.motion import Floats, apply, in_front, inverse

MIP_LEVELS = 4
"""Halvings of a texture that are kept for painting it small, the texture itself included."""

_INVERSION_STEPS = 40
"""Fixed-point steps that invert a bend. Slopes add up to at most `MAX_SLOPE`, so the error left is below 1e-8."""

MAX_SLOPE = 0.6
"""Greatest slope of all waves of a bend together; below 1 a bend never folds over."""


@dataclasses.dataclass(frozen=True)
class Waves:
    """A bend: the sum of K waves of displacement that travel over the texture. In texels, radians and frames."""

    amplitude: Floats
    """[K,2] texels."""
    number: Floats
    """[K,2] wave vector, radians per texel."""
    frequency: Floats
    """[K] radians per frame."""
    phase: Floats
    """[K] radians."""

    def displacement(self, points: Floats, time: Floats | float) -> Floats:
        """Return the displacement at `points` [...,2] at `time` (a number, or one per point) in frames."""
        angle = points @ self.number.T + np.multiply.outer(time, self.frequency) + self.phase
        return np.asarray(np.sin(angle) @ self.amplitude)


@dataclasses.dataclass(frozen=True)
class Shadow:
    """A soft shadow that a layer throws on what lies behind it."""

    offset: tuple[float, float]
    """Pixels that it is displaced from the layer."""
    brightness: float
    """Share of the light that is left in it."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A texture of h x w texels in T frames. Texel (0,0) is the centre of the top-left one.

    In frame t, texel u is painted at image pixel `homographies[t] @ q` with q + waves(q, t) = u, if its homogeneous
    coordinate is above 0: otherwise it is behind the camera. Painting needs the
    map from pixels to texels, which is explicit; tracks need the other one, which a fixed-point iteration finds.
    """

    texture: NDArray[np.uint8]
    """[h,w,3] RGB."""
    mask: NDArray[np.uint8] | None
    """[h,w] opacity; None: opaque, and continued without end by reflection, for backgrounds."""
    homographies: Floats
    """[T,3,3] from (bent) texels to image pixels."""
    velocities: Floats
    """[T,3,3] change of `homographies` per frame, for motion blur."""
    times: Floats
    """[T] time of each frame, in frames."""
    waves: Waves | None = None
    """Bend, or None."""
    gain: Floats | None = None
    """[T] brightness, or None for 1."""
    drawn: NDArray[np.bool_] | None = None
    """[T] False where the layer is not there or turns its back; None: always there."""
    shadow: Shadow | None = None
    """Shadow on what lies behind, or None."""

    @functools.cached_property
    def mip(self) -> list[NDArray[np.uint8]]:
        """[h,w,4] RGB times opacity, and opacity, at full, half, ... size."""
        if self.mask is None:
            levels = [cv2.cvtColor(self.texture, cv2.COLOR_RGB2RGBA)]
        else:
            covered = cv2.multiply(self.texture, cv2.cvtColor(self.mask, cv2.COLOR_GRAY2RGB), scale=1 / 255)
            levels = [cv2.merge([*cv2.split(covered), self.mask])]
        while len(levels) < MIP_LEVELS and min(levels[-1].shape[:2]) >= 8:
            height, width = levels[-1].shape[:2]
            levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
        return [np.asarray(level, np.uint8) for level in levels]

    @functools.cached_property
    def inverses(self) -> Floats:
        """[T,3,3] from image pixels to (bent) texels."""
        return inverse(self.homographies)

    def to_image(self, texels: Floats) -> Floats:
        """Return the image positions [N,T,2] of `texels` [N,2] in all frames; NaN behind the camera."""
        wanted = np.repeat(texels[:, np.newaxis], len(self.homographies), axis=1)
        bent = wanted
        if self.waves is not None:
            for _ in range(_INVERSION_STEPS):
                bent = wanted - self.waves.displacement(bent, self.times[np.newaxis].repeat(len(texels), axis=0))
        behind = ~in_front(self.homographies, bent)
        xy = apply(self.homographies, bent)
        xy[behind] = np.nan
        return xy

    def to_texels(self, xy: Floats, frames: NDArray[np.int64]) -> Floats:
        """Return the texels [N,2] at image positions [N,2], each in its own frame [N]; NaN where there are none."""
        bent = apply(self.inverses[frames], xy)
        texels = bent if self.waves is None else bent + self.waves.displacement(bent, self.times[frames])
        texels[~in_front(self.inverses[frames], xy)] = np.nan
        return texels

    def opacity(self, xy: Floats, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the opacity [N], 0..1, at image positions [N,2], each in its own frame [N]."""
        opacity = np.ones(len(xy), np.float32) if self.mask is None else self._mask_at(self.to_texels(xy, frames))
        return opacity if self.drawn is None else opacity * self.drawn[frames]

    @functools.cached_property
    def _padded_mask(self) -> NDArray[np.uint8]:
        """[h+2,w+2] the mask with a clear rim."""
        return np.pad(self.mask, 1) if self.mask is not None else np.full((3, 3), 255, np.uint8)

    def _mask_at(self, texels: Floats) -> NDArray[np.float32]:
        """Return the mask, as 0..1, between its texels [N,2]; 0 outside."""
        mask = self._padded_mask
        opacity = np.zeros(len(texels), np.float32)
        height, width = mask.shape
        rows = np.flatnonzero(((texels > -1.0) & (texels < (width - 2, height - 2))).all(axis=1))
        x, y = texels[rows].T + 1.0
        left, top = x.astype(np.int64), y.astype(np.int64)
        right_share, bottom_share = x - left, y - top
        upper = mask[top, left] * (1.0 - right_share) + mask[top, left + 1] * right_share
        lower = mask[top + 1, left] * (1.0 - right_share) + mask[top + 1, left + 1] * right_share
        opacity[rows] = (upper * (1.0 - bottom_share) + lower * bottom_share) / 255.0
        return opacity
