"""What `taptr track` and `taptr replay` share: the query points, and tracking them through a source."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.cli.arguments import count
from taptr_ros.cli.interrupts import held_interrupt
from taptr_ros.cli.points import RequestedPoints, grid_queries, parse_points
from taptr_ros.cli.regions import parse_boxes, read_mask, region_queries
from taptr_ros.errors import InvalidConfigError, InvalidImageError, InvalidPointsError, SourceError
from taptr_ros.runtime.backend import Backend
from taptr_ros.sources.frames import Frame, LeftOut, Report, Source
from taptr_ros.sources.grid import MAX_SIDE
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.states import Tracks
from taptr_ros.tracking.stream import Step, TrackStream
from taptr_ros.tracking.tracker import PointTracker


def add_topic_argument(parser: argparse.ArgumentParser) -> None:
    """Add --image-topic."""
    parser.add_argument("--image-topic", metavar="TOPIC", help="topic of the images, if the bag has several")


def add_points_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add --points, --grid, --boxes and --mask, of which one can be given, and --points-per-region."""
    points = parser.add_mutually_exclusive_group(required=required)
    points.add_argument(
        "--points",
        metavar="POINTS",
        help='"x,y;x,y" in pixels, or a CSV file with the columns x,y and optionally frame (where the point starts, '
        "from 0), id and group (of points that belong to one body)",
    )
    points.add_argument("--grid", type=grid_side, metavar="N", help="N x N points spread over the first frame")
    points.add_argument(
        "--boxes",
        metavar="BOXES",
        help='boxes round bodies in the first frame, "x,y,w,h;x,y,w,h" in pixels, or a CSV file with the columns '
        "x,y,width,height and optionally group; points are chosen in each and become a group",
    )
    points.add_argument(
        "--mask",
        type=Path,
        metavar="PNG",
        help="the same with an image of labels, 8 or 16 bits, one for each body and 0 for none; the label is the group",
    )
    add_points_per_region_argument(parser)


def add_points_per_region_argument(parser: argparse.ArgumentParser) -> None:
    """Add --points-per-region."""
    parser.add_argument(
        "--points-per-region",
        type=count,
        default=TrackerConfig.points_per_region,
        metavar="N",
        help=f"most points in a box or label (default: {TrackerConfig.points_per_region})",
    )


def add_replenish_argument(parser: argparse.ArgumentParser) -> None:
    """Add --replenish."""
    parser.add_argument(
        "--replenish",
        action="store_true",
        help="replace lost points of a box or label by others on the same body, which get new ids in its group",
    )


def check_replenish(arguments: argparse.Namespace, *, has_bodies: bool) -> None:
    """Raise `InvalidConfigError` for --replenish where there are no bodies."""
    if arguments.replenish and not has_bodies:
        raise InvalidConfigError("--replenish keeps up the points of bodies; use it with boxes or a mask.")


