"""Export of a model to ONNX graphs, and the comparison of both sides on real frames."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taptr_ros.errors import InvalidConfigError, ModelFileError
from taptr_ros.model.architectures import Config, Network, build_network
from taptr_ros.model.decoder import DecoderInput
from taptr_ros.model.files import load_model
from taptr_ros.model.small_config import SmallConfig
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.exported import (
    DECODE_INPUTS,
    DECODE_OUTPUTS,
    INT8_ENCODE,
    MANIFEST,
    OPSET,
    feature_names,
    graph_path,
    write_manifest,
)
from taptr_ros.runtime.images import fit_image_to_bytes
from taptr_ros.runtime.onnx_backend import OnnxBackend
from taptr_ros.runtime.quantization import quantize_encoder
from taptr_ros.runtime.torch_backend import TorchBackend, load_weights

TOLERANCE = 0.01
"""Largest difference, in pixels of the network's input, between PyTorch and ONNX Runtime in float32."""

INT8_TOLERANCE = 1.0
"""Largest median difference, in pixels of the network's input, between images encoded in 8-bit integers and in
float32."""

CALIBRATION_IMAGES = 64
"""Most frames that the ranges of integers are taken from."""

COMPARED_POINTS = 8
"""The comparison tracks a grid of this many points squared."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far apart two backends are that tracked the same points."""

    frames: int
    """Frames in which points were tracked."""
    points: int
    """Points in each of them."""
    largest_pixel_difference: float
    """Largest distance between the two positions of a point, in pixels of the network's input."""
    median_pixel_difference: float
    """Median of the distances."""
    largest_visibility_difference: float
    """Largest difference between the two visibility probabilities of a point."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export` wrote, and how well it agrees with PyTorch."""

    folder: Path
    """Folder of the exported model."""
    float32: Comparison
    """Of the graphs in float32."""
    int8: Comparison | None
    """With images encoded in 8-bit integers; None for a model that does not have that."""
    has_int8: bool
    """Whether the graph in 8-bit integers is in the folder: False also if it is too far from PyTorch."""


Clip = Sequence[NDArray[np.uint8]]
"""Frames of one video, uint8 [H,W,3] RGB."""


def export(model: Path, folder: Path, clips: Sequence[Clip], *, size: tuple[int, int] | None = None) -> ExportReport:
    """Export the model file `model` to `folder` and compare the two on `clips` of two frames or more.

    A small network is exported a second time with images encoded in 8-bit integers, whose ranges follow from the
    clips; that graph is left out if it differs by more than `INT8_TOLERANCE` pixels in the median. `size` is the input
    (height, width) that the graphs are fixed to; None keeps the model's own.

    Raises `ModelFileError` if the model cannot be read, or if the graphs in float32 differ from it by more than
    `TOLERANCE` pixels; then `folder` is left as it was. Raises `InvalidConfigError` for clips that are too short.
    """
    if not clips or min(map(len, clips)) < 2:
        raise InvalidConfigError("Comparing needs at least two frames of every video; use longer ones.")
    config, weights = load_model(model)
    if size is not None:
        config = dataclasses.replace(config, height=size[0], width=size[1])
    network = build_network(config, form="grid")
    load_weights(network, weights)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export_") as scratch:
        written = Path(scratch)
        write_graphs(network.prepare_for_inference(), config, written)
        write_manifest(written, config)
        reference = follow_grid(TorchBackend(config, weights), clips)
        float32 = compare(reference, follow_grid(OnnxBackend(written), clips), config)
        if not float32.largest_pixel_difference < TOLERANCE:
            raise ModelFileError(
                f"The exported graphs of {model} differ from PyTorch by {float32.largest_pixel_difference:.4f} px, "
                f"more than {TOLERANCE} px, and were not kept; report this."
            )
        int8 = None
        integers = graph_path(written, INT8_ENCODE)
        if isinstance(config, SmallConfig):
            images = [fit_image_to_bytes(frame, config.height, config.width) for frame in _calibration_frames(clips)]
            quantize_encoder(graph_path(written, "encode"), integers, images)
            write_manifest(written, config)
            int8 = compare(reference, follow_grid(OnnxBackend(written, precision="int8"), clips), config)
            if not int8.median_pixel_difference < INT8_TOLERANCE:
                integers.unlink()
                write_manifest(written, config)
        graph_path(folder, INT8_ENCODE).unlink(missing_ok=True)
        # The manifest comes last: what an interruption leaves is no model.
        (folder / MANIFEST).unlink(missing_ok=True)
        for file in sorted(written.iterdir(), key=lambda file: file.name == MANIFEST):
            file.replace(folder / file.name)
    return ExportReport(folder, float32, int8, has_int8=graph_path(folder, INT8_ENCODE).is_file())


