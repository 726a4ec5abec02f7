"""Model files: safetensors whose header carries the configuration and a checksum of the weights.

Reading needs numpy only, so that every backend can do it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from taptr_ros.errors import InvalidConfigError, ModelFileError
from taptr_ros.model.architectures import Config, config_from_json, config_to_json

FORMAT = "taptr_ros model 1"
"""Value of the header's `format` entry; the number changes when older readers would misread the file."""


def save_model(path: Path, config: Config, weights: Mapping[str, NDArray[Any]]) -> None:
    """Write `weights` (name to array, as in the network's `state_dict`) and `config` to the safetensors file `path`."""
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    header = {"format": FORMAT, "config": config_to_json(config), "sha256": weights_checksum(arrays)}
    save_file(arrays, path, metadata=header)


def load_model(path: Path) -> tuple[Config, dict[str, NDArray[Any]]]:
    """Read the configuration and the weights that `save_model` wrote.

    Raises `ModelFileError` if the file is missing, is not a model of this package, or is damaged.
    """
    if not path.is_file():
        raise ModelFileError.missing(path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"{path} is not a readable safetensors file ({error}); copy or convert it again."
        ) from error
    if header.get("format") != FORMAT:
        raise ModelFileError(f"{path} is not a taptr_ros model; make one of a checkpoint with `taptr convert`.")
    if header.get("sha256") != weights_checksum(weights):
        raise ModelFileError(f"The weights in {path} do not have the file's checksum; copy or convert it again.")
    try:
        return config_from_json(header.get("config", "")), weights
    except InvalidConfigError as error:
        raise ModelFileError(f"{path}: {error}") from error


def weights_checksum(weights: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of all names, types, shapes and values, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
