"""Query points from the command line: "x,y;x,y", a CSV file, or a grid."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import DuplicateIdError, InvalidPointsError
from taptr_ros.sources.grid import grid_points
from taptr_ros.tracking.regions import Region
from taptr_ros.tracking.stream import too_many

CSV_COLUMNS = ("x", "y"), ("frame", "id", "group")
"""Columns that a CSV of points must have, and those that it may have."""


MOST_DIGITS = 20
"""Digits of the largest whole number of 64 bits."""


@dataclasses.dataclass(frozen=True)
class Bodies:
    """Regions of the first frame in which points were chosen: the view of one body each."""

    regions: Sequence[Region]
    groups: Sequence[int]
    """The group of each."""
    most_points: int
    """Most points in each."""


@dataclasses.dataclass(frozen=True)
class RequestedPoints:
    """N query points, each with the frame in which its track starts.

    Raises `InvalidPointsError` for no points, for coordinates that are not finite, for negative frames or for an id of
    0, and `DuplicateIdError` for an id that two points have.
    """

    xy: NDArray[np.float32]
    """[N,2] ROS pixels."""
    frames: NDArray[np.int64]
    """[N] index, from 0, of the frame in which the point was chosen."""
    ids: NDArray[np.uint64]
    """[N] distinct ids, from 1 on."""
    groups: NDArray[np.uint32]
    """[N] groups of points that belong to one body each; 0 is none."""
    bodies: Bodies | None = None
    """Where the points were chosen, if that was in regions."""

    def __post_init__(self) -> None:
        if not len(self.ids):
            raise InvalidPointsError("There are no points to track; pass at least one.")
        if refusal := too_many(len(self.ids)):
            raise InvalidPointsError(refusal)
        for row in np.flatnonzero(~np.isfinite(self.xy).all(axis=1))[:1]:
            raise InvalidPointsError(f"Point {self.ids[row]} is at {_text(self.xy[row])}; use finite numbers.")
        for row in np.flatnonzero(self.frames < 0)[:1]:
            raise InvalidPointsError(f"Point {self.ids[row]} starts in frame {self.frames[row]}; frames count from 0.")
        if (self.ids == 0).any():
            raise InvalidPointsError("A point has the id 0; ids count from 1.")
        distinct, counts = np.unique(self.ids, return_counts=True)
        for identifier in distinct[counts > 1][:1]:
            raise DuplicateIdError(f"Two points have the id {identifier}; give every point its own.")

    @property
    def look_normalised(self) -> bool:
        """Whether the points look like shares of the image: all within 0 and 1, and not at corners of pixels only."""
        return bool(((self.xy >= 0) & (self.xy <= 1)).all() and (self.xy % 1).any())

    def starting_in(self, frames: range) -> RequestedPoints | None:
        """Return the points that start in one of these frames; None if there are none."""
        starting = (self.frames >= frames.start) & (self.frames < frames.stop)
        if not starting.any():
            return None
        return RequestedPoints(self.xy[starting], self.frames[starting], self.ids[starting], self.groups[starting])

    def check_inside(self, width: int, height: int) -> None:
        """Raise `InvalidPointsError` if a point lies outside an image of width x height pixels."""
        outside = ((self.xy < -0.5) | (self.xy > (width - 0.5, height - 0.5))).any(axis=1)
        for row in np.flatnonzero(outside)[:1]:
            raise InvalidPointsError(
                f"Point {self.ids[row]} at {_text(self.xy[row])} is outside the image of {width}x{height} pixels; "
                f"use x from -0.5 to {width - 0.5} and y from -0.5 to {height - 0.5}."
            )


def parse_points(text: str) -> RequestedPoints:
    """Read points from "x,y;x,y", all starting in frame 0, or from the CSV file that `text` names.

    The CSV has a header with the columns x and y and optionally frame, id and group, in any order. Without ids the
    points are numbered from 1; without groups they are in none.

    Raises `InvalidPointsError`, naming the entry or line, for what is neither; `DuplicateIdError` as `RequestedPoints`.
    """
    if text.lower().endswith(".csv") or is_file(text):
        return _read_points(Path(text))
    rows = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        values = entry.split(",")
        if len(values) != 2:
            raise InvalidPointsError(f'"{entry}" is not a point; write "x,y;x,y" or name a CSV file that exists.')
        rows.append((number(values[0], entry), number(values[1], entry)))
    return _starting_in_first_frame(np.array(rows, np.float32).reshape(-1, 2))


def grid_queries(side: int, width: int, height: int) -> RequestedPoints:
    """Return side x side points at the centres of equal cells of a width x height image, row by row."""
    return _starting_in_first_frame(grid_points(side, width, height))


def _starting_in_first_frame(xy: NDArray[np.float32]) -> RequestedPoints:
    count = len(xy)
    return RequestedPoints(
        xy, np.zeros(count, np.int64), np.arange(1, count + 1, dtype=np.uint64), np.zeros(count, np.uint32)
    )


def is_file(text: str) -> bool:
    """Return whether a text is the path of a file; a list of points may be longer than a path can be."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def read_csv(
    path: Path, required: Sequence[str], optional: Sequence[str]
) -> tuple[list[str], list[tuple[str, dict[str, str | None]]]]:
    """Return the columns of a CSV file, and its rows, each with the words for where it is.

    Rows without any value, as spreadsheets leave them, are left out. Raises `InvalidPointsError` for a file that cannot
    be read, has other columns, or a row with more values than columns.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise _other_encoding(path)
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        _check_columns(path, columns, required, optional)
        reader.fieldnames = columns
        rows = []
        for row in reader:
            where = f"line {reader.line_num} of {path}"
            if excess := row.pop(None, None):
                raise InvalidPointsError(
                    f"There are {len(columns) + len(excess)} values in {where} but {len(columns)} columns; write "
                    "decimals with points, and one value for each column."
                )
            if any(value and value.strip() for value in row.values()):
                rows.append((where, row))
    except UnicodeDecodeError:
        raise _other_encoding(path) from None
    except (OSError, csv.Error) as error:
        raise InvalidPointsError(
            f"{path} cannot be read as a CSV file ({error}); check the name and the file."
        ) from error
    return columns, rows


def _other_encoding(path: Path) -> InvalidPointsError:
    return InvalidPointsError(f"{path} is not text in UTF-8; save it as CSV in UTF-8, with commas.")


def _read_points(path: Path) -> RequestedPoints:
    columns, rows = read_csv(path, *CSV_COLUMNS)
    xy = [(number(row["x"], where), number(row["y"], where)) for where, row in rows]
    frames = [whole_number(row["frame"], where) if "frame" in columns else 0 for where, row in rows]
    ids = [
        whole_number(row["id"], where, bits=64) if "id" in columns else index
        for index, (where, row) in enumerate(rows, 1)
    ]
    groups = [whole_number(row["group"], where, bits=32) if "group" in columns else 0 for where, row in rows]
    return RequestedPoints(
        np.array(xy, np.float32).reshape(-1, 2),
        np.array(frames, np.int64),
        np.array(ids, np.uint64),
        np.array(groups, np.uint32),
    )


def _check_columns(path: Path, columns: list[str], required: Sequence[str], optional: Sequence[str]) -> None:
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and separator in columns[0]:
            raise InvalidPointsError(
                f"{path} separates its columns with {word}; separate them with commas, and write decimals with points."
            )
    unknown = [name for name in columns if name not in (*required, *optional)]
    if unknown or len(set(columns)) < len(columns) or not set(required) <= set(columns):
        raise InvalidPointsError(
            f"{path} has the columns {', '.join(columns) or '(none)'}; its first line must name {_and(required)}, and "
            f"may name {_and(optional)}."
        )


def number(text: str | None, where: str) -> float:
    """Read a number; raises `InvalidPointsError`, which names where it is."""
    try:
        return float(text or "")
    except ValueError:
        raise InvalidPointsError(f'"{text or ""}" in {where} is not a number; write coordinates as 12.5.') from None


def whole_number(text: str | None, where: str, bits: int = 63) -> int:
    """Read a whole number of so many bits; raises `InvalidPointsError`, which names where it is."""
    value = (text or "").strip()
    # Python refuses to read thousands of digits at all.
    if not (value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS and int(value) < 2**bits):
        raise InvalidPointsError(
            f'"{value}" in {where} is not a whole number from 0 to 2^{bits} - 1; correct its frame, id or group.'
        )
    return int(value)


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _text(xy: NDArray[np.float32]) -> str:
    return f"({xy[0]:g}, {xy[1]:g})"
