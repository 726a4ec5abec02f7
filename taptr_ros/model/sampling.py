"""Bilinear sampling of multi-level tokens at continuous positions, in two equal forms.

Tokens are [S,G,d]: all levels flattened row-major and concatenated, finest first, with G groups (heads) of d channels.
Positions are in pixels of their level, (0,0) being the centre of its first pixel; outside, tokens count as zero. With
one group of tokens, positions may have any number of groups: all of them then read the whole token.

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
        """Return a sampler of all tokens [S,1,D] projected to E channels, in `groups` groups of E / groups."""

    def weighted_sum(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Return the sum over levels and points of weight * sample, [N,G,d]; x, y and weight are [N,G,L,P]."""

    def patches(self, x: Tensor, y: Tensor) -> Tensor:
        """Sample at all combinations of x [I,N,G,L,P] and y [J,N,G,L,P].

        Returns [N,G,L*P*I*J,d], x before y in the order of a patch.
        """


def sampler(tokens: Tensor, levels: Levels, form: Form) -> Sampler:
    """Make tokens [S,G,d] ready for sampling in one of the two forms."""
    if form == "gather":
        return GatherSampler.of(tokens, levels.layout)
    return GridSampler(tokens, levels)


class GridSampler:
    """`Sampler` by `grid_sample`."""

    def __init__(self, tokens: Tensor, levels: Levels) -> None:
        self.tokens, self.levels = tokens, levels
        self.groups, self.depth = tokens.shape[1:]
        self.images = [
            image.permute(1, 2, 0).reshape(self.groups, self.depth, height, width)
            for image, (height, width) in zip(tokens.split(levels.counts), levels.sizes, strict=True)
        ]

    def projected(self, projection: nn.Linear, groups: int) -> GridSampler:
        """See `Sampler`."""
        return GridSampler(projection(self.tokens.flatten(1)).unflatten(1, (groups, -1)), self.levels)

    def weighted_sum(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """See `Sampler`."""
        rows, groups = x.shape[:2]
        if self.groups == 1:
            x, y, weight = (value.flatten(0, 1).unsqueeze(1) for value in (x, y, weight))
        summed = (self._sample(x, y) * weight.unsqueeze(2)).sum((-2, -1))
        return summed.reshape(rows, groups, self.depth)

    def patches(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Sampler`."""
        rows, groups = x.shape[1:3]
        across, down = x.shape[0], y.shape[0]
        x = x[:, None].expand(-1, down, *x.shape[1:]).flatten(0, 1).permute(1, 2, 3, 4, 0).flatten(3)
        y = y[None].expand(across, *y.shape).flatten(0, 1).permute(1, 2, 3, 4, 0).flatten(3)
        if self.groups == 1:
            x, y = (value.flatten(0, 1).unsqueeze(1) for value in (x, y))
        sampled = self._sample(x, y).permute(0, 1, 3, 4, 2)
        return sampled.reshape(rows, groups, -1, self.depth)

    def _sample(self, x: Tensor, y: Tensor) -> Tensor:
        """Sample at x, y [N,G,L,P] and return [N,G,d,L,P]."""
        samples = []
        for level, image in enumerate(self.images):
            height, width = image.shape[-2:]
            unit = ((2.0 * x[:, :, level] + 1.0) / width - 1.0, (2.0 * y[:, :, level] + 1.0) / height - 1.0)
            grid = torch.stack(unit, -1).transpose(0, 1)
            sampled = F.grid_sample(image, grid, "bilinear", "zeros", align_corners=False)
            samples.append(sampled.permute(2, 0, 1, 3))
        return torch.stack(samples, dim=3)


def coverage(x: Tensor, y: Tensor, levels: Levels) -> Tensor:
    """Return the share of a bilinear sample's weight that falls inside the image: 1 inside, less at the border.

    x is [I,N,G,L,P] and y is [J,N,G,L,P]; the result is [N,G,L,P,I,J]. A bias added to every token before sampling
    arrives in the sample multiplied by this.
    """
    # The share ramps from 0 to 1 over the pixel beyond each border.
    across, down = (
        (torch.minimum(position, size - 1.0 - position) + 1.0).clamp(0.0, 1.0)
        for position, size in ((x, levels.width_height[:, :1]), (y, levels.width_height[:, 1:]))
    )
    return (across[:, None] * down).permute(2, 3, 4, 5, 0, 1)
