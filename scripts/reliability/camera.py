"""A camera's process: images of the moving scene, stamped with the system's time or with a clock that steps."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from reliability import scene
from taptr_ros.messages.ros import rgb_image, time_message


def run(rate: float, clock: Path | None, *, compressed: bool, reliable: bool) -> None:
    """Publish until the process is ended. `clock` is a file with the nanoseconds by which the camera's clock is off."""
    rclpy.init(args=["--ros-args", "-r", "__ns:=/chaos"])
    node = Node("camera")
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    publisher = node.create_publisher(
        CompressedImage if compressed else Image, "image", QoSProfile(depth=5, reliability=reliability)
    )
    due = time.monotonic()
    while rclpy.ok():
        stamp = time.time_ns() + (int(clock.read_text() or 0) if clock else 0)
        header = Header(stamp=time_message(stamp), frame_id="camera")
        image = scene.view(stamp / 1e9)
        if compressed:
            data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
            publisher.publish(CompressedImage(header=header, format="jpeg", data=data))
        else:
            publisher.publish(rgb_image(image, header))
        due = max(due + 1.0 / rate, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0.0)
