"""Opening a source by its path: a video file, a folder of images, or a rosbag2."""

from __future__ import annotations

import re
from pathlib import Path

from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.sources.folder import FolderSource
from taptr_ros.sources.frames import DEFAULT_RATE, Recording
from taptr_ros.sources.storage_names import METADATA, is_bag
from taptr_ros.sources.video import VideoSource

_ARCHIVES = frozenset({".7z", ".bz2", ".gz", ".lz4", ".rar", ".tar", ".tgz", ".xz", ".zip"})
"""Endings, in lower case, of the names of files that hold others."""

_SCHEME = re.compile(r"(?:[\w+-]+::)*[\w+-]+://")
"""How a URL begins, also one within another, as fsspec chains them."""


def is_url(text: str) -> bool:
    """Return whether a text is a URL, as s3://bucket/street.mp4 is."""
    return _SCHEME.match(text) is not None


def open_source(
    path: str | Path,
    *,
    image_topic: str | None = None,
    depth_topic: str | None = None,
    rate: float | None = None,
) -> Recording:
    """Open a video file, a folder of images or a rosbag2 (a folder with .mcap or .db3 files, or one of these).

    `image_topic` chooses among a bag's topics; without it the bag must hold one image topic only, besides
    `depth_topic`. `rate`, in frames per second, stamps the images of a folder (default 30).

    Raises `SourceError` if the source cannot be opened or holds no images, `InvalidConfigError` if an option does
    not belong to this kind of source.
    """
    if not str(path):
        raise SourceError("The source's name is empty; pass a video file, a folder of images or a rosbag2.")
    if is_url(str(path)):
        raise SourceError(f"{path} is an address; save what it gives as a file, and pass that.")
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; pass a video file, a folder of images or a rosbag2.")
    if path.is_fifo() or path.is_socket():
        raise SourceError(f"{path} is a pipe; pass a video file, a folder of images or a rosbag2.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if not _ARCHIVES.isdisjoint(suffixes[-1:]) and path.is_file():
        raise SourceError(f"{path} is an archive; unpack it first, and pass what is in it.")
    if ".bag" in suffixes[-2:] and path.is_file():
        raise SourceError(f"{path} is a recording of ROS 1; convert it first, as with rosbags-convert.")
    if path.name == METADATA:
        path = path.parent
    bag = is_bag(path)
    if image_topic is not None and not bag:
        raise InvalidConfigError(f"{path} is not a rosbag2, so it has no topic {image_topic}; leave the topic out.")
    if rate is not None and (bag or path.is_file()):
        raise InvalidConfigError(f"{path} has its own stamps; set a rate for folders of images only.")
    if bag:
        return _open_bag(path, image_topic, depth_topic)
    if path.is_dir():
        return FolderSource(path, DEFAULT_RATE if rate is None else rate)
    return VideoSource(path)


def _open_bag(path: Path, image_topic: str | None, depth_topic: str | None) -> Recording:
    try:
        from taptr_ros.sources.bag_source import BagSource
    except ImportError as error:
        raise SourceError(
            f"{path} is a rosbag2, which needs more packages ({error}); run pip install rosbags mcap."
        ) from error
    return BagSource(path, image_topic, depth_topic)
