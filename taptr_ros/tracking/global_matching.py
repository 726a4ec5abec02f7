"""Global matching: find a point anywhere in a frame by its context (paper Eq. 9).

The paper's module has learned weights that were never released. This one has no parameters: it compares the context
features that the backend gives anyway. It computes with numpy, so that it runs with every backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from taptr_ros.model.tuning import Tuning

FINER = 3
"""Places tried then, along rows and along columns, for each candidate place."""


BLOCK = (16, 64, 240)
"""Rows, columns and depth of a block of a matrix product: OpenBLAS computes 2^18 products in the calling thread."""

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


def candidate_places(side: int) -> Floats:
    """Return the unit coordinates [side * side, 2] of a regular grid over the image, row by row."""
    y, x = np.meshgrid((np.arange(side) + 0.5) / side, (np.arange(side) + 0.5) / side, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def match_globally(query_context: Floats, context_at: ContextAt, side: int, least: float, tuning: Tuning) -> Matches:
    """Match query contexts [N,3,3,D] against those of a frame.

    The similarity of two patches is the cosine over all nine cells, after subtracting the frame's mean feature: what
    the whole frame has in common says nothing about a place. First, `candidate_places(side)` are tried; then, round the
    best peaks of each point, `FINER` times as many along rows and columns. The decoder finds the rest of the way.

    Args:
        query_context: what to look for.
        context_at: the frame.
        side: candidate places per image side.
        least: similarity below which the caller takes no match, so that those far below need not be exact.
        tuning: the model's.
    """
    count = len(query_context)
    places = candidate_places(side)
    candidates = _flat(context_at(places))
    cells = query_context.shape[1] * query_context.shape[2]
    common = np.tile(candidates.mean(axis=0).reshape(cells, -1).mean(axis=0), cells)
    queries = _unit_vectors(_flat(query_context) - common, tuning.match_contrast)
    heat = _similarity(queries, candidates, common, tuning.match_contrast)
    peaks = np.where(_is_peak(heat, side), heat, -1.0)
    tried = np.argsort(-peaks, axis=1)[:, : tuning.match_peaks]
    score = np.take_along_axis(peaks, tried, axis=1)
    xy = places[tried]

    point, peak = np.nonzero(score > np.maximum(score[:, :1], least) - tuning.match_promising)
    # Every point's best peak comes before any point's next one.
    first = np.lexsort((-score[point, peak], peak))[: tuning.match_close_looks]
    point, peak = point[first], peak[first]
    if len(point):
        # The centres of FINER x FINER parts of a candidate place's cell.
        finer = xy[point, peak, np.newaxis] + (candidate_places(FINER) - np.float32(0.5)) / side
        contexts = _flat(context_at(finer.reshape(-1, 2))).reshape(len(point), FINER**2, -1)
        closely = _similarity(queries[point, np.newaxis], contexts, common, tuning.match_contrast)[:, 0]
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
    return Matches(xy[row, best], score[row, best], score[row, best] - next_best)


def _flat(contexts: Floats) -> Floats:
    return contexts.reshape(len(contexts), -1)


def _is_peak(heat: Floats, side: int) -> NDArray[np.bool_]:
    """Return which places of heat maps [N,side * side] are not surpassed by any of the eight round them."""
    maps = np.pad(heat.reshape(len(heat), side, side), ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    lines = np.maximum(np.maximum(maps[:, :, :-2], maps[:, :, 1:-1]), maps[:, :, 2:])
    highest = np.maximum(np.maximum(lines[:, :-2], lines[:, 1:-1]), lines[:, 2:])
    return np.asarray(highest.reshape(len(heat), -1) == heat)


def _similarity(queries: Floats, candidates: Floats, common: Floats, contrast: float) -> Floats:
    """Return the similarities [...,N,K] of unit vectors [...,N,C] with contexts [...,K,C], less what is common [C]."""
    # The candidates are many: their distances from the mean, without taking it off each.
    squared_length = np.einsum("...kc,...kc->...k", candidates, candidates) + common @ common
    squared_length -= 2.0 * np.einsum("...kc,c->...k", candidates, common)
    products = _products(queries, candidates) - np.einsum("...nc,c->...n", queries, common)[..., np.newaxis]
    squared_length = squared_length[..., np.newaxis, :]
    length = np.sqrt(np.maximum(squared_length, contrast**2))
    return np.asarray(np.where(squared_length > contrast**2, products / length, 0.0), np.float32)


def _products(queries: Floats, candidates: Floats) -> Floats:
    """Return the dot products [...,N,K] of vectors [...,N,C] with vectors [...,K,C].

    Two large matrices are multiplied in blocks: a product as a whole would wake other threads of numpy's linear
    algebra, which go on spinning for a tenth of a second and take a core from everything else. Blocks are as fast as
    one thread is.
    """
    if queries.ndim > 2:
        return np.asarray(queries @ candidates.swapaxes(-1, -2))
    (rows, columns), (row_block, column_block, depth_block) = (len(queries), len(candidates)), BLOCK
    row_blocks, column_blocks = -(-rows // row_block), -(-columns // column_block)
    left = _padded(queries, row_blocks * row_block).reshape(row_blocks, 1, row_block, -1)
    right = _padded(candidates, column_blocks * column_block).reshape(1, column_blocks, column_block, -1)
    products = np.zeros((row_blocks, column_blocks, row_block, column_block), np.float32)
    for start in range(0, queries.shape[1], depth_block):
        part = slice(start, start + depth_block)
        products += left[..., part] @ right[..., part].swapaxes(-1, -2)
    whole = products.transpose(0, 2, 1, 3).reshape(row_blocks * row_block, -1)
    return np.asarray(whole[:rows, :columns])


def _padded(vectors: Floats, count: int) -> Floats:
    """Return vectors [n,C] with zeros after them, [count,C]."""
    return vectors if len(vectors) == count else np.pad(vectors, ((0, count - len(vectors)), (0, 0)))


def _unit_vectors(vectors: Floats, contrast: float) -> Floats:
    """Scale vectors [N,C] to length 1; one that is hardly there becomes 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > contrast, vectors / np.maximum(lengths, contrast), 0.0), np.float32)
