"""The node `tracker` in a process of its own, as its clients see it."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Point, PointStamped
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import (
    FRAME_ID,
    Client,
    Inbox,
    header,
    nanoseconds,
    new_namespace,
    ros_context,
    until_timeout,
    wait_until,
)
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, RegionOfInterest
from streams import HEIGHT, WIDTH, stamp, true_position, view
from taptr_ros.msg import QueryPoints, QueryRegions, TrackedPoint

from taptr_ros import srv
from taptr_ros.cli.live_run import NodeProcesses
from taptr_ros.messages.clouds import CLOUD_POINT
from taptr_ros.messages.regions import detection_array_kind
from taptr_ros.messages.ros import rgb_image
from taptr_ros.nodes.configs import NodeConfig
from taptr_ros.nodes.parameters import parameters_of
from taptr_ros.tracking import TrackerConfig

POINTS = [(100.0, 90.0), (60.25, 50.0), (130.0, 60.5)]
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    with ros_context() as context:
        yield context


class Running:
    """A tracker in a process of its own, and its client in this one."""

    def __init__(
        self, context: Context, logs: Path, parameters: dict[str, Any], namespace: str | None = None, **client: Any
    ) -> None:
        self.namespace = new_namespace() if namespace is None else namespace
        self._processes = NodeProcesses(self.namespace, logs)
        self._processes.start("tracker", {"model": "lucas_kanade", **parameters})
        self.client = Client(context, self.namespace, **client)
        self.diagnostics_name = f"{self.namespace[1:]}/tracker: stream"

    def close(self) -> None:
        self.client.close()
        self._processes.stop_all()  # raises unless the node ends with status 0


@pytest.fixture(scope="module")
def shared(context: Context, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(context, tmp_path_factory.mktemp("logs"), {"capacity": 8})
    running.client.connect()
    yield running
    running.close()


@pytest.fixture
def client(shared: Running) -> Client:
    """A client of a tracker whose stream just begins."""
    shared.client.reset()
    shared.client.tracks.drain()
    shared.client.logged("")
    return shared.client


@pytest.fixture
def start(context: Context, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start a node with parameters of its own."""
    started: list[Running] = []

    def make(*arguments: Any, **client: Any) -> Running:
        started.append(Running(context, tmp_path, *arguments, **client))
        return started[-1]

    yield make
    for running in started:
        running.close()


def positions(message: Any) -> np.ndarray:
    return np.array([(point.x, point.y) for point in message.points]).reshape(-1, 2)


def ids(message: Any) -> list[int]:
    return [point.id for point in message.points]


def pairs(message: Any) -> list[tuple[str, str]]:
    return [(pair.key, pair.value) for pair in message.status[0].values]


def test_tracks_have_the_images_header_the_ids_and_the_order_of_the_points(client: Client) -> None:
    response = client.add(POINTS, ids=[30, 0, 10])
    assert (response.ids[0], response.ids[2]) == (30, 10)
    assert list(response.refusals) == ["", "", ""]
    for number in range(4):
        tracks = client.frame(number)
        assert (tracks.header.frame_id, nanoseconds(tracks)) == (FRAME_ID, stamp(number))
        assert (tracks.width, tracks.height) == (WIDTH, HEIGHT)
        assert ids(tracks) == list(response.ids)
        np.testing.assert_allclose(positions(tracks), true_position(np.array(POINTS), number), atol=0.5)
        assert [point.age for point in tracks.points] == [number] * 3
        assert [point.state for point in tracks.points] == [TrackedPoint.VISIBLE] * 3
        assert [point.frames_since_seen for point in tracks.points] == [0] * 3
        assert all(0.5 < point.visibility <= 1.0 for point in tracks.points)


def test_each_point_is_accepted_or_refused_by_itself(client: Client) -> None:
    client.frame(0)
    points = [POINTS[0], (float("nan"), 1.0), (WIDTH, 5.0), POINTS[1], POINTS[2], (-1.0, 3.0)]
    response = client.add(points, ids=[5, 0, 0, 5, 6, 0])
    assert [bool(reason) for reason in response.refusals] == [False, True, True, True, False, True]
    assert list(response.ids) == [5, 0, 0, 0, 6, 0]
    assert "(nan, 1)" in response.refusals[1]
    assert f"{WIDTH}x{HEIGHT}" in response.refusals[2]
    assert "Id 5 is given twice" in response.refusals[3]
    assert ids(client.frame(1)) == [5, 6]
    full = client.add([POINTS[0]] * 8)
    assert [bool(reason) for reason in full.refusals] == [False] * 6 + [True] * 2
    assert "capacity of 8" in full.refusals[-1]
    assert "mode is 9" in client.add(POINTS[:1], mode=9).refusals[0]


