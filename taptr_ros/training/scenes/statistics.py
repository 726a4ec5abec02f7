"""What clips are like in numbers, to compare with real video."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from taptr_ros.training.scenes.clip import Clip


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of all tracks of some clips."""

    visible: float
    """Share of the frames in which a point is visible."""
    hidden: float
    """Share of the frames in which a point is inside the image but hidden."""
    found_again: float
    """Share of the points that become visible again after a frame in which they were not."""
    motion_median: float
    """Median motion of visible points in pixels per frame."""
    motion_high: float
    """95 % of the motions of visible points are smaller."""


def clip_statistics(clips: Sequence[Clip]) -> Statistics:
    """Return the statistics of clips of one size."""
    visible = np.concatenate([clip.visible for clip in clips])
    xy = np.concatenate([clip.xy for clip in clips])
    height, width = clips[0].frames.shape[1:3]
    inside = ((xy >= -0.5) & (xy < np.array([width, height]) - 0.5)).all(axis=-1)
    seen_twice = visible[:, 1:] & visible[:, :-1]
    motion = np.linalg.norm(np.diff(xy, axis=1), axis=-1)[seen_twice]
    return Statistics(
        visible=float(visible.mean()),
        hidden=float((inside & ~visible).mean()),
        found_again=float((visible[:, 1:] & ~visible[:, :-1] & (np.cumsum(visible, axis=1)[:, :-1] > 0)).any(1).mean()),
        motion_median=float(np.median(motion)) if len(motion) else 0.0,
        motion_high=float(np.quantile(motion, 0.95)) if len(motion) else 0.0,
    )
