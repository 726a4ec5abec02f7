"""`taptr track`: follow points through a video, a folder of images or a bag."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from pathlib import Path

from taptr_ros.cli.arguments import (
    HelpFormatter,
    Subparsers,
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    load_requested_backend,
    output_file,
    positive,
    tracker_config,
)
from taptr_ros.cli.offline import add_points_arguments, add_topic_argument, frames_with_starts, requested_points
from taptr_ros.errors import TaptrError
from taptr_ros.media.frames import Source
from taptr_ros.media.overlay import OverlayVideo, TrackOverlay
from taptr_ros.media.points import QueryPoints
from taptr_ros.media.sources import open_source
from taptr_ros.media.tracks_file import TracksFile
from taptr_ros.tracking.states import Tracks
from taptr_ros.tracking.stream import TrackStream
from taptr_ros.tracking.tracker import PointTracker

DESCRIPTION = """\
Follow points through a video and write where each of them is, and whether it can be seen, in every frame.

  taptr track street.mp4 --points "320,240;100,50" --out tracks.npz --overlay tracks.mp4
  taptr track my_bag --image-topic /camera/image_raw --grid 8 --out tracks.npz
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
    add_topic_argument(parser)
    parser.add_argument("--fps", type=positive, help="frames per second of a folder of images (default: 30)")
    add_points_arguments(parser, required=True)
    parser.add_argument("--out", type=output_file, required=True, metavar="NPZ", help="file for the tracks")
    parser.add_argument("--overlay", type=_video_file, metavar="MP4", help="video of the tracks drawn on the source")
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Track, and write the npz and the overlay; everything that can be wrong is checked before the model loads.

    A source that turns out to be damaged gives the tracks up to there, then the error.
    """
    source = open_source(arguments.source, image_topic=arguments.image_topic, rate=arguments.fps)
    queries = requested_points(arguments, source)
    config = dataclasses.replace(tracker_config(arguments), capacity=len(queries.ids))
    tracker = PointTracker(load_requested_backend(arguments, arguments.size), config)
    stream = TrackStream(tracker)
    results: list[Tracks] = []
    read = 0
    started = time.perf_counter()
    failure = None
    try:
        with contextlib.ExitStack() as opened:
            video = opened.enter_context(OverlayVideo(arguments.overlay, source.rate)) if arguments.overlay else None
            overlay = TrackOverlay()
            for frame, starting in frames_with_starts(source, queries, quiet=arguments.quiet):
                if starting is not None:
                    tracker.add(starting.xy, starting.ids)
                step = stream.step(frame.image, frame.stamp)
                read += 1
                for notice in step.notices:
                    print(f"taptr: {notice}", file=sys.stderr)
                if step.tracks is None:
                    print(f"taptr: an image was left out. {step.left_out}", file=sys.stderr)
                    continue
                results.append(step.tracks)
                if video is not None:
                    video.write(overlay.draw(frame.image, step.tracks))
    except TaptrError as error:
        failure = error
    seconds = time.perf_counter() - started
    if results:
        TracksFile.collect(queries.ids, results).save(arguments.out)
        _report_missing(source, queries, read)
    if failure is not None:
        raise failure
    if not arguments.quiet:
        print(
            f"{len(queries.ids)} points over {len(results)} frames in {seconds:.1f} s "
            f"({len(results) / seconds:.1f} frames/s): {arguments.out}"
        )


def _report_missing(source: Source, queries: QueryPoints, frames: int) -> None:
    """Say on stderr if the source held fewer frames than it announced, and which points that left out."""
    if source.frame_count is not None and frames < source.frame_count:
        print(f"taptr: read {frames} of the {source.frame_count} frames that {source.name} announces.", file=sys.stderr)
    if never_started := queries.ids[queries.frames >= frames].tolist():
        names = ", ".join(map(str, never_started))
        print(f"taptr: the source ended before these points started: {names}.", file=sys.stderr)


def _video_file(text: str) -> Path:
    path = output_file(text)
    if path.suffix.lower() != ".mp4":
        raise argparse.ArgumentTypeError(f'"{text}" does not end in .mp4')
    return path
