"""Bilinear sampling on a CPU: every sample is a weighted sum of four rows of one zero-padded token table.

`embedding_bag` reads and sums the rows in one vectorised kernel, so what is left to do well is to compute 4 row indices
and 4 weights per sample. Padding every level with a border of zeros removes all bounds checks, and index arithmetic in
float32 (exact below 2^24) keeps the number of passes over memory small.

Besides its D channels a token has one more, which is 1 inside the image and 0 in the padding. A projection's bias is
that channel's weight: it then counts by the share of a sample that lies inside the image, whether the projection comes
before the sampling or after it.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXTRA_CHANNELS = 8
"""Channels after a token's own: the ones, and zeros that keep rows aligned for the processor's vectors."""


class PaddedLayout:
    """Where each level lies in a table whose levels have a border of one zero token."""

    def __init__(self, sizes: tuple[tuple[int, int], ...]) -> None:
        """`sizes` are (height, width) of each level, finest first."""
        self.sizes = sizes
        self.starts = []
        rows = 0
        for height, width in sizes:
            self.starts.append(rows)
            rows += (height + 2) * (width + 2)
        # A position on the far border has a neighbour of weight 0 beyond it, which must still be a row of the table.
        self.rows = rows + sizes[-1][1] + 3

    def table(self, tokens: Tensor) -> Tensor:
        """Copy tokens [S,D] into a padded table [rows, D + EXTRA_CHANNELS] with the channel of ones."""
        dim = tokens.shape[1]
        table = tokens.new_zeros(self.rows, dim + EXTRA_CHANNELS)
        first = 0
        for (height, width), start in zip(self.sizes, self.starts, strict=True):
            padded = table[start : start + (height + 2) * (width + 2)].view(height + 2, width + 2, -1)
            inside = padded[1:-1, 1:-1]
            inside[..., :dim] = tokens[first : first + height * width].view(height, width, dim)
            inside[..., dim] = 1.0
            first += height * width
        return table

    @functools.lru_cache(maxsize=8)  # noqa: B019 - a layout lives as long as its network
    def constants(self, points: int, position_groups: int, groups: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return what index arithmetic needs, each broadcastable to [position_groups, L*points].

        They are the level's width and height, the table rows from one line to the next, and the table row of a level's
        first pixel, for tables of `groups` groups.
        """

        def per_location(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, dtype=dtype).repeat_interleave(points)

        widths = [width for _, width in self.sizes]
        line = per_location([(width + 2) * groups for width in widths])
        first = per_location([(start + width + 3) * groups for start, width in zip(self.starts, widths, strict=True)])
        if groups > 1:
            first = first + torch.arange(position_groups, dtype=dtype).unsqueeze(-1)
        return per_location(widths), per_location([height for height, _ in self.sizes]), line, first


