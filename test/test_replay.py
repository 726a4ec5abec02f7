"""`taptr replay`: tracks into a bag, to the bit the same every time, or images into the graph."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_files import (
    FIRST_STAMP,
    PERIOD,
    SHIFT,
    compressed_message,
    image_message,
    moving_scene,
    write_bag,
    write_video,
)
from rosbags.rosbag2 import StoragePlugin

from taptr_ros.cli import main
from taptr_ros.messages.tracks import tracks_of
from taptr_ros.sources.bags import BagReader
from taptr_ros.sources.interfaces import TRACKED_POINTS, typestore
from taptr_ros.tracking.states import Tracks, TrackState

FRAMES = 30
LUCAS_KANADE = ["--model", "lucas_kanade"]
START = np.array([[20.5, 15.25], [40.0, 30.0]])
POINTS = ["--points", ";".join(f"{x},{y}" for x, y in START)]
STAMPS = [FIRST_STAMP + index * PERIOD for index in range(FRAMES)]


def make_bag(path: Path, storage: StoragePlugin = StoragePlugin.MCAP, *, compressed: bool = False) -> Path:
    make: Any = compressed_message if compressed else image_message
    messages = [make(index, image) for index, image in enumerate(moving_scene(FRAMES))]
    return write_bag(path, {"/camera/image": messages}, storage)


def replay(bag: Path, out: Path, *options: str) -> int:
    return main(["replay", str(bag), *POINTS, *LUCAS_KANADE, "--out", str(out), "--quiet", *options])


def read(bag: Path, topic: str = "/tracks") -> tuple[list[int], list[Any]]:
    """The times of recording and the messages of a bag of tracks."""
    recorded = list(BagReader(bag).messages(topic))
    messages = [typestore().deserialize_cdr(message.data, TRACKED_POINTS) for message in recorded]
    return [message.recorded for message in recorded], messages


def assert_same_tracks(left: Sequence[Tracks], right: Sequence[Tracks]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for field in dataclasses.fields(Tracks):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("storage", StoragePlugin)
@pytest.mark.parametrize("compressed", [False, True])
def test_every_image_gives_tracks_on_its_own_stamp(tmp_path: Path, storage: StoragePlugin, compressed: bool) -> None:
    bag = make_bag(tmp_path / "bag", storage, compressed=compressed)
    assert replay(bag, tmp_path / "out", "--tracks-topic", "/robot/tracks") == 0
    recorded, messages = read(tmp_path / "out", "/robot/tracks")
    assert recorded == [stamp + 5_000_000 for stamp in STAMPS]
    assert [tracks_of(message).stamp for message in messages] == STAMPS
    assert {message.header.frame_id for message in messages} == {"camera"}
    for index, tracks in enumerate(map(tracks_of, messages)):
        assert tracks.ids.tolist() == [1, 2]
        np.testing.assert_allclose(tracks.xy, START + index * SHIFT, atol=0.3)


def test_the_same_bag_gives_the_same_bytes(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag")
    for name in ("first", "second"):
        assert replay(bag, tmp_path / name) == 0
    first, second = (list(BagReader(tmp_path / name).messages("/tracks")) for name in ("first", "second"))
    assert first == second


def test_the_same_bag_gives_the_same_bytes_with_a_network(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tiny_network import tiny_config, tiny_weights

    from taptr_ros.model.files import save_model

    bag = make_bag(tmp_path / "bag")
    model = tmp_path / "tiny.safetensors"
    save_model(model, tiny_config(), tiny_weights(tiny_config()))
    for name in ("first", "second"):
        options = ["--model", str(model), "--threads", "1", "--out", str(tmp_path / name), "--quiet"]
        assert main(["replay", str(bag), *POINTS, *options]) == 0
    first, second = (list(BagReader(tmp_path / name).messages("/tracks")) for name in ("first", "second"))
    assert len(first) == FRAMES
    assert first == second


def test_a_truncated_bag_gives_the_tracks_before_the_cut_and_one_sentence(tmp_path: Path, capfd: Any) -> None:
    bag = make_bag(tmp_path / "bag", StoragePlugin.SQLITE3)
    assert replay(bag, tmp_path / "whole") == 0
    path = bag / "bag.db3"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(0.6 * len(raw))])
    assert replay(bag, tmp_path / "out") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "is damaged after" in error
    whole, part = (read(tmp_path / name)[1] for name in ("whole", "out"))
    assert FRAMES // 3 < len(part) < FRAMES
    assert_same_tracks(list(map(tracks_of, part)), list(map(tracks_of, whole[: len(part)])))


def test_an_interrupt_leaves_a_complete_bag_of_what_was_tracked(tmp_path: Path) -> None:
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(60))]
    bag = write_bag(tmp_path / "bag", {"/image": messages})
    # The interrupt comes in the middle, whatever the machine: from a model that sends it.
    program = (
        "import os, signal, sys; from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend as backend\n"
        "from taptr_ros.cli import main; encode, calls = backend.encode, []\n"
        "def interrupting(self, image):\n"
        "    calls.append(None)\n"
        "    if len(calls) == 20: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return encode(self, image)\n"
        "backend.encode = interrupting\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["replay", str(bag), *POINTS, *LUCAS_KANADE, "--out", str(tmp_path / "out")]
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "taptr: interrupted.\n")
    _, tracked = read(tmp_path / "out")
    assert 15 <= len(tracked) <= 20


def test_an_image_twice_is_left_out_and_a_jump_back_begins_a_new_stream(tmp_path: Path, capfd: Any) -> None:
    scene = moving_scene(4)
    # In 25ths of a second: one image twice, one that is late, then a jump back by two seconds, whose
    # first image is doubted.
    order = [50, 51, 51, 52, 50, 2, 3, 4]
    bag = write_bag(tmp_path / "bag", {"/image": [image_message(index, scene[index % 4]) for index in order]})
    assert replay(bag, tmp_path / "out") == 0
    _, messages = read(tmp_path / "out")
    assert [len(message.points) for message in messages] == [2, 2, 2, 0, 0]
    assert [message.stream for message in messages] == [1, 1, 1, 2, 2]
    error = capfd.readouterr().err
    assert error.count("An image was left out") == 1
    assert "3 images were left out" in error
    # `taptr track` decides alike.
    npz = tmp_path / "tracks.npz"
    assert main(["track", str(bag), *POINTS, *LUCAS_KANADE, "--out", str(npz), "--quiet"]) == 0
    assert capfd.readouterr().err == error
    with np.load(npz) as tracks:
        assert (tracks["state"] != TrackState.LOST).sum(axis=1).tolist() == [2, 2, 2, 0, 0]
    assert "jumped back" in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (LUCAS_KANADE, "Neither --out nor --publish"),
        ([*LUCAS_KANADE, "--out", "out"], "use --points, --grid, --boxes or --mask"),
        ([*LUCAS_KANADE, "--out", "out", "--grid", "2", "--rate", "2"], "belong to --publish"),
        ([*LUCAS_KANADE, "--out", "bag", "--grid", "2"], "exists already"),
        ([*LUCAS_KANADE, "--out", "out", "--grid", "2", "--image-topic", "/none"], "has no topic /none"),
        (["--publish", "--grid", "2"], "leave out --grid"),
    ],
)
def test_mistakes_get_one_sentence_and_status_2(
    tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_bag(Path("bag"))
    assert main(["replay", "bag", *options]) == 2
    error = capfd.readouterr().err
    assert error.startswith("taptr: ")
    assert error.count("\n") == 1
    assert words in error


def test_a_video_is_not_a_bag(tmp_path: Path, capfd: Any) -> None:
    video = write_video(tmp_path / "clip.avi", moving_scene(2))
    assert main(["replay", str(video), *POINTS, *LUCAS_KANADE, "--out", str(tmp_path / "out")]) == 2
    assert "is not a rosbag2; use taptr track" in capfd.readouterr().err


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")
    from ros_graph import Client, new_namespace, ros_context

    with ros_context() as context:
        client = Client(context, new_namespace(), compressed=getattr(request, "param", False))
        yield client
        client.close()


def publish(bag: Path, namespace: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taptr_ros", "replay", str(bag), "--publish", *options]
    ros_arguments = ["--ros-args", "-r", f"__ns:={namespace}"]
    return subprocess.Popen([*command, *ros_arguments], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("client", [True], indirect=True)
def test_published_images_are_those_of_the_bag(tmp_path: Path, client: Any) -> None:
    from ros_graph import Inbox
    from sensor_msgs.msg import CompressedImage

    bag = make_bag(tmp_path / "bag", compressed=True)
    images = Inbox(client.node, CompressedImage, "image", 100)
    process = publish(bag, client.node.get_namespace(), "--rate", "3")
    received = [images.next() for _ in range(FRAMES)]
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    sent = [
        typestore().deserialize_cdr(message.data, "sensor_msgs/msg/CompressedImage")
        for message in BagReader(bag).messages("/camera/image")
    ]
    for message, original in zip(received, sent, strict=True):
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (
            original.header.stamp.sec,
            original.header.stamp.nanosec,
        )
        assert bytes(message.data) == original.data.tobytes()


def test_a_node_tracks_a_published_bag_exactly_as_replay_does(tmp_path: Path, client: Any) -> None:
    from taptr_ros.cli.live_run import NodeProcesses

    bag = make_bag(tmp_path / "bag")
    assert replay(bag, tmp_path / "out") == 0
    namespace = client.node.get_namespace()
    with NodeProcesses(namespace, tmp_path) as processes:
        processes.start("tracker", {"every_frame": True, "model": "lucas_kanade"})
        assert list(client.add(START).ids) == [1, 2]
        process = publish(bag, namespace, "--rate", "4")
        received = [client.tracks.next() for _ in range(FRAMES)]
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
        processes.stop_all()
    assert_same_tracks([tracks_of(message) for message in received], [tracks_of(m) for m in read(tmp_path / "out")[1]])


def test_playing_in_a_loop_ends_with_status_0_when_interrupted(tmp_path: Path, client: Any) -> None:
    from ros_graph import Inbox
    from sensor_msgs.msg import Image

    images = Inbox(client.node, Image, "image", 100)
    process = publish(make_bag(tmp_path / "bag"), client.node.get_namespace(), "--rate", "50", "--loop")
    for _ in range(2 * FRAMES + 1):
        images.next()
    os.kill(process.pid, signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "Traceback" not in log
