"""The nodes `video_source` and `recorder`, and the commands that run all nodes together, as processes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

from media_files import (
    FIRST_STAMP,
    HEIGHT,
    PERIOD,
    WIDTH,
    compressed_message,
    image_message,
    moving_scene,
    write_bag,
    write_folder,
)
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import TIMEOUT, Inbox, Spinner, nanoseconds, new_namespace, ros_context, wait_until
from rosbags.rosbag2 import StoragePlugin
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from taptr_ros.msg import QueryPoints, RigidBodies, TrackedPoint, TrackedPoints

from taptr_ros.cli import main
from taptr_ros.cli.live_run import NodeFailedError, NodeProcesses
from taptr_ros.cli.outputs import free_folder
from taptr_ros.errors import SourceError
from taptr_ros.messages.images import image_to_rgb
from taptr_ros.messages.tracks import tracks_of
from taptr_ros.sources.bag_source import BagSource
from taptr_ros.sources.bags import BagReader
from taptr_ros.sources.demo_clip import demo_clip
from taptr_ros.sources.frames import Frame
from taptr_ros.sources.interfaces import TRACKED_POINTS, typestore

FRAMES = 25
LUCAS_KANADE = ["--model", "lucas_kanade"]


@pytest.fixture
def node() -> Iterator[Node]:
    """A node of this process, in a namespace of its own."""
    with ros_context() as context:
        node = Node("listener", context=context, namespace=new_namespace())
        spinner = Spinner(node, context)
        yield node
        spinner.stop()
        node.destroy_node()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(node: Node) -> Iterator[Start]:
    """Start a node of the package with parameters."""
    processes: list[subprocess.Popen[str]] = []

    def make(name: str, **parameters: Any) -> subprocess.Popen[str]:
        values = [word for key, value in parameters.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
        arguments = ["--ros-args", "-r", f"__ns:={node.get_namespace()}", *values]
        command = [sys.executable, "-m", f"taptr_ros.nodes.{name}_node", *arguments]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield make
    for process in processes:
        process.kill()
        process.communicate()


def end_of(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait until a process has ended with a status; return what it logged."""
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status, log
    assert "Traceback" not in log
    return log


def test_images_and_camera_info_have_honest_stamps(node: Node, start: Start, tmp_path: Path) -> None:
    scene = moving_scene(FRAMES)
    images, infos = Inbox(node, Image, "image", 100), Inbox(node, CameraInfo, "camera_info", 100)
    began = time.time_ns()
    process = start("video_source", source=str(write_folder(tmp_path / "images", scene)), rate=50.0, frame_id="left")
    received = [images.next() for _ in range(FRAMES)]
    for message, image in zip(received, scene, strict=True):
        info = infos.next()
        assert info.header == message.header
        assert (info.width, info.height, info.k[0], message.header.frame_id) == (WIDTH, HEIGHT, 0.0, "left")
        np.testing.assert_array_equal(image_to_rgb(message), image)
    stamps = np.array([nanoseconds(message) for message in received])
    assert began < stamps[0] < stamps[-1] < time.time_ns()
    assert np.diff(stamps).min() > 0
    assert (stamps[-1] - stamps[0]) / 1e9 > 0.95 * (FRAMES - 1) / 50.0
    assert "has ended after 25 images" in end_of(process)


def test_a_loop_goes_on_until_it_is_interrupted(node: Node, start: Start, tmp_path: Path) -> None:
    images = Inbox(node, Image, "image", 100)
    process = start(
        "video_source", source=str(write_folder(tmp_path / "images", moving_scene(3))), rate=60.0, loop=True
    )
    stamps = [nanoseconds(images.next()) for _ in range(10)]
    assert stamps == sorted(set(stamps))
    process.send_signal(signal.SIGINT)
    end_of(process)


