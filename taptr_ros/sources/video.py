"""A video file as a source of images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2

from taptr_ros.errors import SourceError
from taptr_ros.sources.decoding import IMAGE_SUFFIXES, to_rgb
from taptr_ros.sources.frames import DEFAULT_RATE, MAX_RATE, Frame
from taptr_ros.tracking.history import NANOSECONDS


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
                yield Frame(to_rgb(image), stamp, recorded=stamp)

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
