"""`taptr replay --depth-topic`: points in metres and bodies in the new bag, to the bit the same every time."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media_files import (
    FIRST_STAMP,
    HEIGHT,
    PERIOD,
    SHIFT,
    TYPES,
    WIDTH,
    CompressedImage,
    Image,
    header,
    image_message,
    moving_scene,
    write_bag,
)

from taptr_ros.bodies.rigid_bodies import BodyState
from taptr_ros.bodies.topics import camera_info_topic
from taptr_ros.cli import main
from taptr_ros.messages.clouds import CLOUD_POINT
from taptr_ros.sources.bags import BagReader
from taptr_ros.sources.interfaces import PLACES, typestore

FRAMES = 12
FOCAL, DISTANCE = 150.0, 0.8
DEPTH, INFO = "/camera/aligned_depth/image_raw", "/camera/aligned_depth/camera_info"
TOPICS = ("/tracks/points", "/bodies", "/bodies/poses")
KINDS = list(zip(TOPICS, PLACES, strict=True))
STAMPS = [FIRST_STAMP + index * PERIOD for index in range(FRAMES)]


def depth_message(index: int, *, compressed: bool = False, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Any:
    values = np.full(size, round(1000 * DISTANCE), np.uint16)
    if compressed:
        data = struct.pack("<iff", 0, 0.0, 0.0) + cv2.imencode(".png", values)[1].tobytes()
        return CompressedImage(header(index), "16UC1; compressedDepth png", np.frombuffer(data, np.uint8))
    data = np.frombuffer(values.tobytes(), np.uint8)
    return Image(header(index), size[0], size[1], "16UC1", 0, 2 * size[1], data)


def info_message(index: int, focal: float = FOCAL, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Any:
    height, width = size
    k = np.array([focal, 0, (width - 1) / 2, 0, focal, (height - 1) / 2, 0, 0, 1.0])
    p = np.hstack([k.reshape(3, 3), np.zeros((3, 1))]).ravel()
    roi = TYPES.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return TYPES.types["sensor_msgs/msg/CameraInfo"](
        header(index), height, width, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), p, 0, 0, roi
    )


def make_bag(path: Path, depth: list[Any] | None = None, infos: list[Any] | None = None) -> Path:
    images = [image_message(index, image) for index, image in enumerate(moving_scene(FRAMES))]
    depths = [depth_message(index) for index in range(FRAMES)] if depth is None else depth
    infos = [info_message(index) for index in range(FRAMES)] if infos is None else infos
    return write_bag(path, {"/camera/color/image_raw": images, DEPTH: depths, INFO: infos})


def replay(bag: Path, out: Path, *options: str) -> int:
    boxes = ["--boxes", "10,10,60,50", "--model", "lucas_kanade"]
    return main(["replay", str(bag), *boxes, "--depth-topic", DEPTH, "--out", str(out), "--quiet", *options])


def read(bag: Path, topic: str, kind: str) -> tuple[list[int], list[Any]]:
    recorded = list(BagReader(bag).messages(topic))
    return [entry.recorded for entry in recorded], [typestore().deserialize_cdr(entry.data, kind) for entry in recorded]


@pytest.mark.parametrize("compressed", [False, True])
def test_points_and_poses_come_with_the_original_stamps(tmp_path: Path, compressed: bool) -> None:
    bag = make_bag(tmp_path / "bag", [depth_message(index, compressed=compressed) for index in range(FRAMES)])
    assert replay(bag, tmp_path / "out") == 0
    for topic, kind in KINDS:
        recorded, messages = read(tmp_path / "out", topic, kind)
        assert recorded == [stamp + 5_000_000 for stamp in STAMPS]
        assert [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages] == STAMPS
        assert {message.header.frame_id for message in messages} == {"camera"}
    _, clouds = read(tmp_path / "out", *KINDS[0])
    _, bodies = read(tmp_path / "out", *KINDS[1])
    _, poses = read(tmp_path / "out", *KINDS[2])
    metres = SHIFT * DISTANCE / FOCAL
    first = np.frombuffer(clouds[0].data, CLOUD_POINT)
    for index, (cloud, message, array) in enumerate(zip(clouds, bodies, poses, strict=True)):
        points = np.frombuffer(cloud.data, CLOUD_POINT)
        np.testing.assert_allclose(points["x"] - first["x"], index * metres[0], atol=0.003)
        np.testing.assert_allclose(points["z"], DISTANCE, atol=1e-4)
        (body,) = message.bodies
        assert (body.group, body.state) == (1, BodyState.TRACKED)
        motion = body.motion.translation
        np.testing.assert_allclose([motion.x, motion.y, motion.z], [*(index * metres), 0], atol=0.003)
        assert array.poses == [body.pose.pose]


def test_the_same_bag_gives_the_same_bytes(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag")
    for name in ("first", "second"):
        assert replay(bag, tmp_path / name) == 0
    for topic in ("/tracks", *TOPICS):
        first, second = (list(BagReader(tmp_path / name).messages(topic)) for name in ("first", "second"))
        assert len(first) == FRAMES
        assert first == second


def test_images_without_a_fitting_depth_image_are_counted_and_the_others_are_placed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depths = [depth_message(index, size=(10, 10) if index == 3 else (HEIGHT, WIDTH)) for index in range(FRAMES)]
    del depths[7]
    bag = make_bag(tmp_path / "bag", depths, [info_message(index, 0.0 if index == 9 else FOCAL) for index in range(12)])
    assert replay(bag, tmp_path / "out") == 0
    recorded, _ = read(tmp_path / "out", *KINDS[1])
    assert recorded == [stamp + 5_000_000 for index, stamp in enumerate(STAMPS) if index not in (3, 7, 9)]
    said = capsys.readouterr().err
    assert "The depth image has 10x10 pixels, but the tracked image 128x96: it is not registered" in said
    assert "The nearest depth image is 0.040 s" in said
    assert "focal lengths 0 and 0" in said
    assert "9 images were placed, 1 found no depth image, and of 2 the depth image or camera_info was refused" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--depth-topic", "/nothing", "--image-topic", "/camera/color/image_raw"],
            f"has no topic /nothing; choose one of {DEPTH}",
        ),
        (["--camera-info-topic", DEPTH], f"holds sensor_msgs/msg/Image on {DEPTH}; choose one of {INFO}"),
        (["--depth-tolerance", "-1"], "depth_tolerance is -1.0; use a number from 0 to 10"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert replay(make_bag(tmp_path / "bag"), tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_depth_options_need_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = make_bag(tmp_path / "bag")
    assert (
        main(["replay", str(bag), "--grid", "2", "--out", str(tmp_path / "out"), "--rectified", "--image-topic", DEPTH])
        == 2
    )
    assert "--rectified belongs to --depth-topic" in capsys.readouterr().err


def test_the_camera_info_lies_beside_its_images() -> None:
    assert camera_info_topic("/camera/depth/image_raw") == "/camera/depth/camera_info"
    assert camera_info_topic("/camera/depth/image_raw/compressedDepth") == "/camera/depth/camera_info"
    assert camera_info_topic("depth/image") == "depth/camera_info"
    assert camera_info_topic("depth") == "camera_info"
    assert camera_info_topic("/depth") == "/camera_info"
