"""What training sees of a clip: some of its frames, through a camera that is moved, in another light.

A view is decided on from the tracks alone and then filmed from the frames, all at once and only once: the movements of
the camera, the crop and the mirrors are one matrix per frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from taptr_ros.training.config import StageConfig
from taptr_ros.training.scenes import Clip
from taptr_ros.training.scenes.motion import apply, rotation, scaling, smooth_path, translation

LARGEST_STRIDE = 3
"""Clips are read at up to this many frames per frame of the batch, which makes motion faster."""

MOVING = 4.0
"""Pixels that a point has to move, compared with the median of its clip's points, to be chosen more often."""

LONG_OCCLUSION = 8
"""Frames that a point has to be hidden for, before it is visible again, to be chosen more often still."""

FASTEST = 20.0
"""Views whose points move by more than this many pixels between frames, in the median, are drawn again."""

TURNED_SHARE = 0.4
"""Share of the views whose camera also turns about its axis and zooms: wrist cameras do, and few scenes."""

TURN = 0.005, 0.06
"""Least and greatest speed at which it turns, in radians per frame, root mean square."""

ZOOM = 0.05, 0.8
"""Greatest speed, root mean square and per frame, and reach of the zoom's logarithm."""

GAP_SHARE = 0.3
"""Share of the views that leave out a part in the middle of their clip and then see it in another view and light, as
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
"""Views in which fewer points are visible in the first frame, or in any that is learnt from, are drawn again."""

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class View:
    """T frames of a clip as the camera of a view sees them, with N of its tracks."""

    frames: NDArray[np.int64]
    """[T] numbers of the clip's frames."""
    matrices: Floats
    """[T,3,3] affine, from pixels of the clip to pixels of the view."""
    light: NDArray[np.float32]
    """[T,2,3] what each colour is multiplied by, and what is then added to it."""
    background: NDArray[np.float32]
    """[3] colour of what lies outside the clip."""
    channels: NDArray[np.int64]
    """[3] which of the clip's colours is taken for red, green and blue."""
    xy: NDArray[np.float32]
    """[N,T,2] positions in pixels of the view; NaN where unknown."""
    visible: NDArray[np.bool_]
    """[N,T] visible, and inside the view."""
    known: NDArray[np.bool_]
    """[N,T] whether it is known that the point is visible or hidden."""


@dataclasses.dataclass(frozen=True)
class ClipTracks:
    """The tracks of a clip of T frames of H x W pixels, without its frames."""

    xy: NDArray[np.float32]
    """[N,T,2]."""
    visible: NDArray[np.bool_]
    """[N,T]."""
    known: NDArray[np.bool_]
    """[N,T]."""
    size: tuple[int, int]
    """(H, W)."""

    @classmethod
    def of(cls, clip: Clip) -> ClipTracks:
        """Return the tracks of a clip."""
        return cls(clip.xy, clip.visible, clip.known, (clip.frames.shape[1], clip.frames.shape[2]))


ContrastIn = Callable[[int], NDArray[np.float32]]
"""Returns the contrast [N] round all points in a frame; see `contrast`."""


