"""Global matching: find a point anywhere in a frame by its context (paper Eq. 9).

The paper's module has learned weights that were never released. This one has no parameters: it compares the context
features that the backend gives anyway. It computes with numpy, so that it runs with every backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

SHORTEST = 1e-2
"""Difference from a frame's mean feature below which a patch counts as featureless and is similar to nothing."""

PEAKS = 3
"""Peaks of similarity per point that are looked at more closely."""

PROMISING = 0.2
"""How much less similar than would do, and than the best one, a peak may be to be looked at more closely."""

CLOSE_LOOKS = 64
"""Peaks of all points together that are looked at more closely: as much work as the candidate places are."""

FINER = 3
"""Places tried then, along rows and along columns, for each candidate place."""


_LINEAR_ALGEBRA = ThreadpoolController()
"""The libraries behind numpy's matrix products."""


Floats = NDArray[np.float32]

ContextAt = Callable[[Floats], Floats]
"""Returns the contexts [n,3,3,D] at unit coordinates [n,2] of a frame."""


@dataclasses.dataclass(frozen=True)
class Matches:
    """Where N query points were found."""

    xy: Floats
    """[N,2] unit coordinates of the best place."""
    score: Floats
    """[N] cosine similarity of the contexts there, -1..1."""
    margin: Floats
    """[N] score minus that of the next best peak elsewhere; the score plus 1 if there is no other peak."""
    present: Floats
    """[N] cosine similarity of the contexts where the points are seen; -1 for those that are not seen."""


def candidate_places(side: int) -> Floats:
    """Return the unit coordinates [side * side, 2] of a regular grid over the image, row by row."""
    y, x = np.meshgrid((np.arange(side) + 0.5) / side, (np.arange(side) + 0.5) / side, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def match_globally(query_context: Floats, context_at: ContextAt, side: int, present: Floats, least: float) -> Matches:
    """Match query contexts [N,3,3,D] against those of a frame.

    The similarity of two patches is the cosine over all nine cells, after subtracting the frame's mean feature: what
    the whole frame has in common says nothing about a place. First, `candidate_places(side)` are tried; then, round the
    best peaks of each point, `FINER` times as many along rows and columns. The decoder finds the rest of the way.

    Args:
        query_context: what to look for.
        context_at: the frame.
        side: candidate places per image side.
        present: [N,2] unit coordinates where the points are seen, which are only compared; NaN for those not seen.
        least: similarity below which the caller takes no match, so that those far below need not be exact.
    """
    count = len(query_context)
    places = candidate_places(side)
    candidates = _flat(context_at(places))
    cells = query_context.shape[1] * query_context.shape[2]
    common = np.tile(candidates.mean(axis=0).reshape(cells, -1).mean(axis=0), cells)
    queries = _unit_vectors(_flat(query_context) - common)
    heat = _similarity(queries, candidates, common)
    peaks = np.where(_is_peak(heat, side), heat, -1.0)
    tried = np.argsort(-peaks, axis=1)[:, :PEAKS]
    score = np.take_along_axis(peaks, tried, axis=1)
    xy = places[tried]

    point, peak = np.nonzero(score > np.maximum(score[:, :1], least) - PROMISING)
    # Every point's best peak comes before any point's next one.
    first = np.lexsort((-score[point, peak], peak))[:CLOSE_LOOKS]
    point, peak = point[first], peak[first]
    if len(point):
        # The centres of FINER x FINER parts of a candidate place's cell.
        finer = xy[point, peak, np.newaxis] + (candidate_places(FINER) - np.float32(0.5)) / side
        contexts = _flat(context_at(finer.reshape(-1, 2))).reshape(len(point), FINER**2, -1)
        closely = _similarity(queries[point, np.newaxis], contexts, common)[:, 0]
        score[point, peak] = closely.max(axis=1)
        xy[point, peak] = finer[np.arange(len(point)), closely.argmax(axis=1)]

    row = np.arange(count)
    best = score.argmax(axis=1)
    down, across = np.divmod(np.arange(side * side), side)
    at = tried[row, best, np.newaxis]
    elsewhere = (abs(down - at // side) > 1) | (abs(across - at % side) > 1)
    apart = np.take_along_axis(elsewhere, tried, axis=1)
    next_best = np.maximum(
        np.where(apart, score, -1.0).max(axis=1),
        np.where(elsewhere, peaks, -1.0).max(axis=1),
    )
    here = np.full(count, -1.0, np.float32)
    seen = np.flatnonzero(~np.isnan(present[:, 0]))
    if len(seen):
        contexts = _flat(context_at(present[seen]))[:, np.newaxis]
        here[seen] = _similarity(queries[seen, np.newaxis], contexts, common)[:, 0, 0]
    return Matches(xy[row, best], score[row, best], score[row, best] - next_best, here)


def _flat(contexts: Floats) -> Floats:
    return contexts.reshape(len(contexts), -1)


def _is_peak(heat: Floats, side: int) -> NDArray[np.bool_]:
    """Return which places of heat maps [N,side * side] are not surpassed by any of the eight round them."""
    maps = np.pad(heat.reshape(len(heat), side, side), ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    lines = np.maximum(np.maximum(maps[:, :, :-2], maps[:, :, 1:-1]), maps[:, :, 2:])
    highest = np.maximum(np.maximum(lines[:, :-2], lines[:, 1:-1]), lines[:, 2:])
    return np.asarray(highest.reshape(len(heat), -1) == heat)


def _similarity(queries: Floats, candidates: Floats, common: Floats) -> Floats:
    """Return the similarities [...,N,K] of unit vectors [...,N,C] with contexts [...,K,C], less what is common [C]."""
    # The candidates are many: their distances from the mean, without taking it off each.
    squared_length = np.einsum("...kc,...kc->...k", candidates, candidates) + common @ common
    # More threads of linear algebra would go on spinning after a product, which takes a core from everything else for a
    # tenth of a second.
    with _LINEAR_ALGEBRA.limit(limits=1, user_api="blas"):
        squared_length -= 2.0 * (candidates @ common)
        products = queries @ candidates.swapaxes(-1, -2) - (queries @ common)[..., np.newaxis]
    squared_length = squared_length[..., np.newaxis, :]
    length = np.sqrt(np.maximum(squared_length, SHORTEST**2))
    return np.asarray(np.where(squared_length > SHORTEST**2, products / length, 0.0), np.float32)


def _unit_vectors(vectors: Floats) -> Floats:
    """Scale vectors [N,C] to length 1; one that is hardly there becomes 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > SHORTEST, vectors / np.maximum(lengths, SHORTEST), 0.0), np.float32)
