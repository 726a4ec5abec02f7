"""An exported model in ONNX Runtime, on a CPU or through the CUDA and TensorRT execution providers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from taptr_ros.errors import BackendUnavailableError, InvalidConfigError, ModelFileError
from taptr_ros.model.rotary import rotary_phase
from taptr_ros.runtime.backend import BackendInfo, Decoded, NumpyArrays, QueryArrays, TrackArrays
from taptr_ros.runtime.exported import (
    DECODE_INPUTS,
    DECODE_OUTPUTS,
    GRAPHS,
    INT8_ENCODE,
    MANIFEST,
    ExportedModel,
    feature_names,
    read_manifest,
)
from taptr_ros.runtime.images import fit_image, fit_image_to_bytes
from taptr_ros.runtime.processors import usable_processors

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Kinds of devices and the ONNX Runtime execution providers behind them."""

FIXED_SHAPE_DEVICES = ("tensorrt",)
"""Devices that compile a graph anew for every shape, so that they are always given all rows and slots."""

FEWEST_ROWS = 16
"""Tracks that it is worth giving to one more thread."""


class OnnxBackend:
    """`Backend` that runs the three graphs of an exported model; needs no PyTorch."""

    def __init__(
        self, folder: Path, *, device: str = "cpu", threads: int | None = None, precision: str = "auto"
    ) -> None:
        """Load the model in `folder` for `device`: one of `PROVIDERS`, or `cuda:INDEX` or `tensorrt:INDEX`.

        `threads` limits the CPU threads; None leaves the choice to ONNX Runtime. `precision` is float32, int8, which
        encodes images in 8-bit integers on a CPU, or auto: int8 on a CPU if the model has it.

        Raises `ModelFileError` for a missing or damaged model, `BackendUnavailableError` if the installed ONNX Runtime
        lacks the provider or the machine lacks the device, and `InvalidConfigError` for a precision that this model
        does not have there.
        """
        model = read_manifest(folder)
        config = model.config
        kind, self._index = _parse_device(device)
        has_int8 = model.has_int8 and kind == "cpu"
        if precision not in ("auto", "float32", "int8") or (precision == "int8" and not has_int8):
            offered = "float32 or int8" if has_int8 else "float32"
            advice = "use PyTorch for that" if precision == "bfloat16" else "use that"
            raise InvalidConfigError(
                f"ONNX Runtime runs {folder.name} on {kind} in {offered}, not in {precision}; {advice}."
            )
        self._in_int8 = has_int8 and precision != "float32"
        self._feature_names = feature_names(config)
        # Where points do not attend to each other, every thread has some of them to itself: threads that share every
        # operator of so small a network wait for each other most of the time.
        self._shares = 1 if config.self_attention or kind != "cpu" else threads or usable_processors()
        self._pool = ThreadPoolExecutor(self._shares)
        encode, *per_point = GRAPHS
        own = threads if self._shares == 1 else 1
        self._encode = _session(model, INT8_ENCODE if self._in_int8 else encode, device, threads)
        self._init_queries, self._decode = (_session(model, name, device, own) for name in per_point)
        self._fixed_shapes = kind in FIXED_SHAPE_DEVICES
        self._memory = "cpu" if kind == "cpu" else "cuda"
        self._info = BackendInfo.of_network(config, "onnxruntime", device, "int8" if self._in_int8 else "float32")

    @property
    def info(self) -> BackendInfo:
        """Constants of the loaded model."""
        return self._info

    def allocate(self, capacity: int, slots: int) -> TrackArrays:
        """Return empty track arrays in main memory."""
        if self._fixed_shapes:
            return TrackArrays(NumpyArrays(), self._info, capacity, slots, fewest_slots=slots)
        return TrackArrays(NumpyArrays(), self._info, capacity, slots)

    def encode(self, image: NDArray[np.uint8]) -> Any:
        """Compute the features of an image, uint8 [H,W,3] RGB; they stay on the device."""
        fit = fit_image_to_bytes if self._in_int8 else fit_image
        binding = self._encode.io_binding()
        binding.bind_cpu_input("image", fit(image, self._info.height, self._info.width))
        for name in self._feature_names:
            binding.bind_output(name, self._memory, self._index)
        self._encode.run_with_iobinding(binding)
        return dict(zip(self._feature_names, binding.get_outputs(), strict=True))

    def init_queries(self, features: Any, xy: NDArray[np.float32]) -> QueryArrays:
        """Sample content and context of new points at unit coordinates `xy` [N,2]."""
        count = len(xy)
        # Few shapes are compiled if numbers of points are rounded up to powers of two.
        height = 1 << (count - 1).bit_length() if self._fixed_shapes else count
        padded = np.pad(np.asarray(xy, np.float32), ((0, height - count), (0, 0)))
        outputs = self._in_shares(height, lambda share: _run(self._init_queries, features, {"xy": padded[share]}))
        return QueryArrays(*(output[:count] for output in outputs))

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
        phase = np.asarray(rotary_phase(frame, self._info.content_dim), np.float32)
        moving = np.pad(np.asarray(updated, bool), (0, height - rows))
        active = np.arange(height) < rows

        def decode_share(share: slice) -> list[NDArray[Any]]:
            return _run(
                self._decode,
                features,
                {
                    "content": tracks.content[share],
                    "context": tracks.context[share],
                    "state": tracks.state[share],
                    "keys": tracks.keys[share],
                    "values": tracks.values[share],
                    "weights": tracks.weights[share],
                    "phase": phase,
                    "updated": moving[share],
                    "active": active[share],
                },
            )

        outputs = dict(zip(DECODE_OUTPUTS, self._in_shares(height, decode_share), strict=True))
        return Decoded(
            xy=outputs["xy"][:rows],
            visibility=outputs["visibility"][:rows],
            confidence=outputs["confidence"][:rows],
            state=outputs["next_state"][:rows],
            content=outputs["next_content"][:rows],
        )

    def _in_shares(self, rows: int, run: Callable[[slice], list[NDArray[Any]]]) -> list[NDArray[Any]]:
        """Call `run` for the shares that `rows` points are split into, each in a thread; return the joined results."""
        shares = min(self._shares, rows // FEWEST_ROWS)
        if shares < 2:
            return run(slice(0, rows))
        limits = np.linspace(0, rows, shares + 1).round().astype(int).tolist()
        parts = list(self._pool.map(run, itertools.starmap(slice, itertools.pairwise(limits))))
        return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _parse_device(device: str) -> tuple[str, int]:
    """Return the kind of device, one of `PROVIDERS`, and its index."""
    kind, separator, index = device.partition(":")
    if kind not in PROVIDERS or (separator and (kind == "cpu" or not index.isdecimal())):
        raise InvalidConfigError(
            f"device is {device!r}; ONNX Runtime takes one of {', '.join(PROVIDERS)}, cuda:INDEX or tensorrt:INDEX."
        )
    return kind, int(index or 0)


def _session(model: ExportedModel, name: str, device: str, threads: int | None) -> onnxruntime.InferenceSession:
    """Load one graph on one device, and check that it is what the model's configuration says."""
    kind, index = _parse_device(device)
    provider, available = PROVIDERS[kind], onnxruntime.get_available_providers()
    if provider not in available:
        raise BackendUnavailableError(
            f"{provider} was requested, but this ONNX Runtime only has {', '.join(available)}; "
            "install onnxruntime-gpu in place of onnxruntime, or use --device cpu."
        )
    options = onnxruntime.SessionOptions()
    # Threads that spin while idle would take the processor from cameras and other nodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    if kind != "cpu" and hasattr(onnxruntime, "preload_dlls"):
        # CUDA's libraries from Python packages are not where the system's loader looks.
        onnxruntime.preload_dlls()
    providers = [provider if kind == "cpu" else (provider, {"device_id": index})]
    try:
        session = onnxruntime.InferenceSession(model.graph(name), options, providers=providers)
    except Exception as error:
        if kind == "cpu":
            raise ModelFileError(
                f"ONNX Runtime cannot load {model.graph(name)} ({error}); export the model again."
            ) from error
        raise BackendUnavailableError(f"{device} cannot run {model.graph(name)} ({error}); {_ADVICE}") from error
    # What was compiled into ONNX Runtime may still not run here: it then takes the CPU without an error.
    if session.get_providers()[0] != provider:
        raise BackendUnavailableError(f"{device} cannot be used on this machine; {_ADVICE}")
    session.disable_fallback()
    _check_graph(model, name, session)
    return session


def _check_graph(model: ExportedModel, name: str, session: onnxruntime.InferenceSession) -> None:
    """Raise `ModelFileError` if what a graph takes and returns is not what the model's configuration says.

    Numbers of points and of slots may be anything; an output's shape counts as far as the graph knows it.
    """
    config = model.config
    kinds = {"image": "tensor(uint8)" if name == INT8_ENCODE else "tensor(float)"}
    kinds |= dict.fromkeys(("updated", "active"), "tensor(bool)")
    names = feature_names(config)
    shapes: dict[str, tuple[int | None, ...]] = {
        "image": (config.height, config.width, 3),
        **dict(zip(names, config.feature_shapes, strict=True)),
        "phase": (2, config.hidden_dim // 2),
        **dict.fromkeys(("content", "next_content"), (None, config.hidden_dim)),
        **dict.fromkeys(("state", "next_state"), (None, config.state_dim)),
        **dict.fromkeys(("keys", "values"), (None, None, config.hidden_dim)),
        "context": (None, 3, 3, config.context_dim),
        "weights": (None, None),
        "xy": (None, 2),
        **dict.fromkeys(("visibility", "confidence", "updated", "active"), (None,)),
    }
    needed, optional, returned = {
        "init_queries": ({*names, "xy"}, set[str](), {"content", "context", "state"}),
        "decode": ({*names}, {*names, *DECODE_INPUTS}, {*DECODE_OUTPUTS}),
    }.get(name, ({"image"}, set(), {*names}))
    taken = {argument.name: argument for argument in session.get_inputs()}
    given = {argument.name: argument for argument in session.get_outputs()}
    problem = ""
    if not needed <= taken.keys() <= needed | optional or returned != given.keys():
        problem = f"it maps {', '.join(taken)} to {', '.join(given)}"
    for argument in () if problem else (*taken.values(), *given.values()):
        wanted = shapes[argument.name]
        pairs = zip(argument.shape, wanted, strict=True) if len(argument.shape) == len(wanted) else [(0, 1)]
        if any(isinstance(size, int) and limit is not None and size != limit for size, limit in pairs):
            problem = f"{argument.name} is {argument.shape}, not {list(wanted)}"
        if argument.type != (kind := kinds.get(argument.name, "tensor(float)")):
            problem = f"{argument.name} is {argument.type}, not {kind}"
    if problem:
        raise ModelFileError(f"{model.graph(name)} does not fit {MANIFEST} ({problem}); export the model again.")


_ADVICE = "check the GPU, its driver and CUDA's libraries, or use --device cpu."


def _run(
    session: onnxruntime.InferenceSession, features: dict[str, Any], inputs: dict[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Run a graph on features that may be on a device and on inputs in main memory; returns its outputs as numpy.

    A graph lacks the inputs that its network does not use, `active` for instance if points do not attend to each other.
    """
    used = {argument.name for argument in session.get_inputs()}
    values = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        for name, array in inputs.items()
        if name in used
    }
    return [output.numpy() for output in session.run_with_ort_values(None, {**features, **values})]
