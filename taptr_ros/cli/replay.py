"""`taptr replay`: track through a bag into another bag, or play a bag for a running node."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from typing import TYPE_CHECKING

from taptr_ros.cli.arguments import (
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    load_requested_backend,
    new_folder,
    positive,
    requires_ros,
    tracker_config,
)
from taptr_ros.cli.offline import (
    add_depth_arguments,
    add_points_arguments,
    add_replenish_argument,
    add_topic_argument,
    check_depth_arguments,
    check_replenish,
    new_tracker,
    point_files,
    points_given,
    requested_points,
    track_frames,
)
from taptr_ros.cli.outputs import check_outputs
from taptr_ros.cli.rrd import add_rrd_argument, is_rrd, opened_rrd, require_rerun
from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking.history import NANOSECONDS

if TYPE_CHECKING:
    from taptr_ros.sources.bag_source import BagSource

DESCRIPTION = """\
Track points through the images of a rosbag2 and write the tracks to a new rosbag2, or play the images for a node.

  taptr replay my_bag --grid 10 --out tracks_bag
  taptr replay my_bag --publish --rate 0.5 --ros-args -r image:=/camera/image_raw

The new bag (mcap) has one taptr_ros/msg/TrackedPoints per image, with the image's stamp and frame_id, at the time at
which the image was recorded. Every image is tracked, as fast as the model allows. A damaged bag is read up to the
damage.

With --depth-topic, the new bag also has the points in metres (TRACKS/points), the bodies of groups of points (bodies)
and their poses (bodies/poses), from depth images that are registered to the tracked ones.

  taptr replay my_bag --mask bodies.png --depth-topic /camera/aligned_depth_to_color/image_raw --out bodies_bag

With --publish, the messages are published as they are on the topic `image`, for a node to track. --rate is the playback
speed. Arguments after --ros-args go to ROS.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("bag", metavar="BAG", help="a rosbag2 (sqlite3 or mcap), raw or compressed images")
    add_topic_argument(parser)
    add_points_arguments(parser, required=False)
    add_replenish_argument(parser)
    parser.add_argument("--out", type=new_folder, metavar="BAG", help="folder for the new bag")
    parser.add_argument(
        "--tracks-topic", type=_topic, default="/tracks", metavar="TOPIC", help="topic of the tracks in the new bag"
    )
    add_rrd_argument(parser)
    add_depth_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)
    live = parser.add_argument_group("publish")
    live.add_argument("--publish", action="store_true", help="play the images for a running node instead")
    live.add_argument(
        "--rate", type=positive, metavar="FACTOR", help="playback speed; 2 plays twice as fast (default: 1)"
    )
    live.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[], help="arguments for ROS, with --publish")


def _topic(text: str) -> str:
    """Parse the full name of a topic, as ROS allows it."""
    if not re.fullmatch(r"(/[A-Za-z_][A-Za-z0-9_]*)+", text) or "__" in text:
        raise argparse.ArgumentTypeError(f'"{text}" is not the full name of a topic, as /camera/tracks is')
    return text


def run(arguments: argparse.Namespace) -> None:
    """Write a bag of tracks, or publish."""
    source = open_source(arguments.bag, image_topic=arguments.image_topic, depth_topic=arguments.depth_topic)
    from taptr_ros.sources.bag_source import BagSource  # not before: its packages may be missing

    if not isinstance(source, BagSource):
        raise SourceError(f"{arguments.bag} is not a rosbag2; use taptr track, or the node video_source, for videos.")
    if arguments.publish:
        _publish(arguments, source)
    else:
        _write(arguments, source)


def _publish(arguments: argparse.Namespace, source: BagSource) -> None:
    given = points_given(arguments) or next(
        (name.replace("_", "-") for name in ("out", "rrd", "depth_topic") if getattr(arguments, name) is not None), None
    )
    if given:
        raise InvalidConfigError(f"--publish plays the images for a node, which tracks them; leave out --{given}.")
    with requires_ros("--publish"):
        from taptr_ros.nodes import video_source_node

    parameters = {"source": source.name, "image_topic": source.topic, "loop": arguments.loop}
    if arguments.rate is not None:
        parameters["speed"] = arguments.rate
    if status := video_source_node.main(["--ros-args", *arguments.ros_args], parameters):
        sys.exit(status)


def _write(arguments: argparse.Namespace, source: BagSource) -> None:
    """Track every image; everything that can be wrong is checked before the model loads."""
    from taptr_ros.cli.places import Places
    from taptr_ros.sources.bags import BagWriter, RecordedMessage
    from taptr_ros.sources.interfaces import TRACKED_POINTS, serialized_tracks

    if arguments.out is None:
        raise InvalidConfigError("Neither --out nor --publish is set; use one of them, as in `taptr replay --help`.")
    if points_given(arguments) is None:
        raise InvalidConfigError("There are no points to track; use --points, --grid, --boxes or --mask.")
    check_replenish(arguments, has_bodies=points_given(arguments) in ("boxes", "mask"))
    check_depth_arguments(arguments)
    if arguments.rate is not None or arguments.loop or arguments.ros_args:
        raise InvalidConfigError("--rate, --loop and --ros-args belong to --publish; leave them out.")
    inputs = [arguments.bag, *point_files(arguments), arguments.model]
    check_outputs([arguments.out, arguments.rrd], inputs, overwrite=False, is_ours=is_rrd)
    require_rerun(arguments)
    queries = requested_points(arguments, source)
    places = Places(arguments, source) if arguments.depth_topic else None
    tracker = new_tracker(load_requested_backend(arguments, arguments.size), tracker_config(arguments), queries)
    images = 0
    first = last = None
    started = time.perf_counter()
    with BagWriter(arguments.out) as bag, contextlib.ExitStack() as opened:
        write_rrd = opened_rrd(arguments, opened)
        bag.add_topic(arguments.tracks_topic, TRACKED_POINTS)
        if places is not None:
            places.open(bag)
        for frame, tracks in track_frames(source, queries, tracker, quiet=arguments.quiet):
            data = serialized_tracks(tracks, frame.frame_id)
            bag.write(arguments.tracks_topic, RecordedMessage(frame.recorded, data))
            write_rrd(frame, tracks)
            if places is not None:
                places.add(frame, tracks)
            images += 1
            first, last = first or frame.recorded, frame.recorded
        if places is not None:
            places.finish()
    seconds = time.perf_counter() - started
    if not arguments.quiet:
        pace = (last - first) / NANOSECONDS / seconds if first and last else 0.0
        print(
            f"{len(queries.ids)} points over {images} images in {seconds:.1f} s "
            f"({images / seconds:.1f} images/s, {pace:.1f} times real time): {arguments.out}"
        )
