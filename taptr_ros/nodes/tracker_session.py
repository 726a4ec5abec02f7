"""One live tracker as the page sees it: a client of its topics, services and parameters like any other."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import functools
import struct
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from rcl_interfaces.msg import ParameterValue as ParameterValueMessage
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import ReliabilityPolicy
from rosbags.serde import SerdeError
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from taptr_ros.errors import InvalidImageError, InvalidMessageError, InvalidPointsError
from taptr_ros.messages.encoded import JpegEncoder, declared_size
from taptr_ros.messages.images import compressed_image_to_rgb, image_to_rgb
from taptr_ros.messages.ros import time_message
from taptr_ros.messages.tracks import tracks_of_serialized
from taptr_ros.msg import QueryPoint, QueryPoints, QueryRegions, TrackedPoint, TrackedPoints
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.configs import ViewConfig
from taptr_ros.settings import settings_of
from taptr_ros.sources.grid import grid_points
from taptr_ros.sources.interfaces import typestore
from taptr_ros.srv import AddPoints, AddRegions, GetTracks, RemovePoints
from taptr_ros.tracking import TrackerConfig
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.view import protocol
from taptr_ros.view.protocol import Command, frame_message
from taptr_ros.view.session import ParameterValue, RefusedError, Status, typed_value
from taptr_ros.view.stage import Stage

HEARD_WITHIN = 3.5
"""Seconds without diagnostics, which come every second, after which a tracker counts as gone."""

IMAGE_WITHIN = 2.0
"""Seconds without an image after which the page says so."""

ANSWER_TIME = 5.0
"""Longest time in seconds to wait for an answer of the tracker."""

GRAPH_PERIOD = 1.0
"""Seconds between two looks for the tracker's topics and services."""

PARAMETER_PERIOD = 2.0
"""Seconds between two looks at the tracker's parameters."""

WAITING_IMAGES = 60
"""Images that may wait for their tracks: two seconds of them at 30 per second."""

WAITING_BYTES = 128 << 20
"""Bytes of images that may wait for their tracks."""

TRACKS_WITHIN = 1.0
"""Seconds without tracks after which images are shown without any."""

PLAIN_PERIOD = 0.1
"""Seconds between two images that are shown without tracks."""

MEANINGFUL_LATENCY = 60_000.0
"""Milliseconds beyond which a latency only says that the stamps are of another time, as those of a bag."""

LIVE = {entry.name: entry for entry in settings_of(TrackerConfig) if entry.live}
"""The parameters that can be changed while points are tracked."""

IMAGE_KINDS: dict[str, type] = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
TRACKS_TYPE = "taptr_ros/msg/TrackedPoints"

_STAMP = slice(4, 12)
"""Bytes of the header's stamp in a serialized message."""


SERVICES: dict[str, Any] = {
    qos.type_name(kind): kind
    for kind in (AddPoints, AddRegions, GetTracks, RemovePoints, Trigger, GetParameters, SetParameters)
}
"""The tracker's services that are used, by the names of their types; each is of another type."""


class _ImageTopic(NamedTuple):
    """Where a tracker takes its images from."""

    name: str
    kind: type
    reliable: bool
    """Whether it asks for all of them, as it does where best effort loses them."""


