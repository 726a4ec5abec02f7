"""Conversion of official TAPTRv3 checkpoints (spec section 10) to this package's model files."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from taptr_ros.errors import InvalidConfigError, ModelFileError
from taptr_ros.model.config import ModelConfig
from taptr_ros.model.files import save_model
from taptr_ros.model.network import TaptrNetwork
from taptr_ros.model.rotary import rotary_frequencies

RELEASED_HEADS = 8
"""Attention heads of every released model; no tensor's shape tells them."""

SHOWN_NAMES = 8
"""Names that a message lists at most."""

RELEASED_SIZES = {"resnet18": (384, 512), "resnet50": (512, 512)}
"""Input (height, width) that the released models are evaluated at (spec section 1)."""

SAFE_CLASSES: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    argparse.Namespace,
    collections.Counter,
    collections.defaultdict,
    dict,
]
"""Classes besides tensors that a checkpoint may hold: its `args`, and the state of its learning-rate schedule."""


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `convert` found and wrote."""

    config: ModelConfig
    """Configuration inferred from the tensors."""
    tensors: int
    """Tensors written."""
    parameters: int
    """Numbers in them."""
    unused: tuple[str, ...]
    """Names in the checkpoint that the network needs no tensor for: aliases and constants."""


def convert(checkpoint: Path, out: Path) -> ConversionReport:
    """Turn an official checkpoint (.pth, with `ema_model` inside) into a model file.

    Raises `ModelFileError` if the checkpoint cannot be read safely, or if names are missing or unexpected.
    """
    official = read_checkpoint(checkpoint)
    config = infer_config(official)
    weights, unused = convert_weights(official, config)
    save_model(out, config, {name: tensor.numpy() for name, tensor in weights.items()})
    return ConversionReport(config, len(weights), sum(tensor.numel() for tensor in weights.values()), unused)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the `ema_model` tensors of a checkpoint, names without `module.`; runs no code from the file."""
    if not path.is_file():
        raise ModelFileError(f"There is no checkpoint {path}; pass the path of an official .pth file.")
    try:
        with torch.serialization.safe_globals(SAFE_CLASSES):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it wants to load {forbidden[1]}" if forbidden else "it is not a plain PyTorch checkpoint"
        raise ModelFileError(
            f"{path} is refused because {reason}, which could run code; "
            "only tensors, plain containers and argparse.Namespace are allowed."
        ) from error
    except Exception as error:  # what is no pickle at all can raise anything while it is read as one
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(f"{path} is not a readable checkpoint ({reason}); download it again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("ema_model"), dict):
        raise ModelFileError(f"{path} has no entry `ema_model`; official TAPTRv3 checkpoints do.")
    tensors = {str(name).replace("module.", ""): tensor for name, tensor in content["ema_model"].items()}
    if wrong := sorted(name for name, tensor in tensors.items() if not isinstance(tensor, Tensor)):
        raise ModelFileError(f"{path}: {_listed(wrong)} in `ema_model` should be tensors but are not.")
    return tensors


def infer_config(official: Mapping[str, Tensor]) -> ModelConfig:
    """Infer widths, stage layout and layer counts from the tensors' names and shapes."""

    def shape(name: str) -> torch.Size:
        if name not in official:
            raise ModelFileError(f"The checkpoint has no tensor {name}; it is not a TAPTRv3 model.")
        return official[name].shape

    def count(pattern: str) -> int:
        return len({match[1] for name in official if (match := re.match(pattern, name))})

    backbone = "resnet50" if any(".bn3." in name for name in official) else "resnet18"
    height, width = RELEASED_SIZES[backbone]
    try:
        levels, dim = shape("transformer.level_embed")
        return ModelConfig.released(
            name="taptrv3_r50" if backbone == "resnet50" else "taptrv3_r18",
            backbone=backbone,
            backbone_width=shape("backbone.0.body.conv1.weight")[0],
            hidden_dim=dim,
            heads=RELEASED_HEADS,
            sampling_points=shape("transformer.encoder.layers.0.self_attn.attention_weights.weight")[0]
            // (RELEASED_HEADS * levels),
            encoder_layers=count(r"transformer\.encoder\.layers\.(\d+)\."),
            decoder_layers=count(r"transformer\.decoder\.layers\.(\d+)\."),
            feedforward_dim=shape("transformer.encoder.layers.0.linear1.weight")[0],
            sine_features=shape("transformer.decoder.ref_point_head.layers.0.weight")[1] // 4,
            height=height,
            width=width,
        )
    except (InvalidConfigError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ModelFileError(f"The checkpoint's tensors do not describe a TAPTRv3 model: {error}") from error


def convert_weights(official: Mapping[str, Tensor], config: ModelConfig) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename and split official tensors into the `state_dict` of `TaptrNetwork(config)`.

    Returns it and the names that no tensor was needed of. Raises `ModelFileError` listing missing and unexpected names,
    or the tensors whose shape does not fit.
    """
    with torch.device("meta"):
        expected = TaptrNetwork(config).state_dict()
    sources = {name: official_name(name) for name in expected}
    aliases = {name: f"transformer.decoder.{name}" for name in official if re.match(r"(bbox|class)_embed\.", name)}
    constants = {name for name in official if name.endswith("lta_temporal_embedding.freqs")}
    needed = {source for source, _ in sources.values()}
    missing = sorted(needed - set(official))
    unexpected = sorted(set(official) - needed - set(aliases) - constants)
    problems = [
        f"{word} {_listed(names)}" for word, names in (("missing", missing), ("unexpected", unexpected)) if names
    ]
    problems += [
        f"{alias} differs from {target}"
        for alias, target in aliases.items()
        if target in official and not torch.equal(official[alias], official[target])
    ]
    problems += [f"{name} is not the rotary table" for name in sorted(constants) if not _is_rotary(official[name])]
    if problems:
        raise ModelFileError(f"The checkpoint does not fit the TAPTRv3 network: {'; '.join(problems)}.")
    weights = {}
    for name, (source, part) in sources.items():
        tensor = official[source]
        if part is not None:
            tensor = tensor.tensor_split(3)[part]
        if ".sampling_offsets." in name:
            # Official order of rows: head, level, point, axis. Ours has the axis first.
            tensor = torch.cat((tensor[0::2], tensor[1::2]))
        if tensor.shape != expected[name].shape:
            raise ModelFileError(
                f"{source} in the checkpoint gives shape {tuple(tensor.shape)} for {name}, "
                f"which should be {tuple(expected[name].shape)}."
            )
        weights[name] = tensor.to(torch.float32).contiguous()
    return weights, tuple(sorted({*aliases, *constants}))


def _is_rotary(frequencies: Tensor) -> bool:
    """Tell whether the checkpoint's rotary frequencies are the constants that this package computes."""
    expected = torch.from_numpy(rotary_frequencies(2 * frequencies.numel()))
    return torch.allclose(frequencies.to(expected.dtype), expected, rtol=1e-5, atol=0.0)


def _listed(names: list[str]) -> str:
    """Return the first names and how many more there are."""
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def official_name(name: str) -> tuple[str, int | None]:
    """Return the official name of one of our tensors and which third of its rows it is (None: all of it).

    Queries, keys and values of multi-head attention are the three thirds of one official tensor.
    """
    part = None
    if match := re.search(r"\.(temporal_attention|self_attention)\.(query|key|value)_projection\.(weight|bias)$", name):
        part = ("query", "key", "value").index(match[2])
        name = f"{name[: match.start()]}.{match[1]}.in_proj_{match[3]}"
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name, part


RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^backbone\.stem\.conv", r"backbone.0.body.conv1"),
    (r"^backbone\.stem\.norm", r"backbone.0.body.bn1"),
    (r"^backbone\.stages\.(\d)\.", lambda match: f"backbone.0.body.layer{int(match[1]) + 1}."),
    (r"\.convs\.(\d)\.(conv|norm)", lambda match: f".{'conv' if match[2] == 'conv' else 'bn'}{int(match[1]) + 1}"),
    (r"\.shortcut\.conv", r".downsample.0"),
    (r"\.shortcut\.norm", r".downsample.1"),
    (r"^encoder\.projections\.", r"input_proj."),
    (r"^encoder\.level_embedding", r"transformer.level_embed"),
    (r"^encoder\.layers\.(\d+)\.norm\.", r"transformer.encoder.layers.\1.norm1."),
    (r"^encoder\.layers\.(\d+)\.feed_forward\.norm\.", r"transformer.encoder.layers.\1.norm2."),
    (r"^encoder\.layers\.(\d+)\.attention\.", r"transformer.encoder.layers.\1.self_attn."),
    (r"^encoder\.", r"transformer.encoder."),
    (r"^query_initializer\.", r"transformer.query_feature_initializer."),
    (r"^decoder\.", r"transformer.decoder."),
    (r"\.temporal_attention\.", r".ltemp_self_attn."),
    (r"\.self_attention\.", r".self_attn."),
    (r"(decoder\..*\.(?:ltemp_)?self_attn)\.output_projection\.", r"\1.out_proj."),
    (r"\.temporal_norm\.", r".norm_ltemp."),
    (r"\.cross_norm\.", r".norm1."),
    (r"\.self_norm\.", r".norm2."),
    (r"\.feed_forward\.norm\.", r".norm3."),
    (r"\.feed_forward\.mlp\.layers\.0\.", r".linear1."),
    (r"\.feed_forward\.mlp\.layers\.1\.", r".linear2."),
    (r"\.cross_attention\.", r".cross_attn."),
    (r"\.context_projection\.", r".query_proj."),
    (r"\.patch_similarity\.layers\.(\d)\.", lambda match: f".mlp_calulate_similarity.{2 * int(match[1])}."),
    (r"\.(key|value|output)_projection\.", r".\1_proj."),
    (r"\.position_update\.weights\.0\.layers\.(\d)\.", lambda m: f".caupdate_weight_normalizer.{2 * int(m[1])}."),
    (r"\.position_update\.weights\.1\.", r".caupdate_weight_regressor.0."),
    (r"\.updated_position_head\.", r".update_pos_embed_head."),
    (r"\.query_position_head\.", r".ref_point_head."),
    (r"\.content_updater\.layers\.(\d)\.", lambda match: f".query_updater.{2 * int(match[1])}."),
    (r"\.position_change_fuser\.layers\.(\d)\.", lambda match: f".ca_update_fuser.{2 * int(match[1])}."),
    (r"\.box_heads\.", r".bbox_embed."),
    (r"\.class_heads\.", r".class_embed."),
)
"""From our names to official ones, applied in this order."""
