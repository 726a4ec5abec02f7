"""`taptr_ros.model.patches` in compiled loops with gradients of their own: several times faster on a processor.

Reading a square of pixels, comparing it and interpolating happens point by point in the processor's nearest cache, and
the gradient is added to one array per level in place, instead of making an array of the level's size at every use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from torch import Tensor

from taptr_ros.errors import InvalidConfigError
from taptr_ros.model.patches import FeatureLevels

Loop = TypeVar("Loop", bound=Callable[..., None])


def _compiled(loop: Loop) -> Loop:
    """Compile a loop; sums may be reordered, as in any matrix product."""
    compiled: Loop = numba.njit(loop, fastmath=True, cache=True, nogil=True)
    return compiled


class FusedPatches:
    """`taptr_ros.model.patches.Patches` on a processor; `FeatureLevels.gradients` receive the features' gradient."""

    def __init__(self, features: FeatureLevels, centres: Tensor, radius: int) -> None:
        """See `GatheredPatches`."""
        if features.gradients is None:
            raise InvalidConfigError("Fused patches need arrays for the gradients of the features.")
        count = len(centres)
        image = torch.zeros(count, dtype=torch.int64) if features.image is None else features.image
        self._levels = [
            (rows.detach().numpy(), gradient.numpy(), image.numpy(), centre.numpy(), height, width)
            for rows, gradient, centre, (height, width) in zip(
                features.levels,
                features.gradients,
                centres.detach().transpose(0, 1).contiguous().unbind(0),
                features.sizes,
                strict=True,
            )
        ]
        self._radius = radius

    def similarity(self, cells: Sequence[Tensor]) -> Tensor:
        """See `taptr_ros.model.patches.Patches`."""
        apply: Callable[..., Tensor] = _Similarity.apply
        maps = [apply(c, level, self._radius) for c, level in zip(cells, self._levels, strict=True)]
        return torch.stack(maps, dim=1).permute(2, 3, 4, 1, 0)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """See `taptr_ros.model.patches.Patches`."""
        apply: Callable[..., Tensor] = _WeightedSum.apply
        by_level = weights.permute(2, 3, 0, 1).unbind(0)
        return torch.cat([apply(w, level) for w, level in zip(by_level, self._levels, strict=True)], dim=-1)


class _Similarity(torch.autograd.Function):
    """Dot products of cells [N,K,C] with a level's pixels round the points, [N,K,S,S]."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, level: tuple[Any, ...], radius: int) -> Tensor:
        cells = cells.contiguous()
        side = 2 * radius + 1
        maps = torch.empty(*cells.shape[:2], side, side)
        _similarity(level, cells.detach().numpy(), maps.numpy())
        ctx.save_for_backward(cells)
        ctx.level = level
        return maps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (cells,) = ctx.saved_tensors
        cells_gradient = torch.zeros_like(cells)
        maps_gradient = gradients[0].contiguous()
        _similarity_gradient(ctx.level, cells.detach().numpy(), maps_gradient.numpy(), cells_gradient.numpy())
        return cells_gradient, None, None


class _WeightedSum(torch.autograd.Function):
    """Weighted sums [N,C] of a level's features round the points, with weights [N,S,S]."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, level: tuple[Any, ...]) -> Tensor:
        weights = weights.contiguous()
        sums = torch.empty(len(weights), level[0].shape[1])
        _weighted_sum(level, weights.detach().numpy(), sums.numpy())
        ctx.save_for_backward(weights)
        ctx.level = level
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        weights_gradient = torch.empty_like(weights)
        sums_gradient = gradients[0].contiguous()
        _weighted_sum_gradient(ctx.level, weights.detach().numpy(), sums_gradient.numpy(), weights_gradient.numpy())
        return weights_gradient, None


@_compiled
def _spread(weights: Any, x: Any, y: Any, spread: Any) -> None:
    side = weights.shape[0]
    spread[:] = 0.0
    for i in range(side):
        for j in range(side):
            value = weights[i, j]
            spread[i, j] += value * (1 - x) * (1 - y)
            spread[i, j + 1] += value * x * (1 - y)
            spread[i + 1, j] += value * (1 - x) * y
            spread[i + 1, j + 1] += value * x * y


@_compiled
def _interpolate(raw: Any, x: Any, y: Any, interpolated: Any) -> None:
    side = interpolated.shape[0]
    for i in range(side):
        for j in range(side):
            upper = raw[i, j] * (1 - x) + raw[i, j + 1] * x
            lower = raw[i + 1, j] * (1 - x) + raw[i + 1, j + 1] * x
            interpolated[i, j] = upper * (1 - y) + lower * y


