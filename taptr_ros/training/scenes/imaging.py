"""What a camera and its recording do to pictures: light, focus, exposure, colour, noise, and lossy compression."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.motion import smooth_path

_NOISE_SIDE = 1024
"""Side of the noise that every frame takes a random piece of; larger images repeat it."""

_LEAST_GAIN, _MOST_GAIN = 0.7, 3.0
"""Range of the gain that a clip's exposure is chosen from."""

_LEAST_BLUR = 0.3
"""Standard deviation in pixels below which blur is left out."""

_KEY_FRAMES = 12
"""Frames from one that is compressed by itself to the next, in predictive compression."""

Image = NDArray[np.uint8]


class Film:
    """What the camera and the recording do to one clip."""

    def __init__(self, rng: np.random.Generator, config: SceneConfig, first: Image) -> None:
        """Decide everything but the place of noise in each frame; `first` is the first frame as painted."""
        self.light = Light(rng, config)
        self.focus = Focus(rng, config)
        self.exposure = Exposure(rng, config, first)
        self.noise = Noise(rng)
        self.compression = Compression(rng) if rng.random() < config.compression_share else None

    def develop(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the painted frames [T,H,W,3] as the camera would have recorded them."""
        effects: list[Callable[[Image, int], Image]] = [self.light, self.focus, self.exposure, self.noise]
        if self.compression is not None:
            effects.append(self.compression)
        recorded = np.empty_like(frames)
        for index, frame in enumerate(frames):
            recorded[index] = functools.reduce(lambda image, effect: effect(image, index), effects, frame)
        return recorded


class Light:
    """Uneven light that changes, dark corners, and the soft shadow of something outside that passes over the scene."""

    def __init__(self, rng: np.random.Generator, config: SceneConfig) -> None:
        self._uneven = rng.random() < 0.35
        self._field = rng.standard_normal((5, 5)).astype(np.float32) * rng.uniform(0.05, 0.25)
        self._change = rng.standard_normal((5, 5)).astype(np.float32) * rng.uniform(0.05, 0.2)
        self._rate = rng.uniform(0.05, 0.4)
        self._corners = rng.uniform(0.1, 0.5) if rng.random() < 0.2 else 0.0
        self._shadow: NDArray[np.uint8] | None = None
        if rng.random() < 0.2:
            self._shadow = np.zeros((48, 48), np.uint8)
            angle = np.sort(rng.random(6)) * 2 * np.pi
            reach = rng.uniform(6, 22, 6)
            corners = 24 + np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=-1)
            cv2.fillPoly(self._shadow, [np.rint(corners).astype(np.int32)], 255)
            self._shadow = np.asarray(cv2.GaussianBlur(self._shadow, (5, 5), rng.uniform(0.6, 2.0)), np.uint8)
            self._darkness = rng.uniform(0.25, 0.65)
            speed = np.exp(rng.uniform(np.log(0.1), np.log(3.0)))
            self._path = rng.uniform(-16, 16, 2) + np.stack(
                [smooth_path(rng, config.frames, speed, 30.0) for _ in range(2)], axis=-1
            )
        row, column = np.ogrid[-1:1:16j, -1:1:16j]
        self._falloff = (np.square(row) + np.square(column)).astype(np.float32) / 2

    def __call__(self, image: Image, index: int) -> Image:
        """Return frame number `index` with it."""
        light = self.map(index)
        if light is None:
            return image
        full = cv2.resize(light, (image.shape[1], image.shape[0]))
        return np.asarray(cv2.multiply(image, cv2.merge([full] * 3), dtype=cv2.CV_8U), np.uint8)

    def map(self, index: int) -> NDArray[np.float32] | None:
        """Return how much light there is in frame number `index`, [48,48] over the whole image, or None for 1."""
        if not (self._uneven or self._corners or self._shadow is not None):
            return None
        light = 1.0 - np.float32(self._corners) * cv2.resize(self._falloff, (48, 48))
        if self._uneven:
            logarithm = self._field + self._change * np.float32(np.sin(self._rate * index))
            light = light * cv2.resize(np.exp(logarithm), (48, 48), interpolation=cv2.INTER_CUBIC)
        if self._shadow is not None:
            x, y = self._path[index]
            placed = cv2.warpAffine(self._shadow, np.array([[1, 0, x], [0, 1, y]]), (48, 48))
            light = light * (1.0 - np.float32(self._darkness / 255) * placed)
        return np.asarray(light, np.float32)


class Focus:
    """Blur that comes and goes."""

    def __init__(self, rng: np.random.Generator, config: SceneConfig) -> None:
        strength = config.unit * rng.choice((0.0, 0.0, 0.0, 0.6, 1.0, 1.6))
        time = np.arange(config.frames)
        swing = 0.6 + 0.6 * np.sin(time * rng.uniform(0.1, 0.6) + rng.uniform(0, 2 * np.pi))
        self._sigma = strength * swing.clip(0.0, 1.2)

    def __call__(self, image: Image, index: int) -> Image:
        """Return frame number `index` with it."""
        sigma = self.sigma(index)
        if not sigma:
            return image
        side = blur_side(sigma)
        return np.asarray(cv2.GaussianBlur(image, (side, side), sigma), np.uint8)

    def sigma(self, index: int) -> float:
        """Return the standard deviation of frame number `index`'s Gaussian blur in pixels; 0 for none."""
        sigma = float(self._sigma[index])
        return sigma if sigma >= _LEAST_BLUR else 0.0


class Exposure:
    """Brightness, contrast curve and white balance, drifting, or changing at once as automatics do."""

    def __init__(self, rng: np.random.Generator, config: SceneConfig, first: Image) -> None:
        frames = config.frames
        # Cameras choose their exposure: neither very dark nor very bright clips stay so.
        brightness = max(float(first.mean()), 1.0)
        self._chosen = float(np.clip(rng.uniform(70.0, 130.0) / brightness, _LEAST_GAIN, _MOST_GAIN))
        drift = smooth_path(rng, frames, 0.02, 0.35) if rng.random() < 0.4 else np.zeros(frames)
        if rng.random() < 0.1:
            drift = drift + rng.uniform(-0.4, 0.4) * (np.arange(frames) >= rng.integers(frames))
        tint = rng.uniform(-0.12, 0.12, 3) + np.zeros((frames, 1))
        if rng.random() < 0.25:
            tint = tint + np.stack([smooth_path(rng, frames, 0.01, 0.15) for _ in range(3)], axis=-1)
        self._gain = np.exp((drift - drift.mean())[:, np.newaxis] + tint)
        self._curve = (np.arange(256) / 255.0) ** np.exp(rng.uniform(-0.35, 0.35))

    def __call__(self, image: Image, index: int) -> Image:
        """Return frame number `index` with it."""
        return np.asarray(cv2.LUT(image, self.table(index)[np.newaxis]), np.uint8)

    def table(self, index: int) -> NDArray[np.uint8]:
        """Return what becomes of every value in frame number `index`, [256,3]."""
        values = 255.0 * self._chosen * self._curve[:, np.newaxis] * self._gain[index]
        return np.asarray(np.clip(values, 0, 255), np.uint8)


class Noise:
    """Noise of the sensor, independent in every frame."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.strength = float(rng.choice((0.0, 0.0, 1.0, 2.0, 4.0, 7.0)) * rng.uniform(0.5, 1.2))
        self.grey = rng.random() < 0.3

    def __call__(self, image: Image, index: int) -> Image:
        """Return frame number `index` with it."""
        if not self.strength:
            return image
        height, width = image.shape[:2]
        top, left = self.place(height, width)
        piece = noise_pattern(max(height, width), self.grey)[top : top + height, left : left + width]
        return np.asarray(cv2.scaleAdd(piece, self.strength, image.astype(np.float32)).clip(0, 255), np.uint8)

    def place(self, height: int, width: int) -> tuple[int, int]:
        """Draw the top left corner, in the noise pattern, of the piece that the next frame gets."""
        side = noise_side(max(height, width))
        top, left = self._rng.integers(0, (side - height + 1, side - width + 1)).tolist()
        return top, left


class Compression:
    """JPEG: of every frame by itself, or, as video does, of the difference from the last one as decoded."""

    _last: Image  # from the first frame on, which is compressed by itself

    def __init__(self, rng: np.random.Generator) -> None:
        self.quality = int(rng.integers(35, 95))
        self._predictive = rng.random() < 0.4
        self._phase = int(rng.integers(_KEY_FRAMES))

    def __call__(self, image: Image, index: int) -> Image:
        """Return frame number `index` with it."""
        if self.by_itself(index):
            self._last = self._coded(image)
            return self._last
        difference = np.asarray(cv2.addWeighted(image, 0.5, self._last, -0.5, 128.0), np.uint8)
        self._last = np.asarray(cv2.addWeighted(self._coded(difference), 2.0, self._last, 1.0, -256.0), np.uint8)
        return self._last

    def by_itself(self, index: int) -> bool:
        """Return whether frame number `index` is compressed by itself; the first one is in any case."""
        return index == 0 or not self._predictive or (index + self._phase) % _KEY_FRAMES == 0

    def _coded(self, image: Image) -> Image:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)


def blur_side(sigma: float) -> int:
    """Return how many weights, an odd number, a Gaussian blur of `sigma` pixels has along rows and columns."""
    return 2 * int(np.ceil(2.5 * sigma)) + 1


def noise_side(extent: int) -> int:
    """Return the side of the noise pattern for images whose longer side is `extent`."""
    return max(_NOISE_SIDE, extent + 64)


@functools.lru_cache(maxsize=4)
def noise_pattern(extent: int, grey: bool) -> NDArray[np.float32]:
    """Return standard normal noise [side,side,3], always the same; `side` is `noise_side(extent)`."""
    side = noise_side(extent)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((side, side, 1 if grey else 3), np.float32)
    return np.ascontiguousarray(np.broadcast_to(noise, (side, side, 3)))