def test_points_on_topics_are_added_replaced_removed_and_clicked(client: Client) -> None:
    client.frame(0)
    client.publish_query(POINTS[:2], ids=[21, 22])
    client.wait_for_ids([21, 22])
    client.publish_query(POINTS[2:], ids=[23], mode=QueryPoints.REPLACE)
    client.wait_for_ids([23], absent=[21, 22])
    client.publish_query(POINTS[:1], ids=[24])
    client.wait_for_ids([23, 24])
    client.act_until_logged(
        lambda: client.publish_removal([99, 24]), "remove_points: no point has the id 99 (", "ids are unknown"
    )
    client.wait_for_ids([23], absent=[24])
    client.click(60.0, 50.0)
    clicked = client.still_until(lambda tracks: len(tracks.points) == 2).points[1]
    assert (clicked.x, clicked.y) == pytest.approx((60.0, 50.0), abs=0.5)


def test_bad_points_on_topics_are_reported_and_the_good_ones_tracked(client: Client) -> None:
    client.frame(0)
    client.act_until_logged(
        lambda: client.publish_query([POINTS[0], (9999.0, 1.0)], ids=[41, 42], mode=QueryPoints.REPLACE),
        "query_points: 1 of 2 points were refused; points[1]: The point (9999, 1) is outside",
    )
    client.act_until_logged(lambda: client.click(float("inf"), 1.0), "clicked_point: ", "(inf, 1)")
    assert ids(client.frame(1)) == [41]


def test_a_point_starts_in_the_image_it_was_chosen_in(client: Client) -> None:
    for number in range(5):
        client.frame(number)
    past, newest, coming = (client.add(POINTS[:1], at=at) for at in (stamp(1), 0, stamp(6)))
    assert [*past.refusals, *newest.refusals, *coming.refusals] == [""] * 3
    tracks = client.frame(5)
    assert ids(tracks) == [past.ids[0], newest.ids[0]]
    assert [point.age for point in tracks.points] == [4, 1]
    expected = [true_position(np.array(POINTS[0]), 4), true_position(np.array(POINTS[0]), 1)]
    np.testing.assert_allclose(positions(tracks), expected, atol=0.5)
    assert client.frame(6).points[2].age == 0
    assert "later than the newest image" in client.add(POINTS[:1], at=stamp(6) + 60 * 10**9).refusals[0]
    assert "frame history" in client.add(POINTS[:1], at=1).refusals[0]


def test_a_click_with_another_clock_starts_in_the_newest_image(client: Client) -> None:
    client.frame(0)
    client.click(*POINTS[0], at=stamp(0) + 10**18)
    client.still_until(lambda tracks: len(tracks.points) == 1)


@pytest.mark.parametrize("topic", ["image", "tracks/image"])
def test_a_click_in_rqt_image_view_starts_a_point_in_the_newest_image(client: Client, topic: str) -> None:
    client.frame(0)
    client.click_in_rqt(60.0, 50.0, topic)
    (clicked,) = client.still_until(lambda tracks: len(tracks.points) == 1).points
    assert (clicked.x, clicked.y) == pytest.approx((60.0, 50.0), abs=0.5)


def test_a_click_in_rqt_image_view_outside_the_image_is_refused(client: Client) -> None:
    client.frame(0)
    client.act_until_logged(
        lambda: client.click_in_rqt(9999.0, 1.0), f"{client.node.get_namespace()}/image_mouse_left: ", "(9999, 1)"
    )
    assert ids(client.frame(1)) == []


def test_a_click_in_metres_of_another_frame_is_refused(client: Client) -> None:
    client.frame(0)
    refusal = client.act_until_logged(
        lambda: client.click(1.2, 3.4, frame_id="map"),
        f"clicked_point: The click is in the frame 'map', but the images are in '{FRAME_ID}'",
    )
    assert "metres" in refusal
    assert "rqt_image_view" in refusal
    assert ids(client.frame(1)) == []


def test_a_click_without_a_frame_is_in_pixels(client: Client) -> None:
    client.frame(0)
    client.click(*POINTS[0], frame_id="")
    client.still_until(lambda tracks: len(tracks.points) == 1)


