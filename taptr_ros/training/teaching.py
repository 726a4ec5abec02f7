"""Self-training: a teacher tracks points through real recordings, and what it can vouch for is learnt from.

Published gains of self-training come from what is left out, not from how much is kept (AnthroTAP: +0.5 AJ without a
filter, +1.8 with one). Here a point is followed forwards, and from where it was last seen backwards again. Where both
ways meet, and the teacher is sure, the point counts as visible there; where it is sure both times that the point is not
seen, as hidden; everywhere else nothing is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.runtime.backend import Backend
from taptr_ros.tracking import PointTracker, TrackerConfig
from taptr_ros.training.scenes import Clip

WINDOW = 40
"""Frames that are tracked at once: longer recordings are cut into pieces of this many."""

SHORTEST = 16
"""Fewest frames of a piece."""

POINTS = 160
"""Points that are followed through a piece."""

LARGEST_SIDE = 384
"""Recordings are reduced until their longer side has this many pixels."""

SURE = 0.7
"""Probability of being seen from which on a point counts as visible."""

HIDDEN = 0.15
"""Probability of being seen up to which it counts as hidden."""

MEETING = 0.008
"""Distance, as a share of the image's longer side, within which both ways meet."""

FEWEST = 16
"""Pieces with fewer points that came back to where they began are left out."""


@dataclasses.dataclass(frozen=True)
class _Way:
    """What the teacher made of N points in T frames."""

    xy: NDArray[np.float32]
    """[N,T,2] pixels."""
    seen: NDArray[np.float32]
    """[N,T] probability of being seen; NaN in frames before the point's first."""


def pieces(images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Cut a recording into pieces, uint8 [T,H,W,3], reduced to `LARGEST_SIDE`."""
    piece: list[NDArray[np.uint8]] = []
    for image in images:
        shrink = LARGEST_SIDE / max(image.shape[:2])
        small = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else image
        piece.append(np.asarray(small, np.uint8))
        if len(piece) == WINDOW:
            yield np.stack(piece)
            piece = []
    if len(piece) >= SHORTEST:
        yield np.stack(piece)


def taught(teacher: Backend, frames: NDArray[np.uint8], seed: int) -> Clip | None:
    """Return frames [T,H,W,3] with the tracks that the teacher vouches for; None if they are too few."""
    points = textured_points(frames[0], np.random.default_rng(seed))
    if len(points) < FEWEST:
        return None
    forwards = _follow(teacher, frames, points, np.zeros(len(points), np.int64))
    sure = forwards.seen > SURE
    last = frames.shape[0] - 1 - np.argmax(sure[:, ::-1], axis=1)
    ends = forwards.xy[np.arange(len(points)), last]
    inside = ((ends >= 0.0) & (ends <= [frames.shape[2] - 1, frames.shape[1] - 1])).all(axis=-1)
    kept = np.flatnonzero(inside & (last > 0))
    if len(kept) < FEWEST:
        return None
    turned = _follow(teacher, frames[::-1], ends[kept], frames.shape[0] - 1 - last[kept])
    backwards = _Way(turned.xy[:, ::-1], turned.seen[:, ::-1])
    clip = _agreed(frames, forwards.xy[kept], forwards.seen[kept], backwards)
    return clip if len(clip.xy) >= FEWEST else None


def textured_points(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return up to `POINTS` points [N,2]: three quarters corners, the others anywhere."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    corners = cv2.goodFeaturesToTrack(grey, 3 * POINTS // 4, 0.005, max(height, width) / 64.0)
    anywhere = rng.uniform(0.02, 0.98, (POINTS // 4, 2)) * [width - 1, height - 1]
    found = np.empty((0, 2)) if corners is None else corners.reshape(-1, 2)
    return np.concatenate((found, anywhere)).astype(np.float32)


def _follow(
    teacher: Backend, frames: NDArray[np.uint8], points: NDArray[np.float32], starts: NDArray[np.int64]
) -> _Way:
    """Follow points [N,2] from the frames `starts` [N] on."""
    tracker = PointTracker(teacher, TrackerConfig(scene_cut_threshold=0.0, capacity=len(points)))
    xy = np.full((len(points), len(frames), 2), np.nan, np.float32)
    seen = np.full((len(points), len(frames)), np.nan, np.float32)
    for number, frame in enumerate(frames):
        new = np.flatnonzero(starts == number)
        if len(new):
            tracker.add(points[new], new + 1)
        tracks = tracker.step(frame, number)
        rows = tracks.ids.astype(np.int64) - 1
        xy[rows, number], seen[rows, number] = tracks.xy, tracks.visibility * tracks.confidence
    return _Way(xy, seen)


def _agreed(frames: NDArray[np.uint8], xy: NDArray[np.float32], seen: NDArray[np.float32], backwards: _Way) -> Clip:
    """Return what both ways agree on, without the points that did not come back to where they began."""
    with np.errstate(invalid="ignore"):
        apart = np.linalg.norm(xy - backwards.xy, axis=-1)
        meet = apart < MEETING * max(frames.shape[1:3])
        visible = meet & (seen > SURE) & (backwards.seen > SURE)
        hidden = (seen < HIDDEN) & (backwards.seen < HIDDEN)
    back = np.flatnonzero(meet[:, 0] & visible[:, 1:].any(axis=1))
    visible[:, 0] = meet[:, 0]
    # Forwards a point begins on the very place that is meant; what was found from far away counts as much as it.
    middle = 0.5 * (xy + backwards.xy)
    middle[:, 0] = xy[:, 0]
    middle = np.where(visible[..., np.newaxis], middle, np.nan)
    return Clip(frames, middle[back].astype(np.float32), visible[back], (visible | hidden)[back])
