"""What the subcommands share: the parser, the types of their arguments, and how they load a backend."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import get_args

from taptr_ros.errors import BackendUnavailableError
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.loading import BACKENDS, PRECISIONS, TAPTR_SMALL, load_backend
from taptr_ros.tracking.config import Support, TrackerConfig


def size(text: str) -> tuple[int, int]:
    """Parse "HxW" to (height, width) in pixels."""
    height, separator, width = text.lower().partition("x")
    if not (separator and _is_natural(height) and _is_natural(width) and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'"{text}" is not a size; write height x width in pixels, as 384x512')
    return int(height), int(width)


def size_list(text: str) -> list[tuple[int, int]]:
    """Parse sizes separated by commas."""
    return [size(part) for part in text.split(",")]


def count(text: str) -> int:
    """Parse a whole number from 1 on."""
    if not _is_natural(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 on')
    return int(text)


def count_list(text: str) -> list[int]:
    """Parse whole numbers from 1 on separated by commas."""
    return [count(part) for part in text.split(",")]


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f'"{text}" is not a number above 0')
    return value


def output_file(text: str) -> Path:
    """Parse the path of a file to write; it must be possible now, so that no long run ends without a result."""
    path = Path(text)
    # A link may lead elsewhere; one that leads to itself is refused with the other outputs.
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        problem = "is a folder"
    elif not folder.is_dir():
        problem = "lies in a folder that does not exist"
    elif path.is_fifo() and not path.is_relative_to("/dev"):
        problem = "is a pipe, which may have no reader"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        problem = "cannot be written here"
    else:
        return path
    raise argparse.ArgumentTypeError(f'"{text}" {problem}; name a file in a folder that exists')


def new_folder(text: str) -> Path:
    """Parse the path of a folder to make, in one that exists."""
    path = Path(text)
    if path.exists() or not path.parent.is_dir():
        problem = "exists already" if path.exists() else "lies in a folder that does not exist"
        raise argparse.ArgumentTypeError(f'"{text}" {problem}; name a new folder in one that exists')
    return path


def add_model_arguments(
    parser: argparse.ArgumentParser, *, default: str = TAPTR_SMALL, threads: int | None = None
) -> None:
    """Add --model, --backend, --device, --precision and --threads."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=default,
        help="taptr_small (comes with the package), lucas_kanade (needs no weights), a .safetensors file, or a folder "
        "written by `taptr export`",
    )
    group.add_argument("--backend", choices=BACKENDS, help="what runs it (default: what fits the model)")
    group.add_argument("--device", default="cpu", help="where it runs: cpu, cuda, cuda:INDEX or tensorrt (onnxruntime)")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="numbers to compute with: int8 encodes images in 8-bit integers, with exported models on a processor; "
        "bfloat16 is for torch; auto is int8 on a processor for models that have it, else float32",
    )
    chosen = "the choice of the backend's library" if threads is None else threads
    group.add_argument("--threads", type=count, default=threads, metavar="N", help=f"CPU threads (default: {chosen})")


def load_requested_backend(arguments: argparse.Namespace, size: tuple[int, int] | None) -> Backend:
    """Load the model that `add_model_arguments` describes, for images stretched to `size` (height, width)."""
    return load_backend(
        arguments.model,
        arguments.backend,
        device=arguments.device,
        size=size,
        threads=arguments.threads,
        precision=arguments.precision,
    )


def tracker_node_parameters(arguments: argparse.Namespace) -> dict[str, str | int]:
    """Return the parameters of the node `tracker` that load the model which `add_model_arguments` describes."""
    return {
        "model": arguments.model,
        "backend": arguments.backend or "auto",
        "device": arguments.device,
        "precision": arguments.precision,
        "threads": arguments.threads or 0,
    }


def add_size_argument(parser: argparse.ArgumentParser) -> None:
    """Add --size."""
    parser.add_argument("--size", type=size, metavar="HxW", help="input size of the model (default: its own)")


def add_tracker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --memory, --support, --no-support and --lost-after; `offline.add_replenish_argument` adds --replenish."""
    parser.set_defaults(replenish=False)
    group = parser.add_argument_group("tracker")
    group.add_argument(
        "--memory", type=count, default=TrackerConfig.memory_slots, metavar="M", help="past frames a track remembers"
    )
    group.add_argument(
        "--support",
        choices=get_args(Support),
        default=TrackerConfig.support,
        help="hidden points that are tracked too: grid is 6x6 over the image, local_and_grid adds 63 around "
        "every point, as published results used, auto is grid where points attend to each other",
    )
    group.add_argument(
        "--lost-after",
        type=count,
        default=TrackerConfig.lost_after,
        metavar="N",
        help="frames after which a point that is not seen counts as lost (default: %(default)s)",
    )
    group.add_argument("--no-support", dest="support", action="store_const", const="none", help="the same as none")


def tracker_config(arguments: argparse.Namespace) -> TrackerConfig:
    """Return the configuration that `add_tracker_arguments` describes."""
    return TrackerConfig(
        memory_slots=arguments.memory,
        support=arguments.support,
        lost_after=arguments.lost_after,
        replenish=arguments.replenish,
    )


def requires_torch(purpose: str) -> AbstractContextManager[None]:
    """Turn a failing import of PyTorch or a package that comes with it into `BackendUnavailableError`."""
    return _requires(f"{purpose} needs PyTorch", _with_extra("torch"))


def requires_ros(purpose: str) -> AbstractContextManager[None]:
    """Turn a failing import of ROS or of this package's interfaces into `BackendUnavailableError`."""
    return _requires(
        f"{purpose} needs ROS 2",
        "source a ROS 2 installation, or install the wheels listed in requirements-ros-kilted.txt",
    )


def requires_extra(purpose: str, extra: str) -> AbstractContextManager[None]:
    """Turn a failing import of a package that an extra of ours brings into `BackendUnavailableError`."""
    return _requires(f"{purpose} needs more packages", _with_extra(extra))


def _with_extra(extra: str) -> str:
    return f'run pip install ".[{extra}]" in the repository of this package'


@contextlib.contextmanager
def _requires(need: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise BackendUnavailableError(f"{need} ({error}); {remedy}.") from error


def _is_natural(text: str) -> bool:
    return text.strip().isascii() and text.strip().isdigit()
