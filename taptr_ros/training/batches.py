"""Training batches: crops of clips, in space and time, with points to follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptr_ros.evaluation.datasets import load_dataset, resize_frame
from taptr_ros.runtime.coordinates import RASTER_OFFSET
from taptr_ros.training.clip_files import load_clip, pool_files
from taptr_ros.training.config import DataConfig, StageConfig
from taptr_ros.training.scenes import Clip, generate_many
from taptr_ros.training.scenes.motion import apply, rotation, scaling, smooth_path, translation

LARGEST_STRIDE = 3
"""Clips are read at up to this many frames per frame of the batch, which makes motion faster."""

MOVING = 4.0
"""Pixels that a point has to move, compared with the median of its clip's points, to be chosen more often."""

LONG_OCCLUSION = 8
"""Frames that a point has to be hidden for, before it is visible again, to be chosen more often still."""

FASTEST = 14.0
"""Crops whose points move by more than this many pixels between frames, in the median, are drawn again."""

TURNED_SHARE = 0.4
"""Share of the crops whose camera also turns about its axis and zooms: wrist cameras do, and few scenes."""

TURN = 0.005, 0.06
"""Least and greatest speed at which it turns, in radians per frame, root mean square."""

ZOOM = 0.05, 0.8
"""Greatest speed, root mean square and per frame, and reach of the zoom's logarithm."""

GAP_SHARE = 0.3
"""Share of the crops that leave out a part in the middle of their clip and then see it in another view and light, as
after a scene cut, or when a point comes back after long."""

SEGMENT = 3
"""Fewest frames before a gap, and after it."""

GAP_TURN, GAP_ZOOM, GAP_SHIFT = 0.4, 0.2, 0.06
"""Standard deviations of what a gap does to the view: radians, logarithm of the scale, share of the image's size."""

GAP_LIGHT, GAP_COLOUR, GAP_LEVEL = 0.15, 0.06, 8.0
"""Standard deviations of what it does to the light: logarithm of the brightness, the same of each colour, and grey
levels that are added."""

FLAT = 4.0
"""Standard deviation, in grey levels, below which a point's surroundings count as without texture."""

SURROUNDINGS = 7
"""Side, in pixels, of the square round a point that is meant by that."""

FLAT_SHARE = 0.25
"""How often points without texture are chosen, compared with others: there is little to see of how they move."""

FEWEST_POINTS = 8
"""Crops in which fewer points are visible in the first frame, or in any that is learnt from, are drawn again."""

SEQUENCE_FRAMES = 48
"""Most frames that are read of a sequence at once."""

SEQUENCE_SIDE = 320
"""Sequences are reduced until their shorter side has this many pixels."""

ClipSource = Callable[[np.random.Generator], Clip]
"""Draws a clip. Positions may be NaN in frames in which the point is not visible: they are then not learnt from."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """B clips of T frames of S x S pixels, with N points each that are visible in the first frame."""

    images: Tensor
    """[T,B,S,S,3] uint8 RGB."""
    xy: Tensor
    """[T,B,N,2] float32 true positions in unit coordinates; NaN where unknown, which implies not visible."""
    visible: Tensor
    """[T,B,N] bool."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in (self.images, self.xy, self.visible)))


class GeneratedClips:
    """`ClipSource` that generates every clip when it is drawn."""

    def __init__(self, data: DataConfig) -> None:
        self._scenes, self._device = data.scenes, data.device

    def __call__(self, rng: np.random.Generator) -> Clip:
        """Generate a clip."""
        scenes = self._scenes[rng.integers(len(self._scenes))]
        (clip,) = generate_many(scenes, [int(rng.integers(1 << 62))], self._device)
        return clip


