"""A client that knows where every point is: it tells tracks that are good from those that are not."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from taptr_ros.msg import QueryPoint, QueryPoints, TrackedPoint, TrackedPoints

from reliability import scene
from taptr_ros import srv
from taptr_ros.messages.ros import time_message
from taptr_ros.messages.stamps import nanoseconds

CLOSE = 3.0
"""Pixels within which a visible point must be of its true place to be good."""
SIDE = 4
"""Points per side of the grid that is tracked."""
LONGEST = 60.0
"""Seconds after which what never comes counts as missing."""


class Probe:
    """Asks for a grid of points and judges the tracks of every message."""

    def __init__(self) -> None:
        self.node = Node("probe", namespace="/chaos")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.node.create_subscription(TrackedPoints, "tracks", self._take, 100)
        self._client: Any = self.node.create_client(srv.AddPoints, "add_points")
        self._places: dict[int, NDArray[np.float64]] = {}
        self.judged: collections.deque[tuple[float, int, set[int]]] = collections.deque(maxlen=10_000)
        """When (monotonic seconds) a message came, its stamp, and the ids of the tracks that were good in it."""

    @property
    def count(self) -> int:
        """The points that are asked for."""
        return SIDE * SIDE

    def ask(self, after: int = 0) -> None:
        """Ask for the grid in the newest image, with a stamp later than `after`, until a tracker has taken it."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            seen = len(self.judged)
            self.wait(lambda seen=seen: len(self.judged) > seen and self.judged[-1][1] > after, 5.0)
            if not (self.judged and self._client.service_is_ready()):
                continue
            stamp = self.judged[-1][1]
            places = scene.points(SIDE)
            query = QueryPoints(mode=QueryPoints.REPLACE)
            query.header.stamp = time_message(stamp)
            query.points = [QueryPoint(x=float(x), y=float(y)) for x, y in places + scene.shift(stamp / 1e9)]
            answer = self._client.call_async(srv.AddPoints.Request(query=query))
            if self.wait(answer.done, 5.0) and all(answer.result().ids):
                self._places = dict(zip(answer.result().ids, places, strict=True))
                return
        raise TimeoutError("no tracker takes the points")

    def wait(self, condition: Callable[[], Any], seconds: float) -> bool:
        """Take messages until a condition holds; return whether it does within some seconds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def good(self, share: float = 1.0, after: float = 0.0) -> bool:
        """Return whether in the newest message, if it came after a moment, that share of the points is good."""
        return bool(self.judged) and self.judged[-1][0] > after and len(self.judged[-1][2]) >= share * self.count

    def _take(self, message: TrackedPoints) -> None:
        stamp = nanoseconds(message.header.stamp)
        shift = np.array(scene.shift(stamp / 1e9))
        good = {
            point.id
            for point in message.points
            if point.id in self._places
            and point.state == TrackedPoint.VISIBLE
            and np.hypot(*(np.array([point.x, point.y]) - self._places[point.id] - shift)) < CLOSE
        }
        self.judged.append((time.monotonic(), stamp, good))
