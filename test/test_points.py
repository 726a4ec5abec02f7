"""Points from text, CSV files and grids, and how each mistake in them is answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taptr_ros.cli.points import RequestedPoints, grid_queries, parse_points
from taptr_ros.errors import DuplicateIdError, InvalidPointsError


def test_text_gives_points_of_the_first_frame() -> None:
    points = parse_points("1,2; 3.5 , -0.25 ;")
    assert points.xy.dtype == np.float32
    assert points.xy.tolist() == [[1.0, 2.0], [3.5, -0.25]]
    assert points.frames.tolist() == [0, 0]
    assert points.ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "xy", "frames", "ids", "groups"),
    [
        ("x,y\n1,2\n3,4\n", [[1, 2], [3, 4]], [0, 0], [1, 2], [0, 0]),
        ("id,y,x\n7,2,1\n3,4,3\n", [[1, 2], [3, 4]], [0, 0], [7, 3], [0, 0]),
        ("x, y, frame\n1, 2, 5\n", [[1, 2]], [5], [1], [0]),
        ("\ufeffX,Y,Frame,ID\r\n1,2,0,9007199254740993\r\n", [[1, 2]], [0], [9007199254740993], [0]),
        ("x,y\n\n1,2\n", [[1, 2]], [0], [1], [0]),
        ("x,y\n1,2\n\n , \n,\n", [[1, 2]], [0], [1], [0]),
        ("x,y,id\n1,2,18446744073709551615\n", [[1, 2]], [0], [2**64 - 1], [0]),
        ("group,x,y\n4294967295,1,2\n0,3,4\n", [[1, 2], [3, 4]], [0, 0], [1, 2], [4294967295, 0]),
    ],
)
def test_csv_columns_in_any_order(tmp_path: Path, text: str, xy, frames, ids, groups) -> None:
    file = tmp_path / "points.csv"
    file.write_bytes(text.encode())
    points = parse_points(str(file))
    assert points.xy.tolist() == xy
    assert points.frames.tolist() == frames
    assert points.ids.tolist() == ids
    assert points.groups.tolist() == groups


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one"),
        (" ; ", "at least one"),
        ("1", '"1" is not a point'),
        ("1,2,3", '"1,2,3" is not a point'),
        ("1,2;three,4", '"three" in three,4 is not a number'),
        ("1,nan", "finite"),
        ("inf,1", "finite"),
        ("missing.csv", r"missing\.csv cannot be read"),
        ("missing.txt", "name a CSV file that exists"),
    ],
)
def test_wrong_text_is_quoted(text: str, words: str) -> None:
    with pytest.raises(InvalidPointsError, match=words):
        parse_points(text)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", InvalidPointsError, r"has the columns \(none\)"),
        ("1,2\n3,4\n", InvalidPointsError, "first line must name x and y"),
        ("x,y,z\n1,2,3\n", InvalidPointsError, "x, y, z"),
        ("x,y,x\n1,2,3\n", InvalidPointsError, "x, y, x"),
        ("x;y\n1;2\n", InvalidPointsError, "semicolons; separate them with commas"),
        ("x\ty\n1\t2\n", InvalidPointsError, "tabs; separate them with commas"),
        ("x,y\n", InvalidPointsError, "at least one"),
        ("x,y\n1,2\n3\n", InvalidPointsError, '"" in line 3'),
        ("x,y\n1,two\n", InvalidPointsError, '"two" in line 2'),
        ("x,y,frame\n1,2,-1\n", InvalidPointsError, '"-1" in line 2'),
        ("x,y,frame\n1,2,1.5\n", InvalidPointsError, '"1.5" in line 2'),
        ("x,y,frame\n1,2,\n", InvalidPointsError, '"" in line 2'),
        ("x,y,id\n1,2,99999999999999999999\n", InvalidPointsError, "99999999999999999999"),
        ("x,y,id\n1,2,18446744073709551616\n", InvalidPointsError, r"2\^64 - 1"),
        pytest.param(f"x,y,id\n1,2,{'9' * 5000}\n", InvalidPointsError, "whole number", id="thousands of digits"),
        pytest.param("x,y\n" + "1,2\n" * 65537, InvalidPointsError, "65537 points, more than 65536", id="too many"),
        # Decimals with commas, which would be other points.
        ("x,y\n20,5,30,5\n", InvalidPointsError, "4 values in line 2 .* but 2 columns"),
        ("x,y,id\n1,2,0\n", InvalidPointsError, "id 0"),
        ("x,y,group\n1,2,4294967296\n", InvalidPointsError, r"2\^32 - 1"),
        ("x,y,id\n1,2,4\n3,4,5\n5,6,4\n", DuplicateIdError, "id 4"),
        ("x,y\n1,\x00\n", InvalidPointsError, "not text in UTF-8"),
    ],
)
def test_wrong_csv_is_answered_with_the_place(tmp_path: Path, text: str, error, words: str) -> None:
    file = tmp_path / "points.csv"
    file.write_text(text)
    with pytest.raises(error, match=words):
        parse_points(str(file))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_another_encoding_is_refused_by_that_name(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "points.csv"
    file.write_text("x,y\n1,2\n", encoding=encoding)
    with pytest.raises(InvalidPointsError, match="is not text in UTF-8; save it as CSV in UTF-8"):
        parse_points(str(file))


def test_binary_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "points"
    file.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(InvalidPointsError, match="not text in UTF-8"):
        parse_points(str(file))


def test_grid_points_are_the_centres_of_equal_cells() -> None:
    # Cells of 20x10 pixels span [-0.5, 19.5] and so on.
    assert grid_queries(2, 40, 20).xy.tolist() == [[9.5, 4.5], [29.5, 4.5], [9.5, 14.5], [29.5, 14.5]]
    assert grid_queries(1, 3, 3).xy.tolist() == [[1.0, 1.0]]
    grid_queries(50, 7, 5).check_inside(7, 5)
    with pytest.raises(InvalidPointsError, match="at least one"):
        grid_queries(0, 40, 20)


@pytest.mark.parametrize("xy", ["-0.5,-0.5", "39.5,19.5", "0,0"])
def test_the_edge_of_the_image_is_inside(xy: str) -> None:
    parse_points(xy).check_inside(40, 20)


@pytest.mark.parametrize("xy", ["-0.6,0", "0,-0.6", "39.6,0", "0,19.6"])
def test_beyond_the_edge_is_outside(xy: str) -> None:
    with pytest.raises(InvalidPointsError, match=r"Point 2 .* outside the image of 40x20"):
        parse_points(f"1,1;{xy}").check_inside(40, 20)


@pytest.mark.parametrize("count", [15, 22, 2000])
def test_a_list_of_points_may_be_longer_than_a_file_name(count: int) -> None:
    points = [(10 + 0.25 * index, 20 + 0.5 * index) for index in range(count)]
    assert parse_points(";".join(f"{x:.2f},{y:.2f}" for x, y in points)).xy.tolist() == [
        list(point) for point in points
    ]


def test_text_with_a_zero_byte_is_no_file() -> None:
    with pytest.raises(InvalidPointsError, match="not a number"):
        parse_points("1,\0")


@pytest.mark.parametrize(
    ("text", "normalised"),
    [("0.25,0.5", True), ("0.25,0.5;1,0", True), ("0,0;1,1", False), ("0.5,1.5", False), ("-0.25,0.5", False)],
)
def test_points_within_0_and_1_look_normalised(text: str, normalised: bool) -> None:
    assert parse_points(text).look_normalised == normalised


def test_points_that_start_in_one_of_several_frames() -> None:
    frames, ids = np.array([0, 2, 3, 5]), np.array([1, 2, 3, 4], np.uint64)
    queries = RequestedPoints(np.zeros((4, 2), np.float32), frames, ids, np.array([7, 8, 9, 0], np.uint32))
    starting = queries.starting_in(range(1, 4))
    assert starting is not None
    assert starting.ids.tolist() == [2, 3]
    assert starting.groups.tolist() == [8, 9]
    assert queries.starting_in(range(4, 5)) is None