def draw_view(tracks: ClipTracks, contrast_in: ContrastIn, stage: StageConfig, rng: np.random.Generator) -> View | None:
    """Draw a view of the stage's frames, size and points; None if this one would be of no use."""
    total = tracks.visible.shape[1]
    gap = 0
    if rng.random() < GAP_SHARE and 2 * SEGMENT <= stage.frames < total:
        frames, gap = frames_with_gap(total, stage.frames, rng)
    else:
        frames = frames_in_row(total, stage.frames, rng)
    matrices = np.tile(np.eye(3), (stage.frames, 1, 1))
    if rng.random() < TURNED_SHARE:
        matrices = turning(stage.frames, tracks.size, rng)
    light = np.tile(np.array([[1.0] * 3, [0.0] * 3], np.float32), (stage.frames, 1, 1))
    if gap:
        matrices[gap:] = another_view(tracks.size, rng) @ matrices[gap:]
        light[gap:] = another_light(rng)
    crop, mirrors = cropping(tracks.size, stage.size, rng), mirroring(stage.size, rng)
    matrices = mirrors @ crop @ matrices
    channels = rng.permutation(3) if rng.random() < 0.3 else np.arange(3)

    xy = apply(matrices, tracks.xy[:, frames].astype(np.float64)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        inside = ((xy >= -0.5) & (xy < stage.size - 0.5)).all(axis=-1)
    visible, known = tracks.visible[:, frames] & inside, tracks.known[:, frames]
    points = choose_points(xy, visible, contrast_in(int(frames[0])), stage.points, rng)
    if points is None or median_step(xy, visible, gap) >= FASTEST:
        return None
    learnt_from = visible[points, 1 + stage.lead :].any(axis=1)
    if learnt_from.sum() < min(FEWEST_POINTS, stage.points):
        return None
    background = rng.integers(0, 256, 3).astype(np.float32)
    return View(frames, matrices, light, background, channels, xy[points], visible[points], known[points])


def film(frames: Tensor, views: Sequence[View], size: int) -> Tensor:
    """Return what views of size x size pixels show, uint8 [V,T,size,size,3], on the device of `frames`.

    `frames` [V,T,H,W,3] are those of the clips that the views name, in their order.
    """
    device, (height, width) = frames.device, frames.shape[2:4]
    inverse = np.linalg.inv(np.concatenate([view.matrices for view in views]))[:, :2]
    # From normalised coordinates of the view to those of the clip, both as `grid_sample` without aligned corners has
    # them: -1 and 1 are the image's edges.
    from_unit = np.array([[size / 2, 0.0, (size - 1) / 2], [0.0, size / 2, (size - 1) / 2], [0.0, 0.0, 1.0]])
    to_unit = np.array([[2.0 / width, 0.0], [0.0, 2.0 / height]])
    moved = to_unit @ inverse @ from_unit
    moved[:, :, 2] += [1.0 / width - 1.0, 1.0 / height - 1.0]
    theta = torch.from_numpy(moved.astype(np.float32)).to(device)
    length = frames.shape[1]
    background = torch.from_numpy(np.stack([view.background for view in views])).to(device)
    background = background.repeat_interleave(length, dim=0).unsqueeze(-1).unsqueeze(-1)
    images = frames.flatten(0, 1).permute(0, 3, 1, 2).float() - background
    grid = F.affine_grid(theta, [len(theta), 3, size, size], align_corners=False)
    seen = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + background
    light = torch.from_numpy(np.concatenate([view.light for view in views])).to(device).unsqueeze(-1).unsqueeze(-1)
    lit = (seen * light[:, 0] + light[:, 1]).round_().clamp_(0.0, 255.0).unflatten(0, (len(views), length))
    channels = torch.from_numpy(np.stack([view.channels for view in views])).to(device)
    exchanged: Tensor = lit.gather(2, channels.view(len(views), 1, 3, 1, 1).expand_as(lit))
    return exchanged.to(torch.uint8).permute(0, 1, 3, 4, 2)


def frames_in_row(total: int, frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return `frames` of `total` numbers, every one or every second or third, forwards or backwards."""
    longest = min(LARGEST_STRIDE, (total - 1) // max(frames - 1, 1)) or 1
    stride = 1 if rng.random() < 0.6 else int(rng.integers(1, longest + 1))
    span = (frames - 1) * stride + 1
    first = int(rng.integers(total - span + 1))
    chosen = np.arange(first, first + span, stride)
    return chosen[::-1] if rng.random() < 0.5 else chosen


def frames_with_gap(total: int, frames: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """Return `frames` of `total` numbers, every one but for a gap, forwards or backwards, and the place after the gap.

    The clip has more frames, and `frames` are 2 SEGMENT or more.
    """
    left_out = int(rng.integers(1, total - frames + 1))
    first = int(rng.integers(total - frames - left_out + 1))
    gap = int(rng.integers(SEGMENT, frames - SEGMENT + 1))
    chosen = first + np.arange(frames)
    chosen[gap:] += left_out
    if rng.random() < 0.5:
        return chosen[::-1], frames - gap
    return chosen, gap


def turning(frames: int, size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return the matrices [T,3,3] of a camera that turns about its axis and zooms, more and more or to and fro."""
    height, width = size
    angle = smooth_path(rng, frames, _log_uniform(rng, *TURN), reach=100.0)
    zoom = smooth_path(rng, frames, rng.uniform(0.0, ZOOM[0]), reach=ZOOM[1])
    pivot = rng.uniform(0.3, 0.7, 2) * [width - 1, height - 1]
    return translation(*pivot) @ rotation(angle) @ scaling(np.exp(zoom)) @ translation(*-pivot)


def another_view(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return the matrix [3,3] of what a gap does to the view: it is turned, moved and enlarged."""
    extent = np.array([size[1], size[0]], np.float64)
    middle = (extent - 1.0) / 2.0
    angle, zoom = np.array([GAP_TURN, GAP_ZOOM]) * rng.standard_normal(2)
    shifted = middle + GAP_SHIFT * extent * rng.standard_normal(2)
    return translation(*shifted) @ rotation(angle) @ scaling(np.exp(zoom)) @ translation(*-middle)


def another_light(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return what a gap does to the light, [2,3] as in `View.light`."""
    gain = np.exp(GAP_LIGHT * rng.standard_normal() + GAP_COLOUR * rng.standard_normal(3))
    return np.stack((gain, np.full(3, GAP_LEVEL * rng.standard_normal()))).astype(np.float32)


def cropping(clip_size: tuple[int, int], size: int, rng: np.random.Generator) -> Floats:
    """Return the matrix [3,3] that stretches a rectangle of at most 1.5 times `size` to `size` x `size`.

    That changes its proportions too.
    """
    height, width = clip_size
    largest = min(height, width, 3 * size // 2)
    smallest = min(0.7 * size, 0.8 * largest)
    across, down = (round(_log_uniform(rng, smallest, largest)),) * 2
    if rng.random() < 0.5:
        across = min(round(across * _log_uniform(rng, 0.75, 1.33)), width)
    left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
    corner, scale = np.array([left, top]) - 0.5, size / np.array([across, down])
    return np.array(
        [[scale[0], 0.0, -corner[0] * scale[0] - 0.5], [0.0, scale[1], -corner[1] * scale[1] - 0.5], [0, 0, 1.0]]
    )


def mirroring(size: int, rng: np.random.Generator) -> Floats:
    """Return the matrix [3,3] that flips a square image and exchanges its axes, or not."""
    last = size - 1.0
    matrix = np.eye(3)
    if rng.random() < 0.5:
        matrix = np.array([[-1.0, 0.0, last], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix
    if rng.random() < 0.3:
        matrix = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, last], [0.0, 0.0, 1.0]]) @ matrix
    if rng.random() < 0.3:
        matrix = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix
    return matrix


def choose_points(
    xy: NDArray[np.float32],
    visible: NDArray[np.bool_],
    contrast: NDArray[np.float32],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.int64] | None:
    """Return `count` of the points visible in the first frame, None if there are too few.

    Those that move, get hidden, or come back after long are preferred; `contrast` [N] is that in the first frame.
    """
    candidates = np.flatnonzero(visible[:, 0])
    if len(candidates) < FEWEST_POINTS:
        return None
    way = xy[candidates, -1] - xy[candidates, 0]
    with np.errstate(invalid="ignore"):
        moves = np.abs(way - _median(way)).max(axis=-1) > MOVING
    shown = visible[candidates]
    weight = 1.0 + 2.0 * moves + 1.0 * ~shown.all(axis=1) + 2.0 * (longest_occlusion(shown) > LONG_OCCLUSION)
    weight = weight * np.where(contrast[candidates] < FLAT, FLAT_SHARE, 1.0)
    chosen = rng.choice(candidates, count, replace=len(candidates) < count, p=weight / weight.sum())
    return np.asarray(chosen, np.int64)


def longest_occlusion(visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for how many frames each of N points, `visible` [N,T], was hidden at most before it was visible again."""
    frames = np.arange(visible.shape[1])
    last_visible = np.maximum.accumulate(np.where(visible, frames, -1), axis=1)
    hidden = np.where(visible[:, 1:] & (last_visible[:, :-1] >= 0), frames[:-1] - last_visible[:, :-1], 0)
    return np.asarray(hidden.max(axis=1, initial=0), np.int64)


def contrast(frame: NDArray[np.uint8], xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard deviation of grey levels round points [N,2]; 0 where there is no such pixel."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = (SURROUNDINGS, SURROUNDINGS)
    variance = cv2.blur(grey * grey, side) - cv2.blur(grey, side) ** 2
    known = np.isfinite(xy).all(axis=-1, keepdims=True)
    x, y = np.rint(np.where(known, xy, -1.0)).astype(np.int64).T
    there = (x >= 0) & (y >= 0) & (x < frame.shape[1]) & (y < frame.shape[0])
    found = np.asarray(variance, np.float32)[np.where(there, y, 0), np.where(there, x, 0)]
    return np.where(there, np.sqrt(np.maximum(found, 0.0)), 0.0).astype(np.float32)


def median_step(xy: NDArray[np.float32], visible: NDArray[np.bool_], gap: int = 0) -> float:
    """Return the median way from frame to frame, in pixels, of points visible in both; not the way to frame `gap`."""
    both = visible[:, 1:] & visible[:, :-1]
    if gap:
        both[:, gap - 1] = False
    steps = np.linalg.norm(np.diff(xy, axis=1), axis=-1)[both]
    return float(np.median(steps)) if len(steps) else np.inf


def _median(way: NDArray[np.float32]) -> NDArray[np.float32]:
    known = way[np.isfinite(way).all(axis=-1)]
    return np.median(known, axis=0) if len(known) else np.zeros(2, np.float32)


def _log_uniform(rng: np.random.Generator, lowest: float, highest: float) -> float:
    return float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))
