"""The images in a rosbag2."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.serde import SerdeError

from taptr_ros.errors import InvalidImageError, SourceError
from taptr_ros.messages.images import compressed_image_to_rgb, image_to_rgb
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.sources.bags import BagReader, RecordedMessage
from taptr_ros.sources.frames import DEFAULT_RATE, MAX_RATE, Frame, Report, Usable, unreported
from taptr_ros.sources.interfaces import typestore
from taptr_ros.tracking.history import NANOSECONDS

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"

_CONVERSIONS: dict[str, Callable[[Any], NDArray[np.uint8]]] = {
    IMAGE: image_to_rgb,
    COMPRESSED_IMAGE: compressed_image_to_rgb,
}
"""How to read each message type that holds an image."""

_VIDEOS = ("foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket")
"""Message types that hold images which need those before them."""

_STAMP = slice(4, 12)
"""Bytes of the header's stamp in a serialized message: after the encapsulation, seconds and nanoseconds."""


class BagSource:
    """The sensor_msgs/Image or CompressedImage messages of one topic of a rosbag2 (sqlite3 or mcap).

    Frames carry the stamps of the message headers. If the first one has none, which a stamp of zero means, all carry
    the time of recording instead: the two clocks must not be mixed. Of a damaged bag the frames before the damage are
    read, then `SourceError` is raised.

    Attributes:
        topic: the topic that is read.
        is_compressed: whether its messages are CompressedImage.
    """

    can_repeat = True

    def __init__(self, path: Path, topic: str | None, depth_topic: str | None = None) -> None:
        """Without `topic` the bag must hold one topic of images only, besides `depth_topic`."""
        self.name = str(path)
        self.report: Report = unreported
        self._bag = BagReader(path)
        self.topic = self._choose(topic, depth_topic)
        chosen = self._bag.topics[self.topic]
        self._kind = chosen.kind
        self.is_compressed = chosen.kind == COMPRESSED_IMAGE
        self.frame_count = chosen.count
        if self.frame_count == 0:
            raise SourceError(f"{path} holds no message on {self.topic}; choose another topic or bag.")
        seconds = self._bag.duration / NANOSECONDS
        rate = (self.frame_count - 1) / seconds if self.frame_count and seconds > 0 else 0.0
        self.rate = min(rate, MAX_RATE) if rate > 0 else DEFAULT_RATE

    def __iter__(self) -> Iterator[Frame]:
        return self.frames_from(0)

    def frames_from(self, number: int) -> Iterator[Frame]:
        """Yield the frames from this number on; messages before are read, but not decoded."""
        usable = Usable(self.name, self.report)
        for index, (recorded, data) in enumerate(self.messages()):
            if index < number:
                continue
            origin = f"Message {index} on {self.topic}"
            try:
                message: Any = typestore().deserialize_cdr(data, self._kind)
                image = _CONVERSIONS[self._kind](message)
            except (InvalidImageError, SerdeError) as error:
                usable.leave_out(SourceError(f"{origin} of {self.name}: {error}"))
                continue
            usable.use()
            stamp = nanoseconds(message.header.stamp)
            yield Frame(image, stamp, recorded, index, origin, message.header.frame_id)
        if not number:
            usable.check()

    def messages(self) -> Iterator[RecordedMessage]:
        """Yield the messages undecoded, with stamps; see `stamped_messages`."""
        return stamped_messages(self._bag, self.topic)

    def _choose(self, topic: str | None, depth_topic: str | None) -> str:
        """Return the topic to read; raise `SourceError` unless there is exactly one choice."""
        topics = self._bag.topics
        for name, other in topics.items():
            if other.kind and "/msg/" not in other.kind and other.kind.count("/") == 1:
                raise SourceError(
                    f"{self.name} is a recording of ROS 1 ({name} is {other.kind}); convert it first, as with "
                    "rosbags-convert."
                )
        image_topics = sorted(name for name in topics if topics[name].kind in _CONVERSIONS and name != depth_topic)
        offer = f"choose one of {', '.join(image_topics)}" if image_topics else "it holds no image topic at all"
        for name, other in sorted(topics.items()):
            if not image_topics and other.kind in _VIDEOS:
                offer = f"it holds no images but a video ({name} is {other.kind}); decode it to {IMAGE} first"
        if topic is None:
            # A topic without a message is no choice, unless there is no other.
            filled = [name for name in image_topics if topics[name].count != 0] or image_topics
            if len(filled) != 1:
                raise SourceError(f"{self.name} needs the name of an image topic; {offer}.")
            return filled[0]
        if topic not in topics:
            raise SourceError(f"{self.name} has no topic {topic}; {offer}.")
        if topic not in image_topics:
            raise SourceError(f"{topic} in {self.name} is {topics[topic].kind}, not images; {offer}.")
        return topic


def stamped_messages(bag: BagReader, topic: str) -> Iterator[RecordedMessage]:
    """Yield the messages of a topic undecoded; if the first one has no stamp, all get the time of recording."""
    stamped = None
    for message in bag.messages(topic):
        if stamped is None and len(message.data) >= _STAMP.stop:
            stamped = any(message.data[_STAMP])
        yield message if stamped in (None, True) else _stamped_as_recorded(message)


def _stamped_as_recorded(message: RecordedMessage) -> RecordedMessage:
    """Return a message with a header whose stamp is the time of recording."""
    # The encapsulation's second byte tells the byte order.
    order = "<" if message.data[1:2] == b"\x01" else ">"
    stamp = struct.pack(f"{order}iI", *divmod(message.recorded, NANOSECONDS))
    return message._replace(data=message.data[: _STAMP.start] + stamp + message.data[_STAMP.stop :])
