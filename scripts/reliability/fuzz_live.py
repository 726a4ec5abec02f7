"""Mutated messages and requests over DDS, from this process to a tracker that runs in another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PointStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from taptr_ros.msg import QueryPoints, RemovePoints, TrackedPoints

from reliability import scene
from reliability.fuzz_nodes import GOOD_FRAMES, PERIOD, odd_ids, query_of
from reliability.measures import Holdings, holdings
from reliability.mutators import Generator, mutated
from taptr_ros import srv
from taptr_ros.messages.ros import rgb_image, time_message
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.nodes.process import IMAGE_TRANSPORT, TRANSPORT_VARIABLE

BATCH = 400
"""Messages between two good streams."""
ANSWER_TIME = 20.0
"""Seconds within which a service must answer, on a machine that does other work."""
IMAGE_LIMIT = 10.0
"""Seconds within which a good image must be tracked, on a machine that does other work."""
IMAGE_TIME = 0.3
"""Seconds within which an image that was taken is tracked."""
STREAMS = 3
"""Tries of a good stream: an image may be lost on its way, or be left out as one whose stamp seems to have jumped."""
MOST_GROWTH = 24.0
"""MiB by which the tracker's resident memory may rise from the second batch to the last."""


class LiveTracker:
    """A tracker's process, and publishers and clients of all its topics and services."""

    def __init__(self) -> None:
        os.environ.setdefault(TRANSPORT_VARIABLE, IMAGE_TRANSPORT)
        values = {"model": "lucas_kanade", "threads": 1, "capacity": 64, "memory_slots": 16}
        words = [word for key, value in values.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
        command = [sys.executable, "-m", "taptr_ros.nodes.tracker_node", "--ros-args", "-r", "__ns:=/fuzz", *words]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)  # noqa: S603
        rclpy.init(args=[])
        self._node = Node("fuzzer", namespace="/fuzz")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._tracks: dict[int, TrackedPoints] = {}
        self._node.create_subscription(TrackedPoints, "tracks", self._keep, 100)
        kinds = {"image": Image, "query_points": QueryPoints, "remove_points": RemovePoints}
        kinds["clicked_point"] = PointStamped
        self._publishers = {name: self._node.create_publisher(kind, name, 10) for name, kind in kinds.items()}
        services = {"add_points": srv.AddPoints, "remove_points": srv.RemovePoints, "get_tracks": srv.GetTracks}
        services["reset"] = Trigger
        self._clients: dict[str, Any] = {name: self._node.create_client(kind, name) for name, kind in services.items()}
        image = rgb_image(scene.view(0.0)[:24, :32], Header(frame_id="camera"))
        good = {"image": image, "query_points": query_of(scene.points(2)), "remove_points": RemovePoints(ids=[1, 2, 3])}
        good["clicked_point"] = PointStamped()
        self._good = {name: serialize_message(message) for name, message in good.items()}
        self._stamp = 10**18
        self.streams_begun_again = 0
        everything = [*self._clients.values(), *self._publishers.values()]
        self._wait(lambda: all(map(_is_connected, everything)), 3 * ANSWER_TIME, "a tracker")

    def give(self, rng: Generator) -> None:
        """Send one mutated message, or one request in fifty."""
        if rng.random() < 0.02:
            kind = int(rng.integers(3))
            if kind == 0:
                points = scene.points(2) * rng.normal(1, 1, (4, 2))
                self.call("add_points", srv.AddPoints.Request(query=query_of(points)))
            elif kind == 1:
                self.call("remove_points", srv.RemovePoints.Request(ids=odd_ids(rng)))
            else:
                self.call("get_tracks", srv.GetTracks.Request(ids=odd_ids(rng)))
            return
        name = [*self._good][int(rng.integers(len(self._good)))]
        self._publishers[name].publish(mutated(self._good[name], rng))
        self._executor.spin_once(timeout_sec=0.0)

    def good_stream(self) -> list[float]:
        """Track four points through a good stream; return their numbers. Begin again if an image is not tracked.

        A camera's images are sent as best effort, so one may be lost; a tracker that goes on tracks the next stream.
        """
        for _ in range(STREAMS):
            if numbers := self._one_stream():
                return numbers
            self.streams_begun_again += 1
        raise TimeoutError(f"{STREAMS} good streams had an image whose tracks did not come in {IMAGE_LIMIT:g} s")

    def _one_stream(self) -> list[float]:
        """Return the numbers of a good stream; none if an image of it was not tracked."""
        # Messages that were sent before are taken before the request is; the last image may still be in work then.
        self.call("get_tracks", srv.GetTracks.Request())
        self._spin_until(lambda: False, IMAGE_TIME)
        self.call("reset", Trigger.Request())
        self.call("remove_points", srv.RemovePoints.Request())
        for frame in range(GOOD_FRAMES):
            self._stamp += PERIOD
            message = rgb_image(scene.view(frame * 0.033), Header(stamp=time_message(self._stamp), frame_id="camera"))
            self._publishers["image"].publish(message)
            if not self._spin_until(lambda: self._stamp in self._tracks, IMAGE_LIMIT):
                return []
            if frame == 0:
                query = query_of(scene.points(2))
                query.mode = QueryPoints.REPLACE
                self.call("add_points", srv.AddPoints.Request(query=query))
        points = self._tracks[self._stamp].points
        self._tracks.clear()
        return [number for point in points for number in (point.x, point.y, point.visibility, point.state)]

    def burst(self, images: int) -> float:
        """Send good images as fast as possible; return the seconds that it took."""
        began = time.monotonic()
        message = rgb_image(scene.view(0.0), Header(frame_id="camera"))
        for _ in range(images):
            self._stamp += PERIOD
            message.header.stamp = time_message(self._stamp)
            self._publishers["image"].publish(message)
            self._executor.spin_once(timeout_sec=0.0)
        return time.monotonic() - began

    def call(self, name: str, request: Any) -> Any:
        """Call a service; raise `TimeoutError` if it does not answer."""
        for _ in range(2):  # a first answer is lost while the server does not know the client yet
            answer = self._clients[name].call_async(request)
            if self._spin_until(answer.done, ANSWER_TIME / 2):
                return answer.result()
        raise TimeoutError(f"{name} does not answer")

    def holdings(self) -> Holdings:
        """Return what the tracker's process holds."""
        return holdings(self.process.pid)

    def close(self) -> tuple[int, str]:
        """Interrupt the tracker; return its exit status and what it said last."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(ANSWER_TIME)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._node.destroy_node()
        rclpy.try_shutdown()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        self._log.close()
        return status, " | ".join(said[-3:])

    def _keep(self, message: TrackedPoints) -> None:
        self._tracks[nanoseconds(message.header.stamp)] = message
        while len(self._tracks) > 100:
            self._tracks.pop(next(iter(self._tracks)))

    def _wait(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        if not self._spin_until(condition, seconds):
            raise TimeoutError(f"{what} did not come within {seconds:g} s")

    def _spin_until(self, condition: Callable[[], Any], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True


def fuzz_live(cases: int, seed: int) -> dict[str, Any]:
    """Send about so many messages; return what came of them."""
    result: dict[str, Any] = {"target": "over DDS", "cases": 0, "good_streams": 0, "defects": []}
    began = time.monotonic()
    tracker = LiveTracker()
    try:
        expected = tracker.good_stream()
        held = [tracker.holdings()]
        while result["cases"] < cases:
            for _ in range(BATCH):
                tracker.give(np.random.default_rng([seed, result["cases"]]))
                result["cases"] += 1
            found = tracker.good_stream()
            if found == expected:
                result["good_streams"] += 1
            else:
                result["defects"].append(f"before case {result['cases']}: a good stream has other numbers, {found}")
            held.append(tracker.holdings())
        second, last = held[1], held[-1]
        result["growth"] = last.memory - second.memory
        if result["growth"] > MOST_GROWTH or last.files > second.files or last.threads > second.threads:
            result["defects"].append(f"the tracker holds {last}, after the first batch {second}")
    except TimeoutError as error:
        result["defects"].append(f"before case {result['cases']}: {error}")
    result["streams_begun_again"] = tracker.streams_begun_again
    status, said = tracker.close()
    if status:
        result["defects"].append(f"the tracker ended with status {status}")
    if result["defects"]:
        print(f"the tracker said last: {said}")
    result["seconds"] = time.monotonic() - began
    print(f"{'over DDS':32} {result['cases']:8} cases, {result['seconds']:6.1f} s, {len(result['defects'])} defects")
    print("\n".join(result["defects"]))
    return result


def _is_connected(end: Any) -> bool:
    return bool(end.service_is_ready() if hasattr(end, "service_is_ready") else end.get_subscription_count())