def test_waiting_points_that_turn_out_unusable_are_reported_and_cost_no_image(client: Client) -> None:
    response = client.add([(WIDTH + 50.0, 10.0), POINTS[0]], ids=[51, 52])
    assert list(response.refusals) == ["", ""]  # no image yet: its size is not known
    assert ids(client.frame(0)) == [52]
    assert f"outside the image of {WIDTH}x{HEIGHT}" in client.wait_for_log("waiting points were dropped")


def test_a_group_is_published_and_removed_as_a_whole(client: Client) -> None:
    added = client.add(POINTS, groups=[5, 0, 5]).ids
    tracks = client.frame(0)
    assert [point.group for point in tracks.points] == [5, 0, 5]
    assert client.get_tracks([]).tracks == tracks
    assert client.remove([added[0]], groups=[5, 6]) == ([], [6])
    assert ids(client.frame(1)) == [added[1]]
    client.publish_query(POINTS, groups=[7, 8, 8])
    client.still_until(lambda tracks: [point.group for point in tracks.points] == [0, 7, 8, 8])
    client.publish_removal([], groups=[8, 9])
    client.still_until(lambda tracks: [point.group for point in tracks.points] == [0, 7])
    assert "no point has the group 9 (1 of 2 groups are unknown)" in client.wait_for_log("remove_points")


BOX = RegionOfInterest(x_offset=80, y_offset=20, width=60, height=60)


def mask_of(*boxes: RegionOfInterest, encoding: str = "mono8", width: int = WIDTH) -> Image:
    """A mask in which boxes have the labels 1, 2 and so on."""
    labels = np.zeros((HEIGHT, width), np.uint8 if encoding == "mono8" else np.uint16)
    for label, box in enumerate(boxes, 1):
        labels[box.y_offset :, box.x_offset :][: box.height, : box.width] = label
    return Image(height=HEIGHT, width=width, encoding=encoding, step=labels.strides[0], data=labels.tobytes())


def in_box(message: Any) -> bool:
    xy = positions(message) - (BOX.x_offset, BOX.y_offset)
    return bool(((xy >= 0) & (xy < (BOX.width, BOX.height))).all())


def test_regions_become_groups_of_points_in_the_image_in_which_they_were_chosen(client: Client) -> None:
    client.frame(0)
    client.frame(1)
    outside = RegionOfInterest(x_offset=WIDTH, y_offset=0, width=20, height=20)
    query = QueryRegions(header=header(stamp(0)), boxes=[BOX, outside], groups=[0, 9], points_per_region=5)
    answer = client.add_regions(query)
    added, refused = answer.regions
    assert (answer.refusal, added.refusal, added.label, len(added.ids)) == ("", "", 0, 5)
    assert (refused.group, len(refused.ids)) == (0, 0)
    assert f"boxes[1] at ({WIDTH}, 0) with 20x20 pixels holds no pixel of the image" in refused.refusal
    tracks = client.get_tracks([]).tracks
    assert ids(tracks) == list(added.ids)
    assert [(point.group, point.age) for point in tracks.points] == [(added.group, 1)] * 5
    assert in_box(tracks)  # it has moved by a pixel or two only
    assert client.remove([], groups=[added.group]) == ([], [])
    for encoding in ("mono8", "mono16"):
        query = QueryRegions(mode=QueryRegions.REPLACE, mask=mask_of(outside, BOX, encoding=encoding), labels=[2, 3])
        query.points_per_region = 3
        added, refused = client.add_regions(query).regions
        assert (added.label, len(added.ids), refused.label) == (2, 3, 3)
        assert refused.refusal == "Label 3 of the mask is nowhere in it; ask for labels that it holds."
        assert in_box(client.get_tracks([]).tracks)