class PooledClips:
    """`ClipSource` that reads clips from a pool, which generators may change meanwhile."""

    reread = 64
    """Draws after which the folder is read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[Path] = []
        self._draws = 0

    def __call__(self, rng: np.random.Generator) -> Clip:
        """Read a clip."""
        while True:
            if self._draws % self.reread == 0:
                self._files = pool_files(self._folder)
            self._draws += 1
            try:
                return load_clip(self._files[rng.integers(len(self._files))])
            except FileNotFoundError:
                # A generator has replaced it since.
                self._draws = 0


class SequenceClips:
    """`ClipSource` of sequences with ground truth, in the formats that `taptr eval` reads."""

    def __init__(self, folder: Path) -> None:
        """Open all sequences in `folder`; their frames stay compressed until they are drawn."""
        self._sequences = list(load_dataset(folder))

    def __call__(self, rng: np.random.Generator) -> Clip:
        """Read a part of a sequence, with those of its points whose visibility is known all the time."""
        sequence = self._sequences[rng.integers(len(self._sequences))]
        count = min(SEQUENCE_FRAMES, len(sequence.frames))
        first = int(rng.integers(len(sequence.frames) - count + 1))
        shown = slice(first, first + count)
        scale = min(1.0, SEQUENCE_SIDE / min(sequence.size))
        height, width = (round(scale * side) for side in sequence.size)
        images = (sequence.frames[frame] for frame in range(first, first + count))
        frames = np.stack([resize_frame(image, (height, width)) for image in images])
        known = sequence.valid[:, shown].all(axis=1)
        visible = ~sequence.occluded[known, shown]
        xy = sequence.points[known, shown] * [width / sequence.size[1], height / sequence.size[0]] - RASTER_OFFSET
        return Clip(frames, np.where(visible[..., None], xy, np.nan).astype(np.float32), visible)


class MixedClips:
    """`ClipSource` that draws from a second source with a certain probability."""

    def __init__(self, first: ClipSource, second: ClipSource, share: float) -> None:
        self._first, self._second, self._share = first, second, share

    def __call__(self, rng: np.random.Generator) -> Clip:
        """Draw a clip from one of the two."""
        return (self._second if rng.random() < self._share else self._first)(rng)


def draw_batch(source: ClipSource, stage: StageConfig, rng: np.random.Generator) -> Batch:
    """Draw the clips of a batch."""
    clips = [draw_crop(source, stage, rng) for _ in range(stage.clips)]
    images = np.stack([clip.frames for clip in clips], axis=1)
    xy = np.stack([clip.xy.transpose(1, 0, 2) for clip in clips], axis=1)
    visible = np.stack([clip.visible.T for clip in clips], axis=1)
    unit = (xy + 0.5) / stage.size
    return Batch(torch.from_numpy(images), torch.from_numpy(unit.astype(np.float32)), torch.from_numpy(visible))


def draw_crop(source: ClipSource, stage: StageConfig, rng: np.random.Generator) -> Clip:
    """Draw a clip of the stage's frames, size and points: a crop, scaled, flipped and turned, forwards or backwards."""
    while True:
        clip, gap = source(rng), 0
        if rng.random() < GAP_SHARE and 2 * SEGMENT <= stage.frames < len(clip.frames):
            clip, gap = with_gap(clip, stage.frames, rng)
        else:
            clip = in_time(clip, stage.frames, rng)
        if rng.random() < TURNED_SHARE:
            clip = turn(clip, rng)
        if gap:
            clip = seen_differently(clip, gap, rng)
        clip = crop(clip, stage.size, rng)
        points = choose_points(clip, stage.points, rng)
        if points is None or median_step(clip, gap) >= FASTEST:
            continue
        chosen = Clip(clip.frames, clip.xy[points], clip.visible[points])
        learnt_from = chosen.visible[:, 1 + stage.lead :].any(axis=1)
        if learnt_from.sum() >= min(FEWEST_POINTS, stage.points):
            return mirror(chosen, rng)


