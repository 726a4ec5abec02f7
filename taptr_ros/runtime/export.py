"""Export of a model to ONNX graphs, and the comparison of both sides on real frames."""

from __future__ import annotations

import dataclasses
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
class ExportReport:
    """What `export` wrote, and how well it agrees with PyTorch."""

    folder: Path
    """Folder of the exported model."""
    frames: int
    """Frames compared."""
    points: int
    """Points compared in each frame."""
    largest_pixel_difference: float
    """Largest distance between the two backends' positions, in pixels of the network's input."""
    largest_visibility_difference: float
    """Largest difference between the two backends' visibility probabilities."""
    median_pixel_difference: float
    """Median of the distances."""
    int8: ExportReport | None = None
    """The same for images encoded in 8-bit integers; None for a model that does not have that."""


def export(
    model: Path, folder: Path, frames: Sequence[NDArray[np.uint8]], *, size: tuple[int, int] | None = None
) -> ExportReport:
    """Export the model file `model` to `folder` and compare the two on `frames`, uint8 [H,W,3] RGB, at least two.

    A small network is exported a second time with images encoded in 8-bit integers, whose ranges follow from `frames`.
    `size` is the input (height, width) that the graphs are fixed to; None keeps the model's own.

    Raises `ModelFileError` if the model cannot be read, or if the graphs disagree with it by more than `TOLERANCE`
    pixels, or those in integers by more than `INT8_TOLERANCE` in the median.
    """
    if len(frames) < 2:
        raise InvalidConfigError(f"Comparing needs at least two frames, not {len(frames)}; use a longer video.")
    config, weights = load_model(model)
    if size is not None:
        config = dataclasses.replace(config, height=size[0], width=size[1])
    network = build_network(config, form="grid")
    load_weights(network, weights)
    folder.mkdir(parents=True, exist_ok=True)
    write_graphs(network.prepare_for_inference(), config, folder)
    graph_path(folder, INT8_ENCODE).unlink(missing_ok=True)
    if isinstance(config, SmallConfig):
        some = frames[:: -(-len(frames) // CALIBRATION_IMAGES)]
        images = [fit_image_to_bytes(frame, config.height, config.width) for frame in some]
        quantize_encoder(graph_path(folder, "encode"), graph_path(folder, INT8_ENCODE), images)
    write_manifest(folder, config)
    reference = TorchBackend(config, weights)
    report = compare(reference, OnnxBackend(folder, precision="float32"), frames, folder)
    if not report.largest_pixel_difference < TOLERANCE:
        raise ModelFileError(
            f"The exported graphs in {folder} differ from PyTorch by {report.largest_pixel_difference:.4f} px, "
            f"more than {TOLERANCE} px; do not use them, and report this."
        )
    if not isinstance(config, SmallConfig):
        return report
    int8 = compare(reference, OnnxBackend(folder, precision="int8"), frames, folder)
    if not int8.median_pixel_difference < INT8_TOLERANCE:
        raise ModelFileError(
            f"With images encoded in 8-bit integers, the graphs in {folder} differ from PyTorch by "
            f"{int8.median_pixel_difference:.2f} px in the median, more than {INT8_TOLERANCE:.0f} px; export again "
            "with --frames that look like the robot's images."
        )
    return dataclasses.replace(report, int8=int8)


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


def compare(reference: Backend, other: Backend, frames: Sequence[NDArray[np.uint8]], folder: Path) -> ExportReport:
    """Track the same grid of points through `frames` with both backends, each with its own memory."""
    xy, visibility = follow_grid(reference, frames)
    other_xy, other_visibility = follow_grid(other, frames)
    size = np.array([reference.info.width, reference.info.height])
    differences = np.linalg.norm((xy - other_xy) * size, axis=-1)
    return ExportReport(
        folder=folder,
        frames=len(frames),
        points=xy.shape[1],
        largest_pixel_difference=float(differences.max()),
        median_pixel_difference=float(np.median(differences)),
        largest_visibility_difference=float(np.abs(visibility - other_visibility).max()),
    )


def follow_grid(
    backend: Backend, frames: Sequence[NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Track a grid of points that start in the first frame.

    Returns unit coordinates [T-1,N,2] and visibility [T-1,N] in the frames after it.
    """
    line = np.linspace(0.1, 0.9, COMPARED_POINTS, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    rows = np.arange(len(grid))
    tracks = backend.allocate(len(grid), len(frames))
    previous = backend.encode(frames[0])
    query = backend.init_queries(previous, grid)
    tracks.start(rows, query)
    tracks.remember(rows, np.zeros_like(rows), query.content, np.ones(len(grid), np.float32), frame=0)
    positions, visibilities = [], []
    for index, frame in enumerate(frames[1:], start=1):
        features = backend.encode(frame)
        decoded = backend.decode(features, previous, tracks, len(grid), index, np.ones(len(grid), bool), index)
        tracks.state[rows] = decoded.state
        tracks.remember(rows, np.full_like(rows, index), decoded.content, decoded.visibility, index)
        positions.append(decoded.xy)
        visibilities.append(decoded.visibility)
        previous = features
    return np.stack(positions), np.stack(visibilities)


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