def test_regions_from_a_topic_wait_for_their_image(client: Client) -> None:
    client.frame(0)
    client.publish_regions(QueryRegions(header=header(stamp(3)), boxes=[BOX], groups=[77], points_per_region=4))
    wait_until(lambda: "in use" in client.add_regions(QueryRegions(boxes=[BOX], groups=[77])).regions[0].refusal)
    assert ids(client.frame(2)) == []
    tracks = client.frame(3)
    assert [(point.group, point.age) for point in tracks.points] == [(77, 0)] * 4
    assert in_box(tracks)
    client.publish_regions(QueryRegions(boxes=[BOX], points_per_region=9))
    assert "1 of 1 regions were refused; regions[0]: boxes[0] needs 9 points" in client.wait_for_log("query_regions")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (QueryRegions(), "neither boxes nor a mask"),
        (QueryRegions(mode=7, boxes=[BOX]), "mode is 7"),
        (QueryRegions(boxes=[BOX], mask=mask_of(BOX)), "both boxes and a mask"),
        (QueryRegions(boxes=[BOX], groups=[1, 2]), "1 regions but 2 groups"),
        (QueryRegions(mask=mask_of()), "The mask holds no label"),
        (QueryRegions(mask=Image(height=1, width=1, step=4, encoding="32SC1", data=bytes(4))), "encoding is '32SC1'"),
        (QueryRegions(mask=Image(height=9, width=9, step=9, encoding="mono8", data=bytes(4))), "data has 4 bytes"),
    ],
)
def test_a_request_without_regions_is_answered_in_a_sentence(client: Client, query: QueryRegions, words: str) -> None:
    client.frame(0)
    client.add(POINTS[:1], ids=[5])
    answer = client.add_regions(query)
    assert words in answer.refusal
    assert (answer.refusal[-1], len(answer.regions)) == (".", 0)
    line = client.act_until_logged(lambda: client.publish_regions(query), "query_regions", words)
    assert line.startswith("query_regions: ")
    assert ids(client.frame(1)) == [5]


def test_a_region_of_another_image_is_answered_in_a_sentence(client: Client) -> None:
    client.frame(0)
    (region,) = client.add_regions(QueryRegions(mask=mask_of(BOX, width=WIDTH + 8))).regions
    assert "The mask has 168x120 pixels but the image 160x120" in region.refusal
    (region,) = client.add_regions(QueryRegions(header=header(5), boxes=[BOX])).regions
    assert "frame history" in region.refusal


def test_detections_become_groups(client: Client) -> None:
    messages = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
    publisher = client.node.create_publisher(messages.Detection2DArray, "detections", 10)
    wait_until(publisher.get_subscription_count)
    client.frame(0)
    # An id that Python would refuse to read as a number is a name like others.
    long = messages.Detection2D(id="9" * 5000)
    publisher.publish(messages.Detection2DArray(header=header(stamp(0)), detections=[long]))
    assert "0 pixels wide and 0 high" in client.wait_for_log("detections: 1 of 1 detections were refused")
    detection = messages.Detection2D(id="12")
    detection.bbox.center.position.x, detection.bbox.center.position.y = 109.5, 49.5
    detection.bbox.size_x, detection.bbox.size_y = 60.0, 60.0
    array = messages.Detection2DArray(header=header(stamp(0)), detections=[detection])
    assert client.set_parameters(points_per_region=4)[0].successful
    for _ in range(3):  # the detector sees the same body again and again
        publisher.publish(array)
    tracks = client.still_until(lambda tracks: len(tracks.points) > 0)
    assert in_box(tracks)
    assert [point.group for point in client.get_tracks([]).tracks.points] == [12] * 4
    assert client.set_parameters(points_per_region=16)[0].successful
    client.node.destroy_publisher(publisher)


def test_tracks_can_be_read(client: Client) -> None:
    assert list(client.get_tracks([7]).unknown_ids) == [7]
    client.add(POINTS, ids=[1001, 1002, 1003])
    published = client.frame(0)
    assert client.get_tracks([]).tracks == published
    response = client.get_tracks([1003, 1001, 77])
    assert ids(response.tracks) == [1001, 1003]
    assert response.tracks.header == published.header
    assert list(response.unknown_ids) == [77]
    assert client.remove([1001, 78, 78]) == ([78], [])
    response = client.get_tracks([])
    assert ids(response.tracks) == [1002, 1003]
    client.add(POINTS[:1], ids=[1001], at=stamp(1))
    client.add(POINTS[:1], ids=[1004])
    response = client.get_tracks([1001, 1004])
    # One waits for its image, the other one started in the newest.
    assert (ids(response.tracks), list(response.waiting_ids), list(response.unknown_ids)) == ([1004], [1001], [])


def test_reset_begins_a_new_stream(client: Client) -> None:
    client.add(POINTS)
    client.frame(5)
    client.reset()
    assert client.get_tracks([]).tracks.points == []
    assert client.frame(0).points == []
    assert client.logged("jumped back") == []


