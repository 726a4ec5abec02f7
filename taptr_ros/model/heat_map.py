"""Where in the whole image a point may be: the peak of a heat map of similarities (after the paper's global matching).

The feature of every track is compared with all pixels of the two coarse levels. The heat map's peak is a second place
from which the decoder starts, so that fast motion and what hid a point for long do not lead it too far away.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taptr_ros.model.constants import constant
from taptr_ros.model.patches import FeatureLevels
from taptr_ros.model.small_config import LEVEL_STRIDES, SmallConfig

SHARPNESS = 10.0
"""Logits per cosine similarity at the start of training, for each of the two levels."""

NEARNESS = 0.5
"""Logits that a pixel loses when the square of its distance from the point's last place grows e-fold."""

NEAR = 16.0
"""Input pixels of distance below which it matters little."""

PEAK_RADIUS = 1
"""The peak is the mean place of pixels at most this far from the best one, weighted by the heat map."""


class HeatMap(nn.Module):
    """The peak of each track's heat map over an image."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        self.level_channels = config.level_channels
        self.sharpness = nn.Parameter(torch.full((2,), math.log(SHARPNESS)))

    def logits(self, queries: list[Tensor], levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return the heat maps' logits [B,n,h*w] on the middle level of size (h, w), from the features alone.

        Args:
            queries: [B,n,C] features of n points in each of B images, on the middle and on the coarse level.
            levels: [B,h*w,C] and [B,h*w/4,C] features of these levels.
            size: (h, w).
        """
        middle, coarse = (
            torch.matmul(query * scale, level.transpose(-1, -2))
            for query, level, scale in zip(queries, levels, self.sharpness.exp(), strict=True)
        )
        height, width = size
        enlarged = F.interpolate(coarse.unflatten(-1, (height // 2, width // 2)), scale_factor=2.0, mode="nearest")
        return middle + enlarged.flatten(-2)

    @torch.no_grad()
    def forward(self, features: FeatureLevels, context: Tensor, start: Tensor) -> Tensor:
        """Return the peaks [N,2] in unit coordinates of tracks with contexts [N,3,3,E] that were at `start` [N,2].

        Tracks are those of the first image, then as many of the next, and so on. No gradient runs through the peaks:
        the features learn from their own loss what they are to be like.
        """
        size = features.sizes[1]
        height, width = size
        images = features.levels[1].shape[0] // (height * width)
        queries = [part.unflatten(0, (images, -1)) for part in context[:, 1, 1].split(self.level_channels, dim=-1)]
        levels = [level.unflatten(0, (images, -1)) for level in features.levels]
        heat = self.logits(queries[1:], levels[1:], size).flatten(0, 1)
        line = torch.arange(height, dtype=heat.dtype, device=heat.device)
        column = torch.arange(width, dtype=heat.dtype, device=heat.device)
        place = start * constant((width, height), heat) - 0.5
        unit = (LEVEL_STRIDES[1] / NEAR) ** 2
        across = (column - place[:, :1]).square() * unit
        down = (line - place[:, 1:]).square() * unit
        far = (1.0 + down.unsqueeze(2) + across.unsqueeze(1)).log().flatten(1)
        best = (heat - NEARNESS * far).argmax(-1, keepdim=True)
        top = torch.div(best, width, rounding_mode="floor")
        left = best - top * width
        steps = torch.arange(-PEAK_RADIUS, PEAK_RADIUS + 1, device=heat.device)
        y = (top.unsqueeze(-1) + steps.view(1, -1, 1)).clamp(0, height - 1).expand(-1, -1, len(steps)).flatten(1)
        x = (left.unsqueeze(-1) + steps.view(1, 1, -1)).clamp(0, width - 1).expand(-1, len(steps), -1).flatten(1)
        share = heat.gather(1, y * width + x).softmax(-1)
        peak = torch.stack(((share * x).sum(-1) / width, (share * y).sum(-1) / height), dim=-1)
        return peak + constant((0.5 / width, 0.5 / height), heat)
