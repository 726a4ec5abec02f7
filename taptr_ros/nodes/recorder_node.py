"""The ROS node `recorder`: tracks, bodies, and the images they belong to, in a rosbag2."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.qos import ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from taptr_ros.errors import SourceError
from taptr_ros.messages.bodies import RIGID_BODIES
from taptr_ros.msg import RigidBodies, TrackedPoints
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.configs import RecorderConfig
from taptr_ros.nodes.parameters import ParameterNode, declare_parameters, read_config
from taptr_ros.nodes.process import end_process_with, parse_arguments, run
from taptr_ros.sources.bag_source import COMPRESSED_IMAGE, IMAGE
from taptr_ros.sources.bags import BagWriter, RecordedMessage
from taptr_ros.sources.interfaces import TRACKED_POINTS

QUEUED_MESSAGES = 100
"""Messages per topic that wait while the disk is slow."""

LOOKING_PERIOD = 0.1
"""Seconds between two looks at what publishers offer."""

FLUSH_PERIOD = 0.5
"""Seconds between two writings to the disk: what a recorder that is killed may lose."""

_KINDS: dict[str, type] = {
    TRACKED_POINTS: TrackedPoints,
    IMAGE: Image,
    COMPRESSED_IMAGE: CompressedImage,
    "sensor_msgs/msg/PointCloud2": PointCloud2,
    RIGID_BODIES: RigidBodies,
}
"""What can be recorded, by the name of the message type."""


class RecorderNode(ParameterNode):
    """Writes what is published, undecoded and at the time of its publication, until the process ends.

    Like `ros2 bag record` it subscribes to a topic once someone publishes on it, with the type and the reliability
    that are offered: best effort unless all publishers are reliable. Raises `InvalidConfigError` if the folder of the
    bag exists already, `SourceError` if it cannot be made; a bag that cannot be written any more ends the process.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("recorder", **options)
        self._bag: BagWriter | None = None
        self._subscriptions_by_topic: dict[str, Subscription[Any]] = {}
        declare_parameters(self, RecorderConfig, read_only=True)
        config = read_config(self, RecorderConfig, {})
        try:
            self._bag = BagWriter(Path(config.directory))
        except OSError as error:
            raise SourceError(_problem(config.directory, error)) from error
        self._directory = config.directory
        self._topics = ["tracks", "tracks/points", "bodies", *(["image"] if config.images else [])]
        # A clock that stands still, as /clock may, holds up neither.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(LOOKING_PERIOD, self._look_at_publishers, clock=steady)
        self.create_timer(FLUSH_PERIOD, self._flush, clock=steady)
        self._look_at_publishers()
        self.get_logger().info(f"Recording into {config.directory}.")

    def _look_at_publishers(self) -> None:
        """Subscribe to topics that have publishers by now, and anew where a reliable subscription hears not all."""
        for topic in self._topics:
            offers = [
                offer
                for offer in self.get_publishers_info_by_topic(self.resolve_topic_name(topic))
                if offer.topic_type in _KINDS
            ]
            if not offers:
                continue
            reliable = qos.all_reliable(offers)
            subscribed = self._subscriptions_by_topic.get(topic)
            if subscribed is None:
                self._subscribe(topic, offers[0].topic_type, reliable)
            elif not reliable and subscribed.qos_profile.reliability == ReliabilityPolicy.RELIABLE:
                self.destroy_subscription(subscribed)
                self._subscribe(topic, offers[0].topic_type, reliable)

    def _subscribe(self, topic: str, kind: str, reliable: bool) -> None:
        full_name = self.resolve_topic_name(topic)
        if self._bag is not None and topic not in self._subscriptions_by_topic:
            self._bag.add_topic(full_name, kind)
        profile = qos.reliable(QUEUED_MESSAGES)
        if not reliable:
            profile.reliability = ReliabilityPolicy.BEST_EFFORT
        self._subscriptions_by_topic[topic] = self.create_subscription(
            _KINDS[kind],
            topic,
            functools.partial(self._write, full_name),
            profile,
            event_callbacks=qos.subscription_events(full_name, self.get_logger()),
            raw=True,
        )

    def _write(self, topic: str, data: Any, info: Any) -> None:
        if self._bag is None:
            return
        try:
            self._bag.write(topic, RecordedMessage(info["source_timestamp"], data))
        except OSError as error:
            self._give_up(error)

    def _flush(self) -> None:
        try:
            if self._bag is not None:
                self._bag.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._bag = None  # it could not be completed either; what is in it can be read
        end_process_with(self, SourceError(_problem(self._directory, error)))

    def destroy_node(self) -> None:
        """Complete the bag and leave the graph."""
        if self._bag is not None:
            try:
                self._bag.close()
            except OSError as error:
                self.get_logger().fatal(_problem(self._directory, error))
            self._bag = None
        super().destroy_node()


def _problem(directory: str, error: OSError) -> str:
    return f"The bag {directory} cannot be written ({error.strerror}); choose a folder that is writable and has room."


def main() -> int:
    """Run the node until it is interrupted; see `process.run`."""
    parse_arguments(argparse.ArgumentParser(prog="recorder", description=__doc__))
    return run(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
