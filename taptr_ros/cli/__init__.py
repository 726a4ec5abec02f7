"""The command `taptr`: one subcommand per file, imported when it is asked for."""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
from collections.abc import Sequence

# Before OpenCV is imported: a file it cannot decode is reported once, by us, not also by FFmpeg.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

from taptr_ros import __version__
from taptr_ros.cli.opencv import require_opencv
from taptr_ros.cli.parser import HelpFormatter, Parser
from taptr_ros.errors import TaptrError

COMMANDS = {
    "demo": ("demo", "run source, tracker and recorder as live ROS nodes on a real clip"),
    "track": ("track", "follow points through a video, a folder of images or a ROS 2 bag"),
    "view": ("view", "choose points in a browser and watch them being tracked"),
    "replay": ("replay", "track points through a ROS 2 bag into another bag, or play the bag for a node"),
    "batch": ("batch", "track points through many recordings, on this machine or a cluster, into a Parquet dataset"),
    "lerobot": ("lerobot", "add tracks to the frames of a LeRobot dataset"),
    "eval": ("evaluate", "measure a model's accuracy on sequences with ground truth"),
    "vots": ("vots", "track points for the VOT toolkit, in the folder that it makes"),
    "bench": ("bench", "time a model on this machine"),
    "latency": ("latency", "measure the live node's latency and losses between processes"),
    "train": ("train", "train the small network"),
    "teach": ("teach", "make training clips from real recordings"),
    "scenes": ("scenes", "draw synthetic scenes and their tracks"),
    "export": ("export", "write a model as ONNX graphs, which run without PyTorch"),
    "convert": ("convert", "turn an official checkpoint into a model file"),
}
"""By name: the module with the command's arguments and what it does, and one line on it."""

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141

_STDOUT, _STDERR = 1, 2
"""Numbers of the streams."""

_NEGATIVE = re.compile(r"-\.?[0-9]")
"""How a negative number begins."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: those of the process) and return the exit status.

    0 is success, 2 input that cannot be used, with one sentence on stderr that says what to do, 130 an interrupt from
    the keyboard, and 141 a reader of the output that has gone, as `head` does.
    """
    _prepare_streams()
    words = _with_negative_values(sys.argv[1:] if arguments is None else arguments)
    try:
        parsed = _parser(next((word for word in words if not word.startswith("-")), "")).parse_args(words)
        parsed.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
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


def _prepare_streams() -> None:
    """Make stdout and stderr take every path that a file can have, and open those that the process lacks."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        # Otherwise the next files take the numbers of the streams, and what is said on these is written into them.
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
            pass
        os.close(descriptor)
        sys.stdout = sys.stdout or open(_STDOUT, "w", closefd=False)  # noqa: SIM115
        sys.stderr = sys.stderr or open(_STDERR, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _with_negative_values(words: Sequence[str]) -> list[str]:
    """Return the words with a value that begins with a negative number joined to its option: argparse wants an option.

    None of our options begins with a digit.
    """
    joined: list[str] = []
    for word in words:
        if _NEGATIVE.match(word) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _parser(asked: str) -> Parser:
    """Return the parser of all commands, with the arguments of the one that is asked for."""
    parser = Parser(
        prog="taptr",
        description="Track any point through videos, image folders and ROS 2 bags, and measure how well and how fast.",
        epilog="`taptr COMMAND --help` explains one command.",
    )
    parser.add_argument("--version", action="version", version=f"taptr_ros {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, line) in COMMANDS.items():
        command = commands.add_parser(name, help=line, formatter_class=HelpFormatter)
        if name == asked:
            require_opencv()
            imported = importlib.import_module(f"taptr_ros.cli.{module}")
            imported.add_arguments(command)
            command.set_defaults(run=imported.run)
    return parser


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
