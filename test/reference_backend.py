"""A small exact tracker in plain numpy behind the backend protocol, for the tests of `PointTracker`.

It follows textures by comparing features round the predicted position with a template, and the template is read from
the track's memory by rotary attention weighted with visibility, as in VLTA. So a wrong row, slot, key, value, weight,
frame number or state shows in the positions.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.model.rotary import rotary_phase
from taptr_ros.model.tuning import TAPTR_SMALL_TUNING
from taptr_ros.runtime.backend import BackendInfo, Decoded, Features, NumpyArrays, QueryArrays, TrackArrays

CELLS = 24
"""Feature cells per image side."""
DEPTH = 16
"""Channels of content features."""
REACH = 2.0
"""Cells that the search reaches from the predicted position."""


class ReferenceBackend:
    """`Backend` in plain numpy; `calls` counts the runs of the decoder."""

    def __init__(
        self,
        self_attention: bool = False,
        starting_queries_join_decoder: bool = False,
        context_renewal: float = 0.0,
        **tuning: float,
    ) -> None:
        self._projection = np.random.default_rng(5).normal(size=(27, DEPTH)) / np.sqrt(27)
        self.calls = 0
        self.info = BackendInfo(
            model="reference",
            backend="numpy",
            device="cpu",
            precision="float32",
            height=CELLS,
            width=CELLS,
            content_dim=DEPTH,
            context_dim=DEPTH,
            state_dim=4,
            visible_threshold=0.5,
            context_renewal=context_renewal,
            tuning=dataclasses.replace(TAPTR_SMALL_TUNING, **tuning),
            corner_aligned_coordinates=False,
            self_attention=self_attention,
            starting_queries_join_decoder=starting_queries_join_decoder,
        )

    def allocate(self, capacity: int, slots: int) -> TrackArrays:
        return TrackArrays(NumpyArrays(), self.info, capacity, slots)

    def encode(self, image: NDArray[np.uint8]) -> Features:
        small = cv2.resize(image, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.float64) / 255.0 - 0.5
        padded = np.pad(small, ((1, 1), (1, 1), (0, 0)), mode="edge")
        patches = [padded[y : y + CELLS, x : x + CELLS] for y in range(3) for x in range(3)]
        return np.tanh(4.0 * np.concatenate(patches, axis=2) @ self._projection)

    def init_queries(self, features: Features, xy: NDArray[np.float32]) -> QueryArrays:
        offsets = np.arange(-1, 2) / CELLS
        dx, dy = np.meshgrid(offsets, offsets, indexing="ij")
        context = _sample(features, xy[:, None, None, :] + np.stack([dx, dy], axis=-1)).astype(np.float32)
        state = np.concatenate([xy, np.zeros_like(xy)], axis=1).astype(np.float32)
        return QueryArrays(content=context[:, 1, 1], context=context, state=state)

    def decode(
        self,
        features: Features,
        previous_features: Features | None,
        tracks: TrackArrays,
        rows: int,
        slots: int,
        updated: NDArray[np.bool_],
        frame: int,
    ) -> Decoded:
        self.calls += 1
        assert updated.shape == (rows,)
        assert previous_features is not None or not updated.any()
        content = tracks.content[:rows].astype(np.float64)
        if self.info.self_attention:
            content = 0.9 * content + 0.1 * content.mean(axis=0)
        renewed = tracks.context[:rows, 1, 1] - tracks.content[:rows]
        template = _unit(content + renewed + self._read_memory(tracks, rows, slots, content, frame))
        state = tracks.state[:rows].astype(np.float64)
        predicted = state[:, :2] + state[:, 2:]
        step = np.linspace(-REACH, REACH, 9) / CELLS
        offsets = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
        similarity = np.einsum("nkd,nd->nk", _unit(_sample(features, predicted[:, None] + offsets)), template)
        attention = np.exp((similarity - similarity.max(axis=1, keepdims=True)) / 0.02)
        attention /= attention.sum(axis=1, keepdims=True)
        xy = np.clip(predicted + attention @ offsets, 0.001, 0.999)
        xy = np.where(updated[:, None], xy, state[:, :2])
        seen = _sample(features, xy)
        agreement = np.sum(_unit(seen) * template, axis=1)
        moved = np.where(updated[:, None], 0.5 * (xy - state[:, :2]), state[:, 2:])
        return Decoded(
            confidence=np.ones(rows, np.float32),
            xy=xy.astype(np.float32),
            visibility=(1.0 / (1.0 + np.exp(-20.0 * (agreement - 0.7)))).astype(np.float32),
            state=np.concatenate([xy, moved], axis=1).astype(np.float32),
            content=(0.7 * template + 0.3 * seen + 0.2 * np.roll(seen, 1, axis=1)).astype(np.float32),
        )

    def _read_memory(
        self, tracks: TrackArrays, rows: int, slots: int, content: NDArray[np.float64], frame: int
    ) -> NDArray[np.float64]:
        cos, sin = rotary_phase(frame, DEPTH)
        even, odd = content[:, 0::2], content[:, 1::2]
        query = np.concatenate([even * cos + odd * sin, odd * cos - even * sin], axis=1)
        weights = tracks.weights[:rows, :slots].astype(np.float64)
        scores = np.einsum("nd,nsd->ns", query, tracks.keys[:rows, :slots])
        attention = np.exp(np.where(weights > 0, scores, -np.inf) - scores.max(axis=1, initial=0.0, keepdims=True))
        attention = attention * weights
        attention /= attention.sum(axis=1, keepdims=True) + 1e-7
        return np.einsum("ns,nsd->nd", attention, tracks.values[:rows, :slots])


def _sample(features: NDArray[np.float64], xy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sample [CELLS,CELLS,D] bilinearly at unit coordinates [...,2], the border continued outwards."""
    position = np.clip(np.asarray(xy, np.float64) * CELLS - 0.5, 0.0, CELLS - 1.0)
    low = np.minimum(position.astype(int), CELLS - 2)
    x, y = np.moveaxis(low, -1, 0)
    fx, fy = np.moveaxis((position - low)[..., None], -2, 0)
    top = features[y, x] * (1 - fx) + features[y, x + 1] * fx
    bottom = features[y + 1, x] * (1 - fx) + features[y + 1, x + 1] * fx
    return top * (1 - fy) + bottom * fy


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
