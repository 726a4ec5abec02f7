"""Image sources of the offline commands: a video file, a folder of images, or a rosbag2, all as RGB frames."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidConfigError, InvalidImageError, SourceError, TaptrError
from taptr_ros.media.image_messages import compressed_image_to_rgb, image_to_rgb

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""File name endings, in lower case, of what a folder's images may be."""

BAG_SUFFIXES = frozenset({".db3", ".mcap"})
"""File name endings of rosbag2 storage files."""

DEFAULT_RATE = 30.0
"""Frames per second of a source that does not say how fast it runs."""

MAX_RATE = 1000.0
"""Frames per second above which a rate is taken for nonsense."""

NANOSECONDS = 1_000_000_000


class Frame(NamedTuple):
    """One image of a source."""

    image: NDArray[np.uint8]
    """[H,W,3] RGB."""
    stamp: int
    """Nanoseconds."""


class Source(Protocol):
    """Images in order."""

    @property
    def name(self) -> str:
        """What the source is, for messages: its path."""

    @property
    def frame_count(self) -> int | None:
        """Number of frames the source announces, which a damaged one may not hold; None if it announces none."""

    @property
    def rate(self) -> float:
        """Frames per second, for playing the result back."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames from the first on; raise `SourceError` for one that cannot be read."""


def open_source(path: str | Path, *, image_topic: str | None = None, rate: float | None = None) -> Source:
    """Open a video file, a folder of images or a rosbag2 (a folder with metadata.yaml, or an .mcap or .db3 file).

    `image_topic` chooses among a bag's topics; without it the bag must hold one image topic only. `rate`, in frames
    per second, stamps the images of a folder (default 30).

    Raises `SourceError` if the source cannot be opened or holds no images, `InvalidConfigError` if an option does
    not belong to this kind of source.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; give a video file, a folder of images or a rosbag2.")
    is_bag = (path / "metadata.yaml").is_file() if path.is_dir() else path.suffix.lower() in BAG_SUFFIXES
    if image_topic is not None and not is_bag:
        raise InvalidConfigError(f"{path} is not a rosbag2, so it has no topic {image_topic}; leave the topic out.")
    if rate is not None and (is_bag or path.is_file()):
        raise InvalidConfigError(f"{path} has its own stamps; give a rate for folders of images only.")
    if is_bag:
        return BagSource(path, image_topic)
    if path.is_dir():
        return FolderSource(path, DEFAULT_RATE if rate is None else rate)
    return VideoSource(path)


class VideoSource:
    """A video file, with the stamps of its container made strictly increasing."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            # OpenCV would take the digits in its name for a pattern and play the whole folder.
            raise SourceError(f"{path} is a single image; give a video file or the folder of images.")
        with self._capture() as capture:
            rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            if not capture.read()[0]:
                raise SourceError(f"{path} holds no frame that can be decoded; check that it is a complete video.")
        self.rate = rate if 0 < rate <= MAX_RATE else DEFAULT_RATE
        self.frame_count = int(count) if count >= 1 else None

    def __iter__(self) -> Iterator[Frame]:
        period = round(NANOSECONDS / self.rate)
        previous = -period
        with self._capture() as capture:
            while True:
                decoded, image = capture.read()
                if not decoded:
                    return
                stamp = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                # Broken containers repeat stamps, go back, or have none at all.
                stamp = stamp if stamp > previous else previous + period
                previous = stamp
                yield Frame(_rgb(image), stamp)

    @contextlib.contextmanager
    def _capture(self) -> Iterator[cv2.VideoCapture]:
        capture = cv2.VideoCapture(self.name)
        try:
            if not capture.isOpened():
                raise SourceError(
                    f"{self.name} cannot be opened as a video; give a video file, a folder of images or a rosbag2."
                )
            yield capture
        finally:
            capture.release()


class FolderSource:
    """The images of a folder in name order, stamped by index at a constant rate."""

    def __init__(self, path: Path, rate: float) -> None:
        if not 0 < rate <= MAX_RATE:
            raise InvalidConfigError(f"The rate is {rate:g} frames per second; give one above 0, up to {MAX_RATE:g}.")
        self.name = str(path)
        self.rate = rate
        self._files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not self._files:
            raise SourceError(
                f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}) and no metadata.yaml of a rosbag2; "
                "give another folder."
            )
        self.frame_count = len(self._files)

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise SourceError(f"{file} cannot be decoded as an image; repair or remove it.")
            yield Frame(_rgb(image), round(index * NANOSECONDS / self.rate))


class BagSource:
    """The sensor_msgs/Image or CompressedImage messages of one topic of a rosbag2 (sqlite3 or mcap).

    Frames carry the stamps of the message headers; a stamp of zero, which means that none was set, is replaced by
    the time of recording.
    """

    def __init__(self, path: Path, topic: str | None) -> None:
        self.name = str(path)
        with self._reader() as reader:
            conversions = {c.topic: _CONVERSIONS[c.msgtype] for c in reader.connections if c.msgtype in _CONVERSIONS}
            self._topic = self._choose(topic, sorted(conversions), {c.topic: c.msgtype for c in reader.connections})
            self._to_rgb = conversions[self._topic]
            self.frame_count = reader.topics[self._topic].msgcount
            if not self.frame_count:
                raise SourceError(f"{path} holds no message on {self._topic}; choose another topic or bag.")
            seconds = reader.duration / NANOSECONDS
        rate = (self.frame_count - 1) / seconds if seconds > 0 else 0.0
        self.rate = min(rate, MAX_RATE) if rate > 0 else DEFAULT_RATE

    def __iter__(self) -> Iterator[Frame]:
        with self._reader() as reader:
            connections = [c for c in reader.connections if c.topic == self._topic]
            for index, (connection, recorded, raw) in enumerate(reader.messages(connections)):
                message = reader.deserialize(raw, connection.msgtype)
                try:
                    image = self._to_rgb(message)
                except InvalidImageError as error:
                    raise SourceError(f"Message {index} on {self._topic} of {self.name}: {error}") from error
                stamp = message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec
                yield Frame(image, stamp or recorded)

    def _choose(self, topic: str | None, image_topics: list[str], types: dict[str, str]) -> str:
        """Return the topic to read; raise `SourceError` unless there is exactly one choice."""
        offer = f"choose one of {', '.join(image_topics)}" if image_topics else "it holds no image topic at all"
        if topic is None:
            if len(image_topics) != 1:
                raise SourceError(f"{self.name} needs the name of an image topic; {offer}.")
            return image_topics[0]
        if topic not in types:
            raise SourceError(f"{self.name} has no topic {topic}; {offer}.")
        if topic not in image_topics:
            raise SourceError(f"{topic} in {self.name} is {types[topic]}, not images; {offer}.")
        return topic

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Any]:
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise SourceError(f"{self.name} is a rosbag2, which rosbags reads; run pip install rosbags.") from error
        try:
            # The store serves bags recorded before definitions were kept inside; image messages never changed.
            with AnyReader([Path(self.name)], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
                yield reader
        except TaptrError:
            raise
        except Exception as error:
            # A damaged bag raises whatever the parser of its storage happens to stumble over.
            raise SourceError(f"{self.name} cannot be read as a rosbag2 ({error}); is it complete?") from error


_CONVERSIONS: dict[str, Callable[[Any], NDArray[np.uint8]]] = {
    "sensor_msgs/msg/Image": image_to_rgb,
    "sensor_msgs/msg/CompressedImage": compressed_image_to_rgb,
}
"""How to read each message type that holds an image."""


def _rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