def test_a_stamp_that_jumps_back_begins_a_new_stream_and_says_so(client: Client) -> None:
    client.add(POINTS)
    stream = client.frame(99).stream
    jumps: set[str] = set()

    def jump_back() -> None:
        nonlocal stream
        # A single one is left out, and of two the first may give way to the second before it is looked at.
        for number in range(8, 20):
            client.send(view(number), stamp(number))
            with contextlib.suppress(queue.Empty):
                first = client.tracks.next(seconds=0.5)
                jumps.add(f"jumped back by {(stamp(99) - nanoseconds(first)) / 1e9:.3f} s")
                break
        tracks = client.frame(20)
        assert (tracks.points, tracks.stream) == ([], stream + 1)
        stream = client.frame(99).stream

    line = client.act_until_logged(jump_back, "jumped back by", "a new stream begins")
    assert any(jump in line for jump in jumps)
    client.add(POINTS)
    tracks = [client.frame(100), client.frame(101)]
    assert [(len(message.points), message.stream) for message in tracks] == [(3, stream)] * 2


def test_late_repeated_and_unstamped_images_are_left_out_and_counted(client: Client, shared: Running) -> None:
    diagnostics = Inbox(client.node, DiagnosticArray, "/diagnostics")
    client.add(POINTS)
    stream = client.frame(9).stream
    number = 10

    def send_bad() -> None:
        nonlocal number
        for bad in (stamp(number - 1), stamp(number - 2), 0):
            client.send(view(0), bad)
        tracks = client.frame(number)
        assert (len(tracks.points), tracks.stream) == (3, stream)
        number += 1

    client.act_until_logged(send_bad, "An image was left out. The image")
    diagnostics.next(
        lambda message: (
            message.status[0].name == shared.diagnostics_name and int(dict(pairs(message))["images left out"]) >= 1
        )
    )


def test_another_image_size_that_stays_begins_a_new_stream(client: Client) -> None:
    client.add(POINTS)
    stream = client.frame(0).stream
    client.send(view(1)[:100, :140], stamp(1))
    tracks = client.frame(2)  # a single one is left out
    assert (len(tracks.points), tracks.stream) == (3, stream)
    sent = 0
    for _ in until_timeout():
        client.send(view(sent)[:100, :140], stamp(3 + sent))
        sent += 1
        time.sleep(0.05)
        if found := client.tracks.drain():
            break
    assert sent >= 3
    tracks = found[0]
    assert tracks.stream == stream + 1
    assert (tracks.width, tracks.height, list(tracks.points)) == (140, 100, [])


def test_two_publishers_of_images_are_reported(client: Client) -> None:
    second = client.node.create_publisher(Image, "image", 10)
    client.wait_for_log("Several publishers share")
    client.node.destroy_publisher(second)


@pytest.mark.parametrize(
    ("topic", "kind", "words"),
    [
        ("clicked_point", Point, "clicked_point is published as geometry_msgs/msg/Point,"),
        (
            "query_points",
            PointStamped,
            "query_points is published as geometry_msgs/msg/PointStamped, but this node reads",
        ),
        ("image", Point, "image is published as geometry_msgs/msg/Point, but this node reads"),
    ],
)
def test_publishers_of_another_type_are_reported(client: Client, topic: str, kind: type, words: str) -> None:
    # A process has one type per topic, so that the other publisher is in a context of its own.
    context = Context()
    context.init(domain_id=client.node.context.get_domain_id())
    other = Node("other", context=context, namespace=client.node.get_namespace())
    try:
        other.create_publisher(kind, topic, 10)
        client.wait_for_log(words)
    finally:
        other.destroy_node()
        context.shutdown()


@pytest.mark.skipif(detection_array_kind() is not None, reason="vision_msgs is installed")
def test_detections_that_cannot_be_read_are_reported(client: Client) -> None:
    detections = client.node.create_publisher(Point, "detections", 10)
    client.wait_for_log("detections is published, but not read without vision_msgs; install vision_msgs.")
    client.node.destroy_publisher(detections)


def damaged(number: int, **changes: Any) -> Image:
    message = rgb_image(view(number), header(stamp(number)))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_many_clients_that_ask_at_once_are_all_answered(client: Client) -> None:
    profile = QoSProfile(depth=1000)  # every client's reader takes the answers to all of them
    clients: list[Any] = [
        client.node.create_client(srv.GetTracks, "get_tracks", qos_profile=profile) for _ in range(30)
    ]
    wait_until(lambda: all(each.service_is_ready() for each in clients))
    for each in clients:
        client.reach(each)
    answers = [each.call_async(srv.GetTracks.Request()) for each in clients]
    wait_until(lambda: all(answer.done() for answer in answers))
    for each in clients:
        client.node.destroy_client(each)


