"""`taptr latency`: measure the live node, between processes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taptr_ros.cli.arguments import (
    add_model_arguments,
    count,
    output_file,
    positive,
    requires_ros,
    size,
    tracker_node_parameters,
)
from taptr_ros.cli.moving_pattern import spread_points, write_pattern
from taptr_ros.cli.outputs import add_overwrite_argument, check_outputs, is_json_with
from taptr_ros.cli.table import format_table
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.runtime.loading import LUCAS_KANADE

if TYPE_CHECKING:
    from taptr_ros.cli.live_run import NodeProcesses, Watcher
    from taptr_ros.cli.page_viewer import PageViewer

NAMESPACE = "/taptr_latency"

WARM_UP_SECONDS = 3.0
"""Seconds before the measurement begins."""

LAST_IMAGES_SECONDS = 1.5
"""Seconds in which the last images are tracked and the last diagnostics come."""

PERCENTILES = ("p50", "p95", "p99")

DESCRIPTION = """\
Run a video source and the tracker as live ROS nodes, each in a process of its own, and measure how long images take
and whether any are lost. The images show a moving texture on which points can be followed.

  taptr latency --points 100 --seconds 60

  latency   from an image's stamp to the publication of its tracks
  tracker   of that, in the tracker
  overhead  the rest: publishing, transport, conversion and waiting

