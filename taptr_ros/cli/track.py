"""`taptr track`: follow points through a video, a folder of images or a bag."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from taptr_ros.cli.arguments import (
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    load_requested_backend,
    output_file,
    positive,
    tracker_config,
)
from taptr_ros.cli.offline import (
    add_points_arguments,
    add_replenish_argument,
    add_topic_argument,
    check_replenish,
    new_tracker,
    point_files,
    points_given,
    requested_points,
    track_frames,
)
from taptr_ros.cli.outputs import add_overwrite_argument, check_outputs, is_npz_with
from taptr_ros.cli.rrd import add_rrd_argument, is_rrd, opened_rrd, require_rerun
from taptr_ros.cli.tracks_file import TracksFile
from taptr_ros.drawing.overlay import OverlayVideo, TrackOverlay, is_overlay
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking.states import Tracks

DESCRIPTION = """\
Follow points through a video and write where each of them is, and whether it can be seen, in every frame.

  taptr track street.mp4 --points "320,240;100,50" --out tracks.npz --overlay tracks.mp4
  taptr track my_bag --image-topic /camera/image_raw --grid 8 --out tracks.npz
  taptr track street.mp4 --boxes "300,200,80,60" --points-per-region 12 --out tracks.npz
"""

OUTPUT = """\
The npz file, T frames and N points:
  xy          float32 [T,N,2]  x to the right, y down, in pixels of the source; (0, 0) is the centre of the first pixel
  visibility  float32 [T,N]    probability that the point can be seen
  confidence  float32 [T,N]    probability that it is within 8 px (of the model's input) of xy, if it can be seen
  visible     bool    [T,N]    whether it is seen, decided from visibility times confidence
  state       uint8   [T,N]    0 visible, 1 occluded, 2 out of view, 3 lost
  ids         uint64  [N]      numbered from 1, or as the CSV says
  groups      uint32  [N]      points of one body have the same group; 0 is none
  stamps      int64   [T]      nanoseconds
In frames without it, before its first one and after it was replaced (--replenish), a point has xy NaN, visibility and
confidence 0, visible False and state 3.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description, parser.epilog = DESCRIPTION, OUTPUT
    parser.add_argument(
        "source", metavar="SOURCE", help="a video file, a folder of images (2 before 10), or a rosbag2 (sqlite3, mcap)"
    )
    add_topic_argument(parser)
    parser.add_argument("--fps", type=positive, help="frames per second of a folder of images (default: 30)")
    add_points_arguments(parser, required=True)
    add_replenish_argument(parser)
    parser.add_argument("--out", type=output_file, required=True, metavar="NPZ", help="file for the tracks")
    parser.add_argument("--overlay", type=_video_file, metavar="MP4", help="video of the tracks drawn on the source")
    add_rrd_argument(parser)
    add_overwrite_argument(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Track, and write the npz and the overlay; everything that can be wrong is checked before the model loads.

    However the tracking ends, by a damaged source, an error or an interrupt, what was tracked until then is written.
    """
    source = open_source(arguments.source, image_topic=arguments.image_topic, rate=arguments.fps)
    check_replenish(arguments, has_bodies=points_given(arguments) in ("boxes", "mask"))
    _check_outputs(arguments)
    require_rerun(arguments)
    queries = requested_points(arguments, source)
    tracker = new_tracker(load_requested_backend(arguments, arguments.size), tracker_config(arguments), queries)
    results: list[Tracks] = []
    started = time.perf_counter()
    try:
        with contextlib.ExitStack() as opened:
            video = opened.enter_context(OverlayVideo(arguments.overlay, source.rate)) if arguments.overlay else None
            overlay = TrackOverlay()
            write_rrd = opened_rrd(arguments, opened)
            for frame, tracks in track_frames(source, queries, tracker, quiet=arguments.quiet):
                results.append(tracks)
                if video is not None:
                    video.write(overlay.draw(frame.image, tracks))
                write_rrd(frame, tracks)
    finally:
        if results:
            TracksFile.collect(queries.ids, results).save(arguments.out)
            if not arguments.quiet:
                seconds = time.perf_counter() - started
                print(
                    f"{len(queries.ids)} points over {len(results)} frames in {seconds:.1f} s "
                    f"({len(results) / seconds:.1f} frames/s): {arguments.out}"
                )


def _check_outputs(arguments: argparse.Namespace) -> None:
    inputs = (arguments.source, *point_files(arguments), arguments.model)
    kinds = {
        arguments.rrd: is_rrd,
        arguments.overlay: is_overlay,
        arguments.out: is_npz_with("xy", "visibility", "ids", "stamps"),
    }
    check_outputs(
        [arguments.out, arguments.overlay, arguments.rrd],
        inputs,
        overwrite=arguments.overwrite,
        is_ours=lambda path: kinds[path](path),
    )


def _video_file(text: str) -> Path:
    path = output_file(text)
    if path.suffix.lower() != ".mp4":
        raise argparse.ArgumentTypeError(f'"{text}" does not end in .mp4')
    return path
