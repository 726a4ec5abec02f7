"""Painting of a scene's layers, with shadows and motion blur."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.layer import Layer, Shadow, Waves
from taptr_ros.training.scenes.motion import Floats, apply, in_front, inverse, translation
from taptr_ros.training.scenes.scene import Scene

MOST_EXPOSURES = 5
"""Most pictures that are averaged for one frame with motion blur."""

_PIXELS_PER_EXPOSURE = 2.5
"""Pixels of motion between two averaged pictures, until `MOST_EXPOSURES` are reached."""

_MAP_ERROR = 0.03
"""Error in texels up to which the map of a bent layer is interpolated."""

_WIDEST_MAP_STEP = 6
"""Most pixels between the places where the map of a bent layer is computed."""

_BEHIND = 1e-6
"""Homogeneous coordinate up to which a corner counts as behind the camera."""

_Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are exclusive."""


class Painter:
    """Paints the frames of a scene.

    `shutter` is the share of a frame's time that light is gathered: pictures from that time, whose middle is the
    frame's own time, are averaged.
    """

    def __init__(self, scene: Scene, shutter: float) -> None:
        self.scene = scene
        """The scene."""
        self._shutter = shutter
        self.layers = [PaintedLayer(layer, (scene.width, scene.height), shutter) for layer in scene.layers]
        """Its layers, as they are painted."""
        motion = np.max([layer.motion for layer in self.layers], axis=0)
        self._exposures = np.clip(np.ceil(motion / _PIXELS_PER_EXPOSURE), 1, MOST_EXPOSURES).astype(np.int64)

    def paint(self, frame: int) -> NDArray[np.uint8]:
        """Return frame number `frame`, uint8 [H,W,3] RGB."""
        offsets = self.offsets(frame)
        if len(offsets) == 1:
            return _rgb(self._instant(frame, *offsets))
        total = np.zeros((self.scene.height, self.scene.width, 4), np.float32)
        for offset in offsets:
            cv2.accumulate(self._instant(frame, offset), total)
        return _rgb(np.asarray(cv2.convertScaleAbs(total, alpha=1.0 / len(offsets)), np.uint8))

    def offsets(self, frame: int) -> list[float]:
        """Return when the pictures are taken that are averaged for a frame, in frames after the frame's own time."""
        count = int(self._exposures[frame])
        return [self._shutter * ((exposure + 0.5) / count - 0.5) for exposure in range(count)]

    def _instant(self, frame: int, offset: float) -> NDArray[np.uint8]:
        """Return uint8 [H,W,4] at `offset` frames from the time of the frame; the fourth channel has no meaning."""
        canvas = np.empty((self.scene.height, self.scene.width, 4), np.uint8)
        for index in self.scene.order[frame]:
            self.layers[index].paint(canvas, frame, offset)
        return canvas