class GatherSampler:
    """`taptr_ros.model.sampling.Sampler` by gathering rows of a padded table."""

    late_keys_up_to = 10
    """Points up to which it is faster to compare unprojected tokens with back-projected cells than to project all."""

    def __init__(self, table: Tensor, layout: PaddedLayout) -> None:
        """`table` is [rows,G,d] in the layout."""
        self.layout = layout
        self.groups, self.depth = table.shape[1:]
        self.table = table.flatten(0, 1)

    @classmethod
    def of(cls, tokens: Tensor, layout: PaddedLayout) -> GatherSampler:
        """Make tokens [S,D] ready for sampling."""
        return cls(layout.table(tokens).unsqueeze(1), layout)

    def projected(self, projection: nn.Linear, groups: int) -> GatherSampler:
        """See `taptr_ros.model.sampling.Sampler`."""
        return GatherSampler(F.linear(self.table, _with_bias(projection)).unflatten(1, (groups, -1)), self.layout)

    def weighted_projection(self, x: Tensor, y: Tensor, weight: Tensor, projection: nn.Linear) -> Tensor:
        """See `taptr_ros.model.sampling.Sampler`; projects only the weighted sums of tokens."""
        mixed = self.weighted_sum(x, y, weight).transpose(0, 1)
        by_group = _with_bias(projection).unflatten(0, (len(mixed), -1))
        return torch.bmm(mixed, by_group.transpose(1, 2)).transpose(0, 1)

    def prepare_similarity(self, cells: Tensor, projection: nn.Linear) -> tuple[GatherSampler, Tensor]:
        """See `taptr_ros.model.sampling.Sampler`; for few points <W x + b, c> = <x, W' c> + <b, c> with cells c."""
        count, groups = cells.shape[:2]
        if count > self.late_keys_up_to:
            return self.projected(projection, groups), cells
        return self, torch.matmul(cells, _with_bias(projection).unflatten(0, (groups, -1)))

    def weighted_sum(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """See `taptr_ros.model.sampling.Sampler`."""
        count, position_groups, _, points = x.shape
        width, height, line, first = self.layout.constants(points, position_groups, self.groups, x.dtype)
        x_lower, right = _neighbours(x.flatten(2), width)
        y_lower, below = _neighbours(y.flatten(2), height)
        index = (y_lower * line).add_(x_lower, alpha=self.groups).add_(first).to(torch.int32)
        step = torch.full_like(line, self.groups)
        corners = torch.stack((torch.zeros_like(line), step, line, line + step)).to(torch.int32)
        weight = weight.flatten(2)
        lower = weight * below
        upper = weight - lower
        lower_right, upper_right = lower * right, upper * right
        weights = torch.stack((upper - upper_right, upper_right, lower - lower_right, lower_right), dim=2)
        index = index.unsqueeze(2) + corners
        summed = self._sum_rows(index.view(count * position_groups, -1), weights.view(count * position_groups, -1))
        return summed.view(count, position_groups, self.depth)

    def patches(self, x: Tensor, y: Tensor) -> Tensor:
        """See `taptr_ros.model.sampling.Sampler`."""
        count, position_groups, _, points = x.shape[1:]
        width, height, line, first = self.layout.constants(points, position_groups, self.groups, x.dtype)
        x_lower, right = _neighbours(x.flatten(3), width)
        y_lower, below = _neighbours(y.flatten(3), height)
        x_index, y_index = x_lower.mul_(self.groups).add_(first), y_lower.mul_(line)
        ones = torch.ones_like(x_index[0])
        combine = _corner_combinations(len(x), len(y), self.groups, x.dtype)
        # One product of matrices each spreads what is known per axis to all corners of all cells, which is faster than
        # broadcasting over such short axes.
        index = torch.stack((*x_index, *y_index, line.expand_as(ones), ones), dim=-1) @ combine[0]
        x_weight = torch.stack((*right, ones), dim=-1) @ combine[1]
        y_weight = torch.stack((*below, ones), dim=-1) @ combine[2]
        sampled = self._sum_rows(index.to(torch.int32).view(-1, 4), x_weight.mul_(y_weight).view(-1, 4))
        return sampled.view(count, position_groups, -1, self.depth)

    def similarity(self, x: Tensor, y: Tensor, cells: Tensor) -> Tensor:
        """See `taptr_ros.model.sampling.Sampler`."""
        return torch.matmul(self.patches(x, y), cells.transpose(-1, -2))

    def _sum_rows(self, index: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted sums [B,d] of table rows; index, int32, and weight are [B,K]."""
        return F.embedding_bag(index, self.table, mode="sum", per_sample_weights=weight)


@functools.lru_cache(maxsize=8)
def _corner_combinations(across: int, down: int, groups: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrices that spread positions on two axes to the corners of all cells, [rows, across*down*4] each.

    For every cell (x first) and corner (upper left, upper right, lower left, lower right) they give the table row, from
    the row parts of x and y, the rows per line and 1; the weight on the x axis, from the upper neighbours' weights
    and 1; and the same on the y axis.
    """
    index = torch.zeros(across + down + 2, across, down, 2, 2, dtype=dtype)
    x_weight = torch.zeros(across + 1, across, down, 2, 2, dtype=dtype)
    y_weight = torch.zeros(down + 1, across, down, 2, 2, dtype=dtype)
    for cell in range(across):
        index[cell, cell] = 1.0
        x_weight[cell, cell] = torch.tensor([-1.0, 1.0])
    for cell in range(down):
        index[across + cell, :, cell] = 1.0
        y_weight[cell, :, cell] = torch.tensor([[-1.0], [1.0]])
    index[-2, ..., 1, :] = 1.0
    index[-1, ..., 1] = groups
    x_weight[-1, ..., 0] = 1.0
    y_weight[-1, ..., 0, :] = 1.0
    return index.flatten(1), x_weight.flatten(1), y_weight.flatten(1)


def _with_bias(projection: nn.Linear) -> Tensor:
    """Return the weight [E, D + EXTRA_CHANNELS] of a projection of tokens with the channel of ones."""
    return F.pad(torch.cat((projection.weight, projection.bias.unsqueeze(1)), dim=1), (0, EXTRA_CHANNELS - 1))


def _neighbours(position: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower neighbour's index and the upper neighbour's weight for positions [...,L*P] on one axis.

    Positions further out than the border of zeros are moved onto it, where they still sample nothing but zeros.
    """
    position = torch.minimum(position, size).clamp_(min=-1.0)
    lower = position.floor()
    return lower, position.sub_(lower)
