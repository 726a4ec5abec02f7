"""`taptr batch`: track points through many recordings at once, on this machine or on a cluster."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

from taptr_ros.cli.arguments import (
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    count,
    positive,
    requires_extra,
    tracker_config,
)
from taptr_ros.cli.batch.files import Kind
from taptr_ros.cli.batch.inputs import recordings
from taptr_ros.cli.batch.model import add_cluster_arguments, prepare_ray, requested_model, requested_share
from taptr_ros.cli.offline import (
    add_points_per_region_argument,
    add_replenish_argument,
    add_topic_argument,
    check_replenish,
    grid_side,
)
from taptr_ros.cli.outputs import check_outputs
from taptr_ros.cli.rrd import require_rerun
from taptr_ros.errors import InvalidConfigError

DESCRIPTION = """\
Track points through many recordings at once, on this machine or on a cluster of Ray, into one Parquet dataset.

  taptr batch episodes/*.mp4 --grid 8 --out dataset
  taptr batch recordings.txt --beside points --out dataset --address auto
  taptr batch "s3://bucket/*.mp4" --grid 8 --every 10 --out dataset

An input is a video, a folder of images, a rosbag2, a pattern of them, a URL, or a .txt file that lists inputs, one a
line. A run that was ended in whatever way goes on where it was when it is started again: what is done is known by the
content of the recording, the model and the options.
"""

OUTPUT = """\
In the folder:
  tracks/*.parquet  a row for every point in every image: recording, topic (of a bag), piece, frame (number of the image
                    from 0), stamp (nanoseconds) and the fields of taptr_ros/msg/TrackedPoint
  _npz/, _bags/, _overlays/, _rrd/
                    what --npz, --bag, --overlay and --rrd ask for, for every recording or piece
  _report.csv       what came of every recording in the newest run
docs/batch.md shows how to read the rows, and how to run on a cluster.

The status is 1 if a recording could not be tracked; the others are there.
"""

EXTRAS = (Kind.NPZ, Kind.BAG, Kind.OVERLAY, Kind.RRD)
"""Kinds of results with an option of their name."""

EXIT_SOME_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description, parser.epilog = DESCRIPTION, OUTPUT
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="recordings, patterns, URLs, or .txt files of them")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results, new or of before"
    )
    points = parser.add_mutually_exclusive_group(required=True)
    points.add_argument("--grid", type=grid_side, metavar="N", help="N x N points spread over the first frame")
    points.add_argument(
        "--beside",
        choices=("points", "boxes", "mask"),
        help="what the file beside each recording says, in the form of `taptr track`: points in street.csv for "
        "street.mp4, boxes in street.boxes.csv, or a mask in street.png; for a folder my_bag.csv and so on",
    )
    add_points_per_region_argument(parser)
    add_replenish_argument(parser)
    parser.add_argument(
        "--every",
        type=positive,
        metavar="SECONDS",
        help="cut recordings into pieces of this length, each with a new grid, which are tracked at the same time",
    )
    add_topic_argument(parser)
    parser.add_argument("--fps", type=positive, help="frames per second of folders of images (default: 30)")
    parser.add_argument(
        "--name-parts",
        type=count,
        default=1,
        metavar="N",
        help="how many of the last parts of its path a recording is called by in the dataset",
    )
    for kind, text in {Kind.NPZ: "npz file as of `taptr track`", Kind.BAG: "bag as of `taptr replay`"}.items():
        parser.add_argument(f"--{kind.name.lower()}", action="store_true", help=f"write a {text} too")
    parser.add_argument("--overlay", action="store_true", help="write a video of the tracks too")
    parser.add_argument("--rrd", action="store_true", help="write a recording for the viewer Rerun too")
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary; failures are named")
    add_cluster_arguments(parser)
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Track what is not done yet; all that can be wrong with the command is found before a result is written."""
    if arguments.every and not arguments.grid:
        raise InvalidConfigError("--every starts new grids; use it with --grid.")
    check_replenish(arguments, has_bodies=arguments.beside in ("boxes", "mask"))
    chosen = recordings(arguments.inputs, arguments.name_parts)
    places = [recording.location for recording in chosen if not recording.is_remote]
    check_outputs([arguments.out], [*places, *arguments.inputs, arguments.model], overwrite=True)
    prepare_ray(arguments.address)
    with requires_extra("taptr batch", "batch"):
        from taptr_ros.cli.batch.crew import Crew, connected
        from taptr_ros.cli.batch.dataset import Dataset, check_folder
        from taptr_ros.cli.batch.driver import track_all
        from taptr_ros.cli.batch.work import Plan, TrackingWorker
    require_rerun(arguments)
    share = requested_share(arguments)
    plan = Plan(
        grid=arguments.grid,
        beside=arguments.beside,
        points_per_region=arguments.points_per_region,
        every=arguments.every,
        rate=arguments.fps,
        topic=arguments.image_topic,
        model=requested_model(arguments, share),
        tracker=tracker_config(arguments),
        kinds=tuple(kind for kind in EXTRAS if getattr(arguments, kind.name.lower())),
    )
    options = {**plan.options, "--name-parts": arguments.name_parts}
    check_folder(arguments.out, options)  # before Ray starts, which takes seconds
    with connected(arguments.address), Dataset(arguments.out, options, plan.kinds) as dataset:
        crew = Crew(
            functools.partial(TrackingWorker, plan), share, most=arguments.workers, is_alone=arguments.address is None
        )
        failed = track_all(chosen, crew, dataset, quiet=arguments.quiet)
    if failed:
        print(f"taptr: {len(failed)} of {len(chosen)} recordings failed:", file=sys.stderr)
        for account in failed:
            print(f"  {account.recording.location}: {' '.join(account.remarks)}", file=sys.stderr)
        sys.exit(EXIT_SOME_FAILED)
