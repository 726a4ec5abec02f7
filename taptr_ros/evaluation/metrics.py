"""The metrics of TAP-Vid (Doersch et al. 2022, section 4): average Jaccard, position and occlusion accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidPointsError

QueryMode = Literal["first", "strided"]
"""Which frames count: "first", those after the query frame; "strided", all but the query frame."""

METRIC_RASTER = 256
"""Width and height of the raster that positions are scaled to before distances are taken."""

THRESHOLDS = (1, 2, 4, 8, 16)
"""Distances, in pixels of the metric raster, below which a position counts as right."""


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics of one sequence in percent. None where nothing was evaluated that the metric could be taken from."""

    average_jaccard: float | None
    """AJ: mean of `jaccard` over the thresholds."""
    average_within: float | None
    """delta_avg: mean of `within` over the thresholds."""
    occlusion_accuracy: float | None
    """OA: share of evaluated entries whose visibility is predicted right."""
    jaccard: Mapping[int, float] | None
    """By threshold: true positives / (visible entries + false positives)."""
    within: Mapping[int, float] | None
    """By threshold: share of visible entries whose position is within it, whatever visibility is predicted."""


@dataclasses.dataclass(frozen=True)
class MeanMetrics:
    """Mean over the sequences in which all three metrics are defined; None if there is no such sequence."""

    average_jaccard: float | None
    """AJ in percent."""
    average_within: float | None
    """delta_avg in percent."""
    occlusion_accuracy: float | None
    """OA in percent."""
    sequences: int
    """Number of sequences in the mean."""


def evaluated_frames(query_frames: NDArray[np.int64], frames: int, mode: QueryMode) -> NDArray[np.bool_]:
    """Return which of `frames` frames count for each query, bool [Q,T], given the query frames [Q]."""
    frame = np.arange(frames)
    query_frame = query_frames[:, np.newaxis]
    return frame > query_frame if mode == "first" else frame != query_frame


def tapvid_metrics(
    *,
    points: NDArray[np.floating],
    occluded: NDArray[np.bool_],
    evaluated: NDArray[np.bool_],
    predicted_points: NDArray[np.floating],
    predicted_visible: NDArray[np.bool_],
    size: tuple[int, int],
) -> Metrics:
    """Compare the tracks of one sequence with the ground truth.

    For threshold x, with every sum over the evaluated entries of all Q queries and T frames:

        within      = |predicted - true| < x                          (strictly)
        pts_within  = sum(visible & within) / sum(visible)
        jaccard     = sum(visible & within & predicted visible) / (sum(visible) + false positives)
        false positives = sum(predicted visible & (occluded | not within))

    So a visible point that is predicted visible in a wrong place counts twice in the denominator, as TAP-Vid has it.
    A position that is not finite is never within a threshold.

    Args:
        points: [Q,T,2] true positions (x, y) in the raster convention of an image of `size`.
        occluded: [Q,T] ground truth.
        evaluated: [Q,T] entries that count: see `evaluated_frames`, less those whose ground truth is unknown.
        predicted_points: [Q,T,2] predicted positions, likewise.
        predicted_visible: [Q,T] predicted visibility.
        size: (height, width) of the image the positions are in; they are scaled to 256x256.

    Raises:
        InvalidPointsError: the arrays' shapes disagree.
    """
    shapes = {array.shape for array in (occluded, evaluated, predicted_visible)}
    if len(shapes) > 1 or points.shape != predicted_points.shape or points.shape != (*occluded.shape, 2):
        raise InvalidPointsError(
            f"Points {points.shape} and {predicted_points.shape} and masks {sorted(shapes)} cannot be compared; "
            "pass [Q,T,2] points and [Q,T] masks."
        )
    height, width = size
    scale = np.array([METRIC_RASTER / width, METRIC_RASTER / height])
    offsets = (predicted_points.astype(np.float64) - points.astype(np.float64))[evaluated] * scale
    squared_distance = np.square(offsets).sum(axis=-1)
    visible, predicted = ~occluded[evaluated], predicted_visible[evaluated]

    visible_entries = int(visible.sum())
    within: dict[int, float] = {}
    jaccard: dict[int, float] = {}
    for threshold in THRESHOLDS:
        near = squared_distance < threshold**2
        true_positives = int((visible & near & predicted).sum())
        false_positives = int((predicted & ~(visible & near)).sum())
        if visible_entries:
            within[threshold] = 100.0 * int((visible & near).sum()) / visible_entries
        if visible_entries + false_positives:
            jaccard[threshold] = 100.0 * true_positives / (visible_entries + false_positives)
    return Metrics(
        average_jaccard=_mean(jaccard.values()),
        average_within=_mean(within.values()),
        occlusion_accuracy=_mean(100.0 * (visible == predicted)),
        jaccard=jaccard or None,
        within=within or None,
    )


def mean_metrics(metrics: Iterable[Metrics]) -> MeanMetrics:
    """Return the mean over sequences, each weighing the same, leaving out those with an undefined metric."""
    rows = [(m.average_jaccard, m.average_within, m.occlusion_accuracy) for m in metrics]
    complete = [row for row in rows if None not in row]
    jaccard, within, occlusion = (_mean(column) for column in zip(*complete, strict=True)) if complete else (None,) * 3
    return MeanMetrics(jaccard, within, occlusion, len(complete))


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of `values`, None if there are none."""
    array = np.array(list(values), np.float64)
    return float(array.mean()) if array.size else None
