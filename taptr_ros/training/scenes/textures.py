"""Textures for surfaces: sharp cut-outs of photos, or procedural ones, with random colours."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import SourceError
from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.procedural import fractal_noise, procedural_texture

PHOTO_SIDE = 960
"""Larger photos are reduced to this many pixels on their longer side."""

CACHED_PHOTOS = 256
"""Decoded photos kept in memory: about 0.9 MB each at 640x480."""

_SUFFIXES = (".jpg", ".jpeg", ".png")
_TRIES = 3
"""Cut-outs of photos looked at for each one that is used: the most textured one is taken."""
_SOFTEST = 1.6
"""Most times a photo is enlarged; less would leave little of it for a wide background."""


class Textures:
    """Makes textures of a clip as its configuration asks."""

    def __init__(self, rng: np.random.Generator, config: SceneConfig) -> None:
        self._rng = rng
        self._photos = photo_files(config.photos) if config.photos is not None else ()
        self._photo_share = config.photo_share

    def surface(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return a texture, uint8 [h,w,3] RGB, for an object of about this size in pixels."""
        rng = self._rng
        if self._photos and rng.random() < self._photo_share:
            texture = self._photo_cut(height, width)
        else:
            texture = procedural_texture(rng, height, width)
        if rng.random() < 0.5:
            texture = np.ascontiguousarray(texture[:, ::-1])
        if rng.random() < 0.2:
            grain = fractal_noise(rng, height, width, 1, int(rng.choice((16, 24, 32)))) - np.float32(0.5)
            light = cv2.merge([1 + grain * rng.uniform(0.3, 1.2)] * 3)
            texture = np.asarray(cv2.multiply(texture, light, dtype=cv2.CV_8U), np.uint8)
        return self._recolour(texture)

    def _photo_cut(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return the most textured of a few random pieces of one photo."""
        rng = self._rng
        photo = _load(self._photos[rng.integers(len(self._photos))])
        if rng.random() < 0.15:
            photo = np.rot90(photo)
        most = min(photo.shape[0] / height, photo.shape[1] / width)
        # Photo pixels per texel: from slightly enlarged to the whole photo.
        ratio = min(most, float(np.exp(rng.uniform(np.log(1 / _SOFTEST), np.log(max(most, 1 / _SOFTEST))))))
        cut_height, cut_width = max(2, int(height * ratio)), max(2, int(width * ratio))
        pieces: list[tuple[float, int, NDArray[np.uint8]]] = []
        for _ in range(_TRIES):
            top = rng.integers(photo.shape[0] - cut_height + 1)
            left = rng.integers(photo.shape[1] - cut_width + 1)
            piece = photo[top : top + cut_height, left : left + cut_width]
            pieces.append((_contrast(piece), len(pieces), piece))
        chosen = np.ascontiguousarray(max(pieces, key=lambda entry: entry[:2])[2])
        interpolation = cv2.INTER_AREA if ratio > 1 else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(chosen, (width, height), interpolation=interpolation), np.uint8)

    def _recolour(self, texture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Change hue, saturation, brightness and contrast a little, or a lot."""
        rng = self._rng
        if rng.random() < 0.3:
            hue, saturation, value = cv2.split(cv2.cvtColor(texture, cv2.COLOR_RGB2HSV))
            hue = (hue + rng.integers(180)) % 180
            saturation = cv2.convertScaleAbs(saturation, alpha=rng.uniform(0.2, 1.4))
            texture = np.asarray(
                cv2.cvtColor(cv2.merge([hue.astype(np.uint8), saturation, value]), cv2.COLOR_HSV2RGB), np.uint8
            )
        values = np.arange(256) * rng.uniform(0.65, 1.25) + rng.uniform(-25, 20)
        return np.asarray(cv2.LUT(texture, np.clip(values, 0, 255).astype(np.uint8)), np.uint8)


def _contrast(piece: NDArray[np.uint8]) -> float:
    """Return how much fine texture a piece of a photo has, from every third row."""
    rows = piece[::3, :, 1]
    return float(cv2.absdiff(np.ascontiguousarray(rows[:, 1:]), np.ascontiguousarray(rows[:, :-1])).mean())


@functools.lru_cache(maxsize=8)
def photo_files(folder: str) -> tuple[Path, ...]:
    """Return the photos of a folder in the order of their names. Raises `SourceError` if there are none."""
    found = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise SourceError(f"The folder {folder} holds no photos; pass a folder with {', '.join(_SUFFIXES)} files.")
    return tuple(found)


@functools.lru_cache(maxsize=CACHED_PHOTOS)
def _load(path: Path) -> NDArray[np.uint8]:
    """Return a photo, uint8 [h,w,3] RGB. Raises `SourceError` if it cannot be decoded."""
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if photo is None:
        raise SourceError(f"{path} cannot be decoded as a picture; remove or replace it.")
    shrink = PHOTO_SIDE / max(photo.shape[:2])
    if shrink < 1:
        photo = cv2.resize(photo, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(photo, cv2.COLOR_BGR2RGB), np.uint8)
