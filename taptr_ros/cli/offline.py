"""What `taptr track` and `taptr replay` share: the source, the query points, and tracking with progress."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from taptr_ros.cli.arguments import count
from taptr_ros.cli.points import QueryPoints, grid_points, parse_points
from taptr_ros.errors import InvalidPointsError
from taptr_ros.sources.frames import Frame, Source

MAX_GRID = 256
"""Most points per side of a grid: its square is the largest capacity of a tracker."""


def add_topic_argument(parser: argparse.ArgumentParser) -> None:
    """Add --image-topic."""
    parser.add_argument("--image-topic", metavar="TOPIC", help="topic of the images, if the bag has several")


def add_points_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add --points and --grid, of which one can be given."""
    points = parser.add_mutually_exclusive_group(required=required)
    points.add_argument(
        "--points",
        metavar="POINTS",
        help='"x,y;x,y" in pixels, or a CSV file with the columns x,y and optionally frame (where the point starts, '
        "from 0) and id",
    )
    points.add_argument("--grid", type=grid_side, metavar="N", help="N x N points spread over the first frame")


def grid_side(text: str) -> int:
    """Parse the number of points per side of a grid."""
    side = count(text)
    if side > MAX_GRID:
        raise argparse.ArgumentTypeError(f'"{text}" is more than {MAX_GRID} points per side')
    return side


def requested_points(arguments: argparse.Namespace, source: Source) -> QueryPoints:
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


def frames_with_starts(
    source: Source, queries: QueryPoints, *, quiet: bool
) -> Iterator[tuple[Frame, QueryPoints | None]]:
    """Yield every frame with the points that start in it, behind a progress bar on stderr if that is a terminal."""
    bar = tqdm(source, total=source.frame_count, unit="frame", disable=quiet or None, dynamic_ncols=True)
    for index, frame in enumerate(bar):
        yield frame, queries.starting_in(index)
