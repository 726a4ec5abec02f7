"""Mutated tracks, depth images and CameraInfo for the node `depth`, given to the functions that take them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import rclpy
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from taptr_ros.msg import TrackedPoint, TrackedPoints

from reliability import scene
from reliability.fuzz_nodes import Give, mutate_header
from reliability.mutators import Generator, mutated, odd_float, odd_integer, odd_text
from taptr_ros.messages.ros import time_message
from taptr_ros.nodes.depth_node import DepthNode

PERIOD = 33_000_000
"""Nanoseconds between two images."""
GOOD_FRAMES = 4
"""Images of the good stream."""
FOCAL = 150.0
"""Of the camera, in pixels."""
HEAD = bytes(12)
"""What a message of compressedDepth has before its PNG file."""


class FuzzedDepth:
    """A node `depth` in this process, and what publishers can send it."""

    def __init__(self, *, compressed: bool) -> None:
        rclpy.init(args=["--ros-args", "--log-level", "FATAL"])
        self._node = DepthNode(parameter_overrides=[Parameter("compressed", value=compressed)])
        self._topics: dict[str, Callable[[bytes], None]] = {
            entry.topic_name.rsplit("/", 1)[-1]: entry.callback for entry in self._node.subscriptions
        }
        self._compressed = compressed
        self._stamp = 10**18
        self._stream = 0
        self.targets: dict[str, Give] = (
            {"compressed depth images": self._give_depth}
            if compressed
            else {
                "depth images": self._give_depth,
                "camera_info": self._give_camera_info,
                "tracks of a tracker": self._give_tracks,
            }
        )

    def good_stream(self) -> list[float]:
        """Place eight points of one body in a good stream; return their numbers and the body's."""
        self._stream += 1
        numbers: list[float] = []
        for frame in range(GOOD_FRAMES):
            self._stamp += PERIOD
            self._send("camera_info", self._camera_info())
            self._send("depth", self._depth(1000 + frame))
            self._send("tracks", self._tracks(scene.points(3)[:8] + frame))
            placed = self._node._last
            assert placed is not None
            assert placed.lifted.tracks.stamp == self._stamp
            numbers += placed.lifted.xyz.ravel().tolist()
            numbers += [value for body in placed.bodies for value in (*body.pose.translation, float(body.state))]
        return numbers

    def close(self) -> None:
        """End the node."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _send(self, topic: str, message: object) -> None:
        self._topics[topic](serialize_message(message))

    def _header(self) -> Header:
        return Header(stamp=time_message(self._stamp), frame_id="camera")

    def _camera_info(self) -> CameraInfo:
        info = CameraInfo(header=self._header(), width=scene.WIDTH, height=scene.HEIGHT)
        info.distortion_model, info.d = "plumb_bob", [0.01, 0.0, 0.0, 0.0, 0.0]
        info.k = [FOCAL, 0.0, scene.WIDTH / 2, 0.0, FOCAL, scene.HEIGHT / 2, 0.0, 0.0, 1.0]
        return info

    def _depth(self, millimetres: int) -> Image | CompressedImage:
        columns, rows = np.meshgrid(np.arange(scene.WIDTH), np.arange(scene.HEIGHT))
        values = (millimetres + 100 * np.hypot(columns - 80, rows - 60) / 100).astype(np.uint16)
        if self._compressed:
            data = HEAD + cv2.imencode(".png", values)[1].tobytes()
            return CompressedImage(header=self._header(), format="16UC1; compressedDepth png", data=data)
        message = Image(header=self._header(), height=scene.HEIGHT, width=scene.WIDTH, encoding="16UC1")
        message.step, message.data = 2 * scene.WIDTH, values.tobytes()
        return message

    def _tracks(self, xy: np.ndarray) -> TrackedPoints:
        message = TrackedPoints(header=self._header(), width=scene.WIDTH, height=scene.HEIGHT, stream=self._stream)
        message.points = [
            TrackedPoint(id=row + 1, group=1, x=float(x), y=float(y), visibility=1.0, confidence=1.0)
            for row, (x, y) in enumerate(xy)
        ]
        return message

    def _give_depth(self, rng: Generator) -> bool:
        self._advance(rng)
        message = self._depth(1000)
        if rng.random() < 0.3:
            mutate_header(message.header, rng)
        if rng.random() < 0.5 and isinstance(message, Image):
            message.height, message.width = (odd_integer(rng, 0, 2**32 - 1) for _ in range(2))
        if rng.random() < 0.3 and isinstance(message, Image):
            message.encoding, message.step = odd_text(rng, "32FC1"), odd_integer(rng, 0, 2**32 - 1)
        if rng.random() < 0.3 and isinstance(message, CompressedImage):
            message.format = odd_text(rng, "32FC1; compressedDepth png").replace("\0", "")
        data = serialize_message(message)
        self._topics["depth"](mutated(data, rng) if rng.random() < 0.5 else data)
        return self._placed()

    def _give_camera_info(self, rng: Generator) -> bool:
        self._advance(rng)
        message = self._camera_info()
        for _ in range(int(rng.integers(1, 4))):
            field = rng.integers(7)
            if field == 0:
                message.k = [odd_float(rng, FOCAL) for _ in range(9)]
            elif field == 1:
                message.d = [odd_float(rng, 0.1) for _ in range(int(rng.integers(10)))]
            elif field == 2:
                message.distortion_model = odd_text(rng, "equidistant").replace("\0", "")
            elif field == 3:
                message.width, message.height = (odd_integer(rng, 0, 2**32 - 1) for _ in range(2))
            elif field == 4:
                message.binning_x, message.binning_y = (odd_integer(rng, 0, 2**32 - 1) for _ in range(2))
            elif field == 5:
                message.roi.x_offset, message.roi.width = (odd_integer(rng, 0, 2**32 - 1) for _ in range(2))
            else:
                mutate_header(message.header, rng)
        data = serialize_message(message)
        self._topics["camera_info"](mutated(data, rng) if rng.random() < 0.3 else data)
        self._send("depth", self._depth(1000))
        return self._placed()

    def _give_tracks(self, rng: Generator) -> bool:
        self._advance(rng)
        self._send("depth", self._depth(1000))
        message = self._tracks(scene.points(3)[: int(rng.integers(9))])
        for point in message.points:
            if rng.random() < 0.3:
                point.x, point.y = odd_float(rng, 80.0), odd_float(rng, 60.0)
            if rng.random() < 0.2:
                point.id, point.group = odd_integer(rng, 0, 2**64 - 1), odd_integer(rng, 0, 2**32 - 1)
            if rng.random() < 0.2:
                point.state = odd_integer(rng, 0, 255)
        if rng.random() < 0.3:
            mutate_header(message.header, rng)
        if rng.random() < 0.3:
            message.width, message.height = (odd_integer(rng, 0, 2**32 - 1) for _ in range(2))
        data = serialize_message(message)
        self._topics["tracks"](mutated(data, rng) if rng.random() < 0.3 else data)
        return self._is_placed()

    def _advance(self, rng: Generator) -> None:
        """Go on to the next image; sometimes a new stream begins there."""
        self._stamp += PERIOD
        if rng.random() < 0.01:
            self._stream += 1

    def _placed(self) -> bool:
        """Send good tracks; return whether they were placed."""
        self._send("tracks", self._tracks(scene.points(3)[:8]))
        return self._is_placed()

    def _is_placed(self) -> bool:
        """Return whether the newest image was placed."""
        return self._node._last is not None and self._node._last.lifted.tracks.stamp == self._stamp
