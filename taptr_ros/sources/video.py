"""A video file as a source of images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from taptr_ros import MAX_IMAGE_PIXELS
from taptr_ros.errors import SourceError
from taptr_ros.runtime.images import opencv_path
from taptr_ros.sources.folder import IMAGE_SUFFIXES
from taptr_ros.sources.frames import DEFAULT_RATE, MAX_RATE, Frame, Report, unreported
from taptr_ros.tracking.history import NANOSECONDS


class VideoSource:
    """A video file, with the stamps of its container made strictly increasing."""

    is_compressed = False
    can_repeat = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.report: Report = unreported
        self._path = opencv_path(path)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            # OpenCV would take the digits in its name for a pattern and play the whole folder.
            raise SourceError(f"{path} is a single image; pass a video file or the folder of images.")
        with self._capture() as capture:
            width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if width * height > MAX_IMAGE_PIXELS:
                raise SourceError(
                    f"{path} has frames of {width}x{height} pixels, more than {MAX_IMAGE_PIXELS}; make them smaller."
                )
            rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            if not capture.read()[0]:
                raise SourceError(
                    f"{path} holds no frame that can be decoded: either it is not a complete video, or this OpenCV "
                    f"cannot decode its codec ({_codec(capture)}); ffmpeg -i {path.name} -c:v libx264 converted.mp4 "
                    "makes one that it can."
                )
        self.rate = rate if 0 < rate <= MAX_RATE else DEFAULT_RATE
        self.frame_count = int(count) if count >= 1 else None

    def __iter__(self) -> Iterator[Frame]:
        return self.frames_from(0)

    def frames_from(self, number: int) -> Iterator[Frame]:
        """Yield the frames from this number on; those before are decoded, but not converted."""
        period = round(NANOSECONDS / self.rate)
        previous, index = -period, 0
        with self._capture() as capture:
            while capture.grab():
                stamp = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                # Broken containers repeat stamps, go back, or have none at all.
                stamp = stamp if stamp > previous else previous + period
                previous = stamp
                if index >= number:
                    decoded, image = capture.retrieve()
                    if not decoded:
                        return
                    rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
                    yield Frame(rgb, stamp, stamp, index, f"frame {index}")
                index += 1

    @contextlib.contextmanager
    def _capture(self) -> Iterator[cv2.VideoCapture]:
        capture = cv2.VideoCapture(self._path)
        try:
            if not capture.isOpened():
                raise SourceError(
                    f"{self.name} cannot be opened as a video: it is none, or not complete; pass a video file, a "
                    "folder of images or a rosbag2."
                )
            yield capture
        finally:
            capture.release()


def _codec(capture: cv2.VideoCapture) -> str:
    """Return the four letters that name a video's codec, as av01 for AV1."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
    text = code.decode("latin1").strip("\0 ")
    return text if text.isascii() and text.isprintable() and text else "unknown"
