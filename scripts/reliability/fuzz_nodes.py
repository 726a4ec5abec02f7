"""Mutated messages, requests and parameters for the node `tracker`, given to the functions that take them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PointStamped
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from taptr_ros.msg import QueryPoint, QueryPoints, QueryRegions, RemovePoints

from reliability import scene
from reliability.mutators import Generator, mutated, odd_float, odd_integer, odd_text
from taptr_ros import srv
from taptr_ros.errors import TaptrError
from taptr_ros.messages.images import ENCODINGS
from taptr_ros.messages.ros import rgb_image, time_message
from taptr_ros.nodes.tracker_node import TrackerNode
from taptr_ros.settings import settings_of
from taptr_ros.tracking import TrackerConfig

PERIOD = 33_000_000
"""Nanoseconds between two images of the good stream."""
GOOD_FRAMES = 6
"""Images of the good stream."""

Give = Callable[[Generator], bool]
"""Gives one mutated input and returns whether it was taken; raises nothing unless that is a defect."""


class FuzzedNode:
    """A tracker node in this process, and what publishers, clients and operators can send it."""

    def __init__(self, *, compressed: bool = False, model: str = "lucas_kanade", memory_slots: int = 16) -> None:
        rclpy.init(args=["--ros-args", "--log-level", "FATAL"])
        values = {"model": model, "threads": 1, "compressed": compressed, "capacity": 64, "memory_slots": memory_slots}
        self._node = TrackerNode(parameter_overrides=[Parameter(name, value=value) for name, value in values.items()])
        self._node.trigger_configure()
        self._node.trigger_activate()
        self._compressed = compressed
        self._find_callbacks()
        self._live = [entry for entry in settings_of(TrackerConfig) if entry.live]
        self._stamp = 10**18
        self._image: NDArray[np.uint8] = scene.view(0.0)
        self.targets: dict[str, Give] = (
            {"compressed images": self._give_image, "compressed images, serialized": self._give_serialized_image}
            if compressed
            else {
                "images": self._give_image,
                "images, serialized": self._give_serialized_image,
                "query_points": lambda rng: self._give_query(rng, by_topic=True),
                "query_points, serialized": self._give_serialized_query,
                "query_regions, serialized": self._give_serialized_regions,
                "add_points": lambda rng: self._give_query(rng, by_topic=False),
                "add_regions": self._give_regions,
                "remove_points": self._give_removal,
                "remove_points, the service": self._give_removal_request,
                "get_tracks": self._give_question,
                "clicked_point": self._give_click,
                "parameters": self._give_parameters,
                "parameter files": self._give_parameter_file,
            }
        )

    def good_stream(self) -> list[float]:
        """Track four points through a good stream; return their numbers."""
        for entry in self._live:
            self._node.set_parameters([Parameter(entry.name, value=entry.default)])
        self._call("reset", Trigger.Request(), Trigger.Response())
        # As far behind as no mutated message comes: a good stream may begin at any time.
        for frame in range(GOOD_FRAMES):
            self._stamp += PERIOD
            self._track(serialize_message(self._message(scene.view(frame * 0.033))))
            if frame == 0:
                request = srv.AddPoints.Request(query=query_of(scene.points(2)))
                self._call("add_points", request, srv.AddPoints.Response())
        answer = self._call("get_tracks", srv.GetTracks.Request(), srv.GetTracks.Response())
        return [
            number for point in answer.tracks.points for number in (point.x, point.y, point.visibility, point.state)
        ]

    def track(self, image: NDArray[np.uint8]) -> None:
        """Give the next image of a stream at 30 images per second, uint8 [H,W,3] RGB."""
        self._stamp += PERIOD
        self._track(serialize_message(self._message(image)))

    def add(self, xy: NDArray[np.float64]) -> list[int]:
        """Ask for a point [2] in pixels; return its id, or nothing."""
        request = srv.AddPoints.Request(query=query_of(xy[np.newaxis]))
        return [id_ for id_ in self._call("add_points", request, srv.AddPoints.Response()).ids if id_]

    def remove(self, id_: int) -> None:
        """End a track."""
        self._call("remove_points", srv.RemovePoints.Request(ids=[id_]), srv.RemovePoints.Response())

    def set(self, name: str, value: float) -> None:
        """Set a parameter."""
        self._node.set_parameters([Parameter(name, value=value)])

    def restart(self) -> None:
        """Take the node through its lifecycle once."""
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            getattr(self._node, f"trigger_{transition}")()
        self._find_callbacks()

    def close(self) -> None:
        """End the node."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _find_callbacks(self) -> None:
        self._topics = {entry.topic_name.rsplit("/", 1)[-1]: entry.callback for entry in self._node.subscriptions}
        self._services = {entry.srv_name.rsplit("/", 1)[-1]: entry.callback for entry in self._node.services}

    def _call(self, name: str, request: Any, response: Any) -> Any:
        return self._services[name](request, response)

    def _track(self, data: bytes) -> bool:
        """Do what the node's worker does with an image; the worker's thread would end the process with an exception."""
        try:
            self._node._track(data)
        except TaptrError:
            return False
        return True

    def _message(self, image: NDArray[np.uint8]) -> Any:
        header = Header(stamp=time_message(self._stamp), frame_id="camera")
        if not self._compressed:
            return rgb_image(image, header)
        data = cv2.imencode(".png", image)[1]
        return CompressedImage(header=header, format="png", data=data.tobytes())

    def _give_image(self, rng: Generator) -> bool:
        if rng.random() < 0.9:
            self._stamp += PERIOD
        message = self._message(self._image)
        for _ in range(int(rng.integers(1, 4))):
            _mutate_compressed(message, rng) if self._compressed else _mutate_image(message, rng)
        return self._track(serialize_message(message))

    def _give_serialized_image(self, rng: Generator) -> bool:
        self._stamp += PERIOD
        return self._track(mutated(serialize_message(self._message(self._image[:24, :32])), rng))

    def _give_query(self, rng: Generator, *, by_topic: bool) -> bool:
        query = query_of(scene.points(2)[: int(rng.integers(5))])
        query.mode = odd_integer(rng, 0, 255) if rng.random() < 0.3 else int(rng.integers(2))
        if rng.random() < 0.02:
            query.points = [QueryPoint(x=1.0, y=1.0)] * int(rng.integers(100))
        for point in query.points:
            if rng.random() < 0.5:
                point.x, point.y = odd_float(rng, 80.0), odd_float(rng, 60.0)
            if rng.random() < 0.5:
                point.id = odd_integer(rng, 0, 2**64 - 1)
            if rng.random() < 0.5:
                point.group = odd_integer(rng, 0, 2**32 - 1) if rng.random() < 0.5 else int(rng.integers(5))
        mutate_header(query.header, rng)
        if by_topic:
            self._topics["query_points"](serialize_message(query))
            return True
        answer = self._call("add_points", srv.AddPoints.Request(query=query), srv.AddPoints.Response())
        assert len(answer.ids) == len(answer.refusals) == len(query.points)
        assert all(bool(id_) != bool(reason) for id_, reason in zip(answer.ids, answer.refusals, strict=True))
        return all(answer.ids)

    def _give_serialized_query(self, rng: Generator) -> bool:
        self._topics["query_points"](mutated(serialize_message(query_of(scene.points(2))), rng))
        return True

    def _give_regions(self, rng: Generator) -> bool:
        query = regions_of(rng)
        query.mode = odd_integer(rng, 0, 255) if rng.random() < 0.2 else int(rng.integers(2))
        for box in query.boxes:
            if rng.random() < 0.5:
                names = ("x_offset", "y_offset", "width", "height")
                setattr(box, names[int(rng.integers(4))], odd_integer(rng, 0, 2**32 - 1))
        if rng.random() < 0.3:
            _mutate_image(query.mask, rng)
        if rng.random() < 0.3:
            query.labels = odd_groups(rng)
        if rng.random() < 0.3:
            query.groups = odd_groups(rng)
        if rng.random() < 0.3:
            query.points_per_region = odd_integer(rng, 0, 2**32 - 1)
        mutate_header(query.header, rng)
        answer = self._call("add_regions", srv.AddRegions.Request(query=query), srv.AddRegions.Response())
        assert bool(answer.refusal) != bool(answer.regions)
        assert all(bool(region.group) != bool(region.refusal) for region in answer.regions)
        return any(region.group for region in answer.regions)

    def _give_serialized_regions(self, rng: Generator) -> bool:
        self._topics["query_regions"](mutated(serialize_message(regions_of(rng)), rng))
        return True

    def _give_removal(self, rng: Generator) -> bool:
        self._topics["remove_points"](serialize_message(RemovePoints(ids=odd_ids(rng), groups=odd_groups(rng))))
        return True

    def _give_removal_request(self, rng: Generator) -> bool:
        request = srv.RemovePoints.Request(ids=odd_ids(rng), groups=odd_groups(rng))
        answer = self._call("remove_points", request, srv.RemovePoints.Response())
        return not (answer.unknown_ids or answer.unknown_groups)

    def _give_question(self, rng: Generator) -> bool:
        request = srv.GetTracks.Request(ids=odd_ids(rng))
        return not self._call("get_tracks", request, srv.GetTracks.Response()).unknown_ids

    def _give_click(self, rng: Generator) -> bool:
        click = PointStamped()
        click.point.x, click.point.y, click.point.z = (odd_float(rng, 60.0) for _ in range(3))
        if rng.random() < 0.5:
            self._topics["image_mouse_left"](serialize_message(click.point))
            return True
        mutate_header(click.header, rng)
        self._topics["clicked_point"](serialize_message(click))
        return True

    def _give_parameters(self, rng: Generator) -> bool:
        names = [entry.name for entry in settings_of(TrackerConfig)]
        parameters = []
        for _ in range(int(rng.integers(1, 4))):
            name = names[int(rng.integers(len(names)))] if rng.random() < 0.95 else odd_text(rng, "capacity")
            parameters.append(Parameter(name[:200], value=_odd_value(rng)))
        try:
            return all(result.successful for result in self._node.set_parameters(parameters))
        except ParameterException:
            return False  # as the node's parameter service does; nothing is set then

    def _give_parameter_file(self, rng: Generator) -> bool:
        text = b"tracker:\n  ros__parameters:\n    capacity: 64\n    model: lucas_kanade\n    lost_after: 5\n"
        with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
            Path(file.name).write_bytes(mutated(text, rng))
            context = Context()
            try:
                context.init(args=["--ros-args", "--params-file", file.name, "--log-level", "FATAL"])
            except (rclpy_implementation.RCLError, ValueError):
                return False
            context.try_shutdown()
            context.destroy()
        return True


