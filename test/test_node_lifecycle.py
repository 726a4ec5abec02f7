"""The node `tracker` in this process, where what it keeps alive can be counted."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Point
from lifecycle_msgs.msg import Transition
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_graph import Client, Inbox, Spinner, new_namespace, ros_context, wait_until
from sensor_msgs.msg import Image

from taptr_ros.drawing.overlay import TrackOverlay
from taptr_ros.errors import InvalidConfigError, InvalidPointsError
from taptr_ros.nodes.diagnostics import Latency, StreamStatistics
from taptr_ros.nodes.tracker_node import TrackerNode
from taptr_ros.tracking import Tracks

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


def test_a_slow_picture_delays_no_track(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing, drawn = threading.Event(), threading.Event()

    def draw(_: TrackOverlay, image: NDArray[np.uint8], tracks: Tracks) -> NDArray[np.uint8]:  # noqa: ARG001
        drawing.set()
        assert drawn.wait(60.0)
        return image

    monkeypatch.setattr(TrackOverlay, "draw", draw)
    namespace = new_namespace()
    node = TrackerNode(context=context, namespace=namespace)
    node.autostart()
    spinner = Spinner(node, context)
    client = Client(context, namespace)
    client.connect()
    pictures = Inbox(client.node, Image, "tracks/image")
    wait_until(lambda: node.count_subscribers(f"{namespace}/tracks/image") > 0)
    client.add(POINTS)
    for number in range(4):
        assert len(client.frame(number).points) == 3
    assert drawing.wait(60.0)
    drawn.set()
    assert pictures.next(lambda message: message.width > 0).width == 160
    client.close()
    spinner.stop()
    node.destroy_node()


def test_a_publisher_that_cannot_be_made_takes_the_others_with_it(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = TrackerNode(context=context, namespace=new_namespace())
    before = len(list(node.publishers))
    make = TrackerNode._output

    def fail(self: TrackerNode, kind: type, topic: str) -> object:
        if topic == "tracks/cloud":
            raise InvalidConfigError("qos_overrides cannot be.")
        return make(self, kind, topic)

    monkeypatch.setattr(TrackerNode, "_output", fail)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert len(list(node.publishers)) == before
    monkeypatch.undo()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    node.destroy_node()


def test_the_size_of_the_input_can_be_set_in_two_steps(context: Context) -> None:
    node = TrackerNode(context=context, namespace=new_namespace())
    one = [Parameter("input_height", value=128)]
    assert node.set_parameters(one)[0].successful
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.set_parameters([Parameter("input_width", value=160), Parameter("model", value="lucas_kanade")])[
        0
    ].successful
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    node.destroy_node()


def test_diagnostics_are_those_of_the_stream_that_runs() -> None:
    statistics = StreamStatistics()
    statistics.processed(Latency(0.02, 0.01), tracks=3)
    statistics.begin_stream()
    values = {pair.key: pair.value for pair in statistics.report("node", "active", None).values}
    assert (values["active tracks"], values["tracker p50 [ms]"], values["images processed"]) == ("0", "none", "1")
    assert 10 < int(values["memory [MB]"]) <= int(values["peak memory [MB]"])
    statistics.processed(Latency(0.02, 0.01), tracks=3)
    statistics.left_out("It is late.")
    assert statistics.report("node", "active", None).level == DiagnosticStatus.WARN
    statistics.refused("It is damaged.")
    report = statistics.report("node", "active", None)
    assert report.level == DiagnosticStatus.ERROR
    assert "It is damaged." in report.message


def test_clicks_in_rqt_image_view_follow_the_name_of_the_image(context: Context) -> None:
    arguments = ["--ros-args", "-r", "image:=/front/image_raw", "-r", "/tracks/image_mouse_left:=/clicks"]
    overrides = [Parameter("model", value="lucas_kanade")]
    node = TrackerNode(context=context, cli_args=arguments, parameter_overrides=overrides)
    node.autostart()
    kinds = {subscription.topic_name: subscription.msg_type for subscription in node.subscriptions}
    assert kinds["/front/image_raw_mouse_left"] is kinds["/clicks"] is Point
    node.destroy_node()


def test_a_click_in_a_frame_before_the_first_image_is_refused(context: Context) -> None:
    overrides = [Parameter("model", value="lucas_kanade")]
    node = TrackerNode(context=context, namespace=new_namespace(), parameter_overrides=overrides)
    node.autostart()
    with pytest.raises(InvalidPointsError, match="'map', but no image has come yet"):
        node._live_tracker.click(1.2, 3.4, frame_id="map")
    node._live_tracker.click(1.2, 3.4)  # waits for the first image
    node.destroy_node()
