"""Context-aware cross-attention and the position update it drives (spec section 5, steps 2 and 3).

Around every sampling location the 3x3 patch of keys is compared, cell by cell, with the 3x3 context of the point; the
81 similarities of a location give one logit. The logits weigh the sampled values (CCA) and the sampling offsets (APU).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taptr_ros.model.config import ModelConfig
from taptr_ros.model.gather import GatherSampler
from taptr_ros.model.layers import MLP
from taptr_ros.model.sampling import Levels, Sampler

PATCH = 3
"""Side of context and key patches, in level pixels."""


class ContextAwareCrossAttention(nn.Module):
    """CCA: attention from N points to the image tokens by the similarity of whole patches."""

    chunk = 32
    """Points whose key patches are gathered and compared at once, so that they stay in the processor's cache."""

    key_patch: Tensor
    """Offsets of a key patch's cells on each axis, in level pixels: [3,2,1,1,L,1]."""

    def __init__(self, config: ModelConfig, levels: Levels) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.heads, self.points = config.heads, config.sampling_points
        self.levels = levels
        self.register_buffer("key_patch", key_patch_offsets(levels, config.corner_aligned_key_patch), persistent=False)
        samples = config.heads * config.levels * config.sampling_points
        self.sampling_offsets = nn.Linear(dim, samples * 2)
        self.key_projection = nn.Linear(dim, dim)
        self.value_projection = nn.Linear(dim, dim)
        self.context_projection = nn.Linear(dim, dim)
        self.patch_similarity = MLP(PATCH**4, PATCH**2, 1)
        self.output_projection = nn.Linear(dim, dim)

    def forward(
        self, query: Tensor, reference: Tensor, context: Tensor, tokens: Sampler
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend from `query` [N,D] at `reference` [N,2] (x, y in 0..1) to the image tokens [S,D].

        `context` is [N,3,3,D]. Returns the output [N,D], the logits [N,heads,L,P] and the offsets [N,2,heads,L,P]
        (x, y first) in level pixels.
        """
        count = query.shape[0]
        offsets = self.sampling_offsets(query).view(count, 2, self.heads, len(self.levels.sizes), self.points)
        centre = reference.unsqueeze(-1) * self.levels.width_height.t() - 0.5
        x, y = (centre[:, :, None, :, None] + offsets).unbind(1)
        cells = self.context_projection(context.flatten(1, 2)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        logits = self._logits(x, y, *tokens.prepare_similarity(cells, self.key_projection))
        attention = logits.flatten(2).softmax(-1).view(logits.shape)
        values = tokens.weighted_projection(x, y, attention, self.value_projection)
        return self.output_projection(values.reshape(count, -1)), logits, offsets

    def _logits(self, x: Tensor, y: Tensor, keys: Sampler, cells: Tensor) -> Tensor:
        """Return the patch-level similarity of every sampling location as a logit [N,heads,L,P]."""
        if not isinstance(keys, GatherSampler):
            return self._patch_logits(x, y, keys, cells)
        chunks = zip(x.split(self.chunk), y.split(self.chunk), cells.split(self.chunk), strict=True)
        return torch.cat([self._patch_logits(x, y, keys, cells) for x, y, cells in chunks])

    def _patch_logits(self, x: Tensor, y: Tensor, keys: Sampler, cells: Tensor) -> Tensor:
        """Compare key patches round x, y [N,heads,L,P] with context cells [N,heads,9,d]."""
        similarity = keys.similarity(x + self.key_patch[:, 0], y + self.key_patch[:, 1], cells)
        return self.patch_similarity(similarity.view(*x.shape, PATCH**4)).squeeze(-1)


def key_patch_offsets(levels: Levels, corner_aligned: bool) -> Tensor:
    """Return the offsets -1, 0, 1 times the cell spacing of every axis and level, in level pixels, [3,2,1,1,L,1]."""
    spacing = torch.ones_like(levels.width_height)
    if corner_aligned:
        spacing = levels.width_height / (levels.width_height - 1.0)
    steps = torch.arange(PATCH, dtype=spacing.dtype) - PATCH // 2
    return steps.view(-1, 1, 1, 1, 1, 1) * spacing.t()[:, None, None, :, None]


class AutomaticPositionUpdate(nn.Module):
    """APU: the logits of CCA also weigh the sampling offsets into a change of position (spec section 5, step 3)."""

    def __init__(self, config: ModelConfig, levels: Levels) -> None:
        super().__init__()
        self.divides_by_swapped_size = config.position_update_divides_by_swapped_size
        self.levels = levels
        samples = config.heads * config.levels * config.sampling_points
        self.weights = nn.Sequential(
            MLP(samples, config.hidden_dim, config.hidden_dim, final_activation=True),
            nn.Linear(config.hidden_dim, samples),
        )

    def forward(self, logits: Tensor, offsets: Tensor) -> Tensor:
        """Return the position change [N,2], in units of the image, from logits and offsets of CCA."""
        weight = self.weights(logits.flatten(1)).softmax(-1).view(logits.shape)
        size = self.levels.width_height
        if self.divides_by_swapped_size:
            size = size.flip(-1)
        return (weight.unsqueeze(1) * offsets / size.t()[:, None, :, None]).flatten(2).sum(-1)