def query_of(points: NDArray[np.float64]) -> QueryPoints:
    """Return a request for points [N,2] in pixels, in the newest image."""
    return QueryPoints(points=[QueryPoint(x=float(x), y=float(y)) for x, y in points])


def regions_of(rng: Generator) -> QueryRegions:
    """Return a request for regions of the good stream's images, boxes or a mask."""
    query = QueryRegions(points_per_region=int(rng.integers(1, 5)))
    if rng.random() < 0.5:
        query.boxes = [RegionOfInterest(x_offset=5 * index, width=30, height=30) for index in range(rng.integers(4))]
    else:
        labels = np.zeros((scene.HEIGHT, scene.WIDTH), "<u2" if rng.random() < 0.5 else np.uint8)
        labels[5:40, 5:40], labels[5:40, 45:75] = 1, 200
        query.mask.height, query.mask.width = labels.shape
        query.mask.encoding, query.mask.step = f"mono{8 * labels.itemsize}", labels.strides[0]
        query.mask.data = labels.tobytes()
    return query


def mutate_header(header: Header, rng: Generator) -> None:
    """Put values at the edges of what they can be into some fields of a header."""
    if rng.random() < 0.2:
        header.stamp.sec = odd_integer(rng, -(2**31), 2**31 - 1)
        header.stamp.nanosec = odd_integer(rng, 0, 2**32 - 1)
    if rng.random() < 0.1:
        header.frame_id = odd_text(rng, "camera").replace("\0", "")