def in_time(clip: Clip, frames: int, rng: np.random.Generator) -> Clip:
    """Take `frames` frames, every one or every second or third, forwards or backwards."""
    total = len(clip.frames)
    longest = min(LARGEST_STRIDE, (total - 1) // max(frames - 1, 1)) or 1
    stride = 1 if rng.random() < 0.6 else int(rng.integers(1, longest + 1))
    span = (frames - 1) * stride + 1
    first = int(rng.integers(total - span + 1))
    chosen = np.arange(first, first + span, stride)
    if rng.random() < 0.5:
        chosen = chosen[::-1]
    return clip.at(chosen)


def with_gap(clip: Clip, frames: int, rng: np.random.Generator) -> tuple[Clip, int]:
    """Take `frames` frames, every one but for a gap, forwards or backwards; returns also the first one after the gap.

    The clip has more frames, and `frames` are 2 SEGMENT or more.
    """
    left_out = int(rng.integers(1, len(clip.frames) - frames + 1))
    first = int(rng.integers(len(clip.frames) - frames - left_out + 1))
    gap = int(rng.integers(SEGMENT, frames - SEGMENT + 1))
    chosen = first + np.arange(frames)
    chosen[gap:] += left_out
    if rng.random() < 0.5:
        chosen, gap = chosen[::-1], frames - gap
    return clip.at(chosen), gap


def turn(clip: Clip, rng: np.random.Generator) -> Clip:
    """Turn the camera about its axis and zoom, more and more or to and fro; where nothing is known there is one colour.

    Visibility stays what it was: points that leave the image have positions outside it.
    """
    frames, (height, width) = len(clip.frames), clip.frames.shape[1:3]
    angle = smooth_path(rng, frames, _log_uniform(rng, *TURN), reach=100.0)
    zoom = smooth_path(rng, frames, rng.uniform(0.0, ZOOM[0]), reach=ZOOM[1])
    pivot = rng.uniform(0.3, 0.7, 2) * [width - 1, height - 1]
    moved = translation(*pivot) @ rotation(angle) @ scaling(np.exp(zoom)) @ translation(*-pivot)
    return _warped(clip, moved, rng)


def seen_differently(clip: Clip, gap: int, rng: np.random.Generator) -> Clip:
    """Turn, move and light the frames from number `gap` on in another way, all of them in the same one."""
    size = np.array([clip.frames.shape[2], clip.frames.shape[1]], np.float64)
    middle = (size - 1.0) / 2.0
    angle, zoom = np.array([GAP_TURN, GAP_ZOOM]) * rng.standard_normal(2)
    shifted = middle + GAP_SHIFT * size * rng.standard_normal(2)
    moved = translation(*shifted) @ rotation(angle) @ scaling(np.exp(zoom)) @ translation(*-middle)
    gain = np.exp(GAP_LIGHT * rng.standard_normal() + GAP_COLOUR * rng.standard_normal(3))
    level = GAP_LEVEL * rng.standard_normal()
    light = np.rint(np.arange(256)[:, np.newaxis] * gain + level).clip(0, 255).astype(np.uint8)
    other = _warped(clip.at(slice(gap, None)), np.tile(moved, (len(clip.frames) - gap, 1, 1)), rng)
    lit = np.asarray([cv2.LUT(frame, light[np.newaxis]) for frame in other.frames], np.uint8)
    frames, xy = np.concatenate((clip.frames[:gap], lit)), np.concatenate((clip.xy[:, :gap], other.xy), axis=1)
    return Clip(frames, xy, clip.visible)


def crop(clip: Clip, size: int, rng: np.random.Generator) -> Clip:
    """Cut a rectangle of at most twice `size` and stretch it to `size` x `size`, which changes its proportions too."""
    height, width = clip.frames.shape[1:3]
    largest = min(height, width, 2 * size)
    smallest = min(0.7 * size, 0.8 * largest)
    across, down = (round(_log_uniform(rng, smallest, largest)),) * 2
    if rng.random() < 0.5:
        across = min(round(across * _log_uniform(rng, 0.75, 1.33)), width)
    left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
    frames = clip.frames[:, top : top + down, left : left + across]
    scale = np.array([size / across, size / down])
    xy = (clip.xy - [left, top] + 0.5) * scale - 0.5
    if (down, across) != (size, size):
        method = cv2.INTER_AREA if down > size and across > size else cv2.INTER_LINEAR
        frames = np.stack([cv2.resize(frame, (size, size), interpolation=method) for frame in frames])
    visible = clip.visible & ((xy >= -0.5) & (xy < size - 0.5)).all(axis=-1)
    return Clip(np.asarray(frames, np.uint8), xy.astype(np.float32), visible)


def choose_points(clip: Clip, count: int, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """Return `count` points visible in the first frame, None if there are too few.

    Those that move, get hidden, or come back after long are preferred.
    """
    candidates = np.flatnonzero(clip.visible[:, 0])
    if len(candidates) < FEWEST_POINTS:
        return None
    way = clip.xy[candidates, -1] - clip.xy[candidates, 0]
    moves = np.abs(way - np.nanmedian(way, axis=0)).max(axis=-1) > MOVING
    visible = clip.visible[candidates]
    weight = 1.0 + 2.0 * moves + 1.0 * ~visible.all(axis=1) + 2.0 * (longest_occlusion(visible) > LONG_OCCLUSION)
    weight = weight * np.where(contrast(clip.frames[0], clip.xy[candidates, 0]) < FLAT, FLAT_SHARE, 1.0)
    chosen = rng.choice(candidates, count, replace=len(candidates) < count, p=weight / weight.sum())
    return np.asarray(chosen, np.int64)


def longest_occlusion(visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for how many frames each of N points, `visible` [N,T], was hidden at most before it was visible again."""
    frames = np.arange(visible.shape[1])
    last_visible = np.maximum.accumulate(np.where(visible, frames, -1), axis=1)
    hidden = np.where(visible[:, 1:] & (last_visible[:, :-1] >= 0), frames[:-1] - last_visible[:, :-1], 0)
    return np.asarray(hidden.max(axis=1, initial=0), np.int64)


def contrast(frame: NDArray[np.uint8], xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard deviation of grey levels round points [N,2] that lie in the frame."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = (SURROUNDINGS, SURROUNDINGS)
    variance = cv2.blur(grey * grey, side) - cv2.blur(grey, side) ** 2
    x, y = np.rint(xy).astype(np.int64).T
    return np.asarray(np.sqrt(np.maximum(variance[y, x], 0.0)), np.float32)


def median_step(clip: Clip, gap: int = 0) -> float:
    """Return the median way from frame to frame, in pixels, of points visible in both; not the way to frame `gap`."""
    both = clip.visible[:, 1:] & clip.visible[:, :-1]
    if gap:
        both[:, gap - 1] = False
    steps = np.linalg.norm(np.diff(clip.xy, axis=1), axis=-1)[both]
    return float(np.median(steps)) if len(steps) else np.inf


def mirror(clip: Clip, rng: np.random.Generator) -> Clip:
    """Flip a square clip, exchange its axes and its colours."""
    frames, xy = clip.frames, clip.xy
    last = frames.shape[1] - 1
    if rng.random() < 0.5:
        frames, xy = frames[:, :, ::-1], xy * [-1.0, 1.0] + [last, 0.0]
    if rng.random() < 0.3:
        frames, xy = frames[:, ::-1], xy * [1.0, -1.0] + [0.0, last]
    if rng.random() < 0.3:
        frames, xy = frames.transpose(0, 2, 1, 3), xy[..., ::-1]
    if rng.random() < 0.3:
        frames = frames[..., rng.permutation(3)]
    return Clip(np.ascontiguousarray(frames), xy.astype(np.float32), clip.visible)


def _warped(clip: Clip, moved: NDArray[np.float64], rng: np.random.Generator) -> Clip:
    """Move every frame by its matrix, `moved` [T,3,3], and the points with it."""
    size = (clip.frames.shape[2], clip.frames.shape[1])
    colour = rng.integers(0, 256, 3).tolist()
    images = [
        cv2.warpAffine(frame, matrix[:2], size, borderValue=colour)
        for frame, matrix in zip(clip.frames, moved, strict=True)
    ]
    return Clip(np.asarray(images, np.uint8), apply(moved, clip.xy.astype(np.float64)).astype(np.float32), clip.visible)


def _log_uniform(rng: np.random.Generator, lowest: float, highest: float) -> float:
    return float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))
