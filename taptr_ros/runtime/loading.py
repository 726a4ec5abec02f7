"""Loading a model by name or path into the backend that can run it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import weakref
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from taptr_ros import MAX_IMAGE_PIXELS
from taptr_ros.errors import BackendUnavailableError, InvalidConfigError, ModelFileError
from taptr_ros.runtime.backend import Backend

LUCAS_KANADE = "lucas_kanade"
"""Name of the model without weights."""

TAPTR_SMALL = "taptr_small"
"""Name of the network that comes with the package."""

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""Folder of the models that come with the package, a folder each: an exported model, and a model file for PyTorch."""

MODEL_FILE = "model.safetensors"
"""Name of the model file in such a folder."""

BACKENDS = ("torch", "onnxruntime", "opencv")
"""Names that `load_backend` takes for `backend`."""

Precision = Literal["auto", "float32", "bfloat16", "int8"]
PRECISIONS = get_args(Precision)
"""Names that `load_backend` takes for `precision`."""


def load_backend(
    model: str,
    backend: str | None = None,
    *,
    device: str | None = None,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    precision: str = "auto",
) -> Backend:
    """Load a model.

    Args:
        model: `lucas_kanade`, the name of a model that comes with the package (`shipped_models`), the path of a model
            file (.safetensors), or the path of an exported model's folder.
        backend: `torch` for a model file, `onnxruntime` for an exported folder, either for a model of the package,
            `opencv` for Lucas-Kanade; None chooses by the model, `onnxruntime` where there is a choice.
        device: cpu, cuda, cuda:INDEX, or (ONNX Runtime) tensorrt; None is cpu.
        size: input (height, width) that images are stretched to; None takes the model's own.
        threads: CPU threads; None leaves the library's choice.
        precision: float32, bfloat16 (PyTorch only), or int8 (exported models on a CPU), which encodes images in 8-bit
            integers and computes the rest in float32; auto is int8 on a CPU for models that have it, else float32.

    Raises:
        ModelFileError: the model is missing, damaged, or of a kind that `backend` cannot run.
        BackendUnavailableError: the backend or the device is not installed here.
        InvalidConfigError: an option that this backend does not have.
    """
    if backend is not None and backend not in BACKENDS:
        raise InvalidConfigError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}.")
    if precision not in PRECISIONS:
        raise InvalidConfigError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if threads is not None and threads < 1:
        raise InvalidConfigError(f"threads is {threads}; use a positive whole number.")
    if size is not None and size[0] * size[1] > MAX_IMAGE_PIXELS:
        raise InvalidConfigError(
            f"The input size is {size[0]}x{size[1]}, more than {MAX_IMAGE_PIXELS} pixels; choose a smaller one."
        )
    path = _find(model, backend)
    kind = "opencv" if model == LUCAS_KANADE else "onnxruntime" if path.is_dir() else "torch"
    if backend not in (None, kind):
        advice = "; make one with `taptr export`" if backend == "onnxruntime" and path.is_file() else ""
        raise ModelFileError(f"{model} runs on backend {kind}, not on {backend}{advice}.")
    device = device or "cpu"
    if kind == "opencv":
        return _load_lucas_kanade(device, size, threads, precision)
    if kind == "onnxruntime":
        return _load_exported(path, device, size, threads, precision)
    return _load_model_file(path, device, size, threads, precision)


def shared_backend(
    model: str,
    backend: str | None = None,
    *,
    device: str | None = None,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    precision: str = "auto",
) -> Backend:
    """Load a model as `load_backend` does, or return it if this process has it already: backends keep no state."""
    key = (model, backend, device, size, threads, precision)
    loaded = _SHARED.get(key)
    if loaded is None:
        loaded = load_backend(model, backend, device=device, size=size, threads=threads, precision=precision)
        _SHARED[key] = loaded
    return loaded


_SHARED: weakref.WeakValueDictionary[Any, Backend] = weakref.WeakValueDictionary()
"""The models in use, by the arguments of `shared_backend`."""

_LIMITED: weakref.WeakKeyDictionary[Backend, tuple[str, int]] = weakref.WeakKeyDictionary()
"""The backends in use whose library has one limit of threads for the whole process, each with library and limit."""