def test_bytes_that_are_no_message_end_nothing(client: Client) -> None:
    client.frame(0)
    assert client.add(POINTS[:1]).ids[0]
    # The last bits of the fourth byte announce padding, which four bytes have no room for.
    for data in (
        b"",
        b"\0",
        b"\0\1\0\0",
        b"\0\1\0\1",
        b"\0\1\0\2",
        b"\0\1\xff\x7f",
        b"\0\1\0\3\0\0",
        b"\0\1\0\0\xff\xff",
    ):
        for _ in range(20):
            client.publish_bytes(data)
    client.act_until_logged(
        lambda: client.publish_bytes(b"\0\1\0\3"),
        "query_points: A message of 4 bytes cannot be read as QueryPoints; publish",
    )
    client.act_until_logged(
        lambda: client.publish_bytes(b"\0\1\0\3"), "image: A message of 4 bytes cannot be read as Image"
    )
    assert len(client.frame(1).points) == 1


def test_bad_images_are_reported_and_the_stream_goes_on(client: Client, shared: Running) -> None:
    diagnostics = Inbox(client.node, DiagnosticArray, "/diagnostics")
    client.add(POINTS)
    client.frame(0)
    name = shared.diagnostics_name
    client.act_until_logged(lambda: client.publish_image(damaged(1, step=3)), "image: The image's step is 3 bytes")
    for changes in (
        {"encoding": "rgb99"},
        {"data": rgb_image(view(0), header(0)).data[:1000]},
        {"step": 3},
        {"width": 0},
        {"height": 2**32 - 1},
    ):
        client.publish_image(damaged(1, **changes))
    client.publish_image(damaged(0))  # the stamp of the image before
    refusal = diagnostics.next(
        lambda message: message.status[0].name == name and message.status[0].level != DiagnosticStatus.OK
    )
    assert "refused" in refusal.status[0].message
    assert len(client.frame(2).points) == 3
    diagnostics.close()


def test_garbage_on_every_topic_does_not_stop_the_node(client: Client) -> None:
    random = np.random.default_rng(0)
    client.frame(0)
    for _ in range(20):
        values = random.choice([np.nan, np.inf, -np.inf, -1e30, 1e30, 0.0, -0.5, 50.0], (6, 2))
        some_ids = random.integers(0, 2**64, 6, np.uint64, endpoint=False).tolist()
        stamps = [int(value) for value in random.integers(0, 2**31 * 10**9, 2)]
        client.publish_query(values, ids=some_ids, at=stamps[0], mode=int(random.integers(0, 256)))
        client.publish_removal(some_ids)
        client.click(float(values[0, 0]), float(values[0, 1]), at=stamps[1])
        encoding = str(random.choice(["rgb8", "nv12", "mono16", "bayer_rggb8", "", "32FC1"]))
        client.publish_image(damaged(1, encoding=encoding, data=random.bytes(int(random.integers(0, 500)))))
    client.reset()
    client.add(POINTS, ids=[61, 62, 63], mode=QueryPoints.REPLACE)
    assert set(ids(client.frame(3))) >= {61, 62, 63}


def test_the_cloud_holds_the_same_points(client: Client) -> None:
    clouds = Inbox(client.node, PointCloud2, "tracks/cloud")
    large = 2**40 + 3
    client.add(POINTS, ids=[large, 2, 2**64 - 1])
    tracks = client.still_until(lambda tracks: len(tracks.points) == 3 and clouds.has_one_within(0.1))
    tracks = client.still_until(lambda _: True)
    cloud = clouds.next(lambda message: message.header == tracks.header)
    points = np.frombuffer(cloud.data, CLOUD_POINT)
    assert (cloud.header, cloud.height, cloud.width, cloud.point_step) == (tracks.header, 1, 3, CLOUD_POINT.itemsize)
    assert cloud.row_step == len(cloud.data)
    assert [(field.name, field.offset) for field in cloud.fields] == [
        (name, CLOUD_POINT.fields[name][1]) for name in CLOUD_POINT.names if name != "padding"
    ]
    np.testing.assert_array_equal(np.stack([points["x"], points["y"]], axis=1), positions(tracks).astype(np.float32))
    assert (points["id"].astype(int) + points["id_high"].astype(object) * 2**32).tolist() == ids(tracks)
    clouds.close()


