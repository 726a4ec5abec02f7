"""The option --rrd of several commands: what they track, for the viewer Rerun."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path

from taptr_ros.cli.arguments import output_file, requires_extra
from taptr_ros.sources.frames import Frame
from taptr_ros.tracking.states import Tracks

_MARK = b"RRF2"
"""First bytes of a file of Rerun."""


def add_rrd_argument(parser: argparse.ArgumentParser) -> None:
    """Add --rrd."""
    parser.add_argument(
        "--rrd", type=output_file, metavar="FILE", help="images, points and trails for the viewer Rerun (.rrd)"
    )


def opened_rrd(arguments: argparse.Namespace, opened: contextlib.ExitStack) -> Callable[[Frame, Tracks], None]:
    """Return what writes an image with its tracks into the file of `--rrd`, if one is asked for."""
    if arguments.rrd is None:
        return lambda _frame, _tracks: None
    from taptr_ros.drawing.rerun_file import RerunFile

    file = opened.enter_context(RerunFile(arguments.rrd))
    return lambda frame, tracks: file.write(frame.image, tracks, frame.number)


def require_rerun(arguments: argparse.Namespace) -> None:
    """Raise `BackendUnavailableError` if `--rrd` is asked for and Rerun is not installed."""
    if arguments.rrd:
        with requires_extra("--rrd", "rerun"):
            import rerun  # noqa: F401


def is_rrd(path: Path) -> bool:
    """Return whether a file is one that `--rrd` may have written; the first bytes are those of Rerun."""
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK
