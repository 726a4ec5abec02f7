"""Regions from the command line: boxes as "x,y,w,h;x,y,w,h" or a CSV file, or an image of labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taptr_ros.cli.points import Bodies, RequestedPoints, is_file, number, read_csv, whole_number
from taptr_ros.errors import DuplicateIdError, InvalidRegionError, SourceError
from taptr_ros.messages.encoded import decode_samples
from taptr_ros.tracking.checks import repeated
from taptr_ros.tracking.queries import OWN_GROUPS_END, IdAllocator
from taptr_ros.tracking.regions import Box, LabelMask, Region, points_in, shrunk_view
from taptr_ros.tracking.stream import MOST_REGIONS, too_many_regions

BOX_COLUMNS = ("x", "y", "width", "height")
"""Columns that a CSV of boxes must have."""


def parse_boxes(text: str) -> tuple[list[Region], list[int]]:
    """Read boxes from "x,y,w,h;x,y,w,h" in pixels, or from the CSV file that `text` names.

    The CSV has a header with the columns x, y, width, height and optionally group, in any order. Return the boxes and
    the group of each, 0 where none is given.

    Raises `InvalidPointsError` for what is neither, naming the entry or line, `InvalidRegionError` for a box that is in
    no image, and `DuplicateIdError` for a group that two boxes have.
    """
    if text.lower().endswith(".csv") or is_file(text):
        columns, rows = read_csv(Path(text), BOX_COLUMNS, ("group",))
        boxes = [(where, [number(row[name], where) for name in BOX_COLUMNS]) for where, row in rows]
        groups = [whole_number(row["group"], where, bits=32) if "group" in columns else 0 for where, row in rows]
    else:
        boxes = []
        for entry in filter(None, (part.strip() for part in text.split(";"))):
            values = entry.split(",")
            if len(values) != len(BOX_COLUMNS):
                raise InvalidRegionError(f'"{entry}" is not a box; write "x,y,w,h;x,y,w,h" or name a CSV file.')
            boxes.append((f"Box {entry}", [number(value, entry) for value in values]))
        groups = [0] * len(boxes)
    if not boxes:
        raise InvalidRegionError("There are no boxes; pass at least one.")
    if (twice := repeated(group for group in groups if group)) is not None:
        raise DuplicateIdError(f"Two boxes have the group {twice}; give every body its own.")
    regions = [Box(f"{where[0].upper()}{where[1:]}", *values) for where, values in boxes]
    for region in regions:
        region.check()
    return list(regions), groups


def read_mask(path: Path) -> tuple[list[Region], list[int]]:
    """Read the regions of an image of labels, 8 or 16 bits, 0 where there is no body; the label is the group.

    In an image in colour every colour but black is a body; they are numbered from 1 in the order of red, green, blue.
    Raises `SourceError` for a file that cannot be read, and `InvalidImageError` and `InvalidRegionError` for one that
    is no such image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); check the name.") from error
    samples = decode_samples(data, str(path), "use a PNG file of labels, 8 or 16 bits")
    if samples.dtype not in (np.uint8, np.uint16):
        raise InvalidRegionError(f"{path} holds {samples.dtype}; use a PNG file of labels, 8 or 16 bits.")
    mask = LabelMask.of(_labels(samples, path))
    regions = mask.regions()
    return list(regions), [region.label for region in regions]


def region_queries(
    regions: Sequence[Region], groups: Sequence[int], image: NDArray[np.uint8], count: int
) -> RequestedPoints:
    """Choose up to `count` points in each region of the first image, uint8 [H,W,3] RGB.

    A region in which no point can be chosen is reported on stderr; raises `InvalidRegionError` if there is no other.
    """
    if refusal := too_many_regions(len(regions), count):
        raise InvalidRegionError(refusal)
    height, width = image.shape[:2]
    view = shrunk_view(image)
    numbers = IdAllocator(OWN_GROUPS_END).assign(groups, ())
    points: list[NDArray[np.float64]] = []
    used: list[Region] = []
    groups_used: list[int] = []
    refusals: list[str] = []
    for region, group in zip(regions, numbers, strict=True):
        try:
            points.append(points_in(region, view, width, height, count).xy)
        except InvalidRegionError as error:
            refusals.append(str(error))
            continue
        used.append(region)
        groups_used.append(group)
    if not points:
        raise InvalidRegionError(refusals[0])
    for refusal in refusals:
        print(f"taptr: {refusal}", file=sys.stderr)
    xy = np.concatenate(points).astype(np.float32)
    ids = np.arange(1, len(xy) + 1, dtype=np.uint64)
    of_points = np.repeat(np.array(groups_used, np.uint32), [len(of_region) for of_region in points])
    return RequestedPoints(xy, np.zeros(len(xy), np.int64), ids, of_points, Bodies(used, groups_used, count))


def _labels(samples: NDArray[np.unsignedinteger], path: Path) -> NDArray[np.unsignedinteger]:
    """Return the labels [H,W] of an image as OpenCV reads it, [H,W] or [H,W,channels], blue first."""
    if samples.ndim == 2:
        return samples
    blue, green, red = (samples[..., channel] for channel in range(3))
    if np.array_equal(blue, green) and np.array_equal(blue, red):
        return blue
    colours = (red.astype(np.uint64) << 32) | (green.astype(np.uint64) << 16) | blue
    present, labels = np.unique(np.append(colours.ravel(), np.uint64(0)), return_inverse=True)
    if len(present) - 1 > MOST_REGIONS:
        raise InvalidRegionError(
            f"{path} has {len(present) - 1} colours besides black, more than {MOST_REGIONS}; use a mask with one "
            "colour or label for each body, not a photo."
        )
    return np.asarray(labels[:-1].reshape(colours.shape), np.uint16)
