"""The ROS node `video_source`: images of a file, a camera or a bag, published as a camera would."""

from __future__ import annotations

import argparse
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from taptr_ros.messages.ros import rgb_image, time_message
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.configs import VideoSourceConfig
from taptr_ros.nodes.parameters import ParameterNode, declare_parameters, read_config
from taptr_ros.nodes.process import STOP_TIME, end_process_with, parse_arguments, run
from taptr_ros.sources.bag_source import BagSource
from taptr_ros.sources.camera import CameraSource
from taptr_ros.sources.frames import Frame, LeftOut, Source
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking.history import NANOSECONDS

SETTLING_TIME = 0.5
"""Seconds between the first look at all subscriptions and the first image: a subscription is seen before it can take
what is sent with best effort."""

DELIVERY_TIME = 2.0
"""Longest time in seconds to wait until the last images are delivered."""

TOLERATED_DELAY = 0.1
"""Seconds by which an image may be late before all that follow are put off, instead of being sent in a burst."""


class VideoSourceNode(ParameterNode):
    """Publishes the images of a source with the times between them that the source or the parameters say.

    Images of files are stamped with the time of their publication, those of a camera with the time at which they were
    taken; messages of a bag are published as they are. An image that cannot be had in time is late, not left out.
    Topics and parameters are listed in docs/ros.md. Raises `SourceError` if the source cannot be opened.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("video_source", **options)
        self._stopped = threading.Event()
        self._player = threading.Thread(target=self._play, name="player", daemon=True)
        declare_parameters(self, VideoSourceConfig, read_only=True)
        self._config = config = read_config(self, VideoSourceConfig, {})
        self._source: Source = (
            open_source(config.source, image_topic=config.image_topic or None)
            if config.source
            else CameraSource(config.camera, config.camera_width, config.camera_height, config.rate)
        )
        self._source.report = LeftOut(self._warn)
        kind = CompressedImage if self._source.is_compressed else Image
        self._images = self.create_publisher(kind, "image", qos.reliable(), qos_overriding_options=qos.overrides())
        if not isinstance(self._source, BagSource):
            self._camera_infos = self.create_publisher(CameraInfo, "camera_info", qos.reliable())

    def _warn(self, sentence: str) -> None:
        self.get_logger().warning(sentence)

    def play(self) -> None:
        """Begin to publish, in a thread of its own; at the end of the source the process ends."""
        self._player.start()

    def destroy_node(self) -> None:
        """Stop publishing and leave the graph."""
        self._stopped.set()
        if self._player.is_alive():
            self._player.join(STOP_TIME)
        super().destroy_node()

    def _play(self) -> None:
        try:
            self._wait_for_subscribers()
            count = self._publish_all()
            if not self._stopped.is_set():
                self._images.wait_for_all_acked(Duration(seconds=DELIVERY_TIME))
                self.get_logger().info(f"{self._source.name} has ended after {count} images.")
                end_process_with(self, ExternalShutdownException())
        except Exception as error:  # noqa: BLE001
            end_process_with(self, error)

    def _wait_for_subscribers(self) -> None:
        wanted = self._config.subscribers
        if self._images.get_subscription_count() < wanted:
            self.get_logger().info(f"Waiting for {wanted} subscriptions to {self.resolve_topic_name('image')}.")
        while self._images.get_subscription_count() < wanted and not self._stopped.wait(0.02):
            pass
        if wanted:
            self._stopped.wait(SETTLING_TIME)

    def _publish_all(self) -> int:
        """Publish every image at its time; return how many there were."""
        config, source = self._config, self._source
        count = 0
        while True:
            pace = _Pace(config.rate, config.speed)
            for image_time, publish in self._publications():
                if not isinstance(source, CameraSource):
                    self._stopped.wait(pace.delay(image_time))
                if self._stopped.is_set():
                    return count
                publish()
                count += 1
            if not config.loop:
                return count
            self._stopped.wait(1.0 / (config.rate or source.rate * config.speed))

    def _publications(self) -> Iterator[tuple[int, Callable[[], None]]]:
        """Yield each image's time on the clock of the source, in nanoseconds, and what publishes it."""
        if isinstance(self._source, BagSource):
            for recorded, data in self._source.messages():
                yield recorded, functools.partial(self._images.publish, data)
        else:
            for frame in self._source:
                yield frame.stamp, functools.partial(self._publish, frame)

    def _publish(self, frame: Frame) -> None:
        message = rgb_image(frame.image, Header(frame_id=self._config.frame_id))
        from_camera = isinstance(self._source, CameraSource)
        message.header.stamp = time_message(frame.stamp) if from_camera else self.get_clock().now().to_msg()
        self._images.publish(message)
        # All-zero matrices stand for an uncalibrated camera, as sensor_msgs/CameraInfo says.
        self._camera_infos.publish(CameraInfo(header=message.header, height=message.height, width=message.width))


class _Pace:
    """When each image is due: at a constant rate, or at the source's times, `speed` times faster."""

    def __init__(self, rate: float, speed: float) -> None:
        self._rate, self._speed = rate, speed
        self._count = 0
        self._first = 0
        self._start = 0.0

    def delay(self, image_time: int) -> float:
        """Return the seconds from now until the next image is due, given its time in nanoseconds."""
        now = time.monotonic()
        if not self._count:
            self._first, self._start = image_time, now
        offset = (image_time - self._first) / NANOSECONDS / self._speed
        due = self._start + (self._count / self._rate if self._rate else offset)
        self._count += 1
        if now - due > TOLERATED_DELAY:
            self._start += now - due
        return max(due - now, 0.0)


def main(arguments: Sequence[str] | None = None, parameters: dict[str, Any] | None = None) -> int:
    """Run the node until its source ends or it is interrupted; see `process.run`.

    `arguments` are ROS's, by default those of the process; `parameters` are values for the node.
    """
    if arguments is None:
        parse_arguments(argparse.ArgumentParser(prog="video_source", description=__doc__))
    overrides = [Parameter(name, value=value) for name, value in (parameters or {}).items()]
    make = functools.partial(VideoSourceNode, parameter_overrides=overrides)
    return run(make, VideoSourceNode.play, arguments)


if __name__ == "__main__":
    sys.exit(main())
