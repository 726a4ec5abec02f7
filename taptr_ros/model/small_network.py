"""The small TAPTRv3 network as three functions: `encode` an image, `init_queries`, and `decode` all tracks in a frame.

It keeps TAPTRv3's parts (VLTA over the visibility-weighted past, CCA by the similarity of whole patches, APU, content
that restarts from the query on every frame) in forms that two processor cores run at camera rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taptr_ros.model.backbone import fold_norms
from taptr_ros.model.decoder import DecoderInput
from taptr_ros.model.patches import FeatureLevels, GatheredPatches
from taptr_ros.model.small_config import SmallConfig
from taptr_ros.model.small_decoder import PatchesAt, SmallDecoder, SmallDecoderOutput
from taptr_ros.model.small_encoder import SmallEncoder


class SmallNetwork(nn.Module):
    """The network of one `SmallConfig`."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SmallEncoder(config)
        self.content = nn.Sequential(nn.Linear(config.context_dim, config.hidden_dim), nn.LayerNorm(config.hidden_dim))
        self.decoder = SmallDecoder(config)
        self.patches_at: PatchesAt = GatheredPatches

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an RGB image [height,width,3], 0..255, of the configured size to its levels [h*w,C], finest first."""
        levels = self.encoder(image.permute(2, 0, 1).unsqueeze(0))
        return tuple(level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels)

    def features(self, encoded: Sequence[Tensor]) -> FeatureLevels:
        """Make the levels that `encode` returned ready for being sampled."""
        return FeatureLevels(encoded, self.config.level_sizes)

    def init_queries(self, features: FeatureLevels, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample new points at unit coordinates `xy` [N,2].

        Returns content [N,D], context [N,3,3,context_dim] (x offset first) and the initial state [N,state_dim].
        """
        patches = GatheredPatches(features, features.centres(xy), radius=1)
        context = torch.cat(patches.interpolated(), dim=-1).transpose(1, 2)
        content = self.content(context[:, 1, 1])
        rest = torch.zeros(1, self.config.state_dim - 2, dtype=xy.dtype, device=xy.device)
        return content, context, torch.cat((xy, rest.expand(xy.shape[0], -1)), dim=-1)

    def decode(self, features: FeatureLevels, tracks: DecoderInput) -> SmallDecoderOutput:
        """Find the tracks in the image with these features."""
        return self.decoder(features, tracks, self.patches_at)

    @staticmethod
    def estimates(output: SmallDecoderOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit coordinates [N,2], visibility [N], which is 0 outside the image, and confidence [N]."""
        position = output.state[:, :2]
        inside = ((position >= 0.0) & (position <= 1.0)).all(-1)
        visibility, confidence = output.logits[-1].sigmoid().unbind(-1)
        return position, torch.where(inside, visibility, 0.0), confidence

    def prepare_for_inference(self) -> SmallNetwork:
        """Fold the norms, lay the convolutions out channels-last and drop the gradients; returns self."""
        self.eval()
        fold_norms(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.requires_grad_(False)
