"""Boxes and masks on the command line: how they are read, what comes of them, and how mistakes are answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media_files import HEIGHT, PERIOD, SHIFT, WIDTH, image_message, moving_scene, write_bag, write_folder

from taptr_ros.cli import main
from taptr_ros.cli.regions import parse_boxes, read_mask
from taptr_ros.errors import DuplicateIdError, InvalidImageError, InvalidPointsError, InvalidRegionError, SourceError
from taptr_ros.messages.tracks import tracks_of
from taptr_ros.sources.bags import BagReader
from taptr_ros.sources.interfaces import TRACKED_POINTS, typestore

FRAMES = 6
LUCAS_KANADE = ["--model", "lucas_kanade", "--quiet"]
BOXES = {1: (10, 10, 40, 40), 2: (70, 30, 40, 50)}
TEXT = ";".join(",".join(map(str, box)) for box in BOXES.values())


def labels(values: dict[int, int], dtype: Any = np.uint8) -> np.ndarray:
    """A mask in which the boxes have these values."""
    mask = np.zeros((HEIGHT, WIDTH), dtype)
    for number, value in values.items():
        x, y, width, height = BOXES[number]
        mask[y : y + height, x : x + width] = value
    return mask


def in_boxes(xy: np.ndarray, groups: np.ndarray, boxes: dict[int, tuple[int, ...]] = BOXES) -> bool:
    lower = np.array([boxes[group][:2] for group in groups.tolist()])
    size = np.array([boxes[group][2:] for group in groups.tolist()])
    return bool(((xy >= lower) & (xy < lower + size)).all())


def test_boxes_are_read_from_text_and_csv(tmp_path: Path) -> None:
    regions, groups = parse_boxes(" 10,10,40,40 ; 70.5,30,40,5e1;")
    assert [(box.x, box.y, box.width, box.height) for box in regions] == [BOXES[1], (70.5, 30, 40, 50)]
    assert groups == [0, 0]
    file = tmp_path / "boxes.csv"
    file.write_text("group,width,height,x,y\n7,40,40,10,10\n0,40,50,70,30\n")
    regions, groups = parse_boxes(str(file))
    assert [(box.x, box.y, box.width, box.height) for box in regions] == list(BOXES.values())
    assert groups == [7, 0]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", InvalidRegionError, "no boxes"),
        ("1,2,3", InvalidRegionError, '"1,2,3" is not a box'),
        ("1,2,3,wide", InvalidPointsError, '"wide" in 1,2,3,wide is not a number'),
        ("1,2,0,4", InvalidRegionError, "Box 1,2,0,4 is 0 pixels wide"),
        ("1,2,nan,4", InvalidRegionError, "not finite"),
        ("none.csv", InvalidPointsError, r"none\.csv cannot be read"),
    ],
)
def test_wrong_boxes_are_quoted(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_boxes(text)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("x,y,w,h\n1,2,3,4\n", InvalidPointsError, "must name x, y, width and height, and may name group"),
        ("x,y,width,height,frame\n1,2,3,4,5\n", InvalidPointsError, "may name group"),
        ("x,y,width,height\n1,2,3,-4\n", InvalidRegionError, "Line 2 of .* both must be above 0"),
        ("x,y,width,height\n", InvalidRegionError, "no boxes"),
        ("x,y,width,height,group\n1,2,3,4,5\n1,2,3,4,5\n", DuplicateIdError, "group 5"),
        ("x,y,width,height,group\n1,2,3,4,-1\n", InvalidPointsError, '"-1" in line 2'),
    ],
)
def test_wrong_csv_is_answered_with_the_place(tmp_path: Path, text: str, error: Any, words: str) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text(text)
    with pytest.raises(error, match=words):
        parse_boxes(str(file))


@pytest.mark.parametrize(
    ("mask", "groups"),
    [
        (labels({1: 1, 2: 255}), [1, 255]),
        (labels({1: 65535, 2: 300}, np.uint16), [300, 65535]),
        (np.stack([labels({1: 4, 2: 9})] * 3, axis=-1), [4, 9]),
        # Colours, blue first: red comes after blue in the order of red, green and blue.
        (np.stack([labels({1: 200}), labels({}), labels({2: 128})], axis=-1), [1, 2]),
        (np.stack([labels({1: 65535}, np.uint16), labels({}, np.uint16), labels({2: 1}, np.uint16)], axis=-1), [1, 2]),
        (np.stack([labels({1: 5}), labels({1: 5}), labels({1: 5}), labels({1: 255})], axis=-1), [5]),
    ],
)
def test_masks_are_read_from_files(tmp_path: Path, mask: np.ndarray, groups: list[int]) -> None:
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), mask)
    regions, found = read_mask(path)
    assert found == groups
    drawn = [region.inside(WIDTH, HEIGHT, (HEIGHT, WIDTH)) for region in regions]
    assert sum(int(inside.sum()) for inside in drawn) == np.count_nonzero(mask.reshape(HEIGHT, WIDTH, -1).any(axis=2))


def test_wrong_masks_are_answered_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    with pytest.raises(SourceError, match=r"mask\.png cannot be read"):
        read_mask(path)
    path.write_bytes(b"no image")
    with pytest.raises(InvalidImageError, match=r"mask\.png .* use a PNG file of labels"):
        read_mask(path)
    cv2.imwrite(str(path), labels({}))
    with pytest.raises(InvalidRegionError, match="holds no label"):
        read_mask(path)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))
    with pytest.raises(InvalidRegionError, match=r"mask\.png has \d+ colours besides black, more than 256"):
        read_mask(path)
    cv2.imwrite(str(tmp_path / "mask.tiff"), np.ones((4, 4), np.float32))
    with pytest.raises(InvalidRegionError, match="float32"):
        read_mask(tmp_path / "mask.tiff")


def test_track_chooses_points_in_boxes(tmp_path: Path) -> None:
    images, out = write_folder(tmp_path / "images", moving_scene(FRAMES)), tmp_path / "tracks.npz"
    arguments = ["track", str(images), "--boxes", TEXT, "--points-per-region", "7", *LUCAS_KANADE]
    assert main([*arguments, "--out", str(out)]) == 0
    with np.load(out) as tracks:
        assert tracks["groups"].tolist() == [1] * 7 + [2] * 7
        assert tracks["ids"].tolist() == list(range(1, 15))
        assert in_boxes(tracks["xy"][0], tracks["groups"])
        np.testing.assert_allclose(tracks["xy"][-1], tracks["xy"][0] + (FRAMES - 1) * SHIFT, atol=0.3)


def test_a_region_without_points_is_named_and_the_others_are_tracked(tmp_path: Path, capfd: Any) -> None:
    images, out = write_folder(tmp_path / "images", moving_scene(FRAMES)), tmp_path / "tracks.npz"
    arguments = ["track", str(images), *LUCAS_KANADE, "--out", str(out), "--boxes"]
    assert main([*arguments, f"500,1,9,9;{TEXT}"]) == 0
    assert capfd.readouterr().err.startswith("taptr: Box 500,1,9,9 at (500, 1) with 9x9 pixels holds no pixel")
    with np.load(out) as tracks:
        assert set(tracks["groups"].tolist()) == {2, 3}
    assert main([*arguments, "500,1,9,9"]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_replay_writes_the_groups_of_a_mask_into_the_bag(tmp_path: Path) -> None:
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(FRAMES))]
    bag, mask = write_bag(tmp_path / "bag", {"/camera/image": messages}), tmp_path / "mask.png"
    cv2.imwrite(str(mask), labels({1: 40000, 2: 3}, np.uint16))
    recorded = {}
    for name in ("out", "again"):
        arguments = ["replay", str(bag), "--mask", str(mask), "--points-per-region", "5", *LUCAS_KANADE]
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
        recorded[name] = list(BagReader(tmp_path / name).messages("/tracks"))
    assert recorded["out"] == recorded["again"]
    tracks = [tracks_of(typestore().deserialize_cdr(message.data, TRACKED_POINTS)) for message in recorded["out"]]
    assert [frame.stamp - tracks[0].stamp for frame in tracks] == [index * PERIOD for index in range(FRAMES)]
    for frame in tracks:
        assert (frame.group.tolist(), frame.group.dtype) == ([3] * 5 + [40000] * 5, np.uint32)
    assert in_boxes(tracks[0].xy, tracks[0].group, {40000: BOXES[1], 3: BOXES[2]})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mask", "none.png"], "none.png cannot be read"),
        (["--mask", "small.png"], "The mask has 8x8 pixels but the image 128x96"),
        (["--mask", "small.png", "--boxes", "1,1,9,9"], "not allowed with"),
        (["--boxes", "1,1,20,20", "--points-per-region", "0"], "--points-per-region"),
        (["--boxes", "1,1,20,20", "--points-per-region", "65537"], "more than 65536"),
        (["--boxes", "1,1,5,50"], "too small"),
    ],
)
def test_mistakes_get_one_sentence_and_status_2(
    tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(Path("images"), moving_scene(2))
    cv2.imwrite("small.png", np.ones((8, 8), np.uint8))
    assert main(["track", "images", *LUCAS_KANADE, "--out", "tracks.npz", *options]) == 2
    error = capfd.readouterr().err
    assert error.startswith("taptr: ")
    assert error.count("\n") == 1
    assert words in error
    assert not Path("tracks.npz").exists()


def test_lost_points_of_bodies_are_replaced_as_in_the_node(tmp_path: Path, capfd: Any) -> None:
    """What `--replenish` gives is, to the bit, what the tracker does when regions are added to it."""
    pytest.importorskip("onnxruntime")
    from test_replenishment import COUNT, SIDE, corner, image

    from taptr_ros.runtime.loading import load_backend
    from taptr_ros.tracking import PointTracker, TrackerConfig
    from taptr_ros.tracking.regions import Box

    images = [image(frame) for frame in range(14)]  # half is hidden from the fifth on
    folder = write_folder(tmp_path / "images", images)
    x, y = corner(0)
    words = f"--boxes {x},{y},{SIDE},{SIDE} --points-per-region {COUNT} --memory 32 --threads 1 --lost-after 4".split()
    npz = tmp_path / "tracks.npz"
    assert main(["track", str(folder), *words, "--replenish", "--quiet", "--out", str(npz)]) == 0
    tracker = PointTracker(
        load_backend("taptr_small", threads=1), TrackerConfig(COUNT, memory_slots=32, lost_after=4, replenish=True)
    )
    tracker.add_regions([Box("Box", x, y, SIDE, SIDE)], COUNT)
    with np.load(npz) as tracks:
        assert len(tracks["ids"]) > COUNT
        assert set(tracks["groups"]) == {1}
        for row, view in enumerate(images):
            expected = tracker.step(view, int(tracks["stamps"][row]))
            columns = np.searchsorted(tracks["ids"], expected.ids)
            np.testing.assert_array_equal(tracks["xy"][row, columns], expected.xy)
            assert np.isnan(np.delete(tracks["xy"][row], columns, axis=0)).all()
    bag = str(write_bag(tmp_path / "bag", {"/image": [image_message(0, images[0])]}))
    for command in ("track", "replay"):
        assert main([command, bag, "--grid", "2", "--replenish", "--out", str(tmp_path / "new")]) == 2
        assert "--replenish keeps up the points of bodies" in capfd.readouterr().err
