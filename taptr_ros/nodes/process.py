"""A node's process: the transport it needs for images, its start, and its end with status 0 on a signal."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import rclpy
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier

TRANSPORT_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"
"""Environment variable in which Fast DDS looks for its transports."""

LARGE_DATA_TRANSPORT = "LARGE_DATA?max_msg_size=4MB&sockets_size=4MB"
"""Shared memory and TCP in pieces large enough for camera images. Fast DDS's default drops most images."""

NodeT = TypeVar("NodeT", bound=Node)


def run(make: Callable[[], NodeT], start: Callable[[NodeT], None]) -> int:
    """Make a node, start it and spin it until SIGINT or SIGTERM.

    Sets the transport for images unless the environment names one. Return the exit status: 0, or 1 if a parameter was
    given a value of a wrong type or out of range, which is then logged.
    """
    os.environ.setdefault(TRANSPORT_VARIABLE, LARGE_DATA_TRANSPORT)
    rclpy.init()
    node = None
    try:
        node = make()
        _report_transport(node)
        start(node)
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ParameterException as error:
        get_logger("taptr_ros").fatal(str(error))
        return 1
    except (rclpy_implementation.RCLError, InvalidHandle):
        # A signal can end the middleware under a callback that publishes.
        if rclpy.ok():
            raise
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _report_transport(node: Node) -> None:
    transport = os.environ[TRANSPORT_VARIABLE]
    if get_rmw_implementation_identifier().startswith("rmw_fastrtps") and transport.startswith("LARGE_DATA"):
        node.get_logger().info(
            f"{TRANSPORT_VARIABLE} is '{transport}'. Processes with another transport and this one do not hear each "
            f"other: start them with the same value, or this one with {TRANSPORT_VARIABLE}=DEFAULT."
        )
