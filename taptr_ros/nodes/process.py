"""A node's process: the transport it needs for images, its start, and its end with status 0 on a signal."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import rclpy
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

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

LONGEST_END = 15.0
"""Seconds from the signal on after which a process that hangs is ended by force."""

STOP_TIME = 5.0
"""Longest time in seconds that a node waits for a thread of its own to end."""

LOG_PERIOD = 5.0
"""Shortest time in seconds between two log lines on the same kind of bad input."""

POLLING_PERIOD = 0.5
"""Seconds between two looks whether the process is to end."""

NodeT = TypeVar("NodeT", bound=Node)


class _RosLog(logging.Handler):
    """Hands what rooms without ROS log to ROS's log."""

    def emit(self, record: logging.LogRecord) -> None:
        get_logger("taptr_ros").warning(record.getMessage())


def stays_on_this_machine() -> bool:
    """Return whether ROS is told to find only processes of this machine."""
    return os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST"


def lost_images_advice() -> str:
    """Return what to do about images that the transport loses: the end of a sentence."""
    if stays_on_this_machine():
        return (
            f"ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST makes Fast DDS ignore {TRANSPORT_VARIABLE}, so unset it, or make "
            "publisher and subscription reliable"
        )
    return (
        f"start the publisher's process with {TRANSPORT_VARIABLE}='{IMAGE_TRANSPORT}', or make publisher and "
        "subscription reliable"
    )


def run(
    make: Callable[[], NodeT | Sequence[NodeT]],
    start: Callable[[NodeT], None] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Make a node or several, start each and spin them until SIGINT or SIGTERM, or until one shuts its context down.

    Sets the transport for images unless the environment names one. `arguments` are ROS's, by default those of the
    process. Return the exit status: 0, or 1 after an error in what the node was given, which is then logged, or if
    something hangs at the end. A second SIGTERM ends the process at once.
    """
    os.environ.setdefault(TRANSPORT_VARIABLE, IMAGE_TRANSPORT)
    sys.setswitchinterval(SWITCH_INTERVAL)
    with _said_in_a_sentence():
        rclpy.init(args=None if arguments is None else [*arguments])
    ended = threading.Event()
    threading.Thread(target=_end_in_time, args=(ended,), name="end", daemon=True).start()
    handler = _RosLog()
    logging.getLogger("taptr_ros").addHandler(handler)
    nodes: list[NodeT] = []
    try:
        try:
            made = make()
        except rclpy_implementation.RCLError as error:
            if not rclpy.ok():
                raise
            get_logger("taptr_ros").fatal(
                f"{_sentence(error)}; correct the environment (ROS_..., RMW_IMPLEMENTATION) or the arguments."
            )
            return 1
        nodes += [made] if isinstance(made, Node) else made
        if start is not None:
            for node in nodes:
                start(node)
        _spin(nodes)
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
        # must not tear the end apart. Whoever sends SIGTERM again does not want to wait.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
        logging.getLogger("taptr_ros").removeHandler(handler)
        ended.set()
    return 0


def parse_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the arguments of the process without those for ROS, which follow `--ros-args`; exits if any is wrong."""
    parser.epilog = "Parameters follow --ros-args, as -p NAME:=VALUE; docs/ros.md says which there are."
    with _said_in_a_sentence():
        own = remove_ros_args(sys.argv)[1:]
    return parser.parse_args(own)


@contextlib.contextmanager
def _said_in_a_sentence() -> Iterator[None]:
    """End the process with status 1 and one sentence if ROS cannot read its arguments, a file, or the environment."""
    try:
        yield
    except rclpy_implementation.UnknownROSArgsError as error:
        sys.exit(f"taptr_ros: ROS has no arguments {_sentence(error)}; correct those after --ros-args.")
    except UnicodeEncodeError:
        sys.exit("taptr_ros: The arguments are no text in UTF-8; rename the files that they name, or set LANG=C.UTF-8.")
    except rclpy_implementation.RCLError as error:
        sentence = _sentence(error)
        advice = "the arguments after --ros-args, or the file that they name"
        if "logging dir" in sentence or "log dir" in sentence:
            advice = "HOME or ROS_LOG_DIR, which must name a folder that can be written"
        elif "ROS_" in sentence:
            advice = "the environment"
        sys.exit(f"taptr_ros: {sentence}; correct {advice}.")


def _sentence(error: Exception) -> str:
    """Return what ROS says of an error, in one line, without the places in its sources."""
    return re.sub(r", at /[^ ]*:[0-9]+", "", " ".join(str(error).split())).rstrip(".")


def _spin(nodes: Sequence[Node]) -> None:
    """Spin nodes until the process is to end."""
    # rclpy's own, which outlives the nodes: what waits for them must not go before they do.
    executor = rclpy.get_global_executor()
    for node in nodes:
        executor.add_node(node)
    try:
        while True:
            try:
                return executor.spin()
            except rclpy_implementation.RCLError as error:  # noqa: PERF203
                # Before Kilted, rclpy lets a request for a lifecycle transition that is impossible now fall through.
                if not (rclpy.ok() and "lifecycle" in str(error)):
                    raise
                nodes[0].get_logger().error(f"The requested transition is not possible now. {error}")
    finally:
        for node in nodes:
            executor.remove_node(node)


def _end_in_time(ended: threading.Event) -> None:
    """End the process by force if `run` has not `ended` some time after it was told to."""
    while rclpy.ok() and not ended.wait(POLLING_PERIOD):
        pass
    if ended.wait(LONGEST_END):
        return
    # A backend or a camera that hangs keeps the main thread from reporting this itself.
    os.write(sys.stderr.fileno(), f"taptr_ros: not ended {LONGEST_END:g} s after a signal; ended by force.\n".encode())
    os._exit(1)


def end_process_with(node: Node, error: Exception) -> None:
    """Raise an exception of a node's own thread in the thread that spins it, as if a callback had raised it.

    Nothing happens while the process is being shut down, when publishing fails.
    """
    if node.context.ok() and node.executor is not None:
        node.executor.create_task(_raise, error)


def _raise(error: Exception) -> None:
    raise error
