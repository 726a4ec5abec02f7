"""Training in several processes that share a step's clips: started here, or by torchrun."""

from __future__ import annotations

import dataclasses
import datetime
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed

from taptr_ros.errors import BackendUnavailableError, TaptrError

PATIENCE = datetime.timedelta(hours=12)
"""How long a process waits for the others, which may evaluate, or be stopped for a while."""


EXIT_TERMINATED = 143
"""Exit status after SIGTERM."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Which of the processes this one is."""

    rank: int
    """Number of the process, from 0."""
    world: int
    """How many there are."""
    device: torch.device
    """Where it computes."""

    @property
    def leads(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0


def is_started() -> bool:
    """Return whether this process is one of several, started by `start` or torchrun."""
    return "WORLD_SIZE" in os.environ


def start(processes: int, command: Sequence[str]) -> None:
    """Run `command` in `processes` processes and wait; raises `TaptrError` if one fails, after ending the others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)})  # noqa: S603
        for rank in range(processes)
    ]
    # Without this, a signal that ends this process would leave the others behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    try:
        while any(child.poll() is None for child in children) and not any(child.returncode for child in children):
            time.sleep(0.5)
        if any(child.returncode for child in children):
            raise TaptrError("A training process failed; its message is above.")
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """Return how many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: str) -> Place:
    """Join the other processes, if there are any, and find this one's device."""
    kind = torch.device(device)
    if kind.type == "cuda":
        if not torch.cuda.is_available():
            raise BackendUnavailableError("The recipe asks for cuda, which PyTorch does not see here; use device: cpu.")
        kind = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(kind)
    if world() > 1:
        backend = "nccl" if kind.type == "cuda" else "gloo"
        distributed.init_process_group(backend, rank=rank(), world_size=world(), timeout=PATIENCE)
    return Place(rank(), world(), kind)


def leave(place: Place) -> None:
    """Leave the other processes."""
    if place.world > 1:
        distributed.destroy_process_group()


def average(tensors: Iterable[Tensor], place: Place) -> None:
    """Replace tensors by their mean over the processes, in one exchange."""
    if place.world == 1:
        return
    tensors = list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= place.world
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `taptr` with these arguments."""
    return [sys.executable, "-m", "taptr_ros", *arguments]