def test_images_wait_for_those_who_want_them(node: Node, start: Start, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", moving_scene(3))
    process = start("video_source", source=str(folder), rate=100.0, subscribers=2)
    first = Inbox(node, Image, "image", 100)
    assert not first.has_one_within(3.0)
    second = Inbox(node, Image, "image", 100)
    assert [nanoseconds(first.next()) for _ in range(3)] == [nanoseconds(second.next()) for _ in range(3)]
    end_of(process)


def readable_frames(bag: Path) -> Iterator[Frame]:
    with contextlib.suppress(SourceError):
        yield from BagSource(bag, None)


def test_a_damaged_bag_is_played_up_to_the_damage(node: Node, start: Start, tmp_path: Path) -> None:
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(FRAMES))]
    bag = write_bag(tmp_path / "bag", {"/image": messages}, StoragePlugin.SQLITE3)
    raw = (bag / "bag.db3").read_bytes()
    (bag / "bag.db3").write_bytes(raw[: len(raw) * 2 // 3])
    readable = sum(1 for _ in readable_frames(bag))
    images = Inbox(node, Image, "image", 100)
    process = start("video_source", source=str(bag), speed=10.0)
    assert [nanoseconds(images.next()) for _ in range(readable)] == [FIRST_STAMP + i * PERIOD for i in range(readable)]
    assert "is damaged after" in end_of(process, status=1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"source": "missing.mp4"}, "missing.mp4 does not exist"),
        ({"camera": 63}, "There is no camera 63"),
        ({"source": "x.mp4", "rate": -1.0}, "rate"),
    ],
)
def test_a_source_that_cannot_be_ends_with_status_1(start: Start, parameters: dict[str, Any], words: str) -> None:
    assert words in end_of(start("video_source", **parameters), status=1)


def test_the_recorder_overwrites_nothing(start: Start, tmp_path: Path) -> None:
    assert "exists already; name a new folder" in end_of(start("recorder", directory=str(tmp_path)), status=1)


@pytest.mark.parametrize("directory", ["/proc/nope", "/dev/null/bag"])
def test_a_recorder_that_cannot_write_says_so(start: Start, tmp_path: Path, directory: str) -> None:
    log = end_of(start("recorder", directory=str(tmp_path / directory)), status=1)
    assert "cannot be written" in log


@pytest.mark.parametrize(
    ("topic", "kind", "reliability"),
    [
        ("image", Image, ReliabilityPolicy.RELIABLE),
        ("image", Image, ReliabilityPolicy.BEST_EFFORT),
        ("image", CompressedImage, ReliabilityPolicy.BEST_EFFORT),
        ("bodies", RigidBodies, ReliabilityPolicy.RELIABLE),
        ("tracks/points", PointCloud2, ReliabilityPolicy.RELIABLE),
    ],
)
def test_the_recorder_takes_what_is_offered_as_it_is(
    node: Node, start: Start, tmp_path: Path, topic: str, kind: type, reliability: ReliabilityPolicy
) -> None:
    process = start("recorder", directory=str(tmp_path / "bag"))
    publisher = node.create_publisher(kind, topic, QoSProfile(depth=10, reliability=reliability))
    wait_until(lambda: publisher.get_subscription_count() == 1)
    time.sleep(0.5)  # a subscription is seen before it can take what is sent with best effort
    for _ in range(5):
        publisher.publish(kind())
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    end_of(process)
    (found,) = (found for name, found in BagReader(tmp_path / "bag").topics.items() if name.endswith(f"/{topic}"))
    assert found.kind.endswith(f"/msg/{kind.__name__}")
    assert found.count == 5


def test_a_killed_recorder_has_written_all_but_the_last_moment(node: Node, start: Start, tmp_path: Path) -> None:
    process = start("recorder", directory=str(tmp_path / "bag"))
    publisher = node.create_publisher(TrackedPoints, "tracks", 10)
    wait_until(lambda: publisher.get_subscription_count() == 1)
    for second in range(5):
        publisher.publish(tracks_message(second))
    time.sleep(2.0)
    process.kill()
    process.wait()
    reader = BagReader(tmp_path / "bag")
    (topic,) = reader.topics
    messages = reader.messages(topic)
    assert [next(messages).data[4] for _ in range(5)] == [0, 1, 2, 3, 4]