def test_the_overlay_shows_the_points_to_those_who_look(client: Client) -> None:
    overlays = Inbox(client.node, Image, "tracks/image")
    client.add(POINTS)
    client.still_until(lambda _: overlays.has_one_within(0.1))
    tracks = client.still_until(lambda _: True)
    overlay = overlays.next(lambda message: message.header == tracks.header)
    assert (overlay.encoding, overlay.width, overlay.height, overlay.step) == ("rgb8", WIDTH, HEIGHT, 3 * WIDTH)
    changed = (np.frombuffer(overlay.data, np.uint8).reshape(HEIGHT, WIDTH, 3) != view(0)).any(axis=2)
    assert all(changed[round(y), round(x)] for x, y in POINTS)
    assert changed.mean() < 0.5
    overlays.close()


def test_thresholds_change_while_points_are_tracked(client: Client) -> None:
    client.add(POINTS)
    client.frame(0)
    assert all(point.state == TrackedPoint.VISIBLE for point in client.frame(1).points)
    results = client.set_parameters(visible_threshold=1.0, visibility_hysteresis=0.0)
    assert all(result.successful for result in results)
    assert not any(point.state == TrackedPoint.VISIBLE for point in client.frame(2).points)
    assert all(result.successful for result in client.set_parameters(visible_threshold=0.0, visibility_hysteresis=0.05))
    assert all(point.state == TrackedPoint.VISIBLE for point in client.frame(3).points)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("match_gate", 1.5, "range"),
        ("match_gate", float("nan"), ""),
        ("lost_after", -1, "range"),
        ("lost_after", 3.5, "lost_after is 3.5; use a value of type integer."),
        ("gap_seconds", "long", "gap_seconds is 'long'; use a value of type double."),
        ("gap_seconds", True, "gap_seconds is True; use a value of type double."),
        ("gap_secs", 1.0, "There is no parameter gap_secs; did you mean gap_seconds?"),
        ("qos", 1.0, "There is no parameter qos; `ros2 param list` shows"),
        ("capacity", 16, "capacity takes effect when the node is configured; deactivate and clean up"),
        ("model", "other.safetensors", "model takes effect when the node is configured"),
    ],
)
def test_parameters_that_cannot_be_are_refused_with_a_reason(
    client: Client, name: str, value: Any, reason: str
) -> None:
    (result,) = client.set_parameters(**{name: value})
    assert not result.successful
    assert reason in result.reason


def test_a_whole_number_serves_as_a_decimal_one(client: Client) -> None:
    (result,) = client.set_parameters(gap_seconds=2)
    assert (result.successful, result.reason) == (True, "")
    request = GetParameters.Request(names=["gap_seconds"])
    (value,) = client.call(GetParameters, "tracker/get_parameters", request).values
    assert (value.type, value.double_value) == (ParameterType.PARAMETER_DOUBLE, 2.0)
    assert client.set_parameters(gap_seconds=TrackerConfig.gap_seconds)[0].successful


def test_every_parameter_is_described_and_every_number_has_a_range(client: Client) -> None:
    descriptors = client.parameter_descriptors()
    for declaration in parameters_of(NodeConfig, TrackerConfig):
        descriptor = descriptors[declaration.name]
        assert descriptor.description.endswith(".")
        if isinstance(declaration.default, (int, float)) and not isinstance(declaration.default, bool):
            assert len(descriptor.integer_range) + len(descriptor.floating_point_range) == 1
    assert "one of" in descriptors["support"].additional_constraints.lower()


def test_compressed_images(start: Callable[..., Running]) -> None:
    client = start({"compressed": True}, compressed=True).client
    client.connect()
    client.add(POINTS)
    client.frame(0)
    broken = CompressedImage(header=header(stamp(1)), format="png", data=b"\x89PNG\r\n")
    client.act_until_logged(lambda: client.publish_image(broken), "image: ", "cannot be decoded")
    np.testing.assert_allclose(positions(client.frame(1)), true_position(np.array(POINTS), 1), atol=0.5)


def test_every_frame_is_processed_in_order_if_asked(start: Callable[..., Running]) -> None:
    client = start({"every_frame": True}, image_qos=RELIABLE).client
    client.connect()
    client.add(POINTS)
    for number in range(40):
        client.send(view(number), stamp(number))
    stamps = [nanoseconds(client.tracks.next()) for _ in range(40)]
    assert stamps == [stamp(number) for number in range(40)]


