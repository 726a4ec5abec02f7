"""An exported model in ONNX Runtime, on a CPU or through the CUDA and TensorRT execution providers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from taptr_ros.errors import BackendUnavailableError, InvalidConfigError, ModelFileError
from taptr_ros.model.rotary import rotary_phase
from taptr_ros.runtime.backend import BackendInfo, Decoded, NumpyArrays, QueryArrays, TrackArrays
from taptr_ros.runtime.exported import DECODE_INPUTS, DECODE_OUTPUTS, GRAPHS, ExportedModel, read_manifest
from taptr_ros.runtime.images import fit_image

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Device names and the ONNX Runtime execution providers behind them."""

FIXED_SHAPE_DEVICES = ("tensorrt",)
"""Devices that compile a graph anew for every shape, so that they are always given all rows and slots."""


class OnnxBackend:
    """`Backend` that runs the three graphs of an exported model; needs no PyTorch."""

    def __init__(self, folder: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        """Load the model in `folder` for `device`, one of `PROVIDERS`.

        `threads` limits the CPU threads; None leaves the choice to ONNX Runtime.

        Raises `ModelFileError` for a missing or damaged model and `BackendUnavailableError` if the installed ONNX
        Runtime lacks the provider.
        """
        model = read_manifest(folder)
        config = model.config
        sessions = {name: _session(model, name, device, threads) for name in GRAPHS}
        self._encode, self._init_queries, self._decode = (sessions[name] for name in GRAPHS)
        self._fixed_shapes = device in FIXED_SHAPE_DEVICES
        self._info = BackendInfo.of_network(config, "onnxruntime", device)

    @property
    def info(self) -> BackendInfo:
        """Constants of the loaded model."""
        return self._info

    def allocate(self, capacity: int, slots: int) -> TrackArrays:
        """Return empty track arrays in main memory."""
        return TrackArrays(NumpyArrays(), self._info, capacity, slots)

    def encode(self, image: NDArray[np.uint8]) -> Any:
        """Compute the tokens of an image, uint8 [H,W,3] RGB; they stay on the device."""
        fitted = fit_image(image, self._info.height, self._info.width)
        binding = self._encode.io_binding()
        binding.bind_cpu_input("image", fitted)
        binding.bind_output("tokens", "cpu" if self._info.device == "cpu" else "cuda")
        self._encode.run_with_iobinding(binding)
        return binding.get_outputs()[0]

    def init_queries(self, features: Any, xy: NDArray[np.float32]) -> QueryArrays:
        """Sample content and context of new points at unit coordinates `xy` [N,2]."""
        return QueryArrays(*_run(self._init_queries, features, {"xy": np.asarray(xy, np.float32)}))

    def decode(
        self,
        features: Any,
        previous_features: Any | None,
        tracks: TrackArrays,
        rows: int,
        slots: int,
        updated: NDArray[np.bool_],
        frame: int,
    ) -> Decoded:
        """Move the tracks in rows 0..rows-1 to this frame; `previous_features` are not needed."""
        height = tracks.capacity if self._fixed_shapes else rows
        depth = tracks.slots if self._fixed_shapes else slots
        active = np.arange(height) < rows
        inputs = {
            "content": tracks.content[:height],
            "context": tracks.context[:height],
            "state": tracks.state[:height],
            "keys": tracks.keys[:height, :depth],
            "values": tracks.values[:height, :depth],
            "weights": tracks.weights[:height, :depth],
            "phase": np.asarray(rotary_phase(frame, self._info.content_dim), np.float32),
            "updated": np.pad(np.asarray(updated, bool), (0, height - rows)),
            "active": active,
        }
        outputs = dict(zip(DECODE_OUTPUTS, _run(self._decode, features, inputs), strict=True))
        return Decoded(
            xy=outputs["xy"][:rows],
            visibility=outputs["visibility"][:rows],
            state=outputs["next_state"][:rows],
            content=outputs["next_content"][:rows],
        )


def _session(model: ExportedModel, name: str, device: str, threads: int | None) -> onnxruntime.InferenceSession:
    """Load one graph on one device."""
    if device not in PROVIDERS:
        raise InvalidConfigError(f"device is {device!r}; ONNX Runtime takes one of {', '.join(PROVIDERS)}.")
    provider, available = PROVIDERS[device], onnxruntime.get_available_providers()
    if provider not in available:
        raise BackendUnavailableError(
            f"{provider} was asked for but this ONNX Runtime only has {', '.join(available)}; "
            "install onnxruntime-gpu in place of onnxruntime, or use --device cpu."
        )
    options = onnxruntime.SessionOptions()
    # Threads that spin while idle would take the processor from cameras and other nodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(model.graph(name), options, providers=[provider])
    except Exception as error:
        raise ModelFileError(
            f"ONNX Runtime cannot load {model.graph(name)} ({error}); export the model again."
        ) from error


def _run(session: onnxruntime.InferenceSession, tokens: Any, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Run a graph on tokens that may be on a device and on inputs in main memory; returns its outputs as numpy.

    A graph lacks the inputs that its network does not use, `active` for instance if points do not attend to each other.
    """
    used = {argument.name for argument in session.get_inputs()}
    values = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        for name, array in inputs.items()
        if name in used
    }
    return [output.numpy() for output in session.run_with_ort_values(None, {DECODE_INPUTS[0]: tokens, **values})]