def _mutate_image(message: Image, rng: Generator) -> None:
    field = rng.integers(6)
    if field == 0:
        message.height = odd_integer(rng, 0, 2**32 - 1)
    elif field == 1:
        message.width = odd_integer(rng, 0, 2**32 - 1)
    elif field == 2:
        message.step = odd_integer(rng, 0, 2**32 - 1)
    elif field == 3:
        message.encoding = str(rng.choice(ENCODINGS)) if rng.random() < 0.6 else odd_text(rng, "rgb8")
        message.is_bigendian = int(rng.integers(256))
    elif field == 4:
        message.data = message.data[: int(rng.integers(len(message.data) + 1))]
    else:
        # Every layout that its own size fits, so that conversions run, too.
        message.encoding = str(rng.choice(ENCODINGS))
        message.height, message.width = (int(2 ** rng.integers(0, 7)) + int(rng.integers(3)) for _ in range(2))
        message.step = message.width * int(rng.integers(1, 9))
    if rng.random() < 0.2:
        mutate_header(message.header, rng)


def _mutate_compressed(message: CompressedImage, rng: Generator) -> None:
    if rng.random() < 0.1:
        message.format = odd_text(rng, "png").replace("\0", "")
    elif rng.random() < 0.3:
        ending = (".jpg", ".bmp", ".tiff", ".webp", ".ppm")[int(rng.integers(5))]
        message.data = cv2.imencode(ending, scene.view(0.0)[:24, :32])[1].tobytes()
    else:
        message.data = mutated(bytes(message.data), rng)
    if rng.random() < 0.1:
        mutate_header(message.header, rng)


def odd_ids(rng: Generator) -> list[int]:
    """Return ids of tracks, some of which may be, and others at the edges of what an id can be."""
    count = int(rng.integers(5)) if rng.random() < 0.99 else int(rng.integers(2000))
    return [odd_integer(rng, 0, 2**64 - 1) if rng.random() < 0.5 else int(rng.integers(20)) for _ in range(count)]


def odd_groups(rng: Generator) -> list[int]:
    """Return groups as `odd_ids` returns ids."""
    return [id_ % 2**32 for id_ in odd_ids(rng)]


def _odd_value(rng: Generator) -> Any:
    kind = rng.integers(8)
    if kind < 3:
        return odd_integer(rng, -(2**63), 2**63 - 1) if kind else int(rng.integers(100))
    if kind < 6:
        return odd_float(rng, 0.5)
    if kind == 6:
        return bool(rng.integers(2))
    return (odd_text(rng, "auto").replace("\0", ""), [1.0], [True], [""], ["none"], [1, 2])[int(rng.integers(6))]
