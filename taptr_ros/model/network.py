"""TAPTRv3 as three functions: `encode` an image, `init_queries`, and `decode` all tracks in one frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taptr_ros.model.backbone import Backbone
from taptr_ros.model.cca import PATCH
from taptr_ros.model.config import ModelConfig
from taptr_ros.model.decoder import VISIBLE_CLASS, Decoder, DecoderInput, DecoderOutput
from taptr_ros.model.encoder import Encoder
from taptr_ros.model.layers import inverse_sigmoid
from taptr_ros.model.sampling import Form, Levels, Sampler, sampler

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB in 0..1 that images are normalised with (spec section 1)."""


class TaptrNetwork(nn.Module):
    """The network of one `ModelConfig`.

    `form` picks how features are sampled (`taptr_ros.model.sampling`): "grid" everywhere, "gather" for CPU inference.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, form: Form = "grid") -> None:
        super().__init__()
        self.config = config
        self.form: Form = form
        self.levels = Levels(config.level_sizes)
        self.register_buffer("mean", 255.0 * torch.tensor(IMAGE_MEAN), persistent=False)
        self.register_buffer("std", 255.0 * torch.tensor(IMAGE_STD), persistent=False)
        self.backbone = Backbone(config)
        self.encoder = Encoder(config, self.levels)
        self.query_initializer = nn.Linear(config.levels * config.hidden_dim, config.hidden_dim)
        self.decoder = Decoder(config, self.levels)

    def encode(self, image: Tensor) -> tuple[Tensor]:
        """Map an RGB image [height,width,3], 0..255, of the configured size to tokens [S,D]."""
        normalised = ((image - self.mean) / self.std).permute(2, 0, 1).unsqueeze(0)
        return (self.encoder(self.backbone(normalised), self.form),)

    def features(self, encoded: Sequence[Tensor]) -> Sampler:
        """Make the tokens [S,D] that `encode` returned ready for being sampled by `init_queries` and `decode`."""
        (tokens,) = encoded
        return sampler(tokens, self.levels, self.form)

    def init_queries(self, features: Sampler, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample new points at unit coordinates `xy` [N,2] (spec section 4).

        Returns content [N,D], context [N,3,3,D] (x offset first) and the initial state [N,4].
        """
        size = self.levels.width_height
        last = size - 1.0
        centre = xy[:, None] * last if self.config.corner_aligned_coordinates else xy[:, None] * size - 0.5
        steps = torch.arange(PATCH, dtype=xy.dtype, device=xy.device) - PATCH // 2
        cells = torch.minimum((centre + steps.view(-1, 1, 1, 1)).clamp(min=0.0), last)
        x, y = cells[:, :, None, :, None].unbind(-1)
        sampled = features.patches(x, y)
        per_level = sampled[..., : self.config.hidden_dim].view(xy.shape[0], len(self.levels.sizes), PATCH, PATCH, -1)
        context = self.query_initializer(per_level.permute(0, 2, 3, 1, 4).flatten(3))
        box = inverse_sigmoid(torch.cat((xy, torch.full_like(xy, 0.5)), dim=-1))
        return context[:, PATCH // 2, PATCH // 2], context, box

    def decode(self, features: Sampler, tracks: DecoderInput) -> DecoderOutput:
        """Find the tracks in the frame with these features (spec section 5)."""
        return self.decoder(features, tracks)

    @staticmethod
    def estimates(output: DecoderOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit coordinates [N,2], visibility [N] (spec section 6) and confidence [N], which is always 1."""
        visibility = output.class_logits[:, VISIBLE_CLASS].sigmoid()
        return output.state[:, :2].sigmoid(), visibility, torch.ones_like(visibility)

    def prepare_for_inference(self) -> TaptrNetwork:
        """Fold the norms, lay the convolutions out channels-last and drop the gradients; returns self."""
        self.backbone.prepare_for_inference()
        return self.requires_grad_(False).eval()
