"""What training minimises: errors of position and visibility after every decoder layer, and a contrastive loss."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from taptr_ros.model.constants import constant
from taptr_ros.model.small_config import LEVEL_STRIDES
from taptr_ros.training.batches import Batch
from taptr_ros.training.config import LossConfig
from taptr_ros.training.unroll import Unrolled

POSITION_UNIT = 4.0
"""Pixels of position error that cost 1."""

SATURATION = 12.0
"""Pixels of position error at which an error's growth costs half as much as near 0: most of a clip's error is that of
few points that are lost for good, which nothing can be learnt from."""

CLOSE = 8.0
"""Pixels of position error within which an estimate counts as close: what confidence is the probability of."""

LEAP = 24.0
"""Pixels of error up to which the position that was found from a heat map's peak is learnt from: further away, the peak
was on something else."""

FAR_OUTSIDE = 24.0
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
    confidence: Tensor
    contrastive: Tensor


def losses(unrolled: Unrolled, batch: Batch, config: LossConfig) -> Losses:
    """Return the losses of a batch."""
    size = unrolled.sizes[0][0] * LEVEL_STRIDES[0]
    true = torch.nan_to_num(batch.xy[unrolled.first :], nan=UNKNOWN)
    visible, known = batch.visible[unrolled.first :], batch.known[unrolled.first :]
    weights = estimate_weights(unrolled.positions.shape[1], config.layer_discount, true)
    position = position_loss(size * unrolled.positions, size * true, visible, known, size, config.hidden, weights)
    error = size * (unrolled.positions.detach() - true.unsqueeze(1)).norm(dim=-1)
    visibility = visibility_loss(unrolled.logits[..., 0], visible, known, config.occlusion, weights)
    confidence = confidence_loss(unrolled.logits[..., 1], error, visible, weights)
    by_level = []
    for stride, queries, level, level_size in zip(
        LEVEL_STRIDES, unrolled.queries, unrolled.levels, unrolled.sizes, strict=True
    ):
        some = slice(config.fine_points if stride == LEVEL_STRIDES[0] else None)
        by_level.append(contrastive_loss(queries[:, some], level, true[:, :, some], visible[:, :, some], level_size))
    by_level.append(place_loss(unrolled.heat, true, visible, unrolled.sizes[1]))
    contrastive = torch.stack(by_level).mean()
    total = (
        config.position * position
        + config.visibility * visibility
        + config.confidence * confidence
        + config.contrastive * contrastive
    )
    return Losses(total, position, visibility, confidence, contrastive)


def estimate_weights(estimates: int, discount: float, like: Tensor) -> Tensor:
    """Return the weights of the estimates' losses, 1 for the last, shaped [estimates,1,1] for broadcasting.

    The first two are the first layer's, from two places.
    """
    layer = torch.arange(estimates, dtype=like.dtype, device=like.device).sub(1.0).clamp(min=0.0)
    return (discount ** (estimates - 2 - layer)).view(-1, 1, 1)


def position_loss(
    positions: Tensor,
    true: Tensor,
    visible: Tensor,
    known: Tensor,
    size: int,
    hidden_weight: float,
    weights: Tensor,
) -> Tensor:
    """Return the mean cost of distances, summed over the estimates.

    A distance of d pixels costs SATURATION log(1 + d / SATURATION) / POSITION_UNIT.

    Args:
        positions: [T,estimates,B,N,2] pixels plus 0.5, so that the image spans 0..size.
        true: [T,B,N,2], likewise.
        visible: [T,B,N] bool.
        known: [T,B,N] bool; nothing is learnt where it is False.
        size: width and height of the images.
        hidden_weight: weight of points that are hidden. Those further than `FAR_OUTSIDE` outside the image have none.
        weights: [estimates,1,1]; the first estimate counts only where it is within `LEAP`.
    """
    near = ((true > -FAR_OUTSIDE) & (true < size + FAR_OUTSIDE)).all(-1)
    weight = torch.where(visible, 1.0, hidden_weight) * (near & known)
    # Smooth at 0, where a distance is not.
    distance = ((positions - true.unsqueeze(1)).square().sum(-1) + 1e-3).sqrt()
    cost = SATURATION * (distance / SATURATION).log1p() / POSITION_UNIT
    reached = torch.cat((distance[:, :1] < LEAP, torch.ones_like(distance[:, 1:], dtype=torch.bool)), dim=1)
    weighted = torch.where(reached, weights * cost, 0.0)
    return (weighted.sum(1) * weight).sum() / weight.sum().clamp(min=1.0)


def visibility_loss(logits: Tensor, visible: Tensor, known: Tensor, hidden_weight: float, weights: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits [T,estimates,B,N] with `visible` [T,B,N], summed over the estimates.

    Hidden points weigh `hidden_weight`, visible ones 1, those that are not `known` [T,B,N] nothing; estimates have
    `weights` [estimates,1,1].
    """
    target = visible.unsqueeze(1).to(logits.dtype).expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = torch.where(visible, 1.0, hidden_weight) * known
    return ((weights * entropy).sum(1) * weight).sum() / weight.sum().clamp(min=1.0)


def confidence_loss(logits: Tensor, error: Tensor, visible: Tensor, weights: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits [T,estimates,B,N] with whether estimates are close, of visible points.

    `error` [T,estimates,B,N] is in pixels; estimates have `weights` [estimates,1,1].
    """
    entropy = F.binary_cross_entropy_with_logits(logits, (error < CLOSE).to(logits.dtype), reduction="none")
    return ((weights * entropy).sum(1) * visible).sum() / visible.sum().clamp(min=1)


def contrastive_loss(queries: Tensor, level: Tensor, true: Tensor, visible: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the `place_loss` of finding points by their query features among all pixels of a level.

    Args:
        queries: [B,N,C] features at the query points.
        level: [T,B,h*w,C] features of the frames.
        true: [T,B,N,2] unit coordinates.
        visible: [T,B,N] bool.
        size: (h, w).
    """
    return place_loss(torch.matmul(queries / TEMPERATURE, level.transpose(-1, -2)), true, visible, size)


def place_loss(logits: Tensor, true: Tensor, visible: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean cross-entropy of logits [T,B,N,h*w] of all pixels with the true places of visible points.

    The target is soft: the four pixels round the true place, with the weights of bilinear interpolation. `true`
    [T,B,N,2] is in unit coordinates, `visible` [T,B,N] bool, `size` (h, w).
    """
    height, width = size
    place = true * constant((width, height), true) - 0.5
    x, y = place[..., 0].clamp(0.0, width - 1.001), place[..., 1].clamp(0.0, height - 1.001)
    left, top = x.floor(), y.floor()
    right, below = x - left, y - top
    corner = (top * width + left).long()
    index = torch.stack((corner, corner + 1, corner + width, corner + width + 1), dim=-1)
    share = torch.stack(((1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below), dim=-1)
    likelihood = (logits.gather(-1, index) * share).sum(-1) - logits.logsumexp(-1)
    return -(likelihood * visible).sum() / visible.sum().clamp(min=1)
