"""Image sources: a video file, a folder of images, or a rosbag2, all as RGB frames."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.media.frames import BAG_SUFFIXES, DEFAULT_RATE, MAX_RATE, Frame, Source
from taptr_ros.tracking.history import NANOSECONDS

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""File name endings, in lower case, of what a folder's images may be."""


def open_source(path: str | Path, *, image_topic: str | None = None, rate: float | None = None) -> Source:
    """Open a video file, a folder of images or a rosbag2 (a folder with .mcap or .db3 files, or one of these).

    `image_topic` chooses among a bag's topics; without it the bag must hold one image topic only. `rate`, in frames
    per second, stamps the images of a folder (default 30).

    Raises `SourceError` if the source cannot be opened or holds no images, `InvalidConfigError` if an option does
    not belong to this kind of source.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; give a video file, a folder of images or a rosbag2.")
    bag = _is_bag(path)
    if image_topic is not None and not bag:
        raise InvalidConfigError(f"{path} is not a rosbag2, so it has no topic {image_topic}; leave the topic out.")
    if rate is not None and (bag or path.is_file()):
        raise InvalidConfigError(f"{path} has its own stamps; give a rate for folders of images only.")
    if bag:
        return _open_bag(path, image_topic)
    if path.is_dir():
        return FolderSource(path, DEFAULT_RATE if rate is None else rate)
    return VideoSource(path)


class VideoSource:
    """A video file, with the stamps of its container made strictly increasing."""

    is_compressed = False

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
                yield Frame(_rgb(image), stamp, recorded=stamp)

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

    is_compressed = False

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
            stamp = round(index * NANOSECONDS / self.rate)
            yield Frame(_rgb(image), stamp, recorded=stamp)


class CameraSource:
    """A camera, by its number; frames are stamped with the system's time when they were taken from the driver.

    `width`, `height` and `rate` are asked for, and the driver may choose others; 0 leaves what it is set to. Raises
    `SourceError` if the camera cannot be opened, or stops to deliver.
    """

    frame_count = None
    is_compressed = False

    def __init__(self, number: int, width: int = 0, height: int = 0, rate: float = 0.0) -> None:
        self.name = f"camera {number}"
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise SourceError(f"There is no camera {number}, or it is in use; give another number or a file.")
        for setting, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, rate),
        ):
            if value:
                self._capture.set(setting, value)
        own_rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = own_rate if 0 < own_rate <= MAX_RATE else DEFAULT_RATE

    def __iter__(self) -> Iterator[Frame]:
        while True:
            taken = self._capture.grab()
            stamp = time.time_ns()
            decoded, image = self._capture.retrieve()
            if not (taken and decoded):
                raise SourceError(f"{self.name.capitalize()} delivers no more images; is it still connected?")
            yield Frame(_rgb(image), stamp, recorded=stamp)


def _is_bag(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix.lower() in BAG_SUFFIXES
    # An aborted recording leaves a folder without metadata.yaml.
    return any(file.name == "metadata.yaml" or file.suffix.lower() in BAG_SUFFIXES for file in path.iterdir())


def _open_bag(path: Path, image_topic: str | None) -> Source:
    try:
        from taptr_ros.media.bag_source import BagSource
    except ImportError as error:
        raise SourceError(
            f"{path} is a rosbag2, which needs more packages ({error}); run pip install rosbags mcap."
        ) from error
    return BagSource(path, image_topic)


def _rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
