"""The node `depth` in a process of its own, beside a real tracker, with a simulated RGB-D camera."""

from __future__ import annotations

import array
import contextlib
import dataclasses
import json
import os
import queue
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from ros_graph import (
    TIMEOUT,
    Inbox,
    Spinner,
    header,
    nanoseconds,
    new_namespace,
    ros_context,
    until_timeout,
    wait_until,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from streams import HEIGHT, WIDTH, stamp, view
from taptr_ros.msg import QueryPoint, QueryPoints, RigidBodies, RigidBody

from taptr_ros.messages.clouds import CLOUD_POINT
from taptr_ros.messages.ros import rgb_image

FOCAL, DISTANCE = 150.0, 1.0
"""Pixels, and metres from the camera to the picture that it sees."""

SPEED = np.array([-1.5, -0.5])
"""Pixels per frame by which the picture moves."""

POINTS = np.stack(np.meshgrid([60.5, 90.25, 120.0], [40.0, 60.5, 80.75]), axis=-1).reshape(-1, 2)

Start = Callable[..., "subprocess.Popen[str]"]


@dataclasses.dataclass
class Camera:
    """A depth camera that looks straight at a picture, and those who listen to what becomes of it."""

    node: Node
    compressed: bool = False

    def __post_init__(self) -> None:
        node = self.node
        self._image = node.create_publisher(Image, "image", 10)
        kind = CompressedImage if self.compressed else Image
        self._depth = node.create_publisher(kind, "depth", 10)
        self._info = node.create_publisher(CameraInfo, "camera_info", 10)
        self.first = 0
        """Frame from which on the picture moves; before, it stands still while the nodes find each other."""
        self._queries = node.create_publisher(QueryPoints, "query_points", 10)
        self.points = Inbox(node, PointCloud2, "tracks/points", 1000)
        self.bodies = Inbox(node, RigidBodies, "bodies", 1000)
        self.poses = Inbox(node, PoseArray, "bodies/poses", 1000)

    def depth_message(self, number: int, depth: np.ndarray, frame_id: str | None = None) -> Any:
        """A depth image of uint16 millimetres or float32 metres."""
        head = header(stamp(number))
        head.frame_id = frame_id or head.frame_id
        encoding = "16UC1" if depth.dtype == np.uint16 else "32FC1"
        if self.compressed:
            data = struct.pack("<iff", 0, 0.0, 0.0) + cv2.imencode(".png", depth)[1].tobytes()
            return CompressedImage(header=head, format=f"{encoding}; compressedDepth png", data=data)
        data = array.array("B", depth.tobytes())
        height, width = depth.shape
        step = width * depth.itemsize
        return Image(header=head, height=height, width=width, encoding=encoding, step=step, data=data)

    def info_message(self, number: int, focal: float = FOCAL) -> CameraInfo:
        k = [focal, 0.0, (WIDTH - 1) / 2, 0.0, focal, (HEIGHT - 1) / 2, 0.0, 0.0, 1.0]
        distortion = {"distortion_model": "plumb_bob", "d": [0.0] * 5}
        return CameraInfo(header=header(stamp(number)), width=WIDTH, height=HEIGHT, k=k, **distortion)

    def send(self, number: int, depth: Any = None, info: Any = None) -> None:
        """Publish a frame; nodes that are only just connected may miss it."""
        self._info.publish(info if info is not None else self.info_message(number))
        plain = np.full((HEIGHT, WIDTH), round(1000 * DISTANCE), np.uint16)
        self._depth.publish(self.depth_message(number, plain) if depth is None else depth)
        self._image.publish(rgb_image(view(self.moved(number)), header(stamp(number))))

    def moved(self, number: int) -> int:
        """Frames of motion until a frame."""
        return max(number - self.first, 0) if self.first else 0

    def connect(self) -> None:
        """Wait until all nodes hear each other, then choose the points and wait until their body has begun."""
        publishers = (self._image, self._depth, self._info, self._queries)
        wait_until(lambda: all(publisher.get_subscription_count() for publisher in publishers))
        numbers = until_timeout()
        for number in numbers:
            self.send(number)
            if self.points.has_one_within(0.3):
                break
        query = QueryPoints()  # in the newest image
        query.points = [QueryPoint(group=7, x=float(x), y=float(y)) for x, y in POINTS]
        self._queries.publish(query)
        for number in numbers:
            self.send(number)
            if self.bodies.next(lambda message, sent=number: nanoseconds(message) == stamp(sent)).bodies:
                break
        self.first = number
        for inbox in (self.points, self.bodies, self.poses):
            inbox.drain()

    def frame(self, number: int, **sent: Any) -> tuple[Any, Any]:
        """Send a frame and return its points and bodies; what is lost on its way is sent again."""
        wanted = lambda message: nanoseconds(message) == stamp(number)  # noqa: E731
        for _ in range(3):
            self.send(number, **sent)
            with contextlib.suppress(queue.Empty):
                return self.points.next(wanted, TIMEOUT / 3), self.bodies.next(wanted)
        raise AssertionError(f"no points came of frame {number}")


@pytest.fixture
def node() -> Iterator[Node]:
    with ros_context() as context:
        node = Node("camera", context=context, namespace=new_namespace())
        spinner = Spinner(node, context)
        yield node
        spinner.stop()
        node.destroy_node()


@pytest.fixture
def start(node: Node) -> Iterator[Start]:
    """Start a node of the package with parameters, and end it afterwards as a user does."""
    processes: list[subprocess.Popen[str]] = []

    def make(name: str, **parameters: Any) -> subprocess.Popen[str]:
        values = [word for key, value in parameters.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
        command = [sys.executable, "-m", f"taptr_ros.nodes.{name}_node", "--ros-args"]
        command += ["-r", f"__ns:={node.get_namespace()}", *values]
        environment = os.environ | {"RCUTILS_LOGGING_BUFFERED_STREAM": "0"}
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
        return processes[-1]

    yield make
    for process in processes:
        process.kill()
        process.communicate()


def end_of(process: subprocess.Popen[str], status: int = 0) -> str:
    """Interrupt a process and return what it logged."""
    if process.poll() is None and status == 0:
        process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status, log
    assert "Traceback" not in log
    return log


def start_both(start: Start, **parameters: Any) -> subprocess.Popen[str]:
    start("tracker", model="lucas_kanade", every_frame=True)
    return start("depth", **parameters)


def cloud_of(message: PointCloud2) -> np.ndarray:
    return np.frombuffer(message.data, CLOUD_POINT)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_depth_camera_gives_points_in_metres_and_the_motion_of_the_body(
    node: Node, start: Start, compressed: bool
) -> None:
    process = start_both(start, compressed=compressed)
    camera = Camera(node, compressed)
    camera.connect()
    first = camera.first
    for number in range(first + 1, first + 11):
        points, bodies = camera.frame(number)
        assert points.header == bodies.header == header(stamp(number))
        assert [field.name for field in points.fields[:3]] == ["x", "y", "z"]
        cloud = cloud_of(points)
        assert cloud["group"].tolist() == [7] * len(POINTS)
        true = (POINTS + camera.moved(number) * SPEED - (np.array([WIDTH, HEIGHT]) - 1) / 2) * DISTANCE / FOCAL
        np.testing.assert_allclose(np.stack([cloud["x"], cloud["y"]], axis=1), true, atol=0.003)
        np.testing.assert_allclose(cloud["z"], DISTANCE, atol=1e-4)
        (body,) = bodies.bodies
        assert (body.group, body.state, body.points, body.inliers) == (7, RigidBody.TRACKED, 9, 9)
        assert body.residual_mm < 3.0
        assert body.pose.pose.orientation.w == pytest.approx(1.0, abs=1e-3)
        assert np.isfinite(body.pose.covariance).all()
    motion = body.motion.translation
    np.testing.assert_allclose([motion.x, motion.y, motion.z], [*(10 * SPEED * DISTANCE / FOCAL), 0.0], atol=0.002)
    seconds = 33e-3
    np.testing.assert_allclose(body.twist.linear.x, SPEED[0] * DISTANCE / FOCAL / seconds, rtol=0.1)
    assert [pose.position for pose in camera.poses.next(lambda m: m.header == bodies.header).poses] == [
        body.pose.pose.position
    ]
    end_of(process)


def test_bad_input_costs_its_frame_and_is_said_in_a_sentence(node: Node, start: Start) -> None:
    """Sizes, frames, NaN, a camera that changes, stamps that never match: the stream goes on after each of them."""
    process = start_both(start, depth_tolerance=0.005)
    camera = Camera(node)
    camera.connect()
    number = camera.first + 1
    diagnostics = Inbox(node, DiagnosticArray, "/diagnostics", 100)
    good = np.full((HEIGHT, WIDTH), DISTANCE, np.float32)
    refused = {
        "has 80x60 pixels, but the tracked image 160x120": camera.depth_message(0, good[::2, ::2].copy()),
        "frame_id is 'depth_frame'": camera.depth_message(0, good, "depth_frame"),
        "encoding is 'rgb8'": Image(header=header(0), height=1, width=1, encoding="rgb8", step=3, data=[0, 0, 0]),
    }
    for message in refused.values():
        message.header.stamp = header(stamp(number)).stamp
        camera.send(number, depth=message)
        points, _ = camera.frame(number + 1)
        assert nanoseconds(points) == stamp(number + 1)
        number += 2
    # Nothing but NaN: the points say so, and the body is solved from pixels, with its shape.
    points, bodies = camera.frame(number, depth=camera.depth_message(number, np.full_like(good, np.nan)))
    assert np.isnan(cloud_of(points)["z"]).all()
    assert bodies.bodies[0].state in (RigidBody.TRACKED, RigidBody.ON_A_LINE)
    # A camera that zooms. Topics are not in step: the image may come before its CameraInfo, the next one will not.
    for zoomed in (number + 1, number + 2):
        points, _ = camera.frame(zoomed, info=camera.info_message(zoomed, 2 * FOCAL))
    assert np.ptp(cloud_of(points)["x"]) == pytest.approx(59.5 / (2 * FOCAL), abs=0.01)
    number += 1
    # A depth image whose stamp is of another time.
    late = camera.depth_message(number + 2, good)
    late.header.stamp = header(stamp(number + 2) - 15_000_000).stamp
    camera.send(number + 2, depth=late)
    camera.frame(number + 3)
    # Frames from before the nodes had found each other may count, too.
    wanted = {"images whose depth or camera_info was refused": 3, "images without a depth image": 1}
    diagnostics.next(lambda message: all(int(_values(message).get(key, 0)) >= least for key, least in wanted.items()))
    said = end_of(process)
    for words in (*refused, "camera_info has changed in mid-stream", "depth_image_proc"):
        assert words in said


def _values(message: DiagnosticArray) -> dict[str, str]:
    """What the node says on /diagnostics; nothing if another one says it."""
    return {
        pair.key: pair.value
        for status in message.status
        if status.name.endswith("depth: bodies")
        for pair in status.values
    }


def test_markers_show_the_axes_of_tracked_bodies(node: Node, start: Start) -> None:
    pytest.importorskip("visualization_msgs")
    from visualization_msgs.msg import Marker, MarkerArray

    inbox = Inbox(node, MarkerArray, "bodies/markers", 100)
    process = start_both(start)
    camera = Camera(node)
    camera.connect()
    camera.frame(camera.first + 1)
    shown = inbox.next(lambda message: len(message.markers) > 1)
    clear, axes, name = shown.markers
    assert (clear.action, axes.type, name.text) == (Marker.DELETEALL, Marker.LINE_LIST, "7")
    assert len(axes.points) == len(axes.colors) == 6
    end_of(process)


def test_transforms_need_tf2_and_are_off_without_being_asked_for(node: Node, start: Start) -> None:
    try:
        import tf2_msgs.msg as tf2
    except ImportError:
        log = end_of(start("depth", transforms=True), status=1)
        assert "transforms is true, but tf2_msgs is not installed" in log
        return
    inbox = Inbox(node, tf2.TFMessage, "/tf", 100)
    process = start_both(start, transforms=True, frame_prefix="thing_")
    camera = Camera(node)
    camera.connect()
    camera.frame(camera.first + 1)
    (transform,) = inbox.next().transforms
    assert transform.child_frame_id == "thing_7"
    assert transform.header.frame_id == header(0).frame_id
    end_of(process)
