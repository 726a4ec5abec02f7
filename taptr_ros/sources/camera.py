"""A camera as a source of images."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cv2
import numpy as np

from taptr_ros.errors import SourceError
from taptr_ros.sources.frames import DEFAULT_RATE, MAX_RATE, Frame, Report, unreported

MOST_CAMERAS = 64
"""Numbers of cameras that the kernel gives out."""

MOST_BROKEN = 30
"""Images in a row that cannot be decoded, after which a camera is given up; many send one broken image at first."""


def camera_number(text: str) -> int | None:
    """Return the number of a camera, 0 to 63, that a text is; None if it is something else, such as a path."""
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_CAMERAS)) and int(text) < MOST_CAMERAS
    return int(text) if is_number else None


class CameraSource:
    """A camera, by its number; frames are stamped with the system's time when they were taken from the driver.

    `width`, `height` and `rate` are asked for, and the driver may choose others; 0 leaves what it is set to. Raises
    `SourceError` if the camera cannot be opened, or stops to deliver.
    """

    frame_count = None
    is_compressed = False
    can_repeat = False

    def __init__(self, number: int, width: int = 0, height: int = 0, rate: float = 0.0) -> None:
        self.name = f"camera {number}"
        self.report: Report = unreported
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise SourceError(f"There is no camera {number}, or it is in use; use another number or a file.")
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
        index = broken = 0
        while broken < MOST_BROKEN and self._capture.grab():
            stamp = time.time_ns()
            decoded, image = self._capture.retrieve()
            if decoded:
                broken = 0
                rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
                yield Frame(rgb, stamp, stamp, index, f"frame {index}")
            else:
                broken += 1
                self.report(f"Frame {index} of {self.name} cannot be decoded; check its cable and its format.")
            index += 1
        raise SourceError(f"{self.name.capitalize()} delivers no more images; is it still connected?")
