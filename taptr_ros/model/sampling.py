"""Bilinear sampling of multi-level tokens at continuous positions, in two equal forms.

Tokens are [S,D]: all levels flattened row-major and concatenated, finest first. Projected ones have G groups (heads) of
d channels.
Positions are in pixels of their level, (0,0) being the centre of its first pixel; outside, tokens count as zero.

"gather" reads rows of the token table and sums them in one fused kernel: the fastest form on a CPU, see
`taptr_ros.model.gather`. "grid" uses `grid_sample`, which runs on every device, has gradients for the positions and
exports to ONNX as 4-D GridSample.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taptr_ros.model.gather import GatherSampler, PaddedLayout

Form = Literal["gather", "grid"]


class Levels(nn.Module):
    """Sizes of the feature levels whose tokens are concatenated, as numbers and as a tensor."""

    width_height: Tensor
    """(width, height) of each level, float32 [L,2]."""

    def __init__(self, sizes: tuple[tuple[int, int], ...]) -> None:
        """`sizes` are (height, width) of each level, finest first."""
        super().__init__()
        self.sizes = sizes
        self.counts = [height * width for height, width in sizes]
        self.layout = PaddedLayout(sizes)
        width_height = torch.tensor([(width, height) for height, width in sizes], dtype=torch.float32)
        self.register_buffer("width_height", width_height, persistent=False)


class Sampler(Protocol):
    """Tokens, made ready for being sampled many times."""

    def projected(self, projection: nn.Linear, groups: int) -> Sampler:
        """Return a sampler of all tokens [S,D] projected to E channels, in `groups` groups of E / groups."""

    def weighted_sum(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Return the sum over levels and points of weight * sample, [N,G,d]; x, y and weight are [N,G,L,P]."""

    def weighted_projection(self, x: Tensor, y: Tensor, weight: Tensor, projection: nn.Linear) -> Tensor:
        """Return what `projected(projection, G).weighted_sum(x, y, weight)` does, by the cheaper way."""

    def patches(self, x: Tensor, y: Tensor) -> Tensor:
        """Sample at all combinations of x [I,N,G,L,P] and y [J,N,G,L,P].

        Returns [N,G,L*P*I*J,d], x before y in the order of a patch; d may be more than D, the rest is to be ignored.
        """

    def prepare_similarity(self, cells: Tensor, projection: nn.Linear) -> tuple[Sampler, Tensor]:
        """Return a sampler and cells whose `similarity` is that of projected tokens with `cells` [N,G,K,E/G]."""

    def similarity(self, x: Tensor, y: Tensor, cells: Tensor) -> Tensor:
        """Return the dot products of `patches(x, y)` with `cells` [N,G,K,d], as [N,G,L*P*I*J,K]."""


def sampler(tokens: Tensor, levels: Levels, form: Form) -> Sampler:
    """Make tokens [S,D] ready for sampling in one of the two forms, as one group."""
    if form == "gather":
        return GatherSampler.of(tokens, levels.layout)
    return GridSampler(tokens.t().unsqueeze(0), levels)


class GridSampler:
    """`Sampler` by `grid_sample`. Channels come first throughout, which spares transposing what was sampled."""

    def __init__(self, channels: Tensor, levels: Levels) -> None:
        """`channels` are the tokens as [G,d,S]."""
        self.channels, self.levels = channels, levels
        self.images = [
            image.unflatten(2, size) for image, size in zip(channels.split(levels.counts, 2), levels.sizes, strict=True)
        ]

    def projected(self, projection: nn.Linear, groups: int) -> GridSampler:
        """See `Sampler`."""
        channels = torch.matmul(projection.weight, self.channels[0]) + projection.bias.unsqueeze(-1)
        return GridSampler(channels.unflatten(0, (groups, -1)), self.levels)

    def weighted_sum(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """See `Sampler`."""
        parts = [
            (self._sample(level, x[:, :, level], y[:, :, level]) * weight[:, :, level].transpose(0, 1).unsqueeze(1))
            for level in range(len(self.images))
        ]
        return torch.stack([part.sum(-1) for part in parts]).sum(0).permute(2, 0, 1)

    def weighted_projection(self, x: Tensor, y: Tensor, weight: Tensor, projection: nn.Linear) -> Tensor:
        """See `Sampler`."""
        return self.projected(projection, x.shape[1]).weighted_sum(x, y, weight)

    def prepare_similarity(self, cells: Tensor, projection: nn.Linear) -> tuple[GridSampler, Tensor]:
        """See `Sampler`."""
        return self.projected(projection, cells.shape[1]), cells

    def patches(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Sampler`."""
        return torch.cat(self._level_patches(x, y), dim=2)

    def similarity(self, x: Tensor, y: Tensor, cells: Tensor) -> Tensor:
        """See `Sampler`."""
        cells = cells.transpose(-1, -2)
        return torch.cat([torch.matmul(patches, cells) for patches in self._level_patches(x, y)], dim=2)

    def _level_patches(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Return the patches of every level, [N,G,P*I*J,d] each."""
        across, down = x.shape[0], y.shape[0]
        x = x[:, None].expand(-1, down, *x.shape[1:]).flatten(0, 1).permute(1, 2, 3, 4, 0).flatten(3)
        y = y[None].expand(across, *y.shape).flatten(0, 1).permute(1, 2, 3, 4, 0).flatten(3)
        levels = range(len(self.images))
        return [self._sample(level, x[:, :, level], y[:, :, level]).permute(2, 0, 3, 1) for level in levels]

    def _sample(self, level: int, x: Tensor, y: Tensor) -> Tensor:
        """Sample one level at x, y [N,G,K] and return [G,d,N,K]."""
        height, width = self.levels.sizes[level]
        grid = torch.stack(((2.0 * x + 1.0) / width - 1.0, (2.0 * y + 1.0) / height - 1.0), -1).transpose(0, 1)
        return F.grid_sample(self.images[level], grid, "bilinear", "zeros", align_corners=False)
