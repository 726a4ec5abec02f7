"""The ROS node `depth`: tracks and depth images in, points in metres and the poses of bodies out."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.bodies.rigid_bodies import BodyState
from taptr_ros.bodies.stream import BodyStream, PlacedTracks, StampedDepth
from taptr_ros.errors import InvalidConfigError, TaptrError
from taptr_ros.messages.bodies import markers, pose_array, rigid_bodies, transforms
from taptr_ros.messages.clouds import metric_cloud
from taptr_ros.messages.depth import compressed_depth_image, depth_image
from taptr_ros.messages.ros import ROS_KINDS, time_message
from taptr_ros.messages.serialized import deserialized
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.messages.tracks import tracks_of_serialized
from taptr_ros.msg import RigidBodies, TrackedPoints
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.configs import DepthConfig
from taptr_ros.nodes.image_subscription import ImageSubscription
from taptr_ros.nodes.parameters import ParameterNode, declare_parameters, read_config
from taptr_ros.nodes.process import LOG_PERIOD, parse_arguments, run

DIAGNOSTICS_PERIOD = 1.0
"""Seconds between two messages on /diagnostics."""

QUEUED_DEPTHS = 10
"""Depth images that wait for this node at most."""


class DepthNode(ParameterNode):
    """Places the tracks of a tracker in space, and finds the motion of the bodies that their groups belong to.

    Its topics are listed in docs/ros.md. All work is done as messages come: an image takes a few milliseconds.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("depth", **options)
        declare_parameters(self, DepthConfig, BodiesConfig, read_only=True)
        self._config = read_config(self, DepthConfig, {})
        self._stream = BodyStream(read_config(self, BodiesConfig, {}), self._report)
        self._reported: dict[str, float] = {}
        """When each kind of sentence was last said."""
        self._reported_publishers: set[str] = set()
        self._placed_before = self._unusable_before = 0
        self._slowest = 0.0
        self._last: PlacedTracks | None = None
        self._outputs = {topic: self._output(kind, topic) for topic, kind in self._kinds().items()}
        if self._config.transforms:
            if not importlib.util.find_spec("tf2_msgs"):
                raise InvalidConfigError(
                    "transforms is true, but tf2_msgs is not installed; install ROS's tf2, or leave transforms off."
                )
            self._outputs["/tf"] = self.create_publisher(ROS_KINDS("tf2_msgs/msg/TFMessage"), "/tf", qos.reliable(100))
        self._depth_kind: type = CompressedImage if self._config.compressed else Image
        self._input(TrackedPoints, "tracks", self._on_tracks, qos.reliable())
        self._depths = ImageSubscription(
            self,
            self._depth_kind,
            "depth",
            self._reader("depth", self._on_depth),
            qos.newest_images(QUEUED_DEPTHS),
        )
        self._input(CameraInfo, "camera_info", self._on_camera_info, qos.newest_images())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady time: diagnostics go on while a simulation's clock stands still.
        self.create_timer(DIAGNOSTICS_PERIOD, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @staticmethod
    def _kinds() -> dict[str, type]:
        """Return the types of the published topics that this installation has."""
        kinds: dict[str, type] = {"tracks/points": PointCloud2, "bodies": RigidBodies, "bodies/poses": PoseArray}
        if importlib.util.find_spec("visualization_msgs"):
            kinds["bodies/markers"] = ROS_KINDS("visualization_msgs/msg/MarkerArray")
        return kinds

    def _output(self, kind: type, topic: str) -> Any:
        return self.create_publisher(
            kind,
            topic,
            qos.reliable(),
            event_callbacks=qos.publisher_events(self.resolve_topic_name(topic), self.get_logger()),
            qos_overriding_options=qos.overrides(),
        )

    def _reader(self, topic: str, take: Callable[[bytes], list[PlacedTracks]]) -> Callable[[bytes], None]:
        """Return what gives serialized messages of `topic` to `take` and publishes what that returns."""

        def read(data: bytes) -> None:
            began = time.process_time()
            try:
                placed = take(data)
            except TaptrError as error:
                self.get_logger().error(f"{topic}: {error}", throttle_duration_sec=LOG_PERIOD)
                return
            for entry in placed:
                self._publish(entry)
            if placed:
                self._slowest = max(self._slowest, (time.process_time() - began) / len(placed))

        return read

    def _input(self, kind: type, topic: str, take: Callable[[bytes], list[PlacedTracks]], profile: Any) -> None:
        self.create_subscription(
            kind,
            topic,
            self._reader(topic, take),
            profile,
            event_callbacks=qos.subscription_events(self.resolve_topic_name(topic), self.get_logger()),
            qos_overriding_options=qos.overrides(),
            raw=True,
        )

    def _on_tracks(self, data: bytes) -> list[PlacedTracks]:
        return self._stream.add_tracks(*tracks_of_serialized(data))

    def _on_depth(self, data: bytes) -> list[PlacedTracks]:
        message = deserialized(data, self._depth_kind)
        read = functools.partial(compressed_depth_image if self._config.compressed else depth_image, message)
        return self._stream.add_depth(StampedDepth(nanoseconds(message.header.stamp), message.header.frame_id, read))

    def _on_camera_info(self, data: bytes) -> list[PlacedTracks]:
        message = deserialized(data, CameraInfo)
        self._stream.add_camera_info(message, nanoseconds(message.header.stamp), message.header.frame_id)
        return []

    def _report(self, sentence: str) -> None:
        """Log a sentence, unless one of its kind was logged a moment ago."""
        kind, now = " ".join(sentence.split()[:4]), time.monotonic()
        if now - self._reported.get(kind, -LOG_PERIOD) >= LOG_PERIOD:
            self._reported[kind] = now
            self.get_logger().warning(sentence)

    def _publish(self, placed: PlacedTracks) -> None:
        """Publish what is known of one image, with that image's header."""
        self._last = placed
        header = ROS_KINDS("std_msgs/msg/Header")(
            stamp=time_message(placed.lifted.tracks.stamp), frame_id=placed.frame_id
        )
        self._outputs["tracks/points"].publish(metric_cloud(placed.lifted, header, ROS_KINDS))
        self._outputs["bodies"].publish(rigid_bodies(placed, header, ROS_KINDS))
        for topic, make in (("bodies/poses", pose_array), ("bodies/markers", markers)):
            if topic in self._outputs and self._outputs[topic].get_subscription_count():
                self._outputs[topic].publish(make(placed, header, ROS_KINDS))
        if "/tf" in self._outputs and not placed.frame_id:
            self._report(
                "The tracked image has no frame_id, so bodies cannot be frames on /tf; set it in the camera's driver."
            )
        elif "/tf" in self._outputs:
            message = transforms(placed, header, ROS_KINDS, self._config.frame_prefix)
            if message.transforms:
                self._outputs["/tf"].publish(message)

    def _report_publishers(self) -> None:
        """Say once of each what is wrong with those who publish depth images."""
        for problem in qos.publisher_problems(self, self.resolve_topic_name("depth"), self._depth_kind, "depth"):
            if problem not in self._reported_publishers:
                self._reported_publishers.add(problem)
                self.get_logger().warning(problem)

    def _publish_diagnostics(self) -> None:
        self._report_publishers()
        self._depths.adapt()
        status = self._status()
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _status(self) -> DiagnosticStatus:
        """Return what became of the tracked images since the last report, and of the bodies in the newest one."""
        counts = self._stream.counts
        placed, unusable = counts.placed - self._placed_before, counts.unpaired + counts.refused - self._unusable_before
        self._placed_before, self._unusable_before = counts.placed, counts.unpaired + counts.refused
        bodies = self._last.bodies if self._last is not None and placed else []
        tracked = sum(body.state == BodyState.TRACKED for body in bodies)
        level, words = (
            DiagnosticStatus.OK,
            f"{placed} images were placed; {tracked} of {len(bodies)} bodies are tracked.",
        )
        if unusable:
            level = DiagnosticStatus.WARN if placed else DiagnosticStatus.ERROR
            words = f"{unusable} images could not be placed. {counts.reason}"
        elif not placed:
            level, words = DiagnosticStatus.WARN, "No tracked image has come since the last report."
        values = {
            "images placed": str(counts.placed),
            "images without a depth image": str(counts.unpaired),
            "images whose depth or camera_info was refused": str(counts.refused),
            "bodies": str(len(bodies)),
            "bodies tracked": str(tracked),
            "longest processor time of an image [ms]": f"{1e3 * self._slowest:.1f}",
        }
        self._slowest = 0.0
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        name = f"{self.get_fully_qualified_name()[1:]}: bodies"
        return DiagnosticStatus(level=level, name=name, message=words, hardware_id="", values=pairs)


def main() -> int:
    """Run the node until it is interrupted; see `process.run`."""
    parse_arguments(argparse.ArgumentParser(prog="depth", description=__doc__))
    return run(DepthNode)


if __name__ == "__main__":
    sys.exit(main())
