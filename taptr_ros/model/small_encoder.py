"""The small network's image encoder: EfficientNet-Lite0 and a top-down path to strides 2, 8 and 16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taptr_ros.model.small_config import SmallConfig
from taptr_ros.model.trunk import LEVEL_CHANNELS, Trunk


class SmallEncoder(nn.Module):
    """Three feature levels whose vectors have length 1, so that dot products are cosines.

    There is no level of stride 4: the finest level gives precision, and between it and stride 8 a level of its own
    was not worth its time.
    """

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = LEVEL_CHANNELS
        fine, middle, coarse = config.level_channels
        inner = config.fine_channels
        self.trunk = Trunk()
        self.coarse_lateral = nn.Conv2d(sixteenth, coarse, kernel_size=1)
        self.middle_lateral = nn.Conv2d(eighth, middle, kernel_size=1)
        self.coarse_to_middle = nn.Conv2d(coarse, middle, kernel_size=1)
        self.middle_output = nn.Conv2d(middle, middle, kernel_size=3, padding=1)
        self.quarter_lateral = nn.Conv2d(quarter, inner, kernel_size=1)
        self.middle_to_quarter = nn.Conv2d(middle, inner, kernel_size=1)
        self.fine_lateral = nn.Conv2d(half, inner, kernel_size=1)
        self.fine_output = nn.Conv2d(inner, fine, kernel_size=3, padding=1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images [B,3,H,W], 0..255, to levels [B,C,H/stride,W/stride], finest first; H and W multiples of 16."""
        half, quarter, eighth, sixteenth = self.trunk(images)
        coarse = self.coarse_lateral(sixteenth)
        middle = self.middle_lateral(eighth) + _doubled(self.coarse_to_middle(coarse))
        # Sums of projections: projecting first and enlarging then is cheaper, and equal.
        down = self.quarter_lateral(quarter) + _doubled(self.middle_to_quarter(middle))
        fine = torch.relu(self.fine_lateral(half) + _doubled(down))
        return [_unit_length(level) for level in (self.fine_output(fine), self.middle_output(middle), coarse)]


def _doubled(level: Tensor) -> Tensor:
    """Enlarge [B,C,h,w] to [B,C,2h,2w] by repeating pixels."""
    return F.interpolate(level, scale_factor=2.0, mode="nearest")


def _unit_length(level: Tensor) -> Tensor:
    """Scale the feature vectors of [B,C,h,w] to length 1."""
    # A sum over channels as a convolution: ONNX Runtime reduces a middle axis ten times slower.
    squared_length = F.conv2d(level * level, torch.ones_like(level[:1, :, :1, :1]))
    return level * torch.rsqrt(squared_length + 1e-6)
