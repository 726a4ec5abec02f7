"""What workers have in common: the model that they load, and their share of a machine."""

from __future__ import annotations

import argparse
import dataclasses
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from taptr_ros.cli.arguments import count, positive
from taptr_ros.errors import ModelFileError
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.loading import load_backend, model_bytes, model_checksum

GPU_SHARE = 0.25
"""Share of a GPU for a model that is not large."""

LARGE_MODEL = 64 << 20
"""Bytes of its files from which on a model is large: it gets two cores, or a GPU of its own."""

BASE_MEMORY = 400 << 20
"""Bytes that a worker needs whatever its model is."""

MEMORY_PER_MODEL_BYTE = 8
"""Bytes that a worker needs for every byte of the model's files: weights, and what is computed at once."""


@dataclasses.dataclass(frozen=True)
class Model:
    """What loads the model: its checksum, and the arguments of `load_backend`."""

    name: str
    """Name or absolute path."""
    checksum: str
    """Of its files, as `model_checksum` tells it."""
    backend: str | None
    device: str
    size: tuple[int, int] | None
    threads: int
    precision: str

    @property
    def identity(self) -> list[Any]:
        """What the tracks follow from. An automatic precision differs between kinds of devices."""
        kind = self.device.partition(":")[0] if self.precision == "auto" else None
        return [self.checksum, self.backend, self.size, self.precision, kind]

    def load(self) -> Backend:
        """Load it; raises what `load_backend` raises, and `ModelFileError` if this machine has other files."""
        if model_checksum(self.name, self.backend) != self.checksum:
            raise ModelFileError(f"{self.name} is not the same on all machines; copy the same files to all of them.")
        return load_backend(
            self.name,
            self.backend,
            device=self.device,
            size=self.size,
            threads=self.threads,
            precision=self.precision,
        )


@dataclasses.dataclass(frozen=True)
class Share:
    """What one worker takes of a machine."""

    cpus: float
    gpus: float
    memory: int
    """Bytes."""

    def fits(self, resources: dict[str, float]) -> int:
        """Return how many workers a machine with these resources has room for."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory)}
        return min(int(resources.get(name, 0.0) / amount + 1e-6) for name, amount in wanted.items() if amount)


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --address, --workers, --cpus, --gpus and --gigabytes."""
    where = parser.add_argument_group("where it runs")
    where.add_argument("--address", help="cluster of Ray to join: HOST:PORT, or auto (default: this machine only)")
    where.add_argument("--workers", type=count, metavar="N", help="most workers at the same time (default: by cores)")
    where.add_argument("--cpus", type=positive, metavar="N", help="cores per worker (default: 1, large models 2)")
    where.add_argument(
        "--gpus", type=positive, metavar="SHARE", help="share of a GPU per worker (default, with --device: 0.25 or 1)"
    )
    where.add_argument("--gigabytes", type=positive, metavar="GB", help="memory per worker (default: by the model)")


def prepare_ray(address: str | None) -> None:
    """Set what Ray reads from the environment when it is imported, which must not have happened yet.

    Nothing is told to Ray's makers. Ray opens ports on all of the machine's addresses, and who can talk to them can run
    programs: a Ray that is started here, without an address, talks only to those that know a secret.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what its next version does, which it says once
    if address is None and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)


def requested_share(arguments: argparse.Namespace) -> Share:
    """Return what a worker takes, as asked for by `add_cluster_arguments`, or as the model needs it."""
    size = model_bytes(arguments.model, arguments.backend)
    is_large = size >= LARGE_MODEL
    cpus = arguments.cpus or (2 if is_large and arguments.device == "cpu" else 1)
    gpus = arguments.gpus or (1.0 if is_large else GPU_SHARE)
    memory = int(arguments.gigabytes * 1e9) if arguments.gigabytes else BASE_MEMORY + MEMORY_PER_MODEL_BYTE * size
    return Share(cpus, gpus if arguments.device != "cpu" else 0.0, memory)


def requested_model(arguments: argparse.Namespace, share: Share) -> Model:
    """Return the model that the arguments name, with as many threads as the worker has cores."""
    path = Path(arguments.model)
    return Model(
        name=str(path.absolute()) if path.exists() else arguments.model,
        checksum=model_checksum(arguments.model, arguments.backend),
        backend=arguments.backend,
        device=arguments.device,
        size=arguments.size,
        threads=arguments.threads or max(1, int(share.cpus)),
        precision=arguments.precision,
    )


def sentence(error: Exception) -> str:
    """Return what went wrong as one line."""
    text = " ".join(str(error).split())
    return text or f"It failed with {type(error).__name__}."
