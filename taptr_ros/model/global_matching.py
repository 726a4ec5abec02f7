"""Global matching: find a point anywhere in a frame by its context (paper Eq. 9).

The paper's module has learned weights that were never released. This one has no parameters: it compares the context
features that the backend gives anyway. It computes with numpy, so that it runs with every backend.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

TEMPERATURE = 0.05
"""Of the soft-argmax that refines a match between the candidate places; in units of cosine similarity."""

SHORTEST = 1e-2
"""Difference from a frame's mean feature below which a patch counts as featureless and is similar to nothing."""


_LINEAR_ALGEBRA = ThreadpoolController()
"""The libraries behind numpy's matrix products."""


@dataclasses.dataclass(frozen=True)
class Matches:
    """Where N query points were found."""

    xy: NDArray[np.float32]
    """[N,2] unit coordinates of the best place."""
    score: NDArray[np.float32]
    """[N] cosine similarity of the contexts there, -1..1."""
    margin: NDArray[np.float32]
    """[N] score minus that of the next best peak elsewhere; the score plus 1 if there is no other peak."""


def candidate_places(side: int) -> NDArray[np.float32]:
    """Return the unit coordinates [side * side, 2] of a regular grid over the image, row by row."""
    y, x = np.meshgrid((np.arange(side) + 0.5) / side, (np.arange(side) + 0.5) / side, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def match_globally(query_context: NDArray[np.float32], candidate_context: NDArray[np.float32], side: int) -> Matches:
    """Match query contexts [N,3,3,D] against those at `candidate_places(side)`, [side * side,3,3,D].

    The similarity of two patches is the cosine over all nine cells, after subtracting the frame's mean feature: what
    the whole frame has in common says nothing about a place. The best place is refined by a soft-argmax over the
    heat map's 3x3 cells round its peak.
    """
    # More threads of linear algebra would go on spinning after a product, which takes a core from everything else for a
    # tenth of a second.
    with _LINEAR_ALGEBRA.limit(limits=1, user_api="blas"):
        heat = _heat(query_context, candidate_context)
    count = len(heat)
    best = heat.argmax(axis=1)
    maps = np.pad(heat.reshape(count, side, side), ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2))
    score = heat[np.arange(count), best]
    xy = candidate_places(side)[best] + _refinement(windows[np.arange(count), best // side, best % side]) / side

    lines = np.maximum(np.maximum(maps[:, :, :-2], maps[:, :, 1:-1]), maps[:, :, 2:])
    highest = np.maximum(np.maximum(lines[:, :-2], lines[:, 1:-1]), lines[:, 2:])
    is_peak = highest.reshape(count, -1) == heat
    row, column = np.divmod(np.arange(side * side), side)
    elsewhere = (abs(row - best[:, None] // side) > 1) | (abs(column - best[:, None] % side) > 1)
    next_best = np.where(is_peak & elsewhere, heat, -1.0).max(axis=1)
    return Matches(xy.astype(np.float32), score, score - next_best)


def _heat(query_context: NDArray[np.float32], candidate_context: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the similarities [N,K] of contexts [N,3,3,D] with candidates [K,3,3,D]."""
    queries, candidates = (context.reshape(len(context), -1) for context in (query_context, candidate_context))
    cells = candidate_context[0, ..., 0].size
    common = np.tile(candidates.mean(axis=0).reshape(cells, -1).mean(axis=0), cells)
    queries = _unit_vectors(queries - common)
    # The candidates are many: their distances from the mean, without taking it off each.
    along = candidates @ common
    squared_length = np.einsum("nd,nd->n", candidates, candidates) - 2.0 * along + common @ common
    length = np.sqrt(np.maximum(squared_length, SHORTEST**2))
    products = queries @ candidates.T - (queries @ common)[:, np.newaxis]
    return np.asarray(np.where(squared_length > SHORTEST**2, products / length, 0.0), np.float32)


def _unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors [N,C] to length 1; one that is hardly there becomes 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > SHORTEST, vectors / np.maximum(lengths, SHORTEST), 0.0), np.float32)


def _refinement(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the soft-argmax [N,2] (x, y) of windows [N,3,3] in cells from their centre; -inf lies outside."""
    weights = np.exp((window - window[:, 1:2, 1:2]) / TEMPERATURE)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    offset = np.array([-1.0, 0.0, 1.0], np.float32)
    return np.stack([weights.sum(axis=1) @ offset, weights.sum(axis=2) @ offset], axis=1)
