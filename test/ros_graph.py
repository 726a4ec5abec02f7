"""A client of the tracker's topics and services, for the tests of the node.

Waits are long, so that slow machines pass, and end as soon as what they wait for is there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import rclpy
from geometry_msgs.msg import Point, PointStamped
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from streams import stamp, view
from taptr_ros.msg import QueryPoint, QueryPoints, QueryRegions, RemovePoints, TrackedPoints

from taptr_ros import srv
from taptr_ros.messages.ros import rgb_image

TIMEOUT = 60.0
"""Seconds after which something that never comes counts as missing."""

_namespaces = itertools.count()

FRAME_ID = "camera_optical_frame"


@contextlib.contextmanager
def ros_context() -> Iterator[Context]:
    """Start ROS in this process and end it with the `with` block."""
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


class Spinner:
    """Spins a node in a thread of its own; an exception in a callback ends it and is raised by `stop`."""

    def __init__(self, node: Node, context: Context) -> None:
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._executor.shutdown()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the executor hangs"
        if self._error is not None:
            raise self._error

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:  # noqa: BLE001
            self._error = error


class Inbox:
    """Messages of one subscription, in order."""

    def __init__(self, node: Node, kind: type, topic: str, qos: Any = 10) -> None:
        self._messages: queue.Queue[Any] = queue.Queue()
        self._node = node
        self._subscription = node.create_subscription(kind, topic, self._messages.put, qos)

    def next(self, wanted: Callable[[Any], bool] = lambda _: True, seconds: float = TIMEOUT) -> Any:
        """Wait for the next message that is wanted and drop those before it; raise `queue.Empty` if none comes."""
        end = time.monotonic() + seconds
        while True:
            message = self._messages.get(timeout=max(end - time.monotonic(), 0.001))
            if wanted(message):
                return message

    def has_one_within(self, seconds: float) -> bool:
        """Wait for a message, at most so long; it is dropped."""
        try:
            self._messages.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def drain(self) -> list[Any]:
        """Return what is there."""
        messages = []
        while not self._messages.empty():
            messages.append(self._messages.get())
        return messages

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)


class Client:
    """Everything that a user of the tracker would run."""

    def __init__(
        self,
        context: Context,
        namespace: str,
        *,
        compressed: bool = False,
        image_qos: Any = qos_profile_sensor_data,
    ) -> None:
        self.node = node = Node("client", context=context, namespace=namespace)
        self.tracks = Inbox(node, TrackedPoints, "tracks", 1000)
        self._compressed = compressed
        self._number = -1
        self._services: dict[str, Any] = {}
        everything = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._log = Inbox(node, Log, "/rosout", everything)
        self._images = node.create_publisher(CompressedImage if compressed else Image, "image", image_qos)
        self._queries = node.create_publisher(QueryPoints, "query_points", 10)
        self._regions = node.create_publisher(QueryRegions, "query_regions", 10)
        self._removals = node.create_publisher(RemovePoints, "remove_points", 10)
        self._clicks = node.create_publisher(PointStamped, "clicked_point", 10)
        self._mouse = {
            topic: node.create_publisher(Point, f"{topic}_mouse_left", 10) for topic in ("image", "tracks/image")
        }
        self._spinner = Spinner(node, context)

    def close(self) -> None:
        self._spinner.stop()
        self.node.destroy_node()

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service of the tracker and return the response."""
        if name not in self._services:
            self._services[name] = self.node.create_client(kind, name)
            self.reach(self._services[name])
        response = self._response(self._services[name], request, TIMEOUT)
        assert response is not None, f"{name} does not answer"
        return response

    def reach(self, service: Any) -> None:
        """Repeat an empty request, which changes nothing, until one is answered.

        A response is lost while the server does not know the client yet.
        """
        wait_until(service.service_is_ready)
        for _ in until_timeout():
            if self._response(service, service.srv_type.Request(), 2.0) is not None:
                break

    def _response(self, service: Any, request: Any, seconds: float) -> Any | None:
        done = threading.Event()
        future = service.call_async(request)
        future.add_done_callback(lambda _: done.set())
        return future.result() if done.wait(seconds) else None

    def connect(self) -> None:
        """Wait until images and queries get through, then begin a new stream."""
        publishers = (self._images, self._queries, self._regions, self._removals, self._clicks, *self._mouse.values())
        wait_until(lambda: all(publisher.get_subscription_count() for publisher in publishers))
        # A best-effort image sent before the other side knows its publisher is lost: send until one arrives.
        for probe in until_timeout():
            self.send(view(0), probe + 1)
            if self.tracks.has_one_within(0.2):
                break
        self.send(view(0), 10**12)
        self.tracks.next(lambda message: nanoseconds(message) == 10**12)
        for name in self._services:
            if name != "tracker/change_state":
                self.reach(self._services[name])
        self.reset()

    def send(self, image: Any, nanosecond_stamp: int) -> None:
        """Publish a uint8 [H,W,3] RGB image."""
        if self._compressed:
            _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            message = CompressedImage(header=header(nanosecond_stamp), format="png", data=data.tobytes())
        else:
            message = rgb_image(image, header(nanosecond_stamp))
        self.publish_image(message)

    def publish_bytes(self, data: bytes) -> None:
        """Publish a serialized message, or what is none, on every topic that the tracker reads."""
        for publisher in (
            self._images,
            self._queries,
            self._regions,
            self._removals,
            self._clicks,
            *self._mouse.values(),
        ):
            publisher.publish(data)

    def publish_image(self, message: Any) -> None:
        self._images.publish(message)

    def frame(self, number: int) -> TrackedPoints:
        """Send frame `number` of a moving picture and return its tracks."""
        return self._tracked(view(number), number)

    def still_until(self, condition: Callable[[TrackedPoints], bool]) -> TrackedPoints:
        """Send more frames, of a still picture, until the tracks of one fulfil a condition; return those."""
        for _ in until_timeout():
            tracks = self._tracked(view(0), self._number + 1)
            if condition(tracks):
                break
        return tracks

    def _tracked(self, image: Any, number: int) -> TrackedPoints:
        self._number = number
        # A best-effort image may be lost, and is sent again then; one that was tracked is not tracked a second time.
        for _ in range(3):
            self.send(image, stamp(number))
            with contextlib.suppress(queue.Empty):
                return self.tracks.next(lambda message: nanoseconds(message) == stamp(number), TIMEOUT / 3)
        raise AssertionError(f"no tracks came of frame {number}")

    def add(self, points: Any, ids: Any = None, at: int = 0, mode: int = QueryPoints.ADD, groups: Any = None) -> Any:
        request = srv.AddPoints.Request(query=query(points, ids, at, mode, groups))
        return self.call(srv.AddPoints, "add_points", request)

    def publish_query(
        self, points: Any, ids: Any = None, at: int = 0, mode: int = QueryPoints.ADD, groups: Any = None
    ) -> None:
        self._queries.publish(query(points, ids, at, mode, groups))

    def add_regions(self, query: QueryRegions) -> Any:
        return self.call(srv.AddRegions, "add_regions", srv.AddRegions.Request(query=query))

    def publish_regions(self, query: QueryRegions) -> None:
        self._regions.publish(query)

    def publish_removal(self, ids: list[int], groups: list[int] = ()) -> None:
        self._removals.publish(RemovePoints(ids=ids, groups=groups))

    def click(self, x: float, y: float, at: int = 0, frame_id: str = FRAME_ID) -> None:
        """Publish a click as a display tool does that knows the image's header."""
        message = PointStamped(header=header(at), point=Point(x=x, y=y))
        message.header.frame_id = frame_id
        self._clicks.publish(message)

    def click_in_rqt(self, x: float, y: float, topic: str = "image") -> None:
        """Publish a click as rqt_image_view does when it shows a topic."""
        self._mouse[topic].publish(Point(x=x, y=y))

    def remove(self, ids: list[int], groups: list[int] = ()) -> tuple[list[int], list[int]]:
        """Return the ids and the groups that are unknown."""
        request = srv.RemovePoints.Request(ids=ids, groups=groups)
        response = self.call(srv.RemovePoints, "remove_points", request)
        return list(response.unknown_ids), list(response.unknown_groups)

    def get_tracks(self, ids: list[int]) -> Any:
        return self.call(srv.GetTracks, "get_tracks", srv.GetTracks.Request(ids=ids))

    def reset(self) -> None:
        assert self.call(Trigger, "reset", Trigger.Request()).success

    def wait_for_ids(self, present: list[int], absent: list[int] = ()) -> None:
        """Wait until the tracker has taken what was published on topics."""
        wait_until(lambda: list(self.get_tracks([*present, *absent]).unknown_ids) == list(absent))

    def transition(self, transition_id: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition_id
        if "tracker/change_state" not in self._services:
            # An empty request would be an impossible transition, which not every rclpy answers. Its neighbour, of
            # the same node, is reached about as fast.
            self._services["tracker/change_state"] = self.node.create_client(ChangeState, "tracker/change_state")
            wait_until(self._services["tracker/change_state"].service_is_ready)
            self.call(GetState, "tracker/get_state", GetState.Request())
            time.sleep(1.0)
        return bool(self.call(ChangeState, "tracker/change_state", request).success)

    def request_impossible_transition(self) -> None:
        """Ask for a transition that does not exist; whether that is answered depends on the version of rclpy."""
        client = self.node.create_client(ChangeState, "tracker/change_state")
        wait_until(client.service_is_ready)
        client.call_async(ChangeState.Request())

    def set_parameters(self, **values: Any) -> list[Any]:
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParameters.Request(parameters=parameters)
        return list(self.call(SetParameters, "tracker/set_parameters", request).results)

    def parameter_descriptors(self) -> dict[str, Any]:
        names = self.call(ListParameters, "tracker/list_parameters", ListParameters.Request()).result.names
        request = DescribeParameters.Request(names=names)
        described = self.call(DescribeParameters, "tracker/describe_parameters", request).descriptors
        return dict(zip(names, described, strict=True))

    def wait_for_log(self, *parts: str) -> str:
        """Wait for a line of the tracker's log that contains all parts."""
        name = f"{self.node.get_namespace()[1:]}.tracker"
        line = self._log.next(lambda log: log.name == name and all(part in log.msg for part in parts))
        return str(line.msg)

    def act_until_logged(self, act: Callable[[], None], *parts: str) -> str:
        """Act again and again, because lines of one kind are few, until a line contains all parts; return it."""
        for _ in until_timeout():
            act()
            time.sleep(0.05)
            if found := [line for line in self.logged(parts[0]) if all(part in line for part in parts)]:
                break
        return str(found[0])

    def logged(self, part: str) -> list[str]:
        """Return the lines of the log that contain a part, of those that came so far and were not waited for."""
        return [log.msg for log in self._log.drain() if part in log.msg]


def new_namespace() -> str:
    """Return a namespace that nothing else has."""
    return f"/test_{os.getpid()}_{next(_namespaces)}"


def header(nanosecond_stamp: int) -> Header:
    result = Header(frame_id=FRAME_ID)
    result.stamp.sec, result.stamp.nanosec = divmod(nanosecond_stamp, 10**9)
    return result


def nanoseconds(message: Any) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def query(points: Any, ids: Any = None, at: int = 0, mode: int = QueryPoints.ADD, groups: Any = None) -> QueryPoints:
    ids = [0] * len(points) if ids is None else ids
    groups = [0] * len(points) if groups is None else groups
    entries = [
        QueryPoint(id=id_, group=group, x=float(x), y=float(y))
        for id_, group, (x, y) in zip(ids, groups, points, strict=True)
    ]
    return QueryPoints(header=header(at), mode=mode, points=entries)


def until_timeout() -> Iterator[int]:
    """Count until `TIMEOUT` is over, then fail."""
    end = time.monotonic() + TIMEOUT
    for count in itertools.count():
        assert time.monotonic() < end, "it never happened"
        yield count


def wait_until(condition: Callable[[], bool]) -> None:
    """Look every few milliseconds whether a condition holds, until `TIMEOUT` is over."""
    for _ in until_timeout():
        if condition():
            return
        time.sleep(0.01)
