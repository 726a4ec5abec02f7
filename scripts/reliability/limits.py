"""Limits: the largest of everything works, and what is beyond gets a sentence, before memory is taken for it."""

from __future__ import annotations

import dataclasses
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from taptr_ros.msg import QueryPoint, QueryPoints

from reliability import scene
from reliability.fuzz_live import LiveTracker
from reliability.measures import peak_memory
from taptr_ros import MAX_IMAGE_PIXELS, srv
from taptr_ros.errors import TaptrError
from taptr_ros.messages.encoded import decode_image
from taptr_ros.messages.images import image_to_rgb
from taptr_ros.runtime.loading import load_backend
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackStream
from taptr_ros.tracking.stream import MOST_POINTS

SIDE = 8192
"""Pixels per side of the largest image."""
CLIENTS = 40
"""Clients that ask at once."""
BURST = 1500
"""Images that are sent as fast as possible."""


@dataclasses.dataclass
class LimitResult:
    """What came of one limit."""

    limit: str
    value: str
    """The largest that was tried, and works."""
    measured: str = ""
    beyond: str = ""
    """The sentence on what is larger."""
    problem: str = ""


class _Image:
    """A sensor_msgs/Image of zeros."""

    encoding, is_bigendian = "mono8", 0

    def __init__(self, width: int, height: int) -> None:
        self.width = self.step = width
        self.height = height
        self.data = bytes(width * height)


def limits(model: str) -> dict[str, Any]:
    """Try all limits; return what came of them."""
    results = []
    for measure in (_raw_image, _encoded_image, _points, lambda result: _memory(result, model), _rate_and_clients):
        result = LimitResult("", "")
        try:
            measure(result)
        except (AssertionError, TimeoutError) as error:
            result.problem = str(error) or "not as it should be"
        results.append(result)
        print(" | ".join(str(part) for part in dataclasses.astuple(result)), flush=True)
    return {
        "defects": sum(bool(result.problem) for result in results),
        "limits": [dataclasses.asdict(result) for result in results],
    }


def _sentence(act: Callable[[], Any]) -> str:
    """Return the sentence with which something is refused; it must take no memory worth speaking of."""
    before = peak_memory()
    try:
        act()
    except TaptrError as error:
        taken = peak_memory() - before
        assert taken < 64, f"{taken:.0f} MiB were taken before it was refused"
        return str(error)
    raise AssertionError("it was not refused")


def _raw_image(result: LimitResult) -> None:
    result.limit, result.value = "image", f"{SIDE}x{SIDE} pixels"
    stream = TrackStream(PointTracker(load_backend("lucas_kanade"), TrackerConfig(capacity=4, memory_slots=4)))
    began = time.perf_counter()
    for stamp in (1, 2):
        tracks = stream.step(image_to_rgb(_Image(SIDE, SIDE)), stamp).tracks
        assert tracks is not None
    result.measured = f"{(time.perf_counter() - began) / 2:.1f} s per image with Lucas-Kanade"
    too_large = _Image(SIDE, SIDE + 1)
    result.beyond = _sentence(lambda: image_to_rgb(too_large))


def _encoded_image(result: LimitResult) -> None:
    result.limit, result.value = "image that is encoded", f"{MAX_IMAGE_PIXELS} pixels"

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE + 1, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    result.beyond = _sentence(lambda: decode_image(np.frombuffer(data, np.uint8), "The image"))


def _points(result: LimitResult) -> None:
    result.limit, result.value = "points", f"{MOST_POINTS}, in one request and in one tracker"
    config = TrackerConfig(capacity=MOST_POINTS, memory_slots=1)
    stream = TrackStream(PointTracker(load_backend("lucas_kanade"), config))
    stream.step(scene.view(0.0), 1)
    points = np.random.default_rng(0).uniform(0, [scene.WIDTH - 1, scene.HEIGHT - 1], (MOST_POINTS, 2))
    began = time.perf_counter()
    _, refusals = stream.add(points, [0] * len(points), 0, replace=False)
    added = time.perf_counter()
    assert not any(refusals)
    tracks = stream.step(scene.view(0.033), 2).tracks
    assert tracks is not None
    assert len(tracks.ids) == MOST_POINTS
    result.measured = f"added in {added - began:.1f} s, tracked in {time.perf_counter() - added:.1f} s per image"
    more = np.concatenate([points, points[:1]])
    result.beyond = stream.add(more, [0] * len(more), 0, replace=False)[1][0]
    assert "more than" in result.beyond


def _memory(result: LimitResult, model: str) -> None:
    result.limit, result.value = "memory", "what the machine, or the container, has left"
    backend = load_backend(model, threads=1)
    result.beyond = _sentence(lambda: PointTracker(backend, TrackerConfig(capacity=MOST_POINTS, memory_slots=65536)))


def _rate_and_clients(result: LimitResult) -> None:
    result.limit = "rate and clients"
    tracker = LiveTracker()
    try:
        expected = tracker.good_stream()
        seconds = tracker.burst(BURST)
        node = Node("clients", namespace="/fuzz")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # Every client's reader takes the answers to all of them, and keeps 10 by default.
        profile = QoSProfile(depth=1000)
        clients = [node.create_client(srv.GetTracks, "get_tracks", qos_profile=profile) for _ in range(CLIENTS)]
        end = time.monotonic() + 60
        while not all(client.service_is_ready() for client in clients) and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
        began = time.monotonic()
        answers = [client.call_async(srv.GetTracks.Request()) for client in clients]
        while not all(answer.done() for answer in answers) and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
        assert all(answer.done() for answer in answers), "not every client was answered"
        result.value = f"{BURST / seconds:.0f} images per second, {CLIENTS} clients that ask at once"
        result.measured = f"all clients answered within {time.monotonic() - began:.2f} s"
        query = QueryPoints(points=[QueryPoint(x=1.0, y=1.0)] * 100)
        refusals = tracker.call("add_points", srv.AddPoints.Request(query=query)).refusals
        result.beyond = "images that are not tracked in time give way to newer ones and are counted. " + refusals[-1]
        assert "exceed the capacity" in refusals[-1]
        node.destroy_node()
        assert tracker.good_stream() == expected, "a good stream has other numbers afterwards"
    finally:
        status, said = tracker.close()
    assert status == 0, said
