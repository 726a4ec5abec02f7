"""A node's process: the transport it needs for images, its start, and its end with status 0 on a signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import rclpy
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node

from taptr_ros.errors import TaptrError

TRANSPORT_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"
"""Environment variable in which Fast DDS looks for its transports."""

IMAGE_TRANSPORT = "DEFAULT?sockets_size=8MB"
"""Fast DDS's default transports with a shared memory of 16 MB, which holds several camera images. The default of half
a megabyte holds none, so that most images sent with best effort are lost. Processes with and without this setting
hear each other; what matters for an image is the setting of the process that sends it."""

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread lets another one run Python. The executor's thread hands every image to a worker's,
which would wait up to Python's default of 5 ms."""

NodeT = TypeVar("NodeT", bound=Node)


def run(
    make: Callable[[], NodeT],
    start: Callable[[NodeT], None] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Make a node, start it and spin it until SIGINT or SIGTERM, or until it shuts its context down.

    Sets the transport for images unless the environment names one. `arguments` are ROS's, by default those of the
    process. Return the exit status: 0, or 1 after an error in what the node was given, which is then logged.
    """
    os.environ.setdefault(TRANSPORT_VARIABLE, IMAGE_TRANSPORT)
    sys.setswitchinterval(SWITCH_INTERVAL)
    rclpy.init(args=None if arguments is None else [*arguments])
    node = None
    try:
        node = make()
        if start is not None:
            start(node)
        _spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ParameterException, TaptrError) as error:
        get_logger("taptr_ros").fatal(str(error))
        return 1
    except (rclpy_implementation.RCLError, InvalidHandle):
        # A signal can end the middleware under a callback that publishes.
        if rclpy.ok():
            raise
    finally:
        # One interrupt from the keyboard often comes twice, from the terminal and from `ros2 launch`: the second one
        # must not tear the end apart.
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _spin(node: Node) -> None:
    """Spin a node until the process is to end."""
    while True:
        try:
            return rclpy.spin(node)
        except rclpy_implementation.RCLError as error:  # noqa: PERF203
            # Before Kilted, rclpy lets a request for a lifecycle transition that is impossible now fall through.
            if not (rclpy.ok() and "lifecycle" in str(error)):
                raise
            node.get_logger().error(f"The requested transition is not possible now. {error}")


def end_process_with(node: Node, error: Exception) -> None:
    """Raise an exception of a node's own thread in the thread that spins it, as if a callback had raised it.

    Nothing happens while the process is being shut down, when publishing fails.
    """
    if node.context.ok() and node.executor is not None:
        node.executor.create_task(_raise, error)


def _raise(error: Exception) -> None:
    raise error
