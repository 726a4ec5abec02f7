"""The ROS node `view`: a page in a browser that shows what trackers see, and takes the clicks."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from taptr_ros.errors import InvalidMessageError
from taptr_ros.messages.serialized import deserialized
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.configs import ViewConfig
from taptr_ros.nodes.parameters import ParameterNode, declare_parameters, read_config
from taptr_ros.nodes.process import parse_arguments, run
from taptr_ros.nodes.tracker_session import TrackerSession
from taptr_ros.view.gate import Gate, is_loopback, read_token
from taptr_ros.view.server import ViewServer
from taptr_ros.view.session import Session

LOOK_PERIOD = 0.25
"""Seconds between two looks at who looks, and at the graph."""

MOST_TRACKERS = 64
"""Trackers that the page can choose from."""

SUFFIX = ": stream"
"""How the names of trackers end in /diagnostics."""


class ViewNode(ParameterNode):
    """Serves the page, with one session for each tracker that `/diagnostics` tells of.

    Nothing but diagnostics is read while nobody looks. Parameters are listed in docs/ros.md. Raises
    `InvalidConfigError` for a token file that cannot be used, `BackendUnavailableError` if it cannot listen.
    """

    def __init__(self, **options: Any) -> None:
        # ROS destroys the node, too, if what follows fails.
        self._server: ViewServer | None = None
        self._lock = threading.Lock()
        self._trackers: dict[str, TrackerSession] = {}
        super().__init__("view", **options)
        declare_parameters(self, ViewConfig, read_only=True)
        self._config = config = read_config(self, ViewConfig, {})
        token = read_token(config.token_file) if config.token_file else None
        gate = Gate(config.address, token, (name.strip() for name in config.host_names.split(",")))
        self._server = ViewServer(self, gate, config.address, config.port)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.reliable(), raw=True)
        # Steady time: the page goes on while a simulation's clock stands still.
        self.create_timer(LOOK_PERIOD, self._look_around, clock=Clock(clock_type=ClockType.STEADY_TIME))
        # Not by the log, which is a topic that everybody hears and bags keep: the address has the token in it.
        sys.stdout.write(f"Open {self._server.url} in a browser.\n")
        sys.stdout.flush()
        if not is_loopback(config.address):
            self.get_logger().info("The page asks for a token, because other machines can reach it.")

    def destroy_node(self) -> None:
        """Close all connections and leave the graph."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        for session in self._trackers.values():
            session.close()
        self._trackers = {}
        super().destroy_node()

    # What the server asks.

    def current(self) -> Mapping[str, Session]:
        """Return a session for each tracker, by its name."""
        with self._lock:
            return dict(sorted(self._trackers.items()))

    def nothing(self) -> str:
        """Return the sentence for the page while there is no tracker."""
        return "No tracker is running yet. It is shown here as soon as it starts."

    # The executor's thread.

    def _on_diagnostics(self, data: bytes) -> None:
        with contextlib.suppress(InvalidMessageError):  # of others than trackers
            for status in deserialized(data, DiagnosticArray).status:
                values = {pair.key: pair.value for pair in status.values}
                if status.name.endswith(SUFFIX) and "lifecycle state" in values:
                    self._hear(f"/{status.name.removesuffix(SUFFIX).lstrip('/')}", values, status.message)

    def _hear(self, name: str, values: dict[str, str], message: str) -> None:
        session = self._trackers.get(name)
        if session is None:
            if len(self._trackers) >= MOST_TRACKERS:
                return
            session = TrackerSession(self, name, self._config)
            with self._lock:
                self._trackers[name] = session
        session.hear(values, message)

    def _look_around(self) -> None:
        for name, session in list(self._trackers.items()):
            session.update()
            if session.is_forgotten:
                with self._lock:
                    del self._trackers[name]
                session.close()


def main() -> int:
    """Run the node until it is interrupted; see `process.run`."""
    parse_arguments(argparse.ArgumentParser(prog="view", description=__doc__))
    return run(ViewNode)


if __name__ == "__main__":
    sys.exit(main())
