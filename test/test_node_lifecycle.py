"""The node `tracker` in this process, where what it keeps alive can be counted."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

from lifecycle_msgs.msg import Transition
from rclpy.context import Context
from ros_graph import Client, Spinner, new_namespace, ros_context

from taptr_ros.nodes.tracker_node import TrackerNode

POINTS = [(100.0, 90.0), (60.25, 50.0), (130.0, 60.5)]


@pytest.fixture
def context() -> Iterator[Context]:
    with ros_context() as context:
        yield context


def worker_count() -> int:
    return sum(thread.name == "tracker" for thread in threading.enumerate())


def test_going_down_frees_everything(context: Context) -> None:
    namespace = new_namespace()
    node = TrackerNode(context=context, namespace=namespace)
    node.autostart()
    spinner = Spinner(node, context)
    client = Client(context, namespace)
    counts, trackers = [], []
    for _ in range(3):
        client.connect()
        client.add(POINTS)
        client.frame(0)
        trackers.append(weakref.ref(node._tracker))
        counts.append((len(list(node.subscriptions)), len(list(node.services)), len(list(node.publishers))))
        assert worker_count() == 1
        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        assert worker_count() == 0
        assert client.transition(Transition.TRANSITION_CLEANUP)
        gc.collect()
        assert [tracker() for tracker in trackers] == [None] * len(trackers)
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.transition(Transition.TRANSITION_ACTIVATE)
    assert len(set(counts)) == 1
    client.close()
    spinner.stop()
    node.destroy_node()
