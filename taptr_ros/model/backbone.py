"""The residual network that gives four feature levels, strides 4, 8, 16 and 32 (spec section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from taptr_ros.model.config import STAGE_BLOCKS, STAGE_EXPANSION, ModelConfig


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose statistics and affine weights are constants."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B,C,h,w]."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


BatchNorm = type[FrozenBatchNorm] | type[nn.BatchNorm2d]
"""The batch norm of a convolution: constants, as released weights have them, or trainable."""


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        norm: BatchNorm = FrozenBatchNorm,
        *,
        groups: int = 1,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = norm(outputs, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,inputs,h,w] to [B,outputs,h/stride,w/stride]."""
        return self.norm(self.conv(x))

    def fold(self) -> None:
        """Put the norm's scale and shift into the convolution, channels-last; the outputs stay the same."""
        norm = self.norm
        if not isinstance(norm, FrozenBatchNorm | nn.BatchNorm2d):
            return
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        weight, bias = fuse_conv_bn_weights(self.conv.weight, None, mean, variance, norm.eps, norm.weight, norm.bias)
        self.conv.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.conv.bias = bias
        self.norm = nn.Identity()


class ResidualBlock(nn.Module):
    """A basic block (two 3x3) or, with expansion 4, a bottleneck (1x1, 3x3 with the stride, 1x1)."""

    def __init__(self, inputs: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        outputs = width * expansion
        if expansion == 1:
            shapes = [(inputs, width, 3, stride), (width, outputs, 3, 1)]
        else:
            shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        self.convs = nn.ModuleList(ConvNorm(*shape) for shape in shapes)
        needs_projection = stride != 1 or inputs != outputs
        self.shortcut: nn.Module = ConvNorm(inputs, outputs, 1, stride) if needs_projection else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,inputs,h,w] to [B,outputs,h/stride,w/stride]."""
        y = x
        for conv in self.convs[:-1]:
            y = torch.relu_(conv(y))
        return torch.relu_(self.convs[-1](y) + self.shortcut(x))


class Backbone(nn.Module):
    """ResNet-18 or ResNet-50 (v1.5) without its classifier."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        expansion = STAGE_EXPANSION[config.backbone]
        self.stem = ConvNorm(3, config.backbone_width, kernel=7, stride=2)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        channels = config.backbone_width
        for stage, blocks in enumerate(STAGE_BLOCKS[config.backbone]):
            width = config.backbone_width * 2**stage
            layers: list[nn.Module] = []
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 0 else 1
                layers.append(ResidualBlock(channels, width, expansion, stride))
                channels = width * expansion
            self.stages.append(nn.Sequential(*layers))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map a normalised image [B,3,H,W] to the four stage outputs [B,C_l,h_l,w_l], finest first."""
        x = self.pool(torch.relu_(self.stem(image)))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels

    def prepare_for_inference(self) -> None:
        """Fold every frozen batch norm into its convolution and lay the convolutions out channels-last."""
        fold_norms(self)


def fold_norms(network: nn.Module) -> None:
    """Fold every batch norm below `network` into its convolution, for inference."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.fold()
