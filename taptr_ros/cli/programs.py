"""The nodes as programs: what happens before they can be imported is said in one sentence, too."""

from __future__ import annotations

import importlib
import signal
import sys

from taptr_ros.cli.opencv import require_opencv
from taptr_ros.errors import TaptrError


def tracker() -> int:
    """Run the node `tracker`."""
    return _run("tracker")


def video_source() -> int:
    """Run the node `video_source`."""
    return _run("video_source")


def recorder() -> int:
    """Run the node `recorder`."""
    return _run("recorder")


def grid() -> int:
    """Run the node `grid`."""
    return _run("grid")


def depth() -> int:
    """Run the node `depth`."""
    return _run("depth")


def view() -> int:
    """Run the node `view`."""
    return _run("view")


def _run(name: str) -> int:
    """Import a node and run it; return the exit status.

    An interrupt while Python still imports ends the process at once: it would show where in which library that was.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        require_opencv()
        node = importlib.import_module(f"taptr_ros.nodes.{name}_node")
    except TaptrError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGINT, handler)
    status: int = node.main()
    return status