def test_the_recorder_hears_a_best_effort_publisher_that_comes_after_a_reliable_one(
    node: Node, start: Start, tmp_path: Path
) -> None:
    process = start("recorder", directory=str(tmp_path / "bag"))
    first = node.create_publisher(Image, "image", QoSProfile(depth=10))
    wait_until(lambda: first.get_subscription_count() == 1)
    second = node.create_publisher(Image, "image", QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
    wait_until(lambda: second.get_subscription_count() == 1)
    time.sleep(0.5)
    second.publish(Image())
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    end_of(process)
    (count,) = (topic.count for name, topic in BagReader(tmp_path / "bag").topics.items() if name.endswith("/image"))
    assert count == 1


def tracks_message(second: int, located: int = 0) -> TrackedPoints:
    message = TrackedPoints(width=80, height=40)
    message.header.stamp.sec = second
    message.points = [TrackedPoint(state=TrackedPoint.VISIBLE) for _ in range(located)]
    return message


def test_the_grid_is_asked_for_at_first_and_when_few_points_are_located(node: Node, start: Start) -> None:
    requests = Inbox(node, QueryPoints, "query_points", 10)
    publisher = node.create_publisher(TrackedPoints, "tracks", 10)
    process = start("grid", side=2, renew_below=0.5)
    wait_until(lambda: publisher.get_subscription_count() == 1 and node.count_publishers("query_points") == 1)
    time.sleep(0.5)
    publisher.publish(tracks_message(100))
    request = requests.next()
    assert (request.mode, request.header.stamp.sec) == (QueryPoints.REPLACE, 100)
    # Cells of 40x20 pixels.
    assert [(point.x, point.y) for point in request.points] == [(19.5, 9.5), (59.5, 9.5), (19.5, 29.5), (59.5, 29.5)]
    publisher.publish(tracks_message(100))  # the answer is not there yet
    publisher.publish(tracks_message(101, located=2))
    publisher.publish(tracks_message(102, located=1))
    assert requests.next().header.stamp.sec == 102
    publisher.publish(tracks_message(5))  # a stream that went back in time
    assert requests.next().header.stamp.sec == 5
    process.send_signal(signal.SIGINT)
    end_of(process)


@pytest.mark.parametrize("content", [None, "tracker: [1, 2\n", "tracker:\n  ros__parameters:\n    a: [1, x]\n"])
def test_a_parameter_file_that_cannot_be_read_gets_one_sentence(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "parameters.yaml"
    if content is not None:
        file.write_text(content)
    for name in ("tracker", "recorder", "video_source", "grid"):
        command = [sys.executable, "-m", f"taptr_ros.nodes.{name}_node", "--ros-args", "--params-file", str(file)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        assert str(file) in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "arguments", "environment", "words"),
    [
        ("recorder", ["--nope"], {}, "ROS has no arguments ['--nope']; correct those"),
        ("recorder", ["-p", "directory:=/tmp/\udcff"], {}, "no text in UTF-8"),
        ("recorder", [], {"HOME": "", "ROS_HOME": "", "ROS_LOG_DIR": ""}, "correct HOME or ROS_LOG_DIR"),
        ("recorder", [], {"ROS_DOMAIN_ID": "seven"}, "correct the environment"),
        ("view", ["-p", "address:=1.2.3.999"], {}, "cannot listen on 1.2.3.999"),
    ],
)
def test_what_a_node_cannot_start_with_gets_one_sentence(
    name: str, arguments: list[str], environment: dict[str, str], words: str
) -> None:
    command = [sys.executable, "-m", f"taptr_ros.nodes.{name}_node", "--ros-args", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert words in ended.stderr.splitlines()[-1]


def test_a_failing_node_is_reported_with_its_log(tmp_path: Path) -> None:
    with NodeProcesses(new_namespace(), tmp_path) as processes:
        processes.start("recorder", {"directory": str(tmp_path)})
        with pytest.raises(NodeFailedError, match=r"recorder ended with status 1.*exists already"):
            wait_until(lambda: not processes.is_running("recorder"))


def test_demo_tracks_records_draws_and_reports(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = moving_scene(FRAMES)
    # A cut in the middle: another grid is asked for.
    images = write_folder(tmp_path / "images", [*scene, *(255 - image[::-1, ::-1] for image in scene)])
    out = tmp_path / "out"
    assert main(["demo", *LUCAS_KANADE, "--source", str(images), "--grid", "3", "--out", str(out)]) == 0
    printed = capfd.readouterr().out
    assert "3x3 points, model lucas_kanade" in printed
    assert "grids      2:" in printed
    # A busy machine may drop images, as a live tracker should.
    (counts,) = re.findall(r"images     (\d+) published, (\d+) tracked, (\d+) dropped", printed)
    published, tracked, dropped = map(int, counts)
    assert published == 2 * FRAMES == tracked + dropped
    assert tracked > FRAMES
    messages = [
        typestore().deserialize_cdr(data, TRACKED_POINTS)
        for _, data in BagReader(out / "bag").messages("/taptr_demo/tracks")
    ]
    tracks = [tracks_of(message) for message in messages]
    stamps = [frame.stamp for frame in BagSource(out / "bag", None)]
    assert (len(tracks), len(stamps)) == (tracked, published)
    assert {each.stamp for each in tracks} <= set(stamps)
    before = next(each for each in reversed(tracks) if each.stamp < stamps[FRAMES])
    assert (len(before.ids), len(tracks[-1].ids)) == (9, 9)
    assert not set(before.ids.tolist()) & set(tracks[-1].ids.tolist())
    video = cv2.VideoCapture(str(out / "overlay.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 2 * FRAMES
    # Its own results are no place for the next ones.
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for options in (["--out", str(out)], ["--out", str(out / "bag" / "new")]):
        assert main(["demo", *LUCAS_KANADE, "--source", str(out / "bag"), "--grid", "3", *options]) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_demo_takes_a_new_folder_for_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(free_folder("taptr_demo").name)
        free_folder("taptr_demo").mkdir()
    assert folders == ["taptr_demo", "taptr_demo_2", "taptr_demo_3"]


def test_demo_takes_a_bag_of_compressed_images_and_ends_in_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    messages = [compressed_message(index, image) for index, image in enumerate(moving_scene(100))]
    bag = write_bag(tmp_path / "bag", {"/camera/image/compressed": messages})
    out = tmp_path / "out"
    assert main(["demo", *LUCAS_KANADE, "--source", str(bag), "--grid", "3", "--out", str(out), "--seconds", "1"]) == 0
    assert "tracked" in capfd.readouterr().out
    published = BagReader(out / "bag").topics["/taptr_demo/image"]
    assert published.kind == "sensor_msgs/msg/CompressedImage"
    assert 5 < (published.count or 0) < 100


def test_latency_counts_images_and_reports_percentiles(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "latency.json"
    options = ["--points", "5", "--image-size", "240x320", "--rate", "20", "--seconds", "3", "--json", str(file)]
    looking = ["--view"] if importlib.util.find_spec("aiohttp") else []
    assert main(["latency", *options, *looking]) == 0
    report = json.loads(file.read_text())
    if looking:
        assert 0 < report["view_images"] <= report["images_sent"]
        assert 0.0 < report["view_processor_share"] < 1.0
    assert report["points"] == 5
    assert 0 < report["images_tracked"] <= report["images_sent"] <= 70
    for times in report["milliseconds"].values():
        assert 0.0 < times["p50"] <= times["p95"] <= times["p99"]
    assert "5 points, model lucas_kanade" in capfd.readouterr().out


def test_a_clip_that_cannot_be_had_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SourceError, match=r"cannot be downloaded .*; name a video with --source"):
        demo_clip()
    assert list((tmp_path / "taptr_ros").iterdir()) == []