def test_quality_of_service_mismatches_are_reported_in_words(start: Callable[..., Running]) -> None:
    running = start({"every_frame": True}, image_qos=BEST_EFFORT)
    topic = f"{running.namespace}/image"
    line = running.client.wait_for_log(f"A publisher on {topic} offers a different reliability")
    assert f"qos_overrides.{topic}.subscription.reliability" in line


def test_quality_of_service_can_be_overridden(start: Callable[..., Running]) -> None:
    namespace = new_namespace()
    override = {f"qos_overrides.{namespace}/image.subscription.reliability": "best_effort"}
    client = start({"every_frame": True, **override}, namespace, image_qos=BEST_EFFORT).client
    client.connect()
    assert client.frame(0).width == WIDTH


@pytest.mark.parametrize("reach", ["LOCALHOST", "SUBNET"])
def test_images_that_get_lost_with_best_effort_are_taken_as_reliable(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, reach: str
) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", reach)
    client = start({}, image_qos=RELIABLE).client
    client.connect()
    image = np.zeros((960, 1280, 3), np.uint8)  # more than the half a megabyte of shared memory that Fast DDS takes
    number = 0

    def send() -> None:
        nonlocal number
        client.send(image, stamp(number))
        number += 1
        time.sleep(0.1)

    client.act_until_logged(send, "are taken as reliable from now on")
    time.sleep(0.5)  # until the new subscription is known to the publisher
    client.tracks.drain()
    first = number
    for each in range(10):
        # One after the other: an image that is not taken yet gives way to a newer one.
        send()
        assert nanoseconds(client.tracks.next()) == stamp(first + each)


def test_goes_up_and_down_again_and_again(start: Callable[..., Running]) -> None:
    client = start({}).client
    for _ in range(3):
        client.connect()
        client.add(POINTS)
        client.frame(0)
        assert len(client.frame(1).points) == 3
        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        assert len(client.set_parameters(capacity=32)[0].reason) > 0
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        client.connect()
        assert client.frame(0).points == []  # a new stream
        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        assert client.transition(Transition.TRANSITION_CLEANUP)
        assert client.set_parameters(capacity=16)[0].successful
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.transition(Transition.TRANSITION_ACTIVATE)


def test_a_transition_that_is_impossible_changes_nothing(start: Callable[..., Running]) -> None:
    client = start({}).client
    client.connect()
    client.request_impossible_transition()
    client.wait_for_log("transition")
    assert client.frame(0).width == WIDTH


def test_a_model_that_cannot_be_loaded_is_reported_and_can_be_corrected(start: Callable[..., Running]) -> None:
    client = start({"model": "missing.safetensors"}).client
    assert not client.transition(Transition.TRANSITION_CONFIGURE)
    client.wait_for_log("There is no model file missing.safetensors; pass")
    (result,) = client.set_parameters(backend="tensorflow")
    assert not result.successful
    assert "choose one of auto, torch" in result.reason
    assert client.set_parameters(model="lucas_kanade")[0].successful
    assert client.transition(Transition.TRANSITION_CONFIGURE)
    client.wait_for_log("lucas_kanade is the baseline without weights")
    assert client.transition(Transition.TRANSITION_ACTIVATE)
    client.connect()


def test_a_node_that_does_not_start_itself_waits_and_reports_its_state(start: Callable[..., Running]) -> None:
    running = start({"autostart": False})
    name = running.diagnostics_name
    diagnostics = Inbox(running.client.node, DiagnosticArray, "/diagnostics")
    message = diagnostics.next(lambda message: message.status[0].name == name)
    values = dict(pairs(message))
    assert (values["lifecycle state"], values["model"]) == ("unconfigured", "none")
    assert running.client.transition(Transition.TRANSITION_CONFIGURE)
    assert running.client.transition(Transition.TRANSITION_ACTIVATE)
    running.client.connect()
    running.client.add(POINTS)
    running.client.frame(0)
    message = diagnostics.next(
        lambda message: message.status[0].name == name and ("active tracks", "3") in pairs(message)
    )
    values = dict(pairs(message))
    assert (values["lifecycle state"], values["active tracks"]) == ("active", "3")
    assert (values["model"], values["backend"]) == ("lucas_kanade", "opencv")
    assert (values["device"], values["precision"]) == ("cpu", "float32")
