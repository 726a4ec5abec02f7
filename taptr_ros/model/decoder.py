"""The decoder: four layers of VLTA, CCA with APU, self-attention and feed-forward that find N points in one frame.

Spec section 5 gives every step. Content restarts from the query's initial feature on every frame; all that a track
carries is its box logits and its memory.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taptr_ros.model.cca import AutomaticPositionUpdate, ContextAwareCrossAttention
from taptr_ros.model.config import ModelConfig
from taptr_ros.model.layers import MLP, FeedForward, SineEmbedding, inverse_sigmoid
from taptr_ros.model.sampling import Levels, Sampler
from taptr_ros.model.vlta import VisibilityAwareLongTemporalAttention

VISIBILITY_CLASSES = 3
"""Class logits per point: unused, visible, occluded (spec section 6)."""

VISIBLE_CLASS = 1
"""Index of the class logit whose sigmoid is the visibility probability (spec section 6)."""


@dataclasses.dataclass(frozen=True)
class DecoderInput:
    """What the decoder needs besides the image tokens. N tracks, M memory slots, D channels."""

    content: Tensor
    """[N,D] initial content features."""
    context: Tensor
    """[N,3,3,D] contexts."""
    state: Tensor
    """[N,4] box logits of the previous frame: x, y, and two latent numbers."""
    keys: Tensor
    """[N,M,D] memory, rotated by minus each slot's frame, channels de-interleaved."""
    values: Tensor
    """[N,M,D] memory as it is."""
    weights: Tensor
    """[N,M] visibility weights of the memory; 0 marks an empty slot."""
    phase: Tensor
    """[2,D/2] cosine and sine of the current frame number times the rotary frequencies."""
    updated: Tensor
    """[N] bool; False freezes the position (a track's start frame)."""
    active: Tensor | None = None
    """[N] bool; False hides a row from the other points. None: all rows are tracks."""


@dataclasses.dataclass(frozen=True)
class DecoderOutput:
    """What the decoder found."""

    state: Tensor
    """[N,4] box logits to carry to the next frame; unchanged where `updated` is False."""
    content: Tensor
    """[N,D] refined content feature, to be remembered."""
    class_logits: Tensor
    """[N,3] class logits of the last layer; index 1 is visible."""


class SelfAttention(nn.Module):
    """The points attend to each other; position embeddings enter queries and keys only (spec section 5, step 4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.heads = config.heads
        self.query_projection = nn.Linear(dim, dim)
        self.key_projection = nn.Linear(dim, dim)
        self.value_projection = nn.Linear(dim, dim)
        self.output_projection = nn.Linear(dim, dim)

    def forward(self, x: Tensor, query_position: Tensor, active: Tensor | None) -> Tensor:
        """Attend among points [N,D] with position embeddings [N,D]; rows where `active` is False are not seen."""
        positioned = x + query_position
        query, key, value = (
            projection(source).view(x.shape[0], self.heads, -1).transpose(0, 1).unsqueeze(0)
            for projection, source in (
                (self.query_projection, positioned),
                (self.key_projection, positioned),
                (self.value_projection, x),
            )
        )
        mask = None if active is None else active.view(1, 1, 1, -1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output_projection(attended.squeeze(0).transpose(0, 1).reshape(x.shape))


class DecoderLayer(nn.Module):
    """One refinement of content and position."""

    def __init__(self, config: ModelConfig, levels: Levels) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.temporal_attention = VisibilityAwareLongTemporalAttention(
            dim, config.heads, current_frame_in_memory=config.current_frame_in_memory
        )
        self.temporal_norm = nn.LayerNorm(dim)
        self.cross_attention = ContextAwareCrossAttention(config, levels)
        self.cross_norm = nn.LayerNorm(dim)
        self.position_update = AutomaticPositionUpdate(config, levels)
        self.self_attention: SelfAttention | None = None
        if config.self_attention:
            self.updated_position_head = MLP(4 * config.sine_features, dim, dim)
            self.self_attention = SelfAttention(config)
            self.self_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, config.feedforward_dim)

    def forward(
        self,
        x: Tensor,
        query_position: Tensor,
        reference: Tensor,
        tracks: DecoderInput,
        tokens: Sampler,
        sine: SineEmbedding,
    ) -> tuple[Tensor, Tensor]:
        """Refine content `x` [N,D] at the boxes `reference` [N,4]; returns it and the boxes after APU."""
        attended = self.temporal_attention(
            x, tracks.content, tracks.keys, tracks.values, tracks.weights, tracks.phase, tracks.updated
        )
        x = self.temporal_norm(x + attended)
        attended, logits, offsets = self.cross_attention(x + query_position, reference[:, :2], tracks.context, tokens)
        x = self.cross_norm(x + attended)
        position = reference[:, :2]
        moved = inverse_sigmoid(position + self.position_update(logits, offsets)).sigmoid()
        position = torch.where(tracks.updated.unsqueeze(-1), moved, position)
        reference = torch.cat((position, reference[:, 2:]), dim=-1)
        if self.self_attention is not None:
            updated_position = self.updated_position_head(sine(reference))
            x = self.self_norm(x + self.self_attention(x, updated_position, tracks.active))
        return self.feed_forward(x), reference


class Decoder(nn.Module):
    """All layers, the parts they share, and the heads."""

    def __init__(self, config: ModelConfig, levels: Levels) -> None:
        super().__init__()
        dim, sine = config.hidden_dim, config.sine_features
        self.box_clamped_twice = config.box_clamped_twice
        self.layers = nn.ModuleList(DecoderLayer(config, levels) for _ in range(config.decoder_layers))
        self.sine = SineEmbedding(sine)
        self.query_position_head = MLP(4 * sine, dim, dim)
        self.content_updater = MLP(2 * dim, dim, dim)
        self.position_change_fuser = MLP(dim + 2 * sine, dim, dim, dim)
        self.box_heads = nn.ModuleList(MLP(dim, dim, dim, 4) for _ in range(config.decoder_layers))
        self.class_heads = nn.ModuleList(nn.Linear(dim, VISIBILITY_CLASSES) for _ in range(config.decoder_layers))

    def forward(self, tokens: Sampler, tracks: DecoderInput) -> DecoderOutput:
        """Find the tracks in the frame with image tokens [S,D]."""
        updated = tracks.updated.unsqueeze(-1)
        x = tracks.content
        reference = tracks.state.sigmoid()
        for number, (layer, box_head) in enumerate(zip(self.layers, self.box_heads, strict=True), start=1):
            before = reference
            query_position = self.query_position_head(self.sine(reference))
            x, reference = layer(x, query_position, reference, tracks, tokens, self.sine)
            # A frozen row's position is the same before and after, so its change is zero.
            change = reference[:, :2] - before[:, :2]
            fused = self.position_change_fuser(torch.cat((x, self.sine(change)), dim=-1))
            correction = torch.where(updated, box_head(fused), 0.0)
            box = inverse_sigmoid(reference) + correction
            if number < len(self.layers):
                reference = box.sigmoid()
                x = x + self.content_updater(torch.cat((x, tracks.content), dim=-1))
        if self.box_clamped_twice:
            box = inverse_sigmoid(inverse_sigmoid(reference).sigmoid()) + correction
        return DecoderOutput(
            state=torch.where(updated, box, tracks.state),
            content=fused,
            class_logits=self.class_heads[-1](fused),
        )