def add_depth_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --depth-topic, and what belongs to it."""
    group = parser.add_argument_group("depth")
    group.add_argument(
        "--depth-topic",
        metavar="TOPIC",
        help="topic of depth images that are registered to the tracked ones, raw or compressedDepth (png): the new bag "
        "then has points in metres and the poses of groups as well",
    )
    group.add_argument(
        "--camera-info-topic",
        metavar="TOPIC",
        help="topic of the tracked camera's CameraInfo (default: camera_info beside the depth images)",
    )
    group.add_argument(
        "--depth-tolerance",
        type=float,
        metavar="S",
        help=f"most seconds between an image and its depth image (default: {BodiesConfig.depth_tolerance})",
    )
    group.add_argument("--rectified", action="store_true", help="the tracked images are rectified (image_rect)")


def check_depth_arguments(arguments: argparse.Namespace) -> None:
    """Raise `InvalidConfigError` for arguments that need --depth-topic and come without it."""
    for name in ("camera_info_topic", "depth_tolerance", "rectified"):
        if arguments.depth_topic is None and getattr(arguments, name):
            raise InvalidConfigError(
                f"--{name.replace('_', '-')} belongs to --depth-topic; set that too, or leave it out."
            )


def bodies_config(arguments: argparse.Namespace) -> BodiesConfig:
    """Return the configuration that `add_depth_arguments` describes."""
    tolerance = BodiesConfig.depth_tolerance if arguments.depth_tolerance is None else arguments.depth_tolerance
    return BodiesConfig(depth_tolerance=tolerance, rectified=arguments.rectified)


def points_given(arguments: argparse.Namespace) -> str | None:
    """Return which of the arguments that ask for points is given, None if none is."""
    names = ("points", "grid", "boxes", "mask")
    return next((name for name in names if getattr(arguments, name) is not None), None)


def point_files(arguments: argparse.Namespace) -> list[str | Path | None]:
    """Return those arguments that may name a file of points or regions."""
    return [arguments.points, arguments.boxes, arguments.mask]


def grid_side(text: str) -> int:
    """Parse the number of points per side of a grid."""
    side = count(text)
    if side > MAX_SIDE:
        raise argparse.ArgumentTypeError(f'"{text}" is more than {MAX_SIDE} points per side')
    return side


def requested_points(arguments: argparse.Namespace, source: Source) -> RequestedPoints:
    """Return the points to track, checked against the first frame and the announced length of the source."""
    first = next(iter(source), None)
    if first is None:
        raise SourceError(f"{source.name} holds no images; choose another source.")
    height, width = first.image.shape[:2]
    if arguments.grid:
        queries = grid_queries(arguments.grid, width, height)
    elif arguments.boxes is not None or arguments.mask is not None:
        regions, groups = read_mask(arguments.mask) if arguments.boxes is None else parse_boxes(arguments.boxes)
        queries = region_queries(regions, groups, first.image, arguments.points_per_region)
    else:
        queries = parse_points(arguments.points)
        if queries.look_normalised:
            _say("All points lie within 0 and 1, as if they were shares of the image; they are taken for pixels.")
    queries.check_inside(width, height)
    for row in np.flatnonzero(queries.frames >= (source.frame_count or np.inf))[:1]:
        raise InvalidPointsError(
            f"Point {queries.ids[row]} starts in frame {queries.frames[row]}, but {source.name} has "
            f"{source.frame_count} frames, counted from 0; choose an earlier one."
        )
    return queries


def new_tracker(backend: Backend, config: TrackerConfig, queries: RequestedPoints) -> PointTracker:
    """Return a tracker with room for the points, and for those that are to replace them.

    It keeps no features of past frames: no point of a file starts in a frame that has passed.
    """
    capacity, bodies = len(queries.ids), queries.bodies
    if config.replenish and bodies:
        capacity = max(capacity, len(bodies.regions) * bodies.most_points)
    return PointTracker(backend, dataclasses.replace(config, capacity=capacity, history_frames=1))


def track_frames(
    source: Source, queries: RequestedPoints, tracker: PointTracker, *, quiet: bool, say: Report | None = None
) -> Iterator[tuple[Frame, Tracks]]:
    """Track the points through a source and yield every frame that is used with its tracks.

    A frame that is left out is counted, and the first one named to `say`, stderr by default; a point that starts in it
    starts in the next one. An interrupt ends the tracking after the frame in work and is raised then. Progress is shown
    on stderr if that is a terminal.
    """
    say = say or _say
    left_out = LeftOut(say)
    source.report = left_out
    stream = TrackStream(tracker)
    used = following = 0  # frames that were used; number of the frame after the last one
    with held_interrupt() as interrupt:
        for frame in tqdm(source, total=source.frame_count, unit="frame", disable=quiet or None, dynamic_ncols=True):
            starting = queries.starting_in(range(following, frame.number + 1))
            following = frame.number + 1
            if starting is not None and queries.bodies and tracker.config.replenish:
                # The tracker chooses the same points, with the same ids, and keeps the views of the bodies.
                tracker.add_regions(queries.bodies.regions, queries.bodies.most_points, queries.bodies.groups)
            elif starting is not None:
                tracker.add(starting.xy, starting.ids, groups=starting.groups)
            try:
                step = stream.step(frame.image, frame.stamp)
            except InvalidImageError as error:
                step = Step(None, str(error))
            for notice in step.notices:
                say(notice)
            if step.tracks is not None:
                used += 1
                yield frame, step.tracks
            else:
                left_out(f"{frame.origin}: {step.left_out}")
            if interrupt.came:
                break
    if left_out.count > 1:
        say(f"{left_out.count} images were left out.")
    if source.frame_count is not None and used + left_out.count < source.frame_count:
        say(f"read {used + left_out.count} of the {source.frame_count} frames that {source.name} announces.")
    if never_started := queries.ids[queries.frames >= following].tolist():
        say(f"the source ended before these points started: {', '.join(map(str, never_started))}.")


def _say(sentence: str) -> None:
    print(f"taptr: {sentence}", file=sys.stderr)
