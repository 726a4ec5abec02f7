"""Opacity masks: the outlines that objects are cut out by. All have a clear margin, so that edges stay smooth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.procedural import fractal_noise

_MARGIN = 3
"""Texels at the edge of a texture that stay clear."""

_SUBPIXEL_BITS = 4
"""Fractional bits of the coordinates given to OpenCV."""

Mask = NDArray[np.uint8]


def object_outline(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Return a random outline, uint8 [h,w], 255 inside."""
    makers = (_blob, _blob, _blob, _polygon, _polygon, _box, _ellipse, _islands, _ring)
    return _softened(makers[rng.integers(len(makers))](rng, height, width))


def limb_outline(height: int, width: int) -> Mask:
    """Return a capsule along x, uint8 [h,w]."""
    mask = np.zeros((height, width), np.uint8)
    middle, radius = height // 2, max(1, height // 2 - _MARGIN)
    ends = ((_MARGIN + radius, middle), (max(_MARGIN + radius, width - 1 - _MARGIN - radius), middle))
    cv2.line(mask, *ends, 255, 2 * radius, cv2.LINE_AA)
    for end in ends:
        cv2.circle(mask, end, radius, 255, cv2.FILLED, cv2.LINE_AA)
    return _softened(mask)


def lattice_outline(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Return bars, a grid of bars or a frame, uint8 [h,w]: things that one looks through."""
    mask = np.zeros((height, width), np.uint8)
    thickness = int(rng.integers(5, 20))
    style = rng.integers(3)
    if style == 2:
        mask[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = 255
        inner = _MARGIN + max(thickness, 10)
        mask[inner:-inner, inner:-inner] = 0
        return _softened(mask)
    for extent, upright in ((width, True), (height, False)):
        if not upright and style == 0:
            continue
        spacing = thickness + int(rng.integers(12, 60))
        for start in range(_MARGIN + int(rng.integers(spacing)), extent - thickness - _MARGIN, spacing):
            if upright:
                mask[_MARGIN:-_MARGIN, start : start + thickness] = 255
            else:
                mask[start : start + thickness, _MARGIN:-_MARGIN] = 255
    return _softened(mask)


def _softened(mask: Mask) -> Mask:
    return np.asarray(cv2.GaussianBlur(mask, (3, 3), 0.7), np.uint8)


def _filled(height: int, width: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> Mask:
    """Fill the polygon with corners at (x, y), -1..1 over the texture without its margin."""
    mask = np.zeros((height, width), np.uint8)
    centre, half = np.array([width - 1, height - 1]) / 2, np.array([width, height]) / 2 - _MARGIN - 1
    corners = np.rint((centre + np.stack([x, y], axis=-1) * half) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask


def _blob(rng: np.random.Generator, height: int, width: int) -> Mask:
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.full_like(angle, 0.7)
    for order in range(1, 8):
        radius += rng.uniform(-0.36, 0.36) / (1 + 0.5 * order) * np.sin(order * angle + rng.uniform(0, 2 * np.pi))
    radius = radius.clip(0.2, 1.0)
    return _filled(height, width, radius * np.cos(angle), radius * np.sin(angle))


def _polygon(rng: np.random.Generator, height: int, width: int) -> Mask:
    corners = int(rng.integers(3, 12))
    angle = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) / corners
    radius = rng.uniform(0.4, 1.0, corners)
    return _filled(height, width, radius * np.cos(angle), radius * np.sin(angle))


def _box(_: np.random.Generator, height: int, width: int) -> Mask:
    mask = np.zeros((height, width), np.uint8)
    mask[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = 255
    return mask


def _ellipse(_: np.random.Generator, height: int, width: int) -> Mask:
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    return _filled(height, width, np.cos(angle), np.sin(angle))


def _islands(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Several pieces with holes, as foliage or a crowd has."""
    noise = fractal_noise(rng, height, width, 1, 3)[..., 0]
    row, column = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    noise = noise - 0.35 * (np.square(row) + np.square(column)).astype(np.float32)
    mask = np.where(noise > np.median(noise), 255, 0).astype(np.uint8)
    inside = np.zeros_like(mask)
    inside[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = mask[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return inside


def _ring(rng: np.random.Generator, height: int, width: int) -> Mask:
    mask = np.zeros((height, width), np.uint8)
    thickness = max(2, int(min(height, width) * rng.uniform(0.1, 0.2)))
    half = (max(1, width // 2 - _MARGIN - thickness // 2 - 1), max(1, height // 2 - _MARGIN - thickness // 2 - 1))
    cv2.ellipse(mask, (width // 2, height // 2), half, 0, 0, 360, 255, thickness, cv2.LINE_AA)
    return mask
