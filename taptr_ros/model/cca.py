"""Context-aware cross-attention and the position update it drives (spec section 5, steps 2 and 3).

Around every sampling location the 3x3 patch of keys is compared, cell by cell, with the 3x3 context of the point; the 81
similarities of a location give one logit. The logits weigh the sampled values (CCA) and the sampling offsets (APU).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from taptr_ros.model.config import ModelConfig
from taptr_ros.model.layers import MLP
from taptr_ros.model.sampling import Form, Levels, coverage, patches, weighted_sum

Projection = Literal["dense", "late"]
"""Where keys and values are projected: on all tokens, or only where they are sampled. The results are equal."""

PATCH = 3
"""Side of context and key patches, in level pixels."""


class ContextAwareCrossAttention(nn.Module):
    """CCA: attention from N points to the image tokens by the similarity of whole patches."""

    gather_chunk = 32
    """Points whose key patches are sampled at once in the gather form, so that they stay in the cache."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.heads, self.points = config.heads, config.sampling_points
        self.levels = Levels(config.level_sizes)
        self.corner_aligned_key_patch = config.corner_aligned_key_patch
        samples = config.heads * config.levels * config.sampling_points
        self.sampling_offsets = nn.Linear(dim, samples * 2)
        self.key_projection = nn.Linear(dim, dim)
        self.value_projection = nn.Linear(dim, dim)
        self.context_projection = nn.Linear(dim, dim)
        self.patch_similarity = MLP(PATCH**4, PATCH**2, 1)
        self.output_projection = nn.Linear(dim, dim)

    def forward(
        self, query: Tensor, reference: Tensor, context: Tensor, tokens: Tensor, form: Form, projection: Projection
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend from `query` [N,D] at `reference` [N,2] (x, y in 0..1) to `tokens` [S,D].

        `context` is [N,3,3,D]. Returns the output [N,D], the logits [N,heads,L,P] and the offsets [N,heads,L,P,2] in
        level pixels.
        """
        count = query.shape[0]
        offsets = self.sampling_offsets(query).view(count, self.heads, len(self.levels.sizes), self.points, 2)
        size = self.levels.width_height(query)
        position = (reference[:, None] * size - 0.5)[:, None, :, None] + offsets
        x, y = position[..., 0], position[..., 1]
        logits = self._logits(x, y, context, tokens, form, projection)
        attention = logits.flatten(2).softmax(-1).view(logits.shape)
        values = self._values(x, y, attention, tokens, form, projection)
        return self.output_projection(values.reshape(count, -1)), logits, offsets

    def _logits(
        self, x: Tensor, y: Tensor, context: Tensor, tokens: Tensor, form: Form, projection: Projection
    ) -> Tensor:
        """Return the patch-level similarity of every sampling location as a logit [N,heads,L,P]."""
        cells = self.context_projection(context.flatten(1, 2)).view(context.shape[0], PATCH**2, self.heads, -1)
        cells = cells.transpose(1, 2)
        if projection == "dense":
            keys = self.key_projection(tokens).view(tokens.shape[0], self.heads, -1)
            biases = None
        else:
            # <W_k x + b_k, g> = <x, W_k' g> + <b_k, g>: the projection moves to the nine context cells.
            keys = tokens.unsqueeze(1)
            key_bias = self.key_projection.bias.view(self.heads, -1, 1)
            biases = torch.matmul(cells, key_bias).squeeze(-1)
            cells = torch.matmul(cells, self.key_projection.weight.view(self.heads, -1, tokens.shape[1]))
        if form == "grid":
            return self._patch_logits(x, y, cells, biases, keys, form)
        rows = range(0, x.shape[0], self.gather_chunk)
        return torch.cat(
            [
                self._patch_logits(
                    x[i : i + self.gather_chunk],
                    y[i : i + self.gather_chunk],
                    cells[i : i + self.gather_chunk],
                    None if biases is None else biases[i : i + self.gather_chunk],
                    keys,
                    form,
                )
                for i in rows
            ]
        )

    def _patch_logits(
        self, x: Tensor, y: Tensor, cells: Tensor, biases: Tensor | None, keys: Tensor, form: Form
    ) -> Tensor:
        """Compare key patches at x, y [N,heads,L,P] with context cells [N,heads,9,d]."""
        across, down = self._key_patch(x, axis=0), self._key_patch(y, axis=1)
        sampled = patches(keys, across, down, self.levels, form)
        similarity = torch.matmul(sampled, cells.transpose(-1, -2))
        if biases is not None:
            inside = coverage(across, down, self.levels).reshape(*x.shape[:2], -1, 1)
            similarity = similarity + inside * biases.unsqueeze(2)
        return self.patch_similarity(similarity.view(*x.shape, PATCH**4)).squeeze(-1)

    def _key_patch(self, position: Tensor, axis: int) -> Tensor:
        """Return the three positions [...,3] of a key patch along one axis (0 is x) around [N,heads,L,P] positions."""
        steps = torch.arange(PATCH, dtype=position.dtype, device=position.device) - PATCH // 2
        spacing = torch.ones_like(self.levels.width_height(position)[:, axis])
        if self.corner_aligned_key_patch:
            size = self.levels.width_height(position)[:, axis]
            spacing = size / (size - 1.0)
        return position.unsqueeze(-1) + steps * spacing[:, None, None]

    def _values(
        self, x: Tensor, y: Tensor, attention: Tensor, tokens: Tensor, form: Form, projection: Projection
    ) -> Tensor:
        """Return the attention-weighted values [N,heads,d] at x, y [N,heads,L,P]."""
        if projection == "dense":
            values = self.value_projection(tokens).view(tokens.shape[0], self.heads, -1)
            return weighted_sum(values, x, y, attention, self.levels, form)
        mixed = weighted_sum(tokens.unsqueeze(1), x, y, attention, self.levels, form)
        weight = self.value_projection.weight.view(self.heads, -1, tokens.shape[1])
        projected = torch.matmul(mixed.transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1)
        inside = coverage(x.unsqueeze(-1), y.unsqueeze(-1), self.levels).view(attention.shape)
        return projected + self.value_projection.bias.view(self.heads, -1) * (attention * inside).flatten(2).sum(
            -1, keepdim=True
        )


class AutomaticPositionUpdate(nn.Module):
    """APU: the logits of CCA also weigh the sampling offsets into a change of position (spec section 5, step 3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.divides_by_swapped_size = config.position_update_divides_by_swapped_size
        self.levels = Levels(config.level_sizes)
        samples = config.heads * config.levels * config.sampling_points
        self.weights = nn.Sequential(
            MLP(samples, config.hidden_dim, config.hidden_dim, final_activation=True),
            nn.Linear(config.hidden_dim, samples),
        )

    def forward(self, logits: Tensor, offsets: Tensor) -> Tensor:
        """Return the position change [N,2], in units of the image, from logits and offsets of CCA."""
        weight = self.weights(logits.flatten(1)).softmax(-1).view(logits.shape)
        size = self.levels.width_height(offsets)
        if self.divides_by_swapped_size:
            size = size.flip(-1)
        return (weight.unsqueeze(-1) * offsets / size[:, None]).flatten(1, 3).sum(1)
