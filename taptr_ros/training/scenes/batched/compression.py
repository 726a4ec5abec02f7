"""JPEG's loss, for many images together: what coding and decoding leaves of them.

As in ITU-T T.81 and JFIF, with half as many rows and columns of colour as of brightness, the example tables of T.81's
annex K, and the Independent JPEG Group's scale of qualities.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_BRIGHTNESS_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_COLOUR_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""Steps of quantisation at quality 50 (T.81 tables K.1 and K.2)."""

_TO_YCC = ((0.114, 0.587, 0.299), (0.5, -0.331264, -0.168736), (-0.081312, -0.418688, 0.5))
"""Brightness and colour of blue, green and red (JFIF). OpenCV takes the first of three channels for blue."""

_BLOCK = 8
"""Side of the blocks that are transformed."""


def recompressed(images: Tensor, quality: Tensor) -> Tensor:
    """Return images, uint8 [M,H,W,3], as they are after coding and decoding with qualities [M], 1..100.

    Equal to OpenCV's to within rounding; the channels' order is the one that OpenCV is given.
    """
    height, width = images.shape[1:3]
    padding = (0, -width % (2 * _BLOCK), 0, -height % (2 * _BLOCK))
    channels = F.pad(images.permute(0, 3, 1, 2).float(), padding, mode="replicate")
    to_ycc = torch.tensor(_TO_YCC, device=images.device)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, channels).round_()
    ycc[:, 1:] += 128.0
    steps = _steps(quality)
    brightness = _quantised(ycc[:, :1], steps[:, 0])
    # Halves are rounded up and down in turn.
    uneven = torch.tensor([-0.25, 0.25], device=images.device).repeat(ycc.shape[-1] // 4)
    colour = _quantised((F.avg_pool2d(ycc[:, 1:], 2) + uneven).round_(), steps[:, 1])
    colour = F.interpolate(colour, scale_factor=2.0, mode="bilinear", align_corners=False).round_() - 128.0
    decoded = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), torch.cat((brightness, colour), dim=1))
    decoded = decoded[:, :, :height, :width].round_().clamp_(0.0, 255.0)
    return decoded.permute(0, 2, 3, 1).to(torch.uint8)


def _steps(quality: Tensor) -> Tensor:
    """Return the steps of quantisation [M,2,8,8], of brightness and of colour, for qualities [M]."""
    scale = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality).view(-1, 1, 1, 1)
    base = torch.tensor((_BRIGHTNESS_STEPS, _COLOUR_STEPS), device=quality.device)
    return ((base * scale + 50) // 100).clamp(1, 255).float()


def _quantised(channels: Tensor, steps: Tensor) -> Tensor:
    """Return channels [M,C,h,w], 0..255, whose blocks' frequencies were rounded to multiples of steps [M,8,8]."""
    transform = _cosines(channels.device)
    rows, columns = (extent // _BLOCK for extent in channels.shape[2:])
    blocks = (channels - 128.0).unflatten(3, (columns, _BLOCK)).unflatten(2, (rows, _BLOCK)).transpose(3, 4)
    step = steps.view(-1, 1, 1, 1, _BLOCK, _BLOCK)
    frequencies = ((transform @ blocks @ transform.T) / step).round_() * step
    restored: Tensor = (transform.T @ frequencies @ transform).round_() + 128.0
    return restored.clamp_(0.0, 255.0).transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _cosines(device: torch.device) -> Tensor:
    """Return the discrete cosine transform, orthonormal, as a matrix [8,8]."""
    place = torch.arange(_BLOCK, device=device)
    matrix = torch.cos(math.pi / _BLOCK * torch.outer(place, place + 0.5)) * math.sqrt(2.0 / _BLOCK)
    matrix[0] /= math.sqrt(2.0)
    return matrix
