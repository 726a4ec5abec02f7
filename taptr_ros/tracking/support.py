"""Support points: hidden company for the tracked ones, because their self-attention was trained in company."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from taptr_ros.runtime.backend import BackendInfo
from taptr_ros.runtime.coordinates import UnitCoordinates
from taptr_ros.tracking.config import Support

BENCHMARK_SIDE = 256
"""Side of the image in whose pixels the layout is given (spec section 7)."""
GRID_SIDE, GRID_FIRST, GRID_LAST = 6, 16, 239
LOCAL_SIDE, LOCAL_REACH, LOCAL_LEFT_OUT = 8, 24, 32


@dataclasses.dataclass(frozen=True)
class SupportLayout:
    """Where support points start, in unit coordinates."""

    grid: NDArray[np.float32]
    """[K,2] places of the global grid."""
    local: NDArray[np.float32]
    """[L,2] offsets of the points round each track."""

    def row_count(self, capacity: int) -> int:
        """Return the rows needed for `capacity` tracks with their support points."""
        return capacity * (1 + len(self.local)) + len(self.grid)

    def around(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the starting places [N,L,2] of the support points round `xy` [N,2], kept inside the image."""
        return np.asarray(np.clip(xy[:, None] + self.local, 0.0, 1.0), np.float32)


def support_layout(support: Support, info: BackendInfo) -> SupportLayout:
    """Return the support points that the setting `support` means for a model (spec section 7).

    Models without self-attention between points take no notice of company: `auto` gives them none.
    """
    if support == "auto":
        support = "grid" if info.self_attention else "none"
    nothing = np.zeros((0, 2), np.float32)
    return SupportLayout(
        grid=nothing if support == "none" else _grid_places(info.corner_aligned_coordinates),
        local=_local_offsets(info.corner_aligned_coordinates) if support == "local_and_grid" else nothing,
    )


def _grid_places(corner_aligned: bool) -> NDArray[np.float32]:
    side = np.linspace(GRID_FIRST, GRID_LAST, GRID_SIDE)
    return _benchmark_coordinates(corner_aligned).from_pixels(_lattice(side))


def _local_offsets(corner_aligned: bool) -> NDArray[np.float32]:
    offsets = np.delete(_lattice(np.linspace(-LOCAL_REACH, LOCAL_REACH, LOCAL_SIDE)), LOCAL_LEFT_OUT, axis=0)
    coordinates = _benchmark_coordinates(corner_aligned)
    return coordinates.from_pixels(offsets) - coordinates.from_pixels(np.zeros(2))


def _benchmark_coordinates(corner_aligned: bool) -> UnitCoordinates:
    return UnitCoordinates(BENCHMARK_SIDE, BENCHMARK_SIDE, corner_aligned)


def _lattice(side: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return all pairs (x, y) of numbers in `side`, row by row."""
    y, x = np.meshgrid(side, side, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)
