"""The nodes as processes of their own, started, watched and ended by a program that measures or shows them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from taptr_ros.errors import TaptrError
from taptr_ros.nodes.process import IMAGE_TRANSPORT, TRANSPORT_VARIABLE

START_TIME = 60.0
"""Longest time in seconds until a node has started: loading a model may take long."""

STOP_TIME = 20.0
"""Longest time in seconds until a process that was interrupted has ended."""


def free_port(wanted: int) -> int:
    """Return a port of this machine's own address: the one that is wanted, or any that is free if that is not."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(("127.0.0.1", port))
            found: int = tried.getsockname()[1]
            return found
    raise NodeFailedError("There is no free port for the view; leave --view out.")


def is_listening(port: int) -> bool:
    """Return whether something listens on a port of this machine's own address."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


class NodeFailedError(TaptrError):
    """A process of a run ended too early, did not start, or did not end as it should."""


class NodeProcesses:
    """Nodes of this package, each in a process of its own, in one namespace; they end with the `with` block.

    What they log is kept in a file each, in `logs`. Raises `NodeFailedError` for a process that fails.
    """

    def __init__(self, namespace: str, logs: Path) -> None:
        self._namespace = namespace
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Start the node `taptr_ros.nodes.NAME_node` with values for its parameters."""
        self._logs.mkdir(parents=True, exist_ok=True)
        # JSON is YAML, in which ROS expects values.
        values = [word for key, value in parameters.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
        # Threads that wait must not spin: several processes share the processor.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", TRANSPORT_VARIABLE: IMAGE_TRANSPORT} | os.environ
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603
                [
                    *(sys.executable, "-m", f"taptr_ros.nodes.{name}_node"),
                    *("--ros-args", "-r", f"__ns:={self._namespace}", *values),
                ],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def is_running(self, name: str) -> bool:
        """Return whether a process runs; raise if any has failed."""
        for each, process in self._running.items():
            if process.poll():
                raise self._failure(each, f"ended with status {process.returncode}")
        return self._running[name].poll() is None

    def processor_seconds(self, name: str) -> float:
        """Return the processor time that a running process has used so far, in seconds."""
        fields = Path(f"/proc/{self._running[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # in user and in system mode

    def stop(self, name: str) -> None:
        """Interrupt a process, unless it has ended, and wait until it has."""
        process = self._running.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            status = process.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise self._failure(name, "did not end when interrupted") from None
        if status:
            raise self._failure(name, f"ended with status {status}")

    def stop_all(self) -> None:
        """Stop the processes, last started first."""
        for name in reversed([*self._running]):
            self.stop(name)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _failure(self, name: str, what: str) -> NodeFailedError:
        lines = self._log(name).read_text(errors="replace").strip().splitlines()
        return NodeFailedError(f"The node {name} {what}; its log {self._log(name)} ends: {' '.join(lines[-3:])}")

    def __enter__(self) -> NodeProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After an error or an interrupt, too, the recorder shall complete its bag.
        for name in reversed([*self._running]):
            with contextlib.suppress(NodeFailedError):
                self.stop(name)


class Watcher:
    """A node beside the processes, in this one: it takes their messages and calls their services."""

    def __init__(self, namespace: str, processes: NodeProcesses) -> None:
        self.node = Node("watcher", namespace=namespace)
        self._processes = processes
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def call(self, name: str, service: str, kind: Any, request: Any) -> Any:
        """Call a service that the process `name` offers once it has started, and return the response."""
        client: Any = self.node.create_client(kind, service)
        self.wait(name, client.service_is_ready, START_TIME)
        # A response is lost while the server does not know the client yet: an empty request changes nothing.
        probe = client.call_async(kind.Request())
        end = time.monotonic() + START_TIME
        while not self._spin_until(probe.done, 2.0):
            self._check(name, end, START_TIME)
            probe = client.call_async(kind.Request())
        response = client.call_async(request)
        self.wait(name, response.done, START_TIME)
        return response.result()

    def wait(self, name: str, condition: Callable[[], Any], seconds: float) -> None:
        """Take messages until a condition holds; raise `NodeFailedError` if it takes longer or a process fails."""
        end = time.monotonic() + seconds
        while not self._spin_until(condition, 0.2):
            self._check(name, end, seconds)

    def _check(self, name: str, end: float, seconds: float) -> None:
        """Raise `NodeFailedError` if a process has failed, or if `seconds` are over at `end`."""
        self._processes.is_running(name)
        if time.monotonic() > end:
            raise NodeFailedError(f"The node {name} did not answer within {seconds:g} s.")

    def spin_while(self, condition: Callable[[], bool]) -> None:
        """Take messages as long as a condition holds."""
        while condition():
            self._executor.spin_once(timeout_sec=0.1)

    def spin_for(self, seconds: float) -> None:
        """Take messages for a time."""
        self._spin_until(lambda: False, seconds)

    def _spin_until(self, condition: Callable[[], Any], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._executor.spin_once(timeout_sec=min(left, 0.1))
        return True


@contextlib.contextmanager
def live_run(namespace: str, logs: Path) -> Iterator[tuple[NodeProcesses, Watcher]]:
    """Start ROS in this process; end it and all node processes with the `with` block."""
    os.environ.setdefault(TRANSPORT_VARIABLE, IMAGE_TRANSPORT)
    rclpy.init(args=[])
    try:
        with NodeProcesses(namespace, logs) as processes:
            watcher = Watcher(namespace, processes)
            try:
                yield processes, watcher
            finally:
                watcher.node.destroy_node()
    finally:
        rclpy.try_shutdown()