class PaintedLayer:
    """A layer and what can be computed for all its frames at once."""

    def __init__(self, layer: Layer, size: tuple[int, int], shutter: float) -> None:
        self.layer = layer
        """The layer."""
        frames = len(layer.homographies)
        image = np.array([(0, 0), (size[0] - 1, 0), (0, size[1] - 1), (size[0] - 1, size[1] - 1)], np.float64)
        if layer.mask is None:
            boxes, self._crossing = np.tile([0, 0, *size], (frames, 1)), np.zeros(frames, np.bool_)
            corners = apply(layer.inverses[:, np.newaxis], image)
        else:
            corners = np.tile(_corners(layer), (frames, 1, 1))
            boxes, self._crossing = _extents(layer, corners, size, shutter)
        self.boxes = boxes
        """[T,4] left, top, right and bottom of what it may cover of the image; right and bottom are exclusive."""
        moved = apply((layer.homographies + layer.velocities)[:, np.newaxis], corners)
        distance = np.hypot(*np.moveaxis(moved - apply(layer.homographies[:, np.newaxis], corners), -1, 0))
        shown = (self.boxes[:, 2] > self.boxes[:, 0]) & (self.boxes[:, 3] > self.boxes[:, 1])
        if layer.drawn is not None:
            shown &= layer.drawn
        self.shown = shown
        """[T] whether it is seen at all."""
        self.motion = np.where(shown, np.nan_to_num(np.median(distance, axis=1), posinf=0.0), 0.0) * shutter
        """[T] pixels that it moves while light is gathered."""
        centres = (self.boxes[:, :2] + self.boxes[:, 2:] - 1) / 2
        self.levels = _mip_levels(layer, centres)
        """[T] which level of its mip is painted."""
        self.shrink = [_shrink(layer.texture, level) for level in layer.mip]
        """The matrices from its texels to those of each level of its mip."""
        self._enlarge = [inverse(matrix) for matrix in self.shrink]
        self._map_step = 1 if layer.waves is None else _map_step(layer.waves)

    def paint(self, canvas: NDArray[np.uint8], frame: int, offset: float) -> None:
        """Paint the layer over the canvas [H,W,4], as it is at `offset` frames from the time of the frame."""
        layer = self.layer
        box = tuple(self.boxes[frame].tolist())
        homography = layer.homographies[frame] + offset * layer.velocities[frame]
        if layer.shadow is not None:
            _paint_shadow(canvas, layer, homography, box, layer.shadow)
        if not self.shown[frame]:
            return
        picture = self._picture(homography, box, int(self.levels[frame]), float(layer.times[frame]) + offset)
        if self._crossing[frame]:
            columns, rows = (np.arange(box[axis], box[axis + 2], dtype=np.float64) for axis in (0, 1))
            pixels = np.stack(np.meshgrid(columns, rows), axis=-1)
            picture[~in_front(inverse(homography), pixels)] = 0
        if layer.gain is not None:
            picture = _brightened(picture, float(layer.gain[frame]))
        left, top, right, bottom = box
        target = canvas[top:bottom, left:right]
        if layer.mask is None:
            target[:] = picture
        else:
            clear = cv2.cvtColor(cv2.bitwise_not(picture[..., 3]), cv2.COLOR_GRAY2RGBA)
            cv2.add(cv2.multiply(target, clear, scale=1 / 255), picture, dst=target)

    def _picture(self, homography: Floats, box: _Box, level: int, time: float) -> NDArray[np.uint8]:
        """Return uint8 [h,w,4], RGB times opacity and opacity, of what the layer shows in a box of the image."""
        layer, (left, top, right, bottom) = self.layer, box
        source, size = layer.mip[level], (right - left, bottom - top)
        border = cv2.BORDER_REFLECT if layer.mask is None else cv2.BORDER_CONSTANT
        if layer.waves is None:
            to_box = homography @ self._enlarge[level]
            to_box[:2] -= np.outer((left, top), to_box[2])
            picture = cv2.warpPerspective(source, to_box, size, flags=cv2.INTER_LINEAR, borderMode=border)
            return np.asarray(picture, np.uint8)
        step = self._map_step
        columns, rows = (np.arange(-1, extent // step + 2) * step + 0.5 * (step - 1) for extent in size)
        pixels = np.stack(np.meshgrid(columns + left, rows + top), axis=-1)
        bent = apply(inverse(homography), pixels)
        texels = apply(self.shrink[level], bent + layer.waves.displacement(bent, time)).astype(np.float32)
        fine_size = (len(columns) * step, len(rows) * step)
        inside = (slice(step, step + size[1]), slice(step, step + size[0]))
        x, y = (cv2.resize(part, fine_size, interpolation=cv2.INTER_LINEAR)[inside] for part in cv2.split(texels))
        return np.asarray(cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=border), np.uint8)


def _brightened(picture: NDArray[np.uint8], gain: float) -> NDArray[np.uint8]:
    """Return a picture [h,w,4] with its colours, but not its opacity, multiplied."""
    values = np.arange(256)
    brighter = np.clip(values * gain, 0, 255)
    table = np.stack([brighter, brighter, brighter, values], axis=-1).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table[np.newaxis]), np.uint8)


def _rgb(canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB), np.uint8)


def _map_step(waves: Waves) -> int:
    """Return how many pixels apart a map must be known for linear interpolation to be precise enough."""
    amplitude, number = (np.linalg.norm(vectors, axis=1) for vectors in (waves.amplitude, waves.number))
    curvature = float((amplitude * np.square(number)).sum())
    return int(np.clip(math.sqrt(8 * _MAP_ERROR / max(curvature, 1e-9)), 1, _WIDEST_MAP_STEP))


def _corners(layer: Layer) -> Floats:
    """Return the corners [4,2], in texels, of a rectangle that holds the layer however it bends."""
    height, width = layer.texture.shape[:2]
    margin = 1.0
    if layer.waves is not None:
        margin += float(np.abs(layer.waves.amplitude).sum(axis=0).max())
    x, y = (-margin, width - 1 + margin), (-margin, height - 1 + margin)
    return np.array([(x[0], y[0]), (x[1], y[0]), (x[0], y[1]), (x[1], y[1])])


