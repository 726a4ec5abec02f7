"""Feature patches of all levels round points, and the two things that CCA does with them.

Sampling places on a fixed grid share their neighbours: with the similarities of a context's nine cells to a square of
features round the point known once, the 9x9 similarities of every sampling place are a window of these nine maps.
Whole squares of pixels are read, compared or summed, and only the results are interpolated between pixels: the cost is
that of a local correlation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from taptr_ros.model.constants import constant


@dataclasses.dataclass(frozen=True)
class FeatureLevels:
    """The feature levels of B images, finest first."""

    levels: Sequence[Tensor]
    """[B*h*w, C] rows of each level: image by image, row by row."""
    sizes: Sequence[tuple[int, int]]
    """(height, width) of each level."""
    image: Tensor | None = None
    """[N] index of the image that each point is sought in; None if there is one image."""
    gradients: Sequence[Tensor] | None = None
    """Arrays like `levels`, to which `FusedPatches` adds the gradient."""

    def centres(self, xy: Tensor) -> Tensor:
        """Return unit coordinates [N,2] in pixels of every level, [N,L,2]; (0,0) is a level's first pixel's centre."""
        return xy.unsqueeze(1) * constant(tuple((width, height) for height, width in self.sizes), xy) - 0.5


class Patches(Protocol):
    """What lies round N points on all levels, up to `radius` level pixels away each way; zero outside the image.

    Maps have levels and points as their last axes: what is done to every place of a map is then done to whole rows.
    """

    def similarity(self, cells: Sequence[Tensor]) -> Tensor:
        """Compare with the cells [N,K,C] of each level.

        Returns the dot products [K,2*radius+1,2*radius+1,L,N] at the level pixels round the point, y before x.
        """

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return the sums [N, sum of C] of what lies round the points, level by level.

        `weights` [2*r+1,2*r+1,L,N], y before x, with r < radius.
        """


class GatheredPatches:
    """`Patches` that copies the pixels round every point: runs on every device and exports to ONNX."""

    def __init__(self, features: FeatureLevels, centres: Tensor, radius: int) -> None:
        """Gather round `centres` [N,L,2], in pixels of each level; no gradient runs through them."""
        centres = centres.detach().permute(2, 1, 0)
        corner = centres.floor()
        self.fraction = centres - corner
        self.side = 2 * radius + 2
        steps = (torch.arange(self.side, dtype=corner.dtype, device=corner.device) - radius).view(-1, 1, 1)
        x, y = corner[0] + steps, corner[1] + steps
        self.rows, inside = [], []
        for level, (rows, (height, width)) in enumerate(zip(features.levels, features.sizes, strict=True)):
            column, line = x[:, level].clamp(0, width - 1), y[:, level].clamp(0, height - 1)
            index = (line.unsqueeze(1) * width + column).flatten(0, 1).t().long()
            if features.image is not None:
                index = index + (features.image * (height * width)).unsqueeze(-1)
            # Its gradient is summed in place; that of `F.embedding` is sorted first on a GPU.
            self.rows.append(rows.index_select(0, index.flatten()).unflatten(0, (-1, self.side**2)))
            inside.append((y[:, level] == line).unsqueeze(1) & (x[:, level] == column))
        self.inside = torch.stack(inside, dim=2).to(corner.dtype)

    def similarity(self, cells: Sequence[Tensor]) -> Tensor:
        """See `Patches`."""
        products = [torch.matmul(c, r.transpose(1, 2)) for c, r in zip(cells, self.rows, strict=True)]
        by_point = torch.stack(products).flatten(2).flatten(0, 1)
        maps = by_point.t().reshape(-1, self.side, self.side, *self.fraction.shape[1:])
        return interpolate(maps * self.inside, self.fraction)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """See `Patches`."""
        spread = spread_weights(weights, self.fraction)
        border = (self.side - spread.shape[0]) // 2
        spread = F.pad(spread, (0, 0, 0, 0, border, border, border, border)) * self.inside
        by_level = spread.flatten(2).flatten(0, 1).t().reshape(*self.fraction.shape[1:], 1, -1).unbind(0)
        return torch.cat([torch.matmul(w, r).flatten(1) for w, r in zip(by_level, self.rows, strict=True)], dim=-1)

    def interpolated(self) -> list[Tensor]:
        """Return the features themselves at the level pixels round the points, [N,2*radius+1,2*radius+1,C] each."""
        sampled = []
        for level, rows in enumerate(self.rows):
            inside = self.inside[:, :, level].permute(2, 0, 1).unsqueeze(-1)
            pixels = rows.unflatten(1, (self.side, self.side)) * inside
            x, y = self.fraction[:, level, :, None, None, None].unbind(0)
            lines = pixels[:, :, :-1] * (1.0 - x) + pixels[:, :, 1:] * x
            sampled.append(lines[:, :-1] * (1.0 - y) + lines[:, 1:] * y)
        return sampled


def interpolate(maps: Tensor, fraction: Tensor) -> Tensor:
    """Interpolate maps [K,S,S,L,N] between pixels at `fraction` [2,L,N] (x, y), giving [K,S-1,S-1,L,N]."""
    left = maps[:, :, :-1]
    lines = left + (maps[:, :, 1:] - left) * fraction[0]
    above = lines[:, :-1]
    return above + (lines[:, 1:] - above) * fraction[1]


def spread_weights(weights: Tensor, fraction: Tensor) -> Tensor:
    """Spread weights [S,S,L,N] of places between pixels to the pixels, [S+1,S+1,L,N]: `interpolate` transposed."""
    right = weights * fraction[0]
    columns = F.pad(weights - right, (0, 0, 0, 0, 0, 1)) + F.pad(right, (0, 0, 0, 0, 1, 0))
    lower = columns * fraction[1]
    return F.pad(columns - lower, (0, 0, 0, 0, 0, 0, 0, 1)) + F.pad(lower, (0, 0, 0, 0, 0, 0, 1, 0))
