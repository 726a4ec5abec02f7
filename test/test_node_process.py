"""The node `tracker` in a process of its own, reached through the middleware only."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

from rclpy.context import Context
from ros_graph import FRAME_ID, TIMEOUT, Client, nanoseconds, new_namespace, ros_context, until_timeout
from streams import stamp, true_position, view

from taptr_ros.nodes.process import IMAGE_TRANSPORT, TRANSPORT_VARIABLE

POINTS = [(100.0, 90.0), (60.25, 50.0), (130.0, 60.5)]


@pytest.fixture
def context() -> Iterator[Context]:
    with ros_context() as context:
        yield context


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the tracker with ROS arguments."""
    processes: list[subprocess.Popen[str]] = []

    def make(*arguments: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "taptr_ros.nodes.tracker_node", "--ros-args", *arguments],
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield make
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def client(context: Context) -> Iterator[Client]:
    client = Client(context, new_namespace())
    yield client
    client.close()


def test_tracks_arrive_with_header_ids_and_order_and_sigint_ends_with_status_0(
    client: Client, start: Callable[..., Any]
) -> None:
    process = start("-r", f"__ns:={client.node.get_namespace()}", "-p", "capacity:=8")
    client.connect()
    assert list(client.add(POINTS, ids=[30, 20, 10]).ids) == [30, 20, 10]
    for number in range(5):
        tracks = client.frame(number)
        assert (tracks.header.frame_id, nanoseconds(tracks)) == (FRAME_ID, stamp(number))
        assert [point.id for point in tracks.points] == [30, 20, 10]
        found = np.array([(point.x, point.y) for point in tracks.points])
        np.testing.assert_allclose(found, true_position(np.array(POINTS), number), atol=0.5)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, log
    assert "Traceback" not in log


def test_sigterm_ends_with_status_0_while_images_stream(client: Client, start: Callable[..., Any]) -> None:
    process = start("-r", f"__ns:={client.node.get_namespace()}")
    client.connect()
    client.add(POINTS)
    client.frame(0)
    process.send_signal(signal.SIGTERM)
    for number in until_timeout():
        client.send(view(0), stamp(1 + number))
        if process.poll() is not None:
            break
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("setting", "words"),
    [("capacity:=0", "capacity"), ("match_gate:=high", "match_gate"), ("every_frame:=3", "every_frame")],
)
def test_a_parameter_that_cannot_be_ends_with_one_line_and_status_1(
    start: Callable[..., Any], setting: str, words: str
) -> None:
    process = start("-p", setting)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, log
    assert words in log
    assert "Traceback" not in log


@pytest.mark.parametrize("named", [None, "UDPv4"])
def test_a_process_takes_the_transport_for_images_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    monkeypatch.delenv(TRANSPORT_VARIABLE, raising=False)
    if named is not None:
        monkeypatch.setenv(TRANSPORT_VARIABLE, named)
    program = f"""
import os
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from taptr_ros.nodes.process import run

def start(node):
    print(os.environ["{TRANSPORT_VARIABLE}"])
    raise ExternalShutdownException

assert run(lambda: Node("short_lived"), start) == 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (named or IMAGE_TRANSPORT)


HANGING = """
import sys, time
from rclpy.node import Node
from taptr_ros.nodes import process

class Hanging(Node):
    def destroy_node(self):
        print("ending", flush=True)
        time.sleep(600)

process.LONGEST_END = float(sys.argv[1])
print("made", flush=True)
sys.exit(process.run(lambda: Hanging("hanging"), lambda node: print("started", flush=True)))
"""


def hanging(longest_end: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(longest_end)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.stdout.readline() != "started\n":
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    while process.stdout.readline() != "ending\n":
        assert process.poll() is None
    return process


def test_a_second_sigterm_ends_a_process_that_hangs() -> None:
    process = hanging(600.0)
    process.send_signal(signal.SIGINT)  # one more interrupt tears nothing apart
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5.0)
    assert process.returncode == -signal.SIGTERM


def test_a_process_that_hangs_at_its_end_is_ended_by_force() -> None:
    process = hanging(0.5)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "ended by force" in log


def test_one_process_tracks_for_several_cameras_with_one_model(
    context: Context,
) -> None:
    left, right = Client(context, new_namespace()), Client(context, new_namespace())
    namespaces = [client.node.get_namespace() for client in (left, right)]
    process = subprocess.Popen(
        [sys.executable, "-m", "taptr_ros.nodes.tracker_node", "--cameras", *namespaces],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for client in (left, right):
            client.connect()
        left.add(POINTS)
        right.add(POINTS[:1])
        for number in range(3):
            assert [len(client.frame(number).points) for client in (left, right)] == [3, 1]
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, log
        assert "Traceback" not in log
    finally:
        process.kill()
        left.close()
        right.close()


@pytest.mark.parametrize("name", ["tracker", "video_source", "recorder", "grid", "depth", "view"])
def test_every_node_says_how_it_is_used_and_refuses_other_arguments(name: str) -> None:
    command = [sys.executable, "-m", f"taptr_ros.nodes.{name}_node"]
    told = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"usage: {name} ")
    assert "--ros-args" in told.stdout
    refused = subprocess.run([*command, "--depth", "8"], capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert "unrecognized arguments: --depth 8" in refused.stderr
