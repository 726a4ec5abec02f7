"""The small network's decoder: layers of VLTA, grid CCA with APU and feed-forward that find N points in one frame.

Content restarts from the query's feature on every frame, as in the large network (spec section 5). Layers are pre-norm,
positions linear, and the points do not attend to each other: every track is independent of all others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from taptr_ros.model.decoder import DecoderInput
from taptr_ros.model.grid_cca import GridCrossAttention
from taptr_ros.model.layers import MLP
from taptr_ros.model.patches import Features, Patches
from taptr_ros.model.small_config import HISTORY, LEVEL_STRIDES, SmallConfig
from taptr_ros.model.vlta import VisibilityAwareLongTemporalAttention

OVERSHOOT = 0.1
"""How far a position may leave the image, as a fraction of its size."""

CORRECTION_SCALE = 8.0
"""Input pixels per unit of the position head's output, and of the displacements that go into the content."""

PatchesAt = Callable[[Features, Tensor, int], Patches]
"""How patches are read: features, centres [N,L,2] in level pixels, radius."""


@dataclasses.dataclass(frozen=True)
class SmallDecoderOutput:
    """What the decoder found, and every layer's estimate for the losses of training."""

    state: Tensor
    """[N,state_dim] to carry to the next frame; unchanged where `DecoderInput.updated` is False."""
    content: Tensor
    """[N,D] refined content feature, to be remembered."""
    positions: Tensor
    """[layers,N,2] unit coordinates after every layer."""
    visibility_logits: Tensor
    """[layers,N] whose sigmoid is the probability that the point is visible; in inference the last layer's only."""


class SmallDecoderLayer(nn.Module):
    """One refinement of content and position."""

    def __init__(self, config: SmallConfig, *, temporal: bool) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.temporal_attention: VisibilityAwareLongTemporalAttention | None = None
        if temporal:
            self.temporal_norm = nn.LayerNorm(dim)
            self.temporal_attention = VisibilityAwareLongTemporalAttention(dim, config.heads)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross_attention = GridCrossAttention(config)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = MLP(dim, config.feedforward_dim, dim)
        self.position_head = MLP(dim, dim, 2)
        with torch.no_grad():
            # A layer starts with APU alone.
            for parameter, factor in zip(self.position_head.layers[-1].parameters(), (0.05, 0.0), strict=True):
                parameter.mul_(factor)

    def forward(
        self, x: Tensor, tracks: DecoderInput, cells: Sequence[Tensor], patches: Patches
    ) -> tuple[Tensor, Tensor]:
        """Refine content `x` [N,D]; returns it and the change of position [N,2] in input pixels."""
        if self.temporal_attention is not None:
            x = x + self.temporal_attention(
                self.temporal_norm(x),
                *(tracks.content, tracks.keys, tracks.values, tracks.weights, tracks.phase, tracks.updated),
            )
        update, movement = self.cross_attention(self.cross_norm(x), cells, patches)
        x = x + update
        x = x + self.feed_forward(self.feed_forward_norm(x))
        return x, movement + CORRECTION_SCALE * self.position_head(x)


class SmallDecoder(nn.Module):
    """All layers and the visibility head, which they share."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.config = config
        self.motion = nn.Linear(2 * HISTORY, dim)
        self.context_scale = nn.Parameter(torch.tensor(4.0))
        self.layers = nn.ModuleList(
            SmallDecoderLayer(config, temporal=index < config.temporal_layers) for index in range(config.decoder_layers)
        )
        self.output_norm = nn.LayerNorm(dim)
        self.visibility_head = MLP(dim, dim, 1)

    def forward(self, features: Features, tracks: DecoderInput, patches_at: PatchesAt) -> SmallDecoderOutput:
        """Find the tracks in the image with these features."""
        height, width = (LEVEL_STRIDES[0] * length for length in features.sizes[0])
        size = torch.tensor([width, height], dtype=tracks.state.dtype, device=tracks.state.device)
        start, history = tracks.state[:, :2], tracks.state[:, 2:]
        pixels = (history.view(-1, HISTORY, 2) * size).flatten(1)
        x = tracks.content + self.motion(pixels / CORRECTION_SCALE)
        context = self.context_scale * tracks.context.flatten(1, 2)
        cells = context.split(self.config.level_channels, dim=-1)
        position = start
        positions, contents = [], []
        for layer in self.layers:
            # Layers learn to correct what they are given: no gradient runs through the position.
            position = position.detach()
            patches = patches_at(features, features.centres(position), self.config.grid_radius + 1)
            x, movement = layer(x, tracks, cells, patches)
            position = position + movement / size
            positions.append(position)
            contents.append(self.output_norm(x))
        judged = contents if self.training else contents[-1:]
        settled = position.detach().clamp(-OVERSHOOT, 1.0 + OVERSHOOT)
        state = torch.cat((settled, settled - start, history[:, :-2]), dim=-1)
        return SmallDecoderOutput(
            state=torch.where(tracks.updated.unsqueeze(-1), state, tracks.state),
            content=contents[-1],
            positions=torch.stack(positions),
            visibility_logits=self.visibility_head(torch.stack(judged)).squeeze(-1),
        )
