"""What training minimises: errors of position and visibility after every decoder layer, and a contrastive loss."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from taptr_ros.model.small_config import LEVEL_STRIDES
from taptr_ros.training.batches import Batch
from taptr_ros.training.config import LossConfig
from taptr_ros.training.unroll import Unrolled

POSITION_UNIT = 4.0
"""Pixels of position error that cost 1."""

SATURATION = 12.0
"""Pixels of position error at which an error's growth costs half as much as near 0: most of a clip's error is that of
few points that are lost for good, which nothing can be learnt from."""

FOUND = 12.0
"""Pixels of position error from which on a visible point counts as not seen: what is reported visible is to be where it
is reported."""

REACH = 24.0
"""Pixels outside the image up to which a position is asked for."""

UNKNOWN = 100.0
"""Unit coordinate in place of an unknown one: far outside, where no position is asked for."""

TEMPERATURE = 0.05
"""Cosine similarity per unit of the contrastive loss's logits."""


@dataclasses.dataclass(frozen=True)
class Losses:
    """The weighted sum and its parts, scalars."""

    total: Tensor
    position: Tensor
    visibility: Tensor
    contrastive: Tensor


def losses(unrolled: Unrolled, batch: Batch, config: LossConfig) -> Losses:
    """Return the losses of a batch."""
    size = unrolled.sizes[0][0] * LEVEL_STRIDES[0]
    true = torch.nan_to_num(batch.xy[unrolled.first :], nan=UNKNOWN)
    visible = batch.visible[unrolled.first :]
    position = position_loss(
        size * unrolled.positions, size * true, visible, size, config.hidden, config.layer_discount
    )
    found = size * (unrolled.positions.detach() - true.unsqueeze(1)).norm(dim=-1) < FOUND
    visibility = visibility_loss(unrolled.visibility_logits, visible, found, config.occlusion, config.layer_discount)
    by_level = []
    for stride, queries, level, level_size in zip(
        LEVEL_STRIDES, unrolled.queries, unrolled.levels, unrolled.sizes, strict=True
    ):
        some = slice(config.fine_points if stride == LEVEL_STRIDES[0] else None)
        by_level.append(contrastive_loss(queries[:, some], level, true[:, :, some], visible[:, :, some], level_size))
    contrastive = torch.stack(by_level).mean()
    total = config.position * position + config.visibility * visibility + config.contrastive * contrastive
    return Losses(total, position, visibility, contrastive)


def layer_weights(layers: int, discount: float, like: Tensor) -> Tensor:
    """Return the weights of the decoder layers' losses, 1 for the last, shaped [layers,1,1] for broadcasting."""
    return (discount ** torch.arange(layers - 1, -1, -1, dtype=like.dtype, device=like.device)).view(-1, 1, 1)


def position_loss(
    positions: Tensor, true: Tensor, visible: Tensor, size: int, hidden_weight: float, discount: float
) -> Tensor:
    """Return the mean cost of distances, summed over the layers.

    A distance of d pixels costs SATURATION log(1 + d / SATURATION) / POSITION_UNIT.

    Args:
        positions: [T,layers,B,N,2] pixels plus 0.5, so that the image spans 0..size.
        true: [T,B,N,2], likewise.
        visible: [T,B,N] bool.
        size: width and height of the images.
        hidden_weight: weight of points that are hidden. Those further than `REACH` outside the image have none.
        discount: of a layer's loss against the next one's.
    """
    near = ((true > -REACH) & (true < size + REACH)).all(-1)
    weight = torch.where(visible, 1.0, hidden_weight) * near
    # Smooth at 0, where a distance is not.
    distance = ((positions - true.unsqueeze(1)).square().sum(-1) + 1e-3).sqrt()
    cost = SATURATION * (distance / SATURATION).log1p() / POSITION_UNIT
    by_layer = layer_weights(positions.shape[1], discount, cost) * cost
    return (by_layer.sum(1) * weight).sum() / weight.sum().clamp(min=1.0)


def visibility_loss(logits: Tensor, visible: Tensor, found: Tensor, hidden_weight: float, discount: float) -> Tensor:
    """Return the mean cross-entropy of logits [T,layers,B,N] with whether points are seen, summed over the layers.

    Seen are those that are `visible` [T,B,N] and `found` [T,layers,B,N] where they are. Hidden points weigh
    `hidden_weight`, visible ones 1.
    """
    seen = (visible.unsqueeze(1) & found).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, seen, reduction="none")
    weight = torch.where(visible, 1.0, hidden_weight)
    by_layer = layer_weights(logits.shape[1], discount, entropy) * entropy
    return (by_layer.sum(1) * weight).sum() / weight.sum()


def contrastive_loss(queries: Tensor, level: Tensor, true: Tensor, visible: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean cross-entropy of finding visible points among all pixels of a level.

    The target is soft: the four pixels round the true place, with the weights of bilinear interpolation.

    Args:
        queries: [B,N,C] features at the query points.
        level: [T,B,h*w,C] features of the frames.
        true: [T,B,N,2] unit coordinates.
        visible: [T,B,N] bool.
        size: (h, w).
    """
    height, width = size
    logits = torch.matmul(queries / TEMPERATURE, level.transpose(-1, -2))
    place = true * torch.tensor([width, height], dtype=true.dtype, device=true.device) - 0.5
    x, y = place[..., 0].clamp(0.0, width - 1.001), place[..., 1].clamp(0.0, height - 1.001)
    left, top = x.floor(), y.floor()
    right, below = x - left, y - top
    corner = (top * width + left).long()
    index = torch.stack((corner, corner + 1, corner + width, corner + width + 1), dim=-1)
    share = torch.stack(((1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below), dim=-1)
    likelihood = (logits.gather(-1, index) * share).sum(-1) - logits.logsumexp(-1)
    return -(likelihood * visible).sum() / visible.sum().clamp(min=1)
