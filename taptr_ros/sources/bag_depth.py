"""The depth images and the CameraInfo in a rosbag2, in step with the tracks of its images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.serde import SerdeError

from taptr_ros.bodies.camera import CameraInfoMessage
from taptr_ros.bodies.depth_image import DepthImage
from taptr_ros.bodies.stream import BodyStream, PlacedTracks, StampedDepth
from taptr_ros.bodies.topics import camera_info_topic
from taptr_ros.errors import SourceError
from taptr_ros.messages.depth import compressed_depth_image, depth_image
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.sources.bag_source import COMPRESSED_IMAGE, IMAGE, stamped_messages
from taptr_ros.sources.bags import BagReader
from taptr_ros.sources.interfaces import typestore
from taptr_ros.tracking.states import Tracks

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

_READERS: dict[str, Callable[[Any], DepthImage]] = {IMAGE: depth_image, COMPRESSED_IMAGE: compressed_depth_image}


class _StampedInfo(NamedTuple):
    stamp: int
    frame_id: str
    info: CameraInfoMessage


class BagDepth:
    """Gives a `BodyStream` what belongs to each image: the same at every pass over the bag.

    Raises `SourceError` if a topic is missing or of another type.
    """

    def __init__(self, path: Path, depth_topic: str, info_topic: str | None = None) -> None:
        """The CameraInfo is taken from beside the depth images unless its topic is given."""
        self._name = str(path)
        self._bag = BagReader(path)
        self._depth_topic, self._info_topic = depth_topic, info_topic or camera_info_topic(depth_topic)
        self._kind = self._checked(depth_topic, (IMAGE, COMPRESSED_IMAGE), "--depth-topic")
        self._checked(self._info_topic, (CAMERA_INFO,), "--camera-info-topic")
        self._depths, self._infos = self._stamped_depths(), self._stamped_infos()
        self._next_info = next(self._infos, None)
        self._has_camera = False
        self._reached = 0
        """Latest stamp of a depth image so far, in nanoseconds."""

    def add_to(self, stream: BodyStream, tracks: Tracks, frame_id: str) -> list[PlacedTracks]:
        """Give the stream the tracks of the next image, after all that was recorded of the moments until then."""
        placed = []
        # The first CameraInfo counts for the images before it, too.
        while (info := self._next_info) is not None and (not self._has_camera or info.stamp <= tracks.stamp):
            stream.add_camera_info(info.info, info.stamp, info.frame_id)
            self._next_info, self._has_camera = next(self._infos, None), True
        # A depth image that is not earlier than the tracks shows that none of theirs is still to come.
        while self._reached < tracks.stamp and (depth := next(self._depths, None)) is not None:
            self._reached = max(self._reached, depth.stamp)
            placed += stream.add_depth(depth)
        return placed + stream.add_tracks(tracks, frame_id)

    def _checked(self, topic: str, kinds: tuple[str, ...], option: str) -> str:
        """Return the type of a topic, which must be one of `kinds`."""
        found = self._bag.topics.get(topic)
        if found is not None and found.kind in kinds:
            return found.kind
        offer = sorted(name for name, other in self._bag.topics.items() if other.kind in kinds)
        advice = f"choose one of {', '.join(offer)} by {option}" if offer else f"it holds no {kinds[0]} at all"
        problem = f"has no topic {topic}" if found is None else f"holds {found.kind} on {topic}"
        raise SourceError(f"{self._name} {problem}; {advice}.")

    def _stamped_depths(self) -> Iterator[StampedDepth]:
        for _, data in stamped_messages(self._bag, self._depth_topic):
            try:
                message: Any = typestore().deserialize_cdr(data, self._kind)
            except SerdeError:
                continue  # without a stamp it belongs to no image; the image without depth is reported
            read = functools.partial(_READERS[self._kind], message)
            yield StampedDepth(nanoseconds(message.header.stamp), message.header.frame_id, read)

    def _stamped_infos(self) -> Iterator[_StampedInfo]:
        for _, data in stamped_messages(self._bag, self._info_topic):
            try:
                message: Any = typestore().deserialize_cdr(data, CAMERA_INFO)
            except SerdeError:
                continue
            yield _StampedInfo(nanoseconds(message.header.stamp), message.header.frame_id, message)
