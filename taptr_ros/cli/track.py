"""`taptr track`: follow points through a video, a folder of images or a bag."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from taptr_ros.cli.arguments import (
    HelpFormatter,
    Subparsers,
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    count,
    load_requested_backend,
    output_file,
    positive,
    tracker_config,
)
from taptr_ros.errors import InvalidPointsError
from taptr_ros.media.overlay import OverlayVideo, TrackOverlay
from taptr_ros.media.points import QueryPoints, grid_points, parse_points
from taptr_ros.media.sources import Frame, Source, open_source
from taptr_ros.media.tracks_file import TracksFile
from taptr_ros.tracking.states import Tracks
from taptr_ros.tracking.tracker import PointTracker

MAX_GRID = 256
"""Most points per side of a grid: its square is the largest capacity of a tracker."""

DESCRIPTION = """\
Follow points through a video and write where each of them is, and whether it can be seen, in every frame.

  taptr track street.mp4 --points "320,240;100,50" --model lucas_kanade --out tracks.npz --overlay tracks.mp4
  taptr track my_bag --image-topic /camera/image_raw --grid 8 --model lucas_kanade --out tracks.npz
"""

OUTPUT = """\
The npz file, T frames and N points:
  xy          float32 [T,N,2]  x to the right, y down, in pixels of the source; (0, 0) is the centre of the first pixel
  visibility  float32 [T,N]    probability that the point can be seen
  visible     bool    [T,N]    the decision on it
  state       uint8   [T,N]    0 visible, 1 occluded, 2 out of view, 3 lost
  ids         uint64  [N]      numbered from 1, or as the CSV says
  stamps      int64   [T]      nanoseconds
Before its first frame a point has xy NaN, visibility 0, visible False and state 3.
"""


def add_parser(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "track",
        help="follow points through a video, a folder of images or a ROS 2 bag",
        description=DESCRIPTION,
        epilog=OUTPUT,
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "source", metavar="SOURCE", help="a video file, a folder of images in name order, or a rosbag2 (sqlite3, mcap)"
    )
    parser.add_argument("--image-topic", metavar="TOPIC", help="topic of the images, if the bag has several")
    parser.add_argument("--fps", type=positive, help="frames per second of a folder of images (default: 30)")
    points = parser.add_mutually_exclusive_group(required=True)
    points.add_argument(
        "--points",
        metavar="POINTS",
        help='"x,y;x,y" in pixels, or a CSV file with the columns x,y and optionally frame (where the point starts, '
        "from 0) and id",
    )
    points.add_argument("--grid", type=_grid_side, metavar="N", help="N x N points spread over the first frame")
    parser.add_argument("--out", type=output_file, required=True, metavar="NPZ", help="file for the tracks")
    parser.add_argument("--overlay", type=_video_file, metavar="MP4", help="video of the tracks drawn on the source")
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Track, and write the npz and the overlay; everything that can be wrong is checked before the model loads."""
    source = open_source(arguments.source, image_topic=arguments.image_topic, rate=arguments.fps)
    queries = _queries(arguments, source)
    config = dataclasses.replace(tracker_config(arguments), capacity=len(queries.ids))
    tracker = PointTracker(load_requested_backend(arguments, arguments.size), config)
    results = []
    started = time.perf_counter()
    with contextlib.ExitStack() as opened:
        video = opened.enter_context(OverlayVideo(arguments.overlay, source.rate)) if arguments.overlay else None
        overlay = TrackOverlay()
        for frame, tracks in _track(source, tracker, queries, quiet=arguments.quiet):
            results.append(tracks)
            if video is not None:
                video.write(overlay.draw(frame.image, tracks))
    seconds = time.perf_counter() - started
    TracksFile.collect(queries.ids, results).save(arguments.out)
    _report_missing(source, queries, len(results))
    if not arguments.quiet:
        print(
            f"{len(queries.ids)} points over {len(results)} frames in {seconds:.1f} s "
            f"({len(results) / seconds:.1f} frames/s): {arguments.out}"
        )


def _queries(arguments: argparse.Namespace, source: Source) -> QueryPoints:
    """Return the points to track, checked against the first frame and the announced length of the source."""
    height, width = next(iter(source)).image.shape[:2]
    queries = grid_points(arguments.grid, width, height) if arguments.grid else parse_points(arguments.points)
    queries.check_inside(width, height)
    for row in np.flatnonzero(queries.frames >= (source.frame_count or np.inf))[:1]:
        raise InvalidPointsError(
            f"Point {queries.ids[row]} starts in frame {queries.frames[row]}, but {source.name} has "
            f"{source.frame_count} frames, counted from 0; choose an earlier one."
        )
    return queries


def _track(
    source: Source, tracker: PointTracker, queries: QueryPoints, *, quiet: bool
) -> Iterator[tuple[Frame, Tracks]]:
    """Yield every frame with its tracks, behind a progress bar on stderr if that is a terminal."""
    bar = tqdm(source, total=source.frame_count, unit="frame", disable=quiet or None, dynamic_ncols=True)
    for index, frame in enumerate(bar):
        starting = queries.frames == index
        if starting.any():
            tracker.add(queries.xy[starting], queries.ids[starting])
        yield frame, tracker.step(frame.image, frame.stamp)


def _report_missing(source: Source, queries: QueryPoints, frames: int) -> None:
    """Say on stderr if the source held fewer frames than it announced, and which points that left out."""
    if source.frame_count is not None and frames < source.frame_count:
        print(f"taptr: read {frames} of the {source.frame_count} frames that {source.name} announces.", file=sys.stderr)
    if never_started := queries.ids[queries.frames >= frames].tolist():
        names = ", ".join(map(str, never_started))
        print(f"taptr: the source ended before these points started: {names}.", file=sys.stderr)


def _grid_side(text: str) -> int:
    side = count(text)
    if side > MAX_GRID:
        raise argparse.ArgumentTypeError(f'"{text}" is more than {MAX_GRID} points per side')
    return side


def _video_file(text: str) -> Path:
    path = output_file(text)
    if path.suffix.lower() != ".mp4":
        raise argparse.ArgumentTypeError(f'"{text}" does not end in .mp4')
    return path
