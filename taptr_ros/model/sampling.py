"""Bilinear sampling of multi-level tokens at continuous positions, in two equal forms.

Tokens are [S,G,d]: all levels flattened row-major and concatenated, finest first, with G groups (heads) of d channels.
Positions are in pixels of their level, (0,0) being the centre of its first pixel; outside, tokens count as zero.

`gather` reads rows of the token table and sums them in one fused kernel: the fastest form on a CPU. `grid` uses
`grid_sample`, which runs on every device, has gradients for the positions and exports to ONNX as 4-D GridSample.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Form = Literal["gather", "grid"]


@dataclasses.dataclass(frozen=True)
class Levels:
    """Sizes of the feature levels whose tokens are concatenated."""

    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each level, finest first."""

    @property
    def counts(self) -> list[int]:
        """Tokens of each level."""
        return [height * width for height, width in self.sizes]

    def starts(self, device: torch.device) -> Tensor:
        """Return the index of each level's first token, int32 [L]."""
        counts = self.counts
        return torch.tensor([sum(counts[:level]) for level in range(len(counts))], dtype=torch.int32, device=device)

    def width_height(self, like: Tensor) -> Tensor:
        """Return (width, height) of each level, [L,2] with the dtype and device of `like`."""
        return torch.tensor([(w, h) for h, w in self.sizes], dtype=like.dtype, device=like.device)


def _line(position: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two neighbours [...,2] of positions on one axis, int32, and their weights, zero outside 0..size-1."""
    lower = position.floor()
    neighbours = torch.stack((lower, lower + 1.0), dim=-1)
    weights = 1.0 - (position.unsqueeze(-1) - neighbours).abs()
    last = (size - 1.0).unsqueeze(-1)
    inside = (neighbours >= 0.0) & (neighbours <= last)
    # Far-away positions would overflow an int32 index, hence the clamp before the cast.
    index = torch.minimum(neighbours.clamp(min=0.0), last).to(torch.int32)
    return index, weights * inside


def _corners(x: Tensor, y: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """Return token index and bilinear weight of the four corners around each position.

    x is [...,L,P,I] and y is [...,L,P,J]; the results are [...,L,P,I,J,4] for all combinations of x and y.
    """
    size = levels.width_height(x)
    x_index, x_weight = _line(x, size[:, 0, None, None])
    y_index, y_weight = _line(y, size[:, 1, None, None])
    width = size[:, 0].to(torch.int32)[:, None, None, None]
    row = y_index * width + levels.starts(x.device)[:, None, None, None]
    index = row[..., None, :, :, None] + x_index[..., :, None, None, :]
    weight = y_weight[..., None, :, :, None] * x_weight[..., :, None, None, :]
    return index.flatten(-2), weight.flatten(-2)


def _grid_sample(tokens: Tensor, x: Tensor, y: Tensor, levels: Levels) -> Tensor:
    """Sample tokens [S,G,d] at x, y [N,G,L,P] of group g and return [N,G,d,L,P]."""
    groups, depth = tokens.shape[1:]
    samples = []
    for level, (image, (height, width)) in enumerate(zip(tokens.split(levels.counts), levels.sizes, strict=True)):
        image = image.permute(1, 2, 0).reshape(groups, depth, height, width)
        grid = torch.stack(((2.0 * x[:, :, level] + 1.0) / width - 1.0, (2.0 * y[:, :, level] + 1.0) / height - 1.0), -1)
        sampled = F.grid_sample(image, grid.transpose(0, 1), "bilinear", "zeros", align_corners=False)
        samples.append(sampled.permute(2, 0, 1, 3))
    return torch.stack(samples, dim=3)


def weighted_sum(tokens: Tensor, x: Tensor, y: Tensor, weight: Tensor, levels: Levels, form: Form) -> Tensor:
    """Sample tokens [S,G,d] at x, y [N,G,L,P] and return sum over levels and points of weight * sample, [N,G,d].

    With G = 1, positions may have any number of groups: all of them then read the whole token.
    """
    rows, groups = x.shape[:2]
    shared = tokens.shape[1] == 1
    if form == "grid":
        if shared:
            x, y, weight = (value.flatten(0, 1).unsqueeze(1) for value in (x, y, weight))
        summed = (_grid_sample(tokens, x, y, levels) * weight.unsqueeze(2)).sum((-2, -1))
        return summed.reshape(rows, groups, -1)
    index, corner_weight = _corners(x.unsqueeze(-1), y.unsqueeze(-1), levels)
    if not shared:
        index = index * groups + torch.arange(groups, dtype=torch.int32, device=index.device).view(-1, 1, 1, 1, 1, 1)
    corner_weight = corner_weight * weight[..., None, None, None]
    summed = F.embedding_bag(
        index.reshape(rows * groups, -1),
        tokens.flatten(0, 1),
        mode="sum",
        per_sample_weights=corner_weight.reshape(rows * groups, -1),
    )
    return summed.view(rows, groups, -1)


def patches(tokens: Tensor, x: Tensor, y: Tensor, levels: Levels, form: Form) -> Tensor:
    """Sample patches of tokens [S,G,d] at all combinations of x [N,G,L,P,I] and y [N,G,L,P,J].

    Returns [N,G,L*P*I*J,d], x before y in the order of a patch. With G = 1 positions may have any number of groups.
    """
    rows, groups = x.shape[:2]
    shared = tokens.shape[1] == 1
    if form == "grid":
        across, down = x.shape[-1], y.shape[-1]
        x = x.unsqueeze(-1).expand(*x.shape, down).flatten(3)
        y = y.unsqueeze(-2).expand(*y.shape[:-1], across, down).flatten(3)
        if shared:
            x, y = (value.flatten(0, 1).unsqueeze(1) for value in (x, y))
        sampled = _grid_sample(tokens, x, y, levels).permute(0, 1, 3, 4, 2)
        return sampled.reshape(rows, groups, -1, tokens.shape[-1])
    index, weight = _corners(x, y, levels)
    if not shared:
        index = index * groups + torch.arange(groups, dtype=torch.int32, device=index.device).view(-1, 1, 1, 1, 1, 1)
    sampled = F.embedding_bag(
        index.reshape(-1, 4), tokens.flatten(0, 1), mode="sum", per_sample_weights=weight.reshape(-1, 4)
    )
    return sampled.view(rows, groups, -1, tokens.shape[-1])


def coverage(x: Tensor, y: Tensor, levels: Levels) -> Tensor:
    """Return the share of a bilinear sample's weight that falls inside the image: 1 inside, less at the border.

    x is [...,L,P,I] and y is [...,L,P,J]; the result is [...,L,P,I,J]. A bias added to every token before sampling
    arrives in the sample multiplied by this.
    """
    size = levels.width_height(x)
    across = _line(x, size[:, 0, None, None])[1].sum(-1)
    down = _line(y, size[:, 1, None, None])[1].sum(-1)
    return across.unsqueeze(-1) * down.unsqueeze(-2)
