"""The folder of an exported model: ONNX graphs and a manifest with the configuration and their checksums.

There are three graphs, one for each function of a network, and for a small network a second one that encodes images in
8-bit integers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from taptr_ros.errors import InvalidConfigError, ModelFileError
from taptr_ros.model.architectures import Config, config_from_dict, config_to_dict

FORMAT = "taptr_ros onnx 3"
"""Value of the manifest's `format` entry; the number changes when older readers would misread the folder."""

MANIFEST = "model.json"
"""Name of the manifest in the folder."""

GRAPHS = ("encode", "init_queries", "decode")
"""The three functions; each is in a file of that name."""

INT8_ENCODE = "encode_int8"
"""The graph of `encode` in 8-bit integers, for processors. Only some models have it. Its images are uint8."""

OPSET = 17
"""ONNX operator set of the graphs."""

DECODE_INPUTS = (
    "content",
    "context",
    "state",
    "keys",
    "values",
    "weights",
    "phase",
    "updated",
    "active",
)
"""Inputs of the decode graph beside the features, as in `taptr_ros.model.decoder.DecoderInput`."""

DECODE_OUTPUTS = ("xy", "visibility", "confidence", "next_state", "next_content")
"""Outputs of the decode graph, as in `taptr_ros.runtime.backend.Decoded`."""


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """A checked folder."""

    folder: Path
    config: Config
    has_int8: bool
    """Whether there is a graph `INT8_ENCODE`."""

    def graph(self, name: str) -> Path:
        """Return the path of one of `GRAPHS`, or of `INT8_ENCODE`."""
        return graph_path(self.folder, name)


def feature_names(config: Config) -> list[str]:
    """Return what the graphs call the features of an image, in the order of `Config.feature_shapes`."""
    return [f"features_{number}" for number in range(len(config.feature_shapes))]


def graph_path(folder: Path, name: str) -> Path:
    """Return where a folder keeps the graph called `name`."""
    return folder / f"{name}.onnx"


def write_manifest(folder: Path, config: Config) -> None:
    """Write the manifest beside the graphs that `folder` already holds."""
    names = [name for name in (*GRAPHS, INT8_ENCODE) if graph_path(folder, name).is_file()]
    manifest = {
        "format": FORMAT,
        "config": config_to_dict(config),
        "sha256": {name: _checksum(graph_path(folder, name)) for name in names},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def read_manifest(folder: Path) -> ExportedModel:
    """Read and check an exported model.

    Raises `ModelFileError` if a file is missing, is not what its checksum says, or the manifest cannot be understood.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelFileError(f"{folder} holds no exported model ({MANIFEST} is missing); make one with `taptr export`.")
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise ModelFileError(f"{path} has format {manifest['format']!r}, not {FORMAT!r}; export the model again.")
        config = config_from_dict(manifest["config"])
        has_int8 = INT8_ENCODE in manifest["sha256"]
        checksums = {name: manifest["sha256"][name] for name in (*GRAPHS, *[INT8_ENCODE] * has_int8)}
    except (ValueError, KeyError, TypeError, RecursionError, InvalidConfigError) as error:
        raise ModelFileError(f"{path} is not a readable manifest ({error}); export the model again.") from error
    for name, expected in checksums.items():
        graph = graph_path(folder, name)
        if not graph.is_file():
            raise ModelFileError(f"{graph} is missing; export the model again.")
        if _checksum(graph) != expected:
            raise ModelFileError(f"{graph} does not have the checksum in {MANIFEST}; copy or export the model again.")
    return ExportedModel(folder, config, has_int8)


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
