"""Work on Ray: actors that keep a model, each with one task at a time, on one machine or on a cluster.

Ray starts the actors, carries tasks and results, and tells of processes and machines that end. What is done here is
to hand a task on when that happens, and to start actors where machines come or go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

from taptr_ros.cli.batch.model import Share
from taptr_ros.errors import BackendUnavailableError, InvalidConfigError, TaptrError
from taptr_ros.runtime.processors import usable_processors

ATTEMPTS = 3
"""Times that Ray's start is tried, and a task whose worker's process ends; a recording that ends them all is given up.
"""

OBJECT_STORE = 512 << 20
"""Bytes of shared memory for results on their way, when Ray is started here."""

_PATIENCE = 5.0
"""Seconds between two looks at the machines of the cluster, and longest wait for a result before the caller is asked
whether to go on."""

_LONELY = 300.0
"""Seconds without any worker, because the machines are gone, after which a cluster is given up; others may join it."""

_LONGEST = 300
"""Characters of what Ray says that are told."""


class Worker(Protocol):
    """What an actor runs."""

    def load(self) -> str:
        """Get ready; return why that is not possible, or nothing."""

    def work(self, task: Any) -> Any:
        """Do a task and return what came of it."""


@dataclasses.dataclass(frozen=True)
class Lost:
    """A task whose workers' processes ended, every time."""

    sentence: str


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Start Ray on this machine for a while, or join the cluster at an address.

    Raises `BackendUnavailableError` if that is not possible.
    """
    if address is not None:
        _check_address(address)
    quiet: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    try:
        if address is None:
            _start(quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # a start that fails raises the base class itself
        place = "Ray cannot be started" if address is None else f"The cluster of Ray at {address} cannot be joined"
        raise BackendUnavailableError(f"{place}: {_words(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _start(quiet: dict[str, Any], attempts: int = ATTEMPTS) -> None:
    """Start Ray on this machine. It gives its processes 15 to 30 s, which a busy machine may miss: try again."""
    try:
        ray.init(
            address="local",
            num_cpus=usable_processors(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            **quiet,
        )
    except Exception:
        ray.shutdown()
        if attempts == 1:
            raise
        _start(quiet, attempts - 1)


def _check_address(address: str) -> None:
    """Raise `BackendUnavailableError` if nothing answers at HOST:PORT; Ray would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not (separator and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError, ValueError) as error:
        raise BackendUnavailableError(
            f"The cluster of Ray at {address} cannot be reached ({error}); check the address, and that it is running."
        ) from error


class Crew:
    """As many workers as the cluster has room for, or `most`; on one machine alone, nothing comes back that is gone.

    Raises `InvalidConfigError` if no machine has room for one.
    """

    def __init__(self, make: Callable[[], Worker], share: Share, *, most: int | None, is_alone: bool) -> None:
        self._make = make
        self._share = share
        self._most = most
        self._is_alone = is_alone
        self._loading: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Any]] = {}
        self._looked = -_PATIENCE
        self._not_loaded = 0
        self._seen = time.monotonic()
        if not self._room():
            raise InvalidConfigError(
                f"No machine has room for a worker with {share.cpus:g} cores, {share.gpus:g} GPUs and "
                f"{share.memory / 1e9:.1f} GB of memory; lower --cpus, --gpus or --gigabytes."
            )

    def results(self, tasks: deque[Any]) -> Iterator[tuple[Any, Any] | None]:
        """Yield every task with what came of it, in the order in which they end; None now and then while none ends.

        Tasks that are put into the deque meanwhile are done too. Raises `TaptrError` if a worker cannot get ready, and
        `BackendUnavailableError` if the cluster is lost.
        """
        attempts: dict[Any, int] = {}
        try:
            while tasks or self._busy:
                self._grow(len(tasks) + len(self._busy))
                self._hand_out(tasks)
                ready = self._ready()
                if not ready:
                    yield None
                for reference in ready:
                    if reference in self._loading:
                        self._loaded(reference)
                        continue
                    actor, task = self._busy.pop(reference)
                    try:
                        result = ray.get(reference)
                    except RayError as error:
                        ray.kill(actor)
                        self._looked = -_PATIENCE
                        attempts[task] = attempts.get(task, 0) + 1
                        if attempts[task] < ATTEMPTS:
                            tasks.append(task)
                            continue
                        result = Lost(
                            f"The process of its worker ended {ATTEMPTS} times ({_words(error)}); it may need "
                            "more memory than there is."
                        )
                    else:
                        self._idle.append(actor)
                    self._hand_out(tasks)  # before the caller writes the result
                    yield task, result
        except (RayError, ConnectionError) as error:
            raise BackendUnavailableError(f"The cluster of Ray is lost: {_words(error)}") from error

    def _hand_out(self, tasks: deque[Any]) -> None:
        """Give those who have nothing to do the next tasks."""
        while tasks and self._idle:
            actor, task = self._idle.pop(), tasks.popleft()
            self._busy[actor.work.remote(task)] = (actor, task)

    def _ready(self) -> list[Any]:
        """Return the calls that have ended; none after a second in which none did."""
        waiting = [*self._busy, *self._loading]
        if not waiting:
            lonely = time.monotonic() - self._seen
            if self._is_alone and lonely > _PATIENCE:
                raise BackendUnavailableError("Ray has ended on this machine; start the command again.")
            if lonely > _LONELY:
                raise BackendUnavailableError(
                    f"No machine of the cluster has had room for a worker for {_LONELY:.0f} s; start the command again "
                    "when there is one."
                )
            time.sleep(1.0)
            return []
        self._seen = time.monotonic()
        ready, _ = ray.wait(waiting, num_returns=1, timeout=1.0)
        if ready and len(waiting) > 1:
            # All that are: on a large cluster, to look at what everybody does takes milliseconds.
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return list(ready)

    def _grow(self, wanted: int) -> None:
        """Start workers where the cluster has room."""
        now = time.monotonic()
        if now - self._looked < _PATIENCE:
            return
        self._looked = now
        room = min(self._room(), wanted, self._most or wanted)
        for _ in range(room - len(self._idle) - len(self._busy) - len(self._loading)):
            kind: Any = ray.remote(_Actor)
            share = self._share
            options = kind.options(num_cpus=share.cpus, num_gpus=share.gpus, memory=share.memory, max_restarts=0)
            actor = options.remote(self._make)
            self._loading[actor.load.remote()] = actor

    def _loaded(self, reference: Any) -> None:
        """Take a worker that is ready."""
        actor = self._loading.pop(reference)
        try:
            refusal = ray.get(reference)
        except RayError as error:
            ray.kill(actor)  # its machine may be gone
            self._not_loaded += 1
            if self._not_loaded == ATTEMPTS:
                raise BackendUnavailableError(
                    f"The processes of {ATTEMPTS} workers ended while the model was loaded ({_words(error)}); "
                    "look at Ray's logs, and whether this package and memory are there on all machines."
                ) from error
            return
        self._not_loaded = 0
        if refusal:
            raise TaptrError(refusal)
        self._idle.append(actor)

    def _room(self) -> int:
        """Return how many workers the machines that are alive have room for."""
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        return sum(self._share.fits(node["Resources"]) for node in nodes if node["Alive"])


class _Actor:
    """Runs a worker in a process of its own."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._worker = make()

    def load(self) -> str:
        return self._worker.load()

    def work(self, task: Any) -> Any:
        return self._worker.work(task)


def _words(error: BaseException) -> str:
    """Return the beginning of what an exception of Ray says, which may be pages, as one sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...").rstrip(".") + "."