class TrackerSession:
    """Shows what one tracker sees, while somebody looks, and hands on what people ask for.

    `hear` and `update` are called by the executor's thread, which also runs all callbacks; the server's thread calls
    the others.
    """

    def __init__(self, node: Node, name: str, config: ViewConfig) -> None:
        self._node, self._name, self._largest_side = node, name, config.largest_side
        self._jpegs = JpegEncoder(config.quality, config.largest_side)
        self._namespace, _, self._base_name = name.rpartition("/")
        self._values: dict[str, str] = {}
        self._message = ""
        self._heard = self._image_came = self._tracks_came = self._shown_plain = time.monotonic()
        self._images_from: _ImageTopic | None = None
        self._tracks_from: str | None = None
        self._subscriptions: dict[str, Any] = {}
        self._images: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        self._waiting_bytes = 0
        self._waiting_tracks: tuple[int, bytes] | None = None
        self._size = (0, 0)
        self._clients: dict[str, Any] = {}
        self._removed: TrackedPoints | None = None
        """The tracks that were removed last, as they were then."""
        self._parameters: dict[str, float] = {}
        self._parameters_asked = self._looked_up = 0.0
        self.stage = Stage(name)

    @property
    def is_forgotten(self) -> bool:
        """Whether nobody looks and the tracker has been gone for a minute."""
        return not self.stage.viewers and time.monotonic() - self._heard > 60.0

    def hear(self, values: dict[str, str], message: str) -> None:
        """Take what the tracker's diagnostics say."""
        self._values, self._message = values, message
        self._heard = time.monotonic()

    def update(self) -> None:
        """Subscribe to what the tracker takes and gives while somebody looks, and only then."""
        if not self.stage.viewers:
            self._unsubscribe()
            return
        if not self._is_heard:
            self._parameters = {}
        now = time.monotonic()
        if not self._subscriptions or now - self._looked_up >= GRAPH_PERIOD:
            self._looked_up = now
            self._find_topics()
            self._find_services()
        self._ask_parameters()

    def close(self) -> None:
        """Give everything back to the node."""
        self._unsubscribe()
        for client in self._clients.values():
            self._node.destroy_client(client)
        self._clients = {}
        self.stage.stop()

    # What the server asks.

    def status(self) -> Status:
        """Return what the diagnostics say, and what is missing."""
        values = self._values if self._is_heard else {}
        unused = ("images skipped", "images lost in transport", "images refused", "images left out")
        dropped = [number for key in unused if (number := _number(values.get(key))) is not None]
        latency = [_number(values.get(f"latency {percentile} [ms]")) for percentile in ("p50", "p95")]
        p50, p95 = latency if all(ms is not None and ms < MEANINGFUL_LATENCY for ms in latency) else (None, None)
        points = _number(values.get("active tracks"))
        return Status(
            kind="live",
            sentence=self._sentence(),
            model=values.get("model"),
            backend=values.get("backend"),
            device=values.get("device"),
            precision=values.get("precision"),
            rate=_number(values.get("rate [Hz]")),
            latency_p50=p50,
            latency_p95=p95,
            dropped=int(sum(dropped)) if dropped else None,
            points=None if points is None else int(points),
        )

    def parameters(self) -> list[ParameterValue]:
        """Return the live parameters as the tracker told them last."""
        values = self._parameters
        return [ParameterValue(entry, values[name]) for name, entry in LIVE.items() if name in values]

    async def do(self, command: Command) -> dict[str, Any]:
        """Ask the tracker for it, and wait for its answer."""
        match command:
            case protocol.Add(points, stamp):
                return await self._add(points, stamp)
            case protocol.AddGrid(side, stamp):
                if not self._size[0]:
                    raise RefusedError("There is no image yet in which points could be chosen.")
                return await self._add(grid_points(side, *self._size).tolist(), stamp)
            case protocol.AddBox(box, stamp):
                return await self._add_box(box, stamp)
            case protocol.Remove(ids):
                removed = await self._tracks_now(ids)
                await self._call(RemovePoints, RemovePoints.Request(ids=ids))
                self._removed = removed
            case protocol.Clear():
                removed = await self._tracks_now(())
                await self._call(AddPoints, AddPoints.Request(query=QueryPoints(mode=QueryPoints.REPLACE)))
                self._removed = removed
            case protocol.Undo():
                return await self._undo()
            case protocol.Reset():
                await self._call(Trigger, Trigger.Request())
                self._removed = None
            case protocol.Set(name, value):
                await self._set(name, value)
            case _:
                raise RefusedError("A live stream cannot be stopped, wound back or saved here.")
        return {}

    async def _tracks_now(self, ids: Iterable[int]) -> TrackedPoints:
        """Return tracks as they are in the newest image; all of them for no ids."""
        answer: TrackedPoints = (await self._call(GetTracks, GetTracks.Request(ids=[*ids]))).tracks
        return answer

    async def _undo(self) -> dict[str, Any]:
        """Start the points that were removed last again, under their ids, in the image in which they were seen last."""
        removed, self._removed = self._removed, None
        if removed is None or not removed.points:
            raise RefusedError("Nothing was removed that could be brought back.")
        # Where a hidden point was, something else is seen, and would be tracked in its place.
        seen = [point for point in removed.points if point.state == TrackedPoint.VISIBLE]
        if not seen:
            raise RefusedError("What was removed was hidden; click on it when it is seen again.")
        query = [QueryPoint(id=point.id, group=point.group, x=point.x, y=point.y) for point in seen]
        answer = await self._ask_for(QueryPoints(header=removed.header, points=query))
        hidden = len(removed.points) - len(seen)
        return answer | ({"refused": f"{hidden} that were hidden are not brought back."} if hidden else {})

    async def _add(self, points: Iterable[tuple[float, float]], stamp: int) -> dict[str, Any]:
        chosen = [QueryPoint(x=float(x), y=float(y)) for x, y in points]
        return await self._ask_for(QueryPoints(header=Header(stamp=time_message(stamp)), points=chosen))

    async def _ask_for(self, query: QueryPoints) -> dict[str, Any]:
        """Ask the tracker for points; return their ids, and why some were refused."""
        answer = await self._call(AddPoints, AddPoints.Request(query=query))
        ids = [str(identifier) for identifier in answer.ids if identifier]
        refusals = [reason for reason in answer.refusals if reason]
        if not ids and refusals:
            raise InvalidPointsError(refusals[0])
        more = f" So were {len(refusals) - 1} more." if len(refusals) > 1 else ""
        return {"ids": ids, "refused": f"A point was refused: {refusals[0]}{more}" if refusals else ""}

    async def _add_box(self, sides: tuple[float, float, float, float], stamp: int) -> dict[str, Any]:
        # Whole pixels, those that are at least half inside; a box counts from the corner of its first pixel.
        left, top = (max(round(side + 0.5), 0) for side in sides[:2])
        right, bottom = (max(round(side + 0.5), 0) for side in sides[2:])
        if right <= left or bottom <= top:
            raise InvalidPointsError("The box holds no pixel of the image; draw a larger one.")
        box = RegionOfInterest(x_offset=left, y_offset=top, width=right - left, height=bottom - top)
        query = QueryRegions(header=Header(stamp=time_message(stamp)), boxes=[box])
        answer = await self._call(AddRegions, AddRegions.Request(query=query))
        if refusal := answer.refusal or answer.regions[0].refusal:
            raise InvalidPointsError(refusal.replace("boxes[0]", "The box"))
        return {"ids": [str(identifier) for identifier in answer.regions[0].ids]}

    async def _set(self, name: str, value: float) -> None:
        entry = LIVE.get(name)
        if entry is None or name not in self._parameters:
            raise RefusedError("The tracker has no live parameter of that name now.")
        parameter = Parameter(name, value=typed_value(entry, value))
        request = SetParameters.Request(parameters=[parameter.to_parameter_msg()])
        result = (await self._call(SetParameters, request)).results[0]
        if not result.successful:
            raise RefusedError(result.reason or f"The tracker refuses {value:g} for {name}.")
        self._parameters = self._parameters | {name: float(parameter.value)}
        self._parameters_asked = 0.0

    async def _call(self, kind: Any, request: Any) -> Any:
        client = self._clients.get(qos.type_name(kind))
        if client is None or not client.service_is_ready():
            raise RefusedError(self._sentence() or "The tracker does not offer that now; try again.")
        return await self._answer(lambda: client.call_async(request))

    async def _answer(self, ask: Any) -> Any:
        """Ask, and wait for the answer, which comes in the executor's thread."""
        answered: concurrent.futures.Future[Any] = concurrent.futures.Future()
        answered.set_running_or_notify_cancel()  # from now on it can be answered only, not cancelled meanwhile

        def finish(future: Any) -> None:
            if (error := future.exception()) is not None:
                answered.set_exception(error)
            else:
                answered.set_result(future.result())

        ask().add_done_callback(finish)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answered), ANSWER_TIME)
        except asyncio.TimeoutError:
            raise RefusedError(f"The tracker has not answered within {ANSWER_TIME:g} s; try again.") from None

    # What is known of the tracker.

    @property
    def _is_heard(self) -> bool:
        return time.monotonic() - self._heard < HEARD_WITHIN

    def _sentence(self) -> str:
        """Return what a person must know now; empty if all is well."""
        state = self._values.get("lifecycle state", "")
        now = time.monotonic()
        if not self._is_heard:
            return f"The tracker {self._name} is silent. It is shown again as soon as it is back."
        if state != "active":
            transition = "activate" if state == "inactive" else "configure"
            return f"The tracker is {state}. To go on: ros2 lifecycle set {self._name} {transition}"
        if now - self._image_came > IMAGE_WITHIN:
            topic = self._images_from
            if topic is None:
                return "The tracker takes no images yet."
            return f"No image comes on {topic.name}. Start the camera, or give the tracker another topic."
        if now - self._tracks_came > IMAGE_WITHIN:
            return f"Images come, but no tracks of them. The tracker says: {self._message}"
        return ""

    def _find_topics(self) -> None:
        """Subscribe to the topics of the tracker, whatever they are remapped to, and again when they change."""
        images, tracks = self._image_topic(), self._tracks_topic()
        # A tracker that restarts is missing in the graph for a while: what it had is kept until it is back.
        if images is not None and images != self._images_from:
            self._images_from = images
            self._subscribe("images", images.kind, images.name, self._on_image, qos.images(images.reliable))
        if tracks is not None and tracks != self._tracks_from:
            self._tracks_from = tracks
            self._subscribe("tracks", TrackedPoints, tracks, self._on_tracks, qos.reliable())

    def _image_topic(self) -> _ImageTopic | None:
        """Return the topic from which the tracker takes images, and how; None if it takes none now."""
        for name, kinds in self._of_node(self._node.get_subscriber_names_and_types_by_node):
            for kind in IMAGE_KINDS.keys() & set(kinds):
                own = [
                    info.qos_profile
                    for info in self._node.get_subscriptions_info_by_topic(name)
                    if (info.node_namespace.rstrip("/"), info.node_name) == (self._namespace, self._base_name)
                ]
                is_reliable = any(profile.reliability == ReliabilityPolicy.RELIABLE for profile in own)
                return _ImageTopic(name, IMAGE_KINDS[kind], is_reliable)
        return None

    def _tracks_topic(self) -> str | None:
        """Return the topic on which the tracker publishes tracks; None if it publishes none now."""
        topics = self._of_node(self._node.get_publisher_names_and_types_by_node)
        return next((name for name, kinds in topics if TRACKS_TYPE in kinds), None)

    def _subscribe(self, what: str, kind: type, topic: str, callback: Any, profile: Any) -> None:
        """Subscribe in place of what was subscribed to before."""
        if what in self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop(what))
        # The tracker reports what is wrong with its topics; here, every event would cost time for every image.
        events = SubscriptionEventCallbacks(use_default_callbacks=False)
        subscription = self._node.create_subscription(kind, topic, callback, profile, event_callbacks=events, raw=True)
        self._subscriptions[what] = subscription

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions = {}
        self._images_from = self._tracks_from = None
        self._images.clear()
        self._waiting_bytes = 0
        self._waiting_tracks = None

    def _find_services(self) -> None:
        """Make clients of the services that the tracker offers; some it offers only while it is active."""
        for service, types in self._of_node(self._node.get_service_names_and_types_by_node):
            for name in SERVICES.keys() & set(types):
                client = self._clients.get(name)
                if client is not None and client.srv_name != service:
                    self._node.destroy_client(self._clients.pop(name))
                if name not in self._clients:
                    self._clients[name] = self._node.create_client(SERVICES[name], service, qos_profile=qos.requests())

    def _of_node(self, query: Any) -> list[tuple[str, list[str]]]:
        """Ask the graph about the tracker's node; nothing is known of one that is gone."""
        try:
            found: list[tuple[str, list[str]]] = query(self._base_name, self._namespace or "/")
        except Exception as error:
            # rclpy raises NodeNameNonExistentError, which it does not offer under a public name.
            if type(error).__name__ == "NodeNameNonExistentError":
                return []
            raise
        return found

    def _ask_parameters(self) -> None:
        now = time.monotonic()
        client = self._clients.get(qos.type_name(GetParameters))
        if client is None or not self._is_heard or now - self._parameters_asked < PARAMETER_PERIOD:
            return
        self._parameters_asked = now
        if client.service_is_ready():
            client.call_async(GetParameters.Request(names=[*LIVE])).add_done_callback(self._take_parameters)

    def _take_parameters(self, future: Any) -> None:
        answer = future.result()
        if answer is None:
            return
        # A tracker that lacks one of them, being of another version, answers with an empty list or an unset value.
        values = {name: _value_of(value) for name, value in zip(LIVE, answer.values, strict=False)}
        self._parameters = {name: value for name, value in values.items() if value is not None}

    # Images and tracks, matched by their stamps.

    def _on_image(self, data: bytes) -> None:
        now = time.monotonic()
        self._image_came = now
        stamp = _stamp(data)
        if stamp is None:
            return
        if self._waiting_tracks is not None and self._waiting_tracks[0] == stamp:
            self._show(data, stamp, self._waiting_tracks[1])
            return
        if now - self._tracks_came > TRACKS_WITHIN:
            if now - self._shown_plain >= PLAIN_PERIOD:
                self._shown_plain = now
                self._show(data, stamp, None)
            return
        self._waiting_bytes += len(data) - len(self._images.pop(stamp, b""))
        self._images[stamp] = data
        while len(self._images) > 1 and (len(self._images) > WAITING_IMAGES or self._waiting_bytes > WAITING_BYTES):
            self._waiting_bytes -= len(self._images.popitem(last=False)[1])

    def _on_tracks(self, data: bytes) -> None:
        self._tracks_came = time.monotonic()
        stamp = _stamp(data)
        if stamp is None:
            return
        self._waiting_tracks = stamp, data
        if stamp not in self._images:
            return
        image = self._images[stamp]
        # Those before were skipped by the tracker, or are of a stream that has ended.
        while self._images:
            first, passed = self._images.popitem(last=False)
            self._waiting_bytes -= len(passed)
            if first == stamp:
                break
        self._show(image, stamp, data)

    def _show(self, image: bytes, stamp: int, tracks: bytes | None) -> None:
        self._waiting_tracks = None
        if self._images_from is not None:
            self.stage.show(functools.partial(self._message_of, image, self._images_from.kind, stamp, tracks))

    def _message_of(self, image: bytes, kind: type, stamp: int, tracks: bytes | None) -> bytes | None:
        """Return an image and its tracks as the page gets them; None if they cannot be read. In the stage's thread."""
        try:
            # Read like a bag's, as a view of the bytes: copies of images would cost more than all the rest.
            message: Any = typestore().deserialize_cdr(image, qos.type_name(kind))
            jpeg, size = self._jpeg(message, kind)
            points = None if tracks is None else tracks_of_serialized(tracks).tracks
        except (InvalidMessageError, InvalidImageError, SerdeError):
            return None  # the tracker says what is wrong with it
        if points is not None:
            size = points.width, points.height
        self._size = size
        return frame_message(jpeg, *size, stamp, points)

    def _jpeg(self, message: Any, kind: type) -> tuple[bytes, tuple[int, int]]:
        """Return an image message as JPEG, and the image's width and height; a JPEG that is small enough as it is."""
        if kind is CompressedImage:
            data = np.frombuffer(message.data, np.uint8)
            if data[:3].tobytes() == b"\xff\xd8\xff" and 0 < max(declared_size(data)) <= self._largest_side:
                return data.tobytes(), declared_size(data)
            image = compressed_image_to_rgb(message)
        else:
            image = image_to_rgb(message)
        return self._jpegs.encode(image), (image.shape[1], image.shape[0])


def _stamp(data: bytes) -> int | None:
    """Return the stamp of a serialized message that begins with a header, in nanoseconds; None if it is too short."""
    if len(data) < _STAMP.stop:
        return None
    seconds, nanoseconds = struct.unpack("<iI" if data[1] & 1 else ">iI", data[_STAMP])
    return int(seconds) * NANOSECONDS + int(nanoseconds)


def _number(text: str | None) -> float | None:
    """Return a value of the diagnostics as a number; None for words."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _value_of(value: ParameterValueMessage) -> float | None:
    """Return a parameter's value if it is a number, or true or false."""
    number = parameter_value_to_python(value)
    return float(number) if isinstance(number, int | float) else None
