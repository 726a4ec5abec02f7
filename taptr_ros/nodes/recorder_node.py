"""The ROS node `recorder`: tracks, and the images they belong to, in a rosbag2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from taptr_ros.msg import TrackedPoints
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.configs import RecorderConfig
from taptr_ros.nodes.parameters import declare_parameters, read_config
from taptr_ros.nodes.process import run
from taptr_ros.sources.bag_source import COMPRESSED_IMAGE, IMAGE
from taptr_ros.sources.bags import BagWriter, RecordedMessage
from taptr_ros.sources.interfaces import TRACKED_POINTS

QUEUED_MESSAGES = 100
"""Messages per topic that wait while the disk is slow."""


class RecorderNode(Node):
    """Writes what is published, undecoded and at the time of its publication, until the process ends.

    Raises `InvalidConfigError` if the folder of the bag exists already.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("recorder", **options)
        self._bag: BagWriter | None = None
        declare_parameters(self, RecorderConfig, read_only=True)
        config = read_config(self, RecorderConfig, {})
        self._bag = bag = BagWriter(Path(config.directory), config.storage)
        self._record(bag, TrackedPoints, TRACKED_POINTS, "tracks")
        if config.images:
            image, name = (CompressedImage, COMPRESSED_IMAGE) if config.compressed else (Image, IMAGE)
            self._record(bag, image, name, "image")
        self.get_logger().info(f"Recording into {config.directory}.")

    def _record(self, bag: BagWriter, kind: type, name: str, topic: str) -> None:
        full_name = self.resolve_topic_name(topic)
        bag.add_topic(full_name, name)

        def write(data: Any, info: Any) -> None:
            bag.write(full_name, RecordedMessage(info["source_timestamp"], data))

        self.create_subscription(
            kind,
            topic,
            write,
            qos.reliable(QUEUED_MESSAGES),
            event_callbacks=qos.subscription_events(full_name, self.get_logger()),
            qos_overriding_options=qos.overrides(),
            raw=True,
        )

    def destroy_node(self) -> None:
        """Complete the bag and leave the graph."""
        if self._bag is not None:
            self._bag.close()
            self._bag = None
        super().destroy_node()


def main() -> int:
    """Run the node until it is interrupted; see `process.run`."""
    return run(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
