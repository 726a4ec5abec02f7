"""Textures made of noise, shapes and letters."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def procedural_texture(rng: np.random.Generator, height: int, width: int) -> Image:
    """Return a random texture, uint8 [h,w,3] RGB."""
    maker = _MAKERS[rng.integers(len(_MAKERS))]
    return maker(rng, height, width)


def fractal_noise(rng: np.random.Generator, height: int, width: int, channels: int, cells: int) -> NDArray[np.float32]:
    """Return noise [h,w,channels], 0..1, of several octaves; the coarsest has `cells` cells along a side."""
    total = np.zeros((height, width, channels), np.float32)
    decay, weight = rng.uniform(0.45, 0.9), 1.0
    for octave in range(rng.integers(2, 6)):
        side = cells * 2**octave + 1
        if side > min(height, width):
            break
        coarse = rng.standard_normal((side, side, channels), np.float32) * np.float32(weight)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(total.shape)
        weight *= decay
    total -= total.min()
    return np.asarray(total / (total.max() + 1e-6), np.float32)


def _palette(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return rng.integers(0, 256, (count, 3)).astype(np.float32)


def _random_cells(rng: np.random.Generator) -> int:
    return int(rng.choice((2, 3, 4, 6, 8, 12)))


def _shaded(rng: np.random.Generator, colours: NDArray[np.float32]) -> Image:
    """Vary the brightness of a picture [h,w,3] from place to place."""
    height, width = colours.shape[:2]
    light = fractal_noise(rng, height, width, 1, _random_cells(rng))
    return np.clip(colours * (0.6 + 0.8 * light), 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, height: int, width: int) -> Image:
    return (255 * fractal_noise(rng, height, width, 3, _random_cells(rng))).astype(np.uint8)


def _contours(rng: np.random.Generator, height: int, width: int) -> Image:
    """Areas of equal height in a landscape of noise."""
    noise = fractal_noise(rng, height, width, 1, _random_cells(rng))[..., 0]
    return _palette(rng, 8)[(noise * rng.integers(4, 9)).astype(np.int64) % 8].astype(np.uint8)


def _tiles(rng: np.random.Generator, height: int, width: int) -> Image:
    """Bricks or a chessboard."""
    side = int(rng.integers(8, 40))
    row, column = np.mgrid[:height, :width]
    shifted = column + (row // side % 2) * (side // 2) * rng.integers(2)
    return _shaded(rng, _palette(rng, 2)[(row // side + shifted // side) % 2])


def _cells(rng: np.random.Generator, height: int, width: int) -> Image:
    """Voronoi cells."""
    ground = np.full((height, width), 255, np.uint8)
    count = int(rng.integers(20, 120))
    ground[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    _, nearest = cv2.distanceTransformWithLabels(ground, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return _shaded(rng, _palette(rng, 256)[nearest])


def _shapes(rng: np.random.Generator, height: int, width: int) -> Image:
    """Discs, boxes and lines on a plain ground."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = rng.integers(0, 256, 3)
    for _ in range(rng.integers(10, 80)):
        colour = rng.integers(0, 256, 3).tolist()
        x, y = int(rng.integers(width)), int(rng.integers(height))
        end = (x + int(rng.integers(-40, 41)), y + int(rng.integers(-40, 41)))
        style = rng.integers(4)
        if style < 2:
            cv2.circle(picture, (x, y), int(rng.integers(2, 30)), colour, 2 if style else cv2.FILLED, cv2.LINE_AA)
        elif style == 2:
            cv2.rectangle(picture, (x, y), end, colour, cv2.FILLED)
        else:
            cv2.line(picture, (x, y), end, colour, int(rng.integers(1, 6)), cv2.LINE_AA)
    return picture


def _letters(rng: np.random.Generator, height: int, width: int) -> Image:
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = rng.integers(0, 256, 3)
    colour = rng.integers(0, 256, 3).tolist()
    for base in range(10, height + 10, int(rng.integers(12, 30))):
        text = "".join(map(chr, rng.integers(33, 127, max(1, width // 8))))
        start, font, scale = int(rng.integers(-20, 5)), int(rng.integers(8)), rng.uniform(0.35, 0.9)
        cv2.putText(picture, text, (start, base), font, scale, colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    return picture


_MAKERS: tuple[Callable[[np.random.Generator, int, int], Image], ...] = (
    _clouds,
    _contours,
    _tiles,
    _cells,
    _shapes,
    _letters,
)