def _extents(
    layer: Layer, corners: Floats, size: tuple[int, int], shutter: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return what the layer with corners [T,4,2] may cover of the image while light is gathered.

    That is the boxes [T,4], and in which frames [T] the layer reaches from before the camera to behind it.
    """
    across = np.zeros(len(corners), np.bool_)
    low, high = np.full((len(corners), 2), np.inf), np.full((len(corners), 2), -np.inf)
    for offset in (-0.5 * shutter, 0.5 * shutter) if shutter else (0.0,):
        matrices = layer.homographies + offset * layer.velocities
        depth = np.einsum("tij,tj->ti", corners, matrices[:, 2, :2]) + matrices[:, 2, 2:]
        placed = apply(matrices[:, np.newaxis], corners)
        behind = (depth <= _BEHIND).all(axis=1)
        crossing = (depth <= _BEHIND).any(axis=1) & ~behind
        # A plane that passes the camera may cover anything.
        placed[crossing] = np.array([(0, 0), size, (0, 0), size])
        placed[behind] = -2.0
        across |= crossing
        low, high = np.minimum(low, placed.min(axis=1)), np.maximum(high, placed.max(axis=1))
    low, high = (edge.clip(-2.0, np.array(size) + 2.0) for edge in (np.floor(low), np.ceil(high) + 1))
    boxes = np.concatenate([low.clip(0, size), high.clip(0, size)], axis=1)
    return np.asarray(boxes, np.int64), across


def _paint_shadow(canvas: NDArray[np.uint8], layer: Layer, homography: Floats, box: _Box, shadow: Shadow) -> None:
    """Darken the canvas where the layer, displaced, would cover it."""
    x, y = shadow.offset
    softness = shadow_softness(shadow)
    height, width = canvas.shape[:2]
    # Even, so that what is seen of half the pixels does not change with the box.
    left, top = (max(round(start + shift) - softness, 0) // 2 * 2 for start, shift in zip(box[:2], (x, y), strict=True))
    right, bottom = min(round(box[2] + x) + softness, width), min(round(box[3] + y) + softness, height)
    if right - left < 1 or bottom - top < 1 or layer.mask is None:
        return
    # Soft edges need no fine picture. Its pixels are squares of four.
    small = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]) @ translation(x - left, y - top) @ homography
    half = ((right - left + 1) // 2, (bottom - top + 1) // 2)
    shade = cv2.warpPerspective(layer.mask, small, half, flags=cv2.INTER_LINEAR)
    shade = cv2.blur(shade, (softness, softness), borderType=cv2.BORDER_CONSTANT)
    shade = cv2.resize(shade, None, fx=2.0, fy=2.0)[: bottom - top, : right - left]
    light = cv2.cvtColor(cv2.convertScaleAbs(shade, alpha=shadow.brightness - 1.0, beta=255.0), cv2.COLOR_GRAY2RGBA)
    target = canvas[top:bottom, left:right]
    cv2.multiply(target, light, dst=target, scale=1 / 255)


def shadow_softness(shadow: Shadow) -> int:
    """Return the side, an odd number, of the square over which a shadow of half the size is averaged."""
    return 2 * max(1, round(0.35 * math.hypot(*shadow.offset))) + 1


def _shrink(texture: NDArray[np.uint8], level: NDArray[np.uint8]) -> Floats:
    """Return the matrix from a texture's texels to those of a smaller copy; both count from the centre of the first."""
    y, x = (small / full for small, full in zip(level.shape[:2], texture.shape[:2], strict=True))
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1.0]])


def _mip_levels(layer: Layer, centres: Floats) -> NDArray[np.int64]:
    """Return the levels [T] whose texels are about a pixel in size at places [T,2] in the image."""
    around = centres[:, np.newaxis] + np.array([(0, 0), (1, 0), (0, 1)])
    places = apply(layer.inverses[:, np.newaxis], around)
    area = np.abs(np.linalg.det(places[:, 1:] - places[:, :1]))
    wanted = np.floor(0.5 * np.log2(np.nan_to_num(area, nan=1.0).clip(1e-6, 1e6)) + 0.4)
    return np.asarray(wanted.clip(0, len(layer.mip) - 1), np.int64)
