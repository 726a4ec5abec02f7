"""Videos, folders and bags of a textured scene that moves by a known amount, written for the tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

HEIGHT, WIDTH = 96, 128
SHIFT = np.array([2.0, 1.0])
"""Pixels (x, y) by which everything in the scene moves from one frame to the next."""
PERIOD = 40_000_000
"""Nanoseconds between the frames of a video or a bag: 25 per second."""
FIRST_STAMP = 1_700_000_000_123_456_789
"""Stamp of a bag's first header."""

TYPES = get_typestore(Stores.ROS2_HUMBLE)
Image = TYPES.types["sensor_msgs/msg/Image"]
CompressedImage = TYPES.types["sensor_msgs/msg/CompressedImage"]
Header = TYPES.types["std_msgs/msg/Header"]
Time = TYPES.types["builtin_interfaces/msg/Time"]


def moving_scene(frames: int) -> list[NDArray[np.uint8]]:
    """Frames uint8 [HEIGHT,WIDTH,3] RGB of a smooth random texture that moves by SHIFT."""
    generator = np.random.default_rng(3)
    room = (SHIFT * frames).astype(int)
    noise = generator.standard_normal((HEIGHT + room[1], WIDTH + room[0])).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 2.0)
    texture /= texture.std()
    texture = np.stack([160 + 40 * texture, 120 + 40 * texture, 80 + 30 * texture], axis=-1)
    texture = np.clip(texture, 0, 255).astype(np.uint8)
    starts = [(room - SHIFT * frame).astype(int) for frame in range(frames)]
    return [texture[y : y + HEIGHT, x : x + WIDTH].copy() for x, y in starts]


def write_video(path: Path, images: list[NDArray[np.uint8]]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 1e9 / PERIOD, images[0].shape[1::-1])
    for image in images:
        writer.write(image[..., ::-1])
    writer.release()
    return path


def write_folder(path: Path, images: list[NDArray[np.uint8]]) -> Path:
    path.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(path / f"{index:03d}.png"), image[..., ::-1])
    return path


def write_bag(path: Path, topics: dict[str, list[object]], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Write messages under their topics; message i of each is recorded 5 ms after the stamp of frame i."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        for topic, messages in topics.items():
            kind = messages[0].__msgtype__
            connection = writer.add_connection(topic, kind, typestore=TYPES)
            for index, message in enumerate(messages):
                recorded = FIRST_STAMP + index * PERIOD + 5_000_000
                writer.write(connection, recorded, TYPES.serialize_cdr(message, kind))
    return path


def header(index: int) -> object:
    seconds, nanoseconds = divmod(FIRST_STAMP + index * PERIOD, 1_000_000_000)
    return Header(Time(seconds, nanoseconds), "camera")


def image_message(index: int, image: NDArray[np.uint8]) -> object:
    """A bgr8 Image with 4 bytes of padding per row."""
    rows = np.pad(image[..., ::-1].reshape(len(image), -1), ((0, 0), (0, 4)))
    return Image(header(index), image.shape[0], image.shape[1], "bgr8", 0, rows.shape[1], rows.reshape(-1))


def compressed_message(index: int, image: NDArray[np.uint8]) -> object:
    return CompressedImage(header(index), "png", cv2.imencode(".png", image[..., ::-1])[1].reshape(-1))