def _limit_threads(backend: Backend, threads: int | None, limit: Callable[[int], object]) -> None:
    """Limit the threads of a backend's library, which does so for the whole process.

    Raises `InvalidConfigError` if another backend in use has another limit.
    """
    if threads is None:
        return
    library = backend.info.backend
    if (library, threads) not in (present := [*_LIMITED.values()]) and any(name == library for name, _ in present):
        raise InvalidConfigError(
            f"threads is {threads}, but another {library} model in this process runs with "
            f"{next(count for name, count in present if name == library)}; use both the same."
        )
    limit(threads)
    _LIMITED[backend] = (library, threads)


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.name for path in WEIGHTS.iterdir() if path.is_dir()) if WEIGHTS.is_dir() else []


def model_checksum(model: str, backend: str | None = None) -> str:
    """Return the SHA-256 of all files of a model, as `load_backend` finds it; its name for one without weights.

    Raises `ModelFileError` if it is not there.
    """
    if model == LUCAS_KANADE:
        return LUCAS_KANADE
    with _files(model, backend) as files:
        return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def model_bytes(model: str, backend: str | None = None) -> int:
    """Return the bytes of all files of a model, as `load_backend` finds it; 0 for one without weights.

    Raises `ModelFileError` if it is not there.
    """
    if model == LUCAS_KANADE:
        return 0
    with _files(model, backend) as files:
        return sum(file.stat().st_size for file in files)


@contextlib.contextmanager
def _files(model: str, backend: str | None) -> Iterator[list[Path]]:
    """Give the files of a model, in the order of their names; what cannot be read of them is a `ModelFileError`."""
    path = _find(model, backend)
    try:
        # A model of the package lies beside its file for PyTorch, which ONNX Runtime does not read.
        yield sorted(file for file in path.iterdir() if file.name != MODEL_FILE) if path.is_dir() else [path]
    except OSError as error:
        raise ModelFileError(
            f"There is no model {model} ({error.strerror}); pass a name, a .safetensors file or the folder of an "
            "exported model."
        ) from error


def _find(model: str, backend: str | None) -> Path:
    """Return the path of a model given by name or path, in the form that `backend` runs."""
    if model not in shipped_models():
        return Path(model)
    return WEIGHTS / model / MODEL_FILE if backend == "torch" else WEIGHTS / model


def _load_lucas_kanade(device: str, size: tuple[int, int] | None, threads: int | None, precision: str) -> Backend:
    import cv2

    from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend

    if device != "cpu" or precision not in ("auto", "float32"):
        raise InvalidConfigError("Lucas-Kanade runs on the CPU in float32 only; leave out device and precision.")
    backend = LucasKanadeBackend(size)
    _limit_threads(backend, threads, cv2.setNumThreads)
    return backend


def _load_exported(
    path: Path, device: str, size: tuple[int, int] | None, threads: int | None, precision: str
) -> Backend:
    try:
        from taptr_ros.runtime.onnx_backend import OnnxBackend
    except ImportError as error:
        raise BackendUnavailableError(
            f"{path.name} needs ONNX Runtime ({error}); run pip install onnxruntime, or, for an NVIDIA GPU, "
            "onnxruntime-gpu."
        ) from error

    backend = OnnxBackend(path, device=device, threads=threads, precision=precision)
    own = (backend.info.height, backend.info.width)
    if size is not None and size != own:
        raise InvalidConfigError(
            f"{path} is for an input of {own[0]}x{own[1]}. For another, run `taptr export {_model_file(path)} OUT_DIR "
            f"--size {size[0]}x{size[1]}` and use OUT_DIR as the model, or use PyTorch."
        )
    return backend


def _model_file(path: Path) -> str:
    """Return what a message calls the model file that an exported folder was made of."""
    file = path / MODEL_FILE
    return str(file) if file.is_file() else "MODEL.safetensors"


def _load_model_file(
    path: Path, device: str, size: tuple[int, int] | None, threads: int | None, precision: str
) -> Backend:
    if not path.is_file():
        names = get_close_matches(path.name, [*shipped_models(), LUCAS_KANADE], 1)
        raise ModelFileError.missing(path, *names)
    try:
        import torch

        from taptr_ros.model.files import load_model
        from taptr_ros.runtime.torch_backend import TorchBackend
    except ImportError as error:
        raise BackendUnavailableError(
            f"{path} needs PyTorch and safetensors ({error}); install this package with its extra `torch`, or export "
            "the model elsewhere and run it with ONNX Runtime."
        ) from error
    config, weights = load_model(path)
    if size is not None:
        config = dataclasses.replace(config, height=size[0], width=size[1])
    if precision == "int8":
        raise InvalidConfigError("int8 is for exported models; run `taptr export`, or use another precision.")
    backend = TorchBackend(config, weights, device=device, precision=precision)
    _limit_threads(backend, threads, torch.set_num_threads)
    return backend
