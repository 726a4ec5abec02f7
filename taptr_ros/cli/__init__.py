"""The command `taptr`: one subcommand per file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Before OpenCV is imported: a file it cannot decode is reported once, by us, not also by FFmpeg.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

from taptr_ros import __version__
from taptr_ros.cli import bench, convert, demo, evaluate, export, latency, replay, scenes, teach, track, train
from taptr_ros.cli.arguments import Parser
from taptr_ros.errors import TaptrError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: those of the process) and return the exit status.

    0 is success, 2 input that cannot be used, with one sentence on stderr that says what to do, and 130 an
    interrupt from the keyboard.
    """
    try:
        parsed = _parser().parse_args(arguments)
        parsed.run(parsed)
    except KeyboardInterrupt:
        print("taptr: interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except TaptrError as error:
        print(f"taptr: {_one_line(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"taptr: {_one_line(error)}; check that the path exists, is writable and has room.", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="taptr",
        description="Track any point through videos, image folders and ROS 2 bags, and measure how well and how fast.",
        epilog="`taptr COMMAND --help` explains one command.",
    )
    parser.add_argument("--version", action="version", version=f"taptr_ros {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (demo, track, replay, evaluate, bench, latency, train, teach, scenes, export, convert):
        command.add_parser(commands)
    return parser


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
