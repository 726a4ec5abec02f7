"""`taptr vots`: a tracker for the VOT toolkit's point tracking, by its protocol of files in a folder."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taptr_ros.cli.arguments import (
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    load_requested_backend,
    tracker_config,
)
from taptr_ros.cli.offline import new_tracker, track_frames
from taptr_ros.cli.points import RequestedPoints
from taptr_ros.errors import InvalidPointsError, SourceError
from taptr_ros.sources.folder import ImageFiles
from taptr_ros.sources.frames import DEFAULT_RATE
from taptr_ros.sources.order import in_natural_order

DESCRIPTION = """\
Track points for the VOT toolkit (pip install vot-toolkit), which runs this command in a folder of its own for every
sequence. In the trackers.ini of a workspace of the stack vots2026/point:

  [taptr_small]
  label = taptr_small
  protocol = folder
  command = taptr vots --model taptr_small

The folder has the paths of the images in frames_CHANNEL.txt, one a line, and for every point a file query_ID.txt: the
number of the frame, from 0, in which it is given, and "x,y" in pixels. The command writes output_ID.txt, a line for
every frame: "x,y", or 0 before the point is given; and output_ID_visibility.txt, the probability that it is seen.
"""

COLOUR = "frames_color.txt"
"""Name of the file of images that is taken if there are several."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("--folder", type=Path, default=Path(), help="folder of the toolkit (default: the current one)")
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Read the folder, track, and write the results."""
    source = ImageFiles(str(arguments.folder), _images(arguments.folder), DEFAULT_RATE)
    names, queries = _queries(arguments.folder, source.frame_count)
    tracker = new_tracker(load_requested_backend(arguments, arguments.size), tracker_config(arguments), queries)
    xy = np.full((source.frame_count, len(names), 2), np.nan, np.float32)
    visibility = np.zeros((source.frame_count, len(names)), np.float32)
    for frame, tracks in track_frames(source, queries, tracker, quiet=True):
        columns = tracks.ids.astype(np.int64) - 1
        xy[frame.number, columns], visibility[frame.number, columns] = tracks.xy, tracks.visibility
    for column, name in enumerate(names):
        places = _without_gaps(xy[:, column])
        lines = ["0" if math.isnan(x) else f"{x:.4f},{y:.4f}" for x, y in places.tolist()]
        (arguments.folder / f"output_{name}.txt").write_text("\n".join(lines) + "\n")
        seen = [f"{value:.4f}" for value in visibility[:, column].tolist()]
        (arguments.folder / f"output_{name}_visibility.txt").write_text("\n".join(seen) + "\n")


def _images(folder: Path) -> list[Path]:
    """Return the paths of the images."""
    lists = sorted(folder.glob("frames_*.txt"))
    if not lists:
        raise SourceError(f"{folder.absolute()} has no frames_*.txt; the VOT toolkit makes such a folder, see --help.")
    chosen = folder / COLOUR if folder / COLOUR in lists else lists[0]
    images = [folder / line for line in map(str.strip, chosen.read_text().splitlines()) if line]
    if not images:
        raise SourceError(f"{chosen.absolute()} names no image; it must have the path of one in every line.")
    return images


def _queries(folder: Path, frames: int) -> tuple[list[str], RequestedPoints]:
    """Return the points with their names; their ids count from 1 in this order."""
    files = in_natural_order(folder.glob("query_*.txt"))
    if not files:
        raise SourceError(f"{folder.absolute()} has no query_*.txt; the VOT toolkit makes such a folder, see --help.")
    starts, places = [], []
    for file in files:
        lines = file.read_text().splitlines()
        try:
            start, (x, y) = int(lines[0]), map(float, lines[1].split(","))
        except (IndexError, ValueError):
            raise InvalidPointsError(
                f"{file} does not give a frame and a point x,y; this tracker is for the stacks of point tracking."
            ) from None
        if not 0 <= start < frames:
            raise InvalidPointsError(f"{file} names frame {start}, but there are {frames} frames, counted from 0.")
        starts.append(start)
        places.append((x, y))
    count = len(files)
    ids = np.arange(1, count + 1, dtype=np.uint64)
    xy = np.array(places, np.float32)
    queries = RequestedPoints(xy, np.array(starts, np.int64), ids, np.zeros(count, np.uint32))
    return [file.stem.removeprefix("query_") for file in files], queries


def _without_gaps(xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the positions [T,2] with the last one known in frames that were left out; NaN before the first."""
    known = np.isfinite(xy[:, 0])
    newest = np.maximum.accumulate(np.where(known, np.arange(len(xy)), -1))
    return np.where((newest < 0)[:, None], np.float32(np.nan), xy[np.maximum(newest, 0)])
