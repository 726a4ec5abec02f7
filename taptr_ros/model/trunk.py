"""EfficientNet-Lite0 to stride 16: the part of the small network's encoder that starts from ImageNet weights.

After "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (arXiv 1905.11946) in its Lite form for
phones: inverted residuals with ReLU6 and without squeeze-and-excitation. What lies beyond stride 16 is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taptr_ros.model.backbone import ConvNorm

STEM_CHANNELS = 32
"""Channels of the first convolution's output, stride 2."""

BLOCKS = (
    (1, 3, 1, 16),
    (6, 3, 2, 24),
    (6, 3, 1, 24),
    (6, 5, 2, 40),
    (6, 5, 1, 40),
    (6, 3, 2, 80),
    (6, 3, 1, 80),
    (6, 3, 1, 80),
    (6, 5, 1, 112),
    (6, 5, 1, 112),
    (6, 5, 1, 112),
)
"""Expansion, kernel, stride and output channels of the inverted residuals, in order."""

LEVEL_ENDS = (2, 4, 10)
"""Number of the last block of strides 4, 8 and 16."""

LEVEL_CHANNELS = (STEM_CHANNELS, *(BLOCKS[end][-1] for end in LEVEL_ENDS))
"""Channels of what the trunk returns: strides 2, 4, 8 and 16."""

NORM_EPSILON = 1e-3
"""Added to the variance in the norms, as in the released weights."""

PIXEL_MEAN, PIXEL_RANGE = 127.0, 128.0
"""Images enter as (image - 127) / 128."""


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise one, and a 1x1 convolution back, with a shortcut round them."""

    def __init__(self, inputs: int, expansion: int, kernel: int, stride: int, outputs: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand: nn.Module = _conv(inputs, width, 1) if expansion > 1 else nn.Identity()
        self.expands = expansion > 1
        self.depthwise = _conv(width, width, kernel, stride, groups=width)
        self.project = _conv(width, outputs, 1)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,inputs,h,w] to [B,outputs,h/stride,w/stride]."""
        y = F.relu6(self.expand(x)) if self.expands else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.has_shortcut else y


class Trunk(nn.Module):
    """EfficientNet-Lite0 without what comes after stride 16.

    Its norms always use the statistics that came with the weights, in training too: batches are of few clips, whose
    own statistics say little. Random weights come without any and need `measure_norms` first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, STEM_CHANNELS, 3, stride=2)
        inputs = (STEM_CHANNELS, *(block[-1] for block in BLOCKS))
        self.blocks = nn.ModuleList(
            InvertedResidual(channels, *block) for channels, block in zip(inputs, BLOCKS, strict=False)
        )

    def train(self, mode: bool = True) -> Trunk:
        """As in `torch.nn.Module`, but for the norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    @torch.no_grad()
    def measure_norms(self, images: Tensor) -> list[Tensor]:
        """Take the norms' statistics from images [B,3,H,W], 0..255; returns them, for several processes to agree on."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        self(images)
        self.train(self.training)
        return [norm.get_buffer(name) for norm in norms for name in ("running_mean", "running_var")]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images [B,3,H,W], 0..255, to [B,C,H/stride,W/stride] of strides 2, 4, 8 and 16."""
        x = F.relu6(self.stem((images - PIXEL_MEAN) * (1.0 / PIXEL_RANGE)))
        levels = [x]
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in LEVEL_ENDS:
                levels.append(x)
        return levels


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> ConvNorm:
    return ConvNorm(inputs, outputs, kernel, stride, nn.BatchNorm2d, groups=groups, epsilon=NORM_EPSILON)
