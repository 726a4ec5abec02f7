"""Multi-scale deformable encoder over the image tokens (spec sections 2 and 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taptr_ros.model.config import GROUP_NORM_GROUPS, ModelConfig
from taptr_ros.model.layers import FeedForward, interleaved_sine, sine_frequencies
from taptr_ros.model.sampling import Form, Levels, Sampler, sampler


class DeformableSelfAttention(nn.Module):
    """Every token attends to a few sampled positions on all levels (spec section 3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.levels, self.points = config.heads, config.levels, config.sampling_points
        samples = config.heads * config.levels * config.sampling_points
        self.sampling_offsets = nn.Linear(config.hidden_dim, samples * 2)
        self.attention_weights = nn.Linear(config.hidden_dim, samples)
        self.value_projection = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.output_projection = nn.Linear(config.hidden_dim, config.hidden_dim)

    def values(self, tokens: Tensor, levels: Levels, form: Form) -> Sampler:
        """Project tokens [S,D] to the values that are sampled."""
        return sampler(tokens, levels, form).projected(self.value_projection, self.heads)

    def forward(self, query: Tensor, reference: Tensor, values: Sampler) -> Tensor:
        """Attend from queries [N,D] with reference positions [N,2,L,P], in pixels of each level, to the values."""
        count = query.shape[0]
        offsets = self.sampling_offsets(query).view(count, 2, self.heads, self.levels, self.points)
        weights = self.attention_weights(query).view(count, self.heads, -1).softmax(-1)
        x, y = (reference.unsqueeze(2) + offsets).unbind(1)
        sampled = values.weighted_sum(x, y, weights.view(x.shape))
        return self.output_projection(sampled.flatten(1))


class EncoderLayer(nn.Module):
    """Deformable self-attention, then a feed-forward block."""

    chunk = 680
    """Tokens computed at once in inference: their temporaries then stay in the processor's cache."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = DeformableSelfAttention(config)
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.feed_forward = FeedForward(config.hidden_dim, config.feedforward_dim)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, levels: Levels, form: Form) -> Tensor:
        """Refine tokens [S,D] with position embedding [S,D] and reference positions [S,2,L,P]."""
        values = self.attention.values(tokens, levels, form)

        def refine(part: Tensor, part_position: Tensor, part_reference: Tensor) -> Tensor:
            attended = self.attention(part + part_position, part_reference, values)
            return self.feed_forward(self.norm(part + attended))

        if form == "grid":
            return refine(tokens, position, reference)
        parts = zip(*(tensor.split(self.chunk) for tensor in (tokens, position, reference)), strict=True)
        return torch.cat([refine(*part) for part in parts])


class Encoder(nn.Module):
    """Projects the backbone's levels to tokens and refines them; the result is all that a frame's features are."""

    position: Tensor
    reference: Tensor

    def __init__(self, config: ModelConfig, levels: Levels) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.levels = levels
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, dim, kernel_size=1), nn.GroupNorm(GROUP_NORM_GROUPS, dim))
            for channels in config.stage_channels
        )
        self.level_embedding = nn.Parameter(torch.randn(config.levels, dim))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.register_buffer("position", position_encoding(self.levels, dim), persistent=False)
        # Repeated for every sampling point, which is faster to add to offsets than to broadcast over so few.
        reference = reference_positions(self.levels).unsqueeze(-1).repeat(1, 1, 1, config.sampling_points)
        self.register_buffer("reference", reference, persistent=False)

    def forward(self, feature_maps: list[Tensor], form: Form) -> Tensor:
        """Turn the backbone's outputs [1,C_l,h_l,w_l] into tokens [S,D], finest level first."""
        tokens = torch.cat(
            [
                projection(feature_map).flatten(2).squeeze(0).transpose(0, 1)
                for projection, feature_map in zip(self.projections, feature_maps, strict=True)
            ]
        )
        counts = torch.tensor(self.levels.counts, device=tokens.device)
        position = self.position + self.level_embedding.repeat_interleave(
            counts, dim=0, output_size=self.position.shape[0]
        )
        for layer in self.layers:
            tokens = layer(tokens, position, self.reference, self.levels, form)
        return tokens


def position_encoding(levels: Levels, dim: int) -> Tensor:
    """Return the sine position encoding [S,D] of all tokens: D/2 channels for y, then D/2 for x (spec section 2)."""
    frequencies = 2.0 * torch.pi * sine_frequencies(dim // 2)
    encodings = []
    for height, width in levels.sizes:
        y = torch.arange(1, height + 1) / (height + 1e-6)
        x = torch.arange(1, width + 1) / (width + 1e-6)
        y_sine = interleaved_sine(y[:, None] * frequencies)[:, None].expand(height, width, -1)
        x_sine = interleaved_sine(x[:, None] * frequencies)[None].expand(height, width, -1)
        encodings.append(torch.cat((y_sine, x_sine), dim=-1).flatten(0, 1))
    return torch.cat(encodings)


def reference_positions(levels: Levels) -> Tensor:
    """Return where every token lies on every level, [S,2,L] (x, y first) in pixels of that level (spec section 3)."""
    centres = []
    for height, width in levels.sizes:
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        centres.append(torch.stack((x, y), dim=-1).flatten(0, 1))
    centre = torch.cat(centres)
    return centre[:, :, None] * levels.width_height.t() - 0.5
