"""A folder of images as a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.sources.decoding import IMAGE_SUFFIXES, to_rgb
from taptr_ros.sources.frames import MAX_RATE, Frame
from taptr_ros.tracking.history import NANOSECONDS


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
            yield Frame(to_rgb(image), stamp, recorded=stamp)
