"""A small TAPTRv3 network whose weights follow from a formula, so that every machine builds the same one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.model.config import ModelConfig
from taptr_ros.model.network import TaptrNetwork
from taptr_ros.model.small_config import SmallConfig

SIZE = (64, 96)
"""Input (height, width)."""


def tiny_config(**changes: Any) -> ModelConfig:
    """Return a configuration with every quirk of released weights, widths as small as the architecture allows."""
    defaults: dict[str, Any] = {
        "name": "tiny",
        "height": SIZE[0],
        "width": SIZE[1],
        "backbone_width": 4,
        "hidden_dim": 32,
        "feedforward_dim": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "sine_features": 16,
    }
    return ModelConfig.released(**{**defaults, **changes})


def tiny_weights(config: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """Return weights for `config`: numbers that look random, scaled so that activations keep their size."""
    weights = {}
    for name, tensor in TaptrNetwork(config).state_dict().items():
        shape = tuple(tensor.shape)
        seed = sum((index + 1) * ord(letter) for index, letter in enumerate(name))
        noise = 2.0 * np.modf(np.abs(np.sin(np.arange(tensor.numel()) * 12.9898 + seed) * 43758.5453))[0] - 1.0
        noise = noise.reshape(shape)
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            value = 1.0 + 0.3 * noise
        elif len(shape) == 1:
            value = 0.1 * noise if "sampling_offsets" not in name else 3.0 * noise
        else:
            value = noise * np.sqrt(3.0 / np.prod(shape[1:]))
        weights[name] = value.astype(np.float32)
    return weights


def tiny_small_config(**changes: Any) -> SmallConfig:
    """Return a configuration of the small network with few channels."""
    defaults: dict[str, Any] = {
        "name": "tiny",
        "fine_channels": 8,
        "level_channels": (8, 8, 16),
        "hidden_dim": 32,
        "decoder_layers": 2,
        "feedforward_dim": 32,
        "height": SIZE[0],
        "width": SIZE[1],
    }
    return SmallConfig(**{**defaults, **changes})