def _calibration_frames(clips: Sequence[Clip]) -> list[NDArray[np.uint8]]:
    """Return up to `CALIBRATION_IMAGES` frames of all clips."""
    frames = [frame for clip in clips for frame in clip]
    return frames[:: -(-len(frames) // CALIBRATION_IMAGES)]


def write_graphs(network: Network, config: Config, folder: Path) -> None:
    """Write the graphs of a network's functions, in its grid form; N and M are dynamic, the image size is fixed."""
    dim, points, slots = config.hidden_dim, 3, 2
    image = torch.zeros(config.height, config.width, 3)
    names = feature_names(config)
    features = tuple(torch.zeros(shape) for shape in config.feature_shapes)
    xy = torch.full((points, 2), 0.5)
    content, state = torch.zeros(points, dim), torch.zeros(points, config.state_dim)
    context = torch.zeros(points, 3, 3, config.context_dim)
    memory = torch.zeros(points, slots, dim)
    mask = torch.ones(points, dtype=torch.bool)
    decode_arguments = (
        *(content, context, state, memory, memory, torch.ones(points, slots)),
        *(torch.zeros(2, dim // 2), mask, mask),
    )
    per_point = {name: {0: "points"} for name in ("content", "context", "state", "updated", "active", "xy")}
    per_slot = {name: {0: "points", 1: "slots"} for name in ("keys", "values", "weights")}
    for name, graph, arguments, inputs, outputs in (
        ("encode", _Encode(network), (image,), ["image"], names),
        ("init_queries", _InitQueries(network), (*features, xy), [*names, "xy"], ["content", "context", "state"]),
        ("decode", _Decode(network), (*features, *decode_arguments), [*names, *DECODE_INPUTS], DECODE_OUTPUTS),
    ):
        with warnings.catch_warnings(), torch.no_grad():
            # The tracing exporter is deprecated in favour of one that cannot write opset 17, and it warns of every
            # shape that it takes as a constant: image sizes are constants here.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                arguments,
                graph_path(folder, name),
                opset_version=OPSET,
                dynamo=False,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={key: axes for key, axes in {**per_point, **per_slot}.items() if key in inputs},
            )


@dataclasses.dataclass(frozen=True)
class FollowedGrid:
    """A grid of N points in the T frames of all clips together, without each clip's first one."""

    xy: NDArray[np.float32]
    """[T,N,2] unit coordinates."""
    visibility: NDArray[np.float32]
    """[T,N] probabilities."""


def compare(reference: FollowedGrid, other: FollowedGrid, config: Config) -> Comparison:
    """Compare what two backends of a model made of the same clips."""
    differences = np.linalg.norm((reference.xy - other.xy) * [config.width, config.height], axis=-1)
    frames, points = differences.shape
    return Comparison(
        frames=frames,
        points=points,
        largest_pixel_difference=float(differences.max()),
        median_pixel_difference=float(np.median(differences)),
        largest_visibility_difference=float(np.abs(reference.visibility - other.visibility).max()),
    )


def follow_grid(backend: Backend, clips: Sequence[Clip]) -> FollowedGrid:
    """Track a grid of points that start in the first frame of every clip."""
    line = np.linspace(0.1, 0.9, COMPARED_POINTS, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    rows = np.arange(len(grid))
    positions, visibilities = [], []
    for frames in clips:
        tracks = backend.allocate(len(grid), len(frames))
        previous = backend.encode(frames[0])
        query = backend.init_queries(previous, grid)
        tracks.start(rows, query)
        tracks.remember(rows, np.zeros_like(rows), query.content, np.ones(len(grid), np.float32), frame=0)
        for index, frame in enumerate(frames[1:], start=1):
            features = backend.encode(frame)
            decoded = backend.decode(features, previous, tracks, len(grid), index, np.ones(len(grid), bool), index)
            tracks.state[rows] = decoded.state
            tracks.remember(rows, np.full_like(rows, index), decoded.content, decoded.visibility, index)
            positions.append(decoded.xy)
            visibilities.append(decoded.visibility)
            previous = features
    return FollowedGrid(np.stack(positions), np.stack(visibilities))


class _Encode(nn.Module):
    """The graph of `encode`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.network.encode(image)


class _InitQueries(nn.Module):
    """The graph of `init_queries`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        *features, xy = inputs
        return self.network.init_queries(self.network.features(features), xy)


class _Decode(nn.Module):
    """The graph of `decode`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        features, tracks = inputs[: -len(DECODE_INPUTS)], inputs[-len(DECODE_INPUTS) :]
        output = self.network.decode(self.network.features(features), DecoderInput(*tracks))
        return *self.network.estimates(output), output.state, output.content
