"""The small network's decoder: layers of VLTA, grid CCA with APU and feed-forward that find N points in one frame.

Content restarts from the query's feature on every frame, as in the large network (spec section 5). Layers are pre-norm,
positions linear, and the points do not attend to each other: every track is independent of all others.

The first layer starts from two places: where the point was, and where the whole image looks most like it
(`taptr_ros.model.heat_map`). The later layers go on from the one at which the point is more probably seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taptr_ros.model.constants import constant
from taptr_ros.model.decoder import DecoderInput
from taptr_ros.model.grid_cca import GridCrossAttention
from taptr_ros.model.heat_map import HeatMap
from taptr_ros.model.layers import MLP
from taptr_ros.model.patches import FeatureLevels, Patches
from taptr_ros.model.small_config import HISTORY, LEVEL_STRIDES, SmallConfig
from taptr_ros.model.vlta import VisibilityAwareLongTemporalAttention

OVERSHOOT = 0.1
"""How far a position may leave the image, as a fraction of its size."""

CORRECTION_SCALE = 8.0
"""Input pixels per unit of the position head's output, and of the displacements that go into the content."""

PatchesAt = Callable[[FeatureLevels, Tensor, int], Patches]
"""How patches are read: features, centres [N,L,2] in level pixels, radius."""


@dataclasses.dataclass(frozen=True)
class SmallDecoderOutput:
    """What the decoder found, and every layer's estimate for the losses of training."""

    state: Tensor
    """[N,state_dim] to carry to the next frame; unchanged where `DecoderInput.updated` is False."""
    content: Tensor
    """[N,D] refined content feature, to be remembered."""
    positions: Tensor
    """[estimates,N,2] unit coordinates: the first layer's from where the heat map peaks, the first layer's from where
    the point was, and every later layer's."""
    logits: Tensor
    """[estimates,N,2] of the same estimates: the sigmoids are the probability that the point is visible and, if it is,
    that it is close to where the estimate has it; in inference those of the last layer alone, [1,N,2]."""


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

    def remember(self, x: Tensor, tracks: DecoderInput) -> Tensor:
        """Let content `x` [N,D] attend to the memory, in layers that do."""
        if self.temporal_attention is None:
            return x
        return x + self.temporal_attention(
            self.temporal_norm(x),
            *(tracks.content, tracks.keys, tracks.values, tracks.weights, tracks.phase, tracks.updated),
        )

    def look(self, x: Tensor, cells: Sequence[Tensor], patches: Patches) -> tuple[Tensor, Tensor]:
        """Refine content `x` [N,D] by what lies round the points; returns it and the movement [N,2] in input pixels."""
        update, movement = self.cross_attention(self.cross_norm(x), cells, patches)
        x = x + update
        x = x + self.feed_forward(self.feed_forward_norm(x))
        return x, movement + CORRECTION_SCALE * self.position_head(x)


class SmallDecoder(nn.Module):
    """All layers and the heads for visibility and confidence, which they share."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.config = config
        self.motion = nn.Linear(2 * HISTORY, dim)
        self.leap = nn.Linear(2, dim, bias=False)
        self.context_scale = nn.Parameter(torch.tensor(4.0))
        self.heat_map = HeatMap(config)
        self.layers = nn.ModuleList(
            SmallDecoderLayer(config, temporal=index < config.temporal_layers) for index in range(config.decoder_layers)
        )
        self.output_norm = nn.LayerNorm(dim)
        self.heads = MLP(dim, dim, 2)

    def forward(self, features: FeatureLevels, tracks: DecoderInput, patches_at: PatchesAt) -> SmallDecoderOutput:
        """Find the tracks in the image with these features."""
        height, width = (LEVEL_STRIDES[0] * length for length in features.sizes[0])
        size = constant((width, height), tracks.state)
        start, history = tracks.state[:, :2], tracks.state[:, 2:]
        pixels = (history.view(-1, HISTORY, 2) * size).flatten(1)
        x = tracks.content + self.motion(pixels / CORRECTION_SCALE)
        context = self.context_scale * tracks.context.flatten(1, 2)
        cells = context.split(self.config.level_channels, dim=-1)
        first, *later = cast("list[SmallDecoderLayer]", list(self.layers))
        x = first.remember(x, tracks)

        peak = self.heat_map(features, tracks.context, start)
        distance = (peak - start) * size
        leap = self.leap(distance / (CORRECTION_SCALE + distance.abs()))
        places = torch.cat((peak, start))
        both = dataclasses.replace(features, image=None if features.image is None else features.image.repeat(2))
        patches = patches_at(both, both.centres(places), self.config.grid_radius + 1)
        contents, movement = first.look(torch.cat((x + leap, x)), [cell.repeat(2, 1, 1) for cell in cells], patches)
        places = places + movement / size
        logits = self.heads(self.output_norm(contents))
        # The logarithm of the probability that the point is visible and close to the place.
        at_peak, at_start = F.logsigmoid(logits.detach()).sum(-1).chunk(2)
        leaps = (at_peak > at_start).unsqueeze(-1)
        positions, judged = list(places.chunk(2)), list(logits.chunk(2))
        from_peak, from_start = contents.chunk(2)
        x, position = torch.where(leaps, from_peak, from_start), torch.where(leaps, positions[0], positions[1])

        for layer in later:
            # Layers learn to correct what they are given: no gradient runs through the position.
            position = position.detach()
            x = layer.remember(x, tracks)
            patches = patches_at(features, features.centres(position), self.config.grid_radius + 1)
            x, movement = layer.look(x, cells, patches)
            position = position + movement / size
            positions.append(position)
            if self.training:
                judged.append(self.heads(self.output_norm(x)))
        content = self.output_norm(x)
        settled = position.detach().clamp(-OVERSHOOT, 1.0 + OVERSHOOT)
        state = torch.cat((settled, settled - start, history[:, :-2]), dim=-1)
        return SmallDecoderOutput(
            state=torch.where(tracks.updated.unsqueeze(-1), state, tracks.state),
            content=content,
            positions=torch.stack(positions),
            logits=torch.stack(judged) if self.training else self.heads(content).unsqueeze(0),
        )