The times are those of /diagnostics: percentiles over the last 1800 images. With --view, somebody looks at the page of
the node `view` meanwhile, and what that costs is told too.
"""


@dataclasses.dataclass(frozen=True)
class LatencyReport:
    """One measurement; the fields are the keys of the JSON file."""

    model: str
    width: int
    height: int
    rate: float
    points: int
    seconds: float
    images_sent: int
    images_tracked: int
    images_superseded: int
    """Images that gave way to newer ones because the tracker was busy."""
    milliseconds: dict[str, dict[str, float]]
    """p50, p95 and p99 of latency, tracker and overhead."""
    view_images: int | None = None
    """Images that the view showed meanwhile; None without a view."""
    view_processor_share: float | None = None
    """Share of one processor that the view's process used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("--points", type=count, default=100, metavar="N", help="points to track")
    parser.add_argument(
        "--image-size", type=size, default=(480, 640), metavar="HxW", help="size of the images (default: 480x640)"
    )
    parser.add_argument("--rate", type=positive, default=30.0, metavar="HZ", help="images per second")
    parser.add_argument("--seconds", type=positive, default=60.0, help="length of the measurement")
    parser.add_argument("--view", action="store_true", help="with the node view, and somebody who looks at its page")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="file for the numbers")
    add_overwrite_argument(parser)
    add_model_arguments(parser, default=LUCAS_KANADE)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table and write the JSON file."""
    is_ours = is_json_with("images_sent", "milliseconds")
    check_outputs([arguments.json], [arguments.model], overwrite=arguments.overwrite, is_ours=is_ours)
    with requires_ros("Measuring the live node"):
        from taptr_ros.cli.live_run import live_run
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "pattern.avi"
        height, width = arguments.image_size
        write_pattern(video, width, height, arguments.rate)
        with live_run(NAMESPACE, Path(folder)) as (processes, watcher):
            report = _measure(arguments, video, processes, watcher)
    print(
        f"{report.images_tracked} of {report.images_sent} images tracked, {report.images_superseded} skipped in favour "
        f"of newer ones, {report.points} points, model {report.model}"
    )
    if report.view_processor_share is not None:
        print(f"{report.view_images} images shown by the view, at {report.view_processor_share:.1%} of one processor")
    rows = [[name, *(f"{times[key]:.1f}" for key in PERCENTILES)] for name, times in report.milliseconds.items()]
    print(format_table(["[ms]", *PERCENTILES], rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")


def _measure(arguments: argparse.Namespace, video: Path, processes: NodeProcesses, watcher: Watcher) -> LatencyReport:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import CameraInfo

    from taptr_ros.cli.live_run import START_TIME, NodeFailedError
    from taptr_ros.msg import QueryPoint, QueryPoints, TrackedPoints
    from taptr_ros.nodes import quality_of_service as qos
    from taptr_ros.srv import AddPoints

    height, width = arguments.image_size
    sent: set[int] = set()
    tracked: dict[int, int] = {}
    diagnostics: dict[str, str] = {}
    deep = qos.reliable(1000)
    name = f"{NAMESPACE[1:]}/tracker: stream"

    def take_tracks(message: Any) -> None:
        tracked[nanoseconds(message.header.stamp)] = len(message.points)

    def take_diagnostics(message: Any) -> None:
        for status in message.status:
            if status.name == name:
                diagnostics.update({pair.key: pair.value for pair in status.values})

    node = watcher.node
    node.create_subscription(CameraInfo, "camera_info", lambda info: sent.add(nanoseconds(info.header.stamp)), deep)
    node.create_subscription(TrackedPoints, "tracks", take_tracks, deep)
    node.create_subscription(DiagnosticArray, "/diagnostics", take_diagnostics, 10)
    processes.start("tracker", {**tracker_node_parameters(arguments), "capacity": arguments.points})
    points = [QueryPoint(x=x, y=y) for x, y in spread_points(arguments.points, width, height).tolist()]
    watcher.call("tracker", "add_points", AddPoints, AddPoints.Request(query=QueryPoints(points=points)))
    with contextlib.ExitStack() as looking:
        viewer = _looking(processes, looking) if arguments.view else None
        processes.start("video_source", {"source": str(video), "loop": True, "rate": arguments.rate})
        watcher.wait("video_source", lambda: tracked and diagnostics, START_TIME)
        if viewer is not None:
            watcher.wait("view", lambda: viewer.images, START_TIME)
        watcher.spin_for(WARM_UP_SECONDS)
        first = max(sent)
        superseded = int(diagnostics["images skipped"])
        before = viewer and (viewer.images, processes.processor_seconds("view"), time.monotonic())
        watcher.spin_for(arguments.seconds)
        last = max(sent)
        after = viewer and (viewer.images, processes.processor_seconds("view"), time.monotonic())
        watcher.spin_for(LAST_IMAGES_SECONDS)
    processes.stop_all()
    measured = {stamp for stamp in sent if first <= stamp <= last}
    arrived = measured & tracked.keys()
    times = _milliseconds(diagnostics)
    if not arrived or times is None:
        raise NodeFailedError(
            f"None of {len(measured)} images was tracked in time; ask for fewer points, a lower rate or more seconds."
        )
    return LatencyReport(
        model=arguments.model,
        width=width,
        height=height,
        rate=arguments.rate,
        points=min(tracked[stamp] for stamp in arrived),
        seconds=arguments.seconds,
        images_sent=len(measured),
        images_tracked=len(arrived),
        images_superseded=int(diagnostics["images skipped"]) - superseded,
        milliseconds=times,
        view_images=after[0] - before[0] if before and after else None,
        view_processor_share=(after[1] - before[1]) / (after[2] - before[2]) if before and after else None,
    )


def _looking(processes: NodeProcesses, looking: contextlib.ExitStack) -> PageViewer:
    """Start the view, and somebody who looks at it until `looking` is closed."""
    from taptr_ros.cli.live_run import free_port
    from taptr_ros.cli.page_viewer import PageViewer

    port = free_port(0)
    processes.start("view", {"port": port})
    return looking.enter_context(PageViewer(port))


def _milliseconds(diagnostics: dict[str, str]) -> dict[str, dict[str, float]] | None:
    """Return the percentiles in /diagnostics by the kind of time; None if the tracker has none yet."""
    try:
        return {
            kind: {percentile: float(diagnostics[f"{kind} {percentile} [ms]"]) for percentile in PERCENTILES}
            for kind in ("latency", "tracker", "overhead")
        }
    except (KeyError, ValueError):  # without images the values are words
        return None
