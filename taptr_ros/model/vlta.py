"""Visibility-aware long-temporal attention: a point attends to its own past (spec section 5, step 1).

No memory slot is ever projected. With q the projected query of a head, m a slot and R(t - j) the rotary embedding for a
slot written in frame j, the score and the output are

    <q, W_k R(t - j) m + b_k> = <R(-t) W_k' q, R(-j) m> + const,        sum a (W_v m + b_v) = W_v (sum a m) + b_v sum a,

and the constant, equal for all slots of a head, cancels in the softmax. R(-j) m is what the memory's keys hold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from taptr_ros.model.layers import CLAMP

CURRENT_FRAME_WEIGHT = CLAMP / (1.0 + CLAMP)
"""Visibility weight of the current frame's slot, sigmoid(inverse_sigmoid(0)) = 0.000999001."""

MASKED_SCORE = -1e30
"""Added to the score of an empty slot; finite, so that a memory without any slot gives zeros instead of NaN."""


class VisibilityAwareLongTemporalAttention(nn.Module):
    """Attention of N points, each over the M slots of its own memory."""

    def __init__(self, dim: int, heads: int, *, current_frame_in_memory: bool = False) -> None:
        """`current_frame_in_memory` is the quirk of released weights that `ModelConfig` describes."""
        super().__init__()
        self.heads = heads
        self.current_frame_in_memory = current_frame_in_memory
        self.query_projection = nn.Linear(dim, dim)
        self.key_projection = nn.Linear(dim, dim, bias=False)
        self.value_projection = nn.Linear(dim, dim)
        self.output_projection = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        current: Tensor,
        keys: Tensor,
        values: Tensor,
        weights: Tensor,
        phase: Tensor,
        updated: Tensor,
    ) -> Tensor:
        """Return the attention's output [N,D].

        Args:
            x: queries [N,D].
            current: initial content features [N,D], the current frame's slot where the model has one.
            keys: [N,M,D] slots rotated by minus their frame, channels de-interleaved.
            values: [N,M,D] slots as they are.
            weights: [N,M] visibility weights; 0 marks an empty slot.
            phase: [2,D/2] cosine and sine of the current frame number times the rotary frequencies.
            updated: [N] bool, False in a track's start frame: the current slot is then the start slot, of weight 1.
        """
        count, dim = x.shape
        depth = dim // self.heads
        query = self.query_projection(x).view(count, self.heads, depth) / math.sqrt(depth)
        key_weight = self.key_projection.weight.view(self.heads, depth, dim)
        query = torch.bmm(query.transpose(0, 1), key_weight).transpose(0, 1)
        scores = _scores(rotate_back(query, phase), keys)
        alpha = weights.unsqueeze(1)
        scores = scores + torch.where(alpha > 0.0, 0.0, MASKED_SCORE)
        if self.current_frame_in_memory:
            scores = torch.cat((scores, torch.matmul(query, current.unsqueeze(-1))), dim=-1)
            start = torch.where(updated, CURRENT_FRAME_WEIGHT, 1.0).to(alpha.dtype)
            alpha = torch.cat((alpha, start.view(-1, 1, 1)), dim=-1)
        attention = scores.softmax(-1) * alpha
        total = attention.sum(-1, keepdim=True)
        mixed = _weighted_sums(attention[..., : values.shape[1]], values)
        if self.current_frame_in_memory:
            mixed = mixed + attention[..., -1:] * current.unsqueeze(1)
        value_weight = self.value_projection.weight.view(self.heads, depth, dim)
        output = torch.bmm(mixed.transpose(0, 1), value_weight.transpose(1, 2)).transpose(0, 1)
        # Normalising the sums is cheaper than normalising the attention, and equal.
        output = (output + self.value_projection.bias.view(self.heads, depth) * total) / (total + 1e-7)
        return self.output_projection(output.reshape(count, dim))


def _scores(query: Tensor, keys: Tensor) -> Tensor:
    """Return the dot products [N,heads,M] of queries [N,heads,D] with keys [N,M,D]."""
    if torch.onnx.is_in_onnx_export():
        # Head by head: ONNX Runtime then reads the keys as they are, instead of rearranging them first. PyTorch would
        # copy them for every head.
        return torch.matmul(query.unsqueeze(2), keys.unsqueeze(1).transpose(2, 3)).squeeze(2)
    return torch.matmul(query, keys.transpose(1, 2))


def _weighted_sums(attention: Tensor, values: Tensor) -> Tensor:
    """Return the sums [N,heads,D] of values [N,M,D], weighted by [N,heads,M]."""
    if torch.onnx.is_in_onnx_export():
        # As above.
        return torch.matmul(attention.unsqueeze(2), values.unsqueeze(1)).squeeze(2)
    return torch.matmul(attention, values)


def rotate_back(query: Tensor, phase: Tensor) -> Tensor:
    """Rotate queries [N,heads,D] by minus the current frame's phase [2,D/2]; returns them de-interleaved."""
    cos, sin = phase[0], phase[1]
    even, odd = query[..., 0::2], query[..., 1::2]
    return torch.cat((even * cos + odd * sin, odd * cos - even * sin), dim=-1)
