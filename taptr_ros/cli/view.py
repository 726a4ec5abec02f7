"""`taptr view`: choose points in a browser and watch them being tracked, without ROS."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

from taptr_ros.cli.arguments import (
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    count,
    load_requested_backend,
    positive,
    tracker_config,
)
from taptr_ros.cli.file_session import FileSession
from taptr_ros.cli.offline import add_topic_argument
from taptr_ros.cli.outputs import check_outputs
from taptr_ros.errors import InvalidConfigError
from taptr_ros.sources.camera import CameraSource, camera_number
from taptr_ros.sources.frames import Source
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.view.gate import Gate, read_token
from taptr_ros.view.session import Session

DESCRIPTION = """\
Show a video, a folder of images, a bag or a camera in a browser, choose points there, and watch them being tracked.

  taptr view street.mp4
  taptr view 0                  # the camera with this number

Click on a point to track it, or draw a box, and press play. Any frame that was tracked can be shown again. A point that
is added in an earlier frame is tracked from there on through all frames since. The page saves the tracks (npz, CSV) and
a video of them.
"""

OUTPUT = """\
The page is served on this machine only. To see it from another one, either make a tunnel, as with
ssh -L 8765:127.0.0.1:8765 ROBOT, or set --address to an address of this machine: the page then asks for a token.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description, parser.epilog = DESCRIPTION, OUTPUT
    parser.add_argument(
        "source", metavar="SOURCE", help="a video, a folder of images, a rosbag2, or the number of a camera"
    )
    add_topic_argument(parser)
    parser.add_argument("--fps", type=positive, help="frames per second of a folder of images (default: 30)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="new folder for what is saved (default: taptr_view, taptr_view_2, ...)",
    )
    parser.add_argument(
        "--capacity", type=count, default=TrackerConfig.capacity, metavar="N", help="most points at once"
    )
    page = parser.add_argument_group("page")
    page.add_argument("--address", default="127.0.0.1", help="address to listen on")
    page.add_argument("--port", type=_port, default=8765, help="port to listen on; 0 takes any that is free")
    page.add_argument(
        "--token-file", metavar="FILE", help="file with the token that the page asks for (default: a new one)"
    )
    page.add_argument(
        "--host-name", action="append", default=[], metavar="NAME", help="a further name of this machine in the browser"
    )
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until an interrupt."""
    from taptr_ros.view.server import ViewServer  # not before: its library may be missing

    source = _source(arguments)
    if arguments.out is not None:
        check_outputs([arguments.out], [arguments.source, arguments.model], overwrite=False)
    token = read_token(arguments.token_file) if arguments.token_file else None
    config = dataclasses.replace(tracker_config(arguments), capacity=arguments.capacity)
    session = FileSession(source, load_requested_backend(arguments, arguments.size), config, arguments.out)
    try:
        session.start()
        gate = Gate(arguments.address, token, arguments.host_name)
        server = ViewServer(_OneSession(source.name, session), gate, arguments.address, arguments.port)
        try:
            print(f"Open {server.url} in a browser. Ctrl-C ends it.", flush=True)
            _wait_for_interrupt()
        finally:
            server.stop()
    finally:
        session.stop()


class _OneSession:
    """The only session there is."""

    def __init__(self, name: str, session: Session) -> None:
        self._sessions = {name: session}

    def current(self) -> Mapping[str, Session]:
        """Return the session by its name."""
        return self._sessions

    def nothing(self) -> str:
        """Return the sentence for the page while there is no session."""
        return ""


def _wait_for_interrupt() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(1.0):
        pass
    # Whatever hangs from here on, a second signal ends the process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _source(arguments: argparse.Namespace) -> Source:
    camera = camera_number(arguments.source)
    if camera is None:
        return open_source(arguments.source, image_topic=arguments.image_topic, rate=arguments.fps)
    if arguments.image_topic or arguments.fps:
        raise InvalidConfigError("A camera has no topic, and its own rate; leave --image-topic and --fps out.")
    return CameraSource(camera)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f'"{text}" is not a port; use a number from 0 to 65535')
    return int(text)