@_compiled
def _similarity(level: Any, cells: Any, maps: Any) -> None:
    rows, _, image, centre, height, width = level
    points, count, channels = cells.shape
    side = maps.shape[2]
    radius = side // 2
    raw = np.empty((count, side + 1, side + 1), np.float32)
    for point in range(points):
        left, top = int(np.floor(centre[point, 0])), int(np.floor(centre[point, 1]))
        x, y = centre[point, 0] - np.float32(left), centre[point, 1] - np.float32(top)
        first = image[point] * height * width
        for i in range(side + 1):
            line = top - radius + i
            for j in range(side + 1):
                column = left - radius + j
                if line < 0 or line >= height or column < 0 or column >= width:
                    for cell in range(count):
                        raw[cell, i, j] = 0.0
                    continue
                row = first + line * width + column
                for cell in range(count):
                    total = np.float32(0.0)
                    for channel in range(channels):
                        total += cells[point, cell, channel] * rows[row, channel]
                    raw[cell, i, j] = total
        for cell in range(count):
            _interpolate(raw[cell], x, y, maps[point, cell])


@_compiled
def _similarity_gradient(level: Any, cells: Any, maps_gradient: Any, cells_gradient: Any) -> None:
    rows, rows_gradient, image, centre, height, width = level
    points, count, channels = cells.shape
    side = maps_gradient.shape[2]
    radius = side // 2
    raw = np.empty((count, side + 1, side + 1), np.float32)
    for point in range(points):
        left, top = int(np.floor(centre[point, 0])), int(np.floor(centre[point, 1]))
        x, y = centre[point, 0] - np.float32(left), centre[point, 1] - np.float32(top)
        first = image[point] * height * width
        for cell in range(count):
            _spread(maps_gradient[point, cell], x, y, raw[cell])
        for i in range(side + 1):
            line = top - radius + i
            if line < 0 or line >= height:
                continue
            for j in range(side + 1):
                column = left - radius + j
                if column < 0 or column >= width:
                    continue
                row = first + line * width + column
                for cell in range(count):
                    value = raw[cell, i, j]
                    for channel in range(channels):
                        cells_gradient[point, cell, channel] += value * rows[row, channel]
                        rows_gradient[row, channel] += value * cells[point, cell, channel]


@_compiled
def _weighted_sum(level: Any, weights: Any, sums: Any) -> None:
    rows, _, image, centre, height, width = level
    points, side = weights.shape[:2]
    channels = rows.shape[1]
    radius = side // 2
    spread = np.empty((side + 1, side + 1), np.float32)
    for point in range(points):
        left, top = int(np.floor(centre[point, 0])), int(np.floor(centre[point, 1]))
        x, y = centre[point, 0] - np.float32(left), centre[point, 1] - np.float32(top)
        first = image[point] * height * width
        _spread(weights[point], x, y, spread)
        for channel in range(channels):
            sums[point, channel] = 0.0
        for i in range(side + 1):
            line = top - radius + i
            if line < 0 or line >= height:
                continue
            for j in range(side + 1):
                column = left - radius + j
                if column < 0 or column >= width:
                    continue
                row = first + line * width + column
                value = spread[i, j]
                for channel in range(channels):
                    sums[point, channel] += value * rows[row, channel]


@_compiled
def _weighted_sum_gradient(level: Any, weights: Any, sums_gradient: Any, weights_gradient: Any) -> None:
    rows, rows_gradient, image, centre, height, width = level
    points, side = weights.shape[:2]
    channels = rows.shape[1]
    radius = side // 2
    spread = np.empty((side + 1, side + 1), np.float32)
    raw = np.empty((side + 1, side + 1), np.float32)
    for point in range(points):
        left, top = int(np.floor(centre[point, 0])), int(np.floor(centre[point, 1]))
        x, y = centre[point, 0] - np.float32(left), centre[point, 1] - np.float32(top)
        first = image[point] * height * width
        _spread(weights[point], x, y, spread)
        for i in range(side + 1):
            line = top - radius + i
            for j in range(side + 1):
                column = left - radius + j
                if line < 0 or line >= height or column < 0 or column >= width:
                    raw[i, j] = 0.0
                    continue
                row = first + line * width + column
                value = spread[i, j]
                total = np.float32(0.0)
                for channel in range(channels):
                    total += sums_gradient[point, channel] * rows[row, channel]
                    rows_gradient[row, channel] += value * sums_gradient[point, channel]
                raw[i, j] = total
        _interpolate(raw, x, y, weights_gradient[point])
