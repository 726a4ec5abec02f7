"""Small parts that the whole network shares: clamped logits, sine embeddings and multi-layer perceptrons."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

CLAMP = 1e-3
"""Distance that `inverse_sigmoid` keeps from 0 and 1, so that a box logit stays within +-6.9 (spec section 0)."""


def inverse_sigmoid(value: Tensor) -> Tensor:
    """Return the logit of `value` (any shape), clipped to 0..1 and kept `CLAMP` from both ends (spec section 0)."""
    value = value.clamp(0.0, 1.0)
    return torch.log(value.clamp(min=CLAMP) / (1.0 - value).clamp(min=CLAMP))


def sine_frequencies(features: int) -> Tensor:
    """Return the angular frequencies [features] of a sine embedding, temperature 10, in pairs for sine and cosine."""
    exponent = 2.0 * torch.div(torch.arange(features), 2, rounding_mode="floor") / features
    return 10.0**-exponent


def interleaved_sine(angle: Tensor) -> Tensor:
    """Replace the last axis of `angle` by sine at even and cosine at odd places; same shape."""
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)


class SineEmbedding(nn.Module):
    """Sine embedding of coordinates in 0..1 (spec section 0): x, y come out as y, x and x, y, w, h as y, x, w, h."""

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        """`features` is the number of channels per coordinate."""
        super().__init__()
        self.register_buffer("frequencies", 2.0 * torch.pi * sine_frequencies(features), persistent=False)

    def forward(self, coordinates: Tensor) -> Tensor:
        """Embed [N,2] or [N,4] coordinates as [N, 2 * features] or [N, 4 * features]."""
        y_first = torch.cat((coordinates[:, 1:2], coordinates[:, 0:1], coordinates[:, 2:]), dim=-1)
        return interleaved_sine(y_first.unsqueeze(-1) * self.frequencies).flatten(-2)


class MLP(nn.Module):
    """Fully connected layers with ReLU between them."""

    def __init__(self, *widths: int, final_activation: bool = False) -> None:
        """`widths` are the sizes from input to output; `final_activation` adds a ReLU at the end."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.final_activation = final_activation

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., widths[0]] to [..., widths[-1]]."""
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < last or self.final_activation:
                x = torch.relu_(x)
        return x


class FeedForward(nn.Module):
    """The transformer's feed-forward block with its residual connection and norm: x = norm(x + MLP(x))."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.mlp = MLP(dim, hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, dim] to [N, dim]."""
        return self.norm(x + self.mlp(x))
