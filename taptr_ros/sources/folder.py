"""Files of images, one after the other, as a source; and a folder of them."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from taptr_ros.errors import InvalidConfigError, InvalidImageError, SourceError
from taptr_ros.messages.encoded import decode_image
from taptr_ros.sources.frames import MAX_RATE, Frame, Report, Usable, unreported
from taptr_ros.sources.order import in_natural_order
from taptr_ros.tracking.history import NANOSECONDS

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""File name endings, in lower case, of what a folder's images may be."""


class ImageFiles:
    """Files of images in the order given, stamped by their number at a constant rate."""

    is_compressed = False
    can_repeat = True

    def __init__(self, name: str, files: Sequence[Path], rate: float) -> None:
        if not 0 < rate <= MAX_RATE:
            raise InvalidConfigError(f"The rate is {rate:g} frames per second; use one above 0, up to {MAX_RATE:g}.")
        self.name = name
        self.rate = rate
        self.report: Report = unreported
        self._files = files
        self.frame_count = len(files)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames_from(0)

    def frames_from(self, number: int) -> Iterator[Frame]:
        """Yield the frames from this number on; images before are not read."""
        usable = Usable(self.name, self.report)
        for index, file in enumerate(self._files[number:], number):
            try:
                if not file.is_file():
                    raise OSError(errno.EINVAL, "it is no file")  # reading a pipe would wait for ever
                image = decode_image(np.fromfile(file, np.uint8), str(file))
            except InvalidImageError as error:
                usable.leave_out(error)
                continue
            except OSError as error:
                usable.leave_out(SourceError(f"{file} cannot be read ({error.strerror}); repair or remove it."))
                continue
            usable.use()
            stamp = round(index * NANOSECONDS / self.rate)
            yield Frame(image, stamp, stamp, index, str(file))
        if not number:
            usable.check()


class FolderSource(ImageFiles):
    """The images of a folder, frame2 before frame10.

    Hidden files are no images: macOS puts one that begins with "._" beside every file on foreign disks.
    """

    def __init__(self, path: Path, rate: float) -> None:
        images = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        super().__init__(str(path), in_natural_order(file for file in images if not file.name.startswith(".")), rate)
        if not self.frame_count:
            if any(file.suffix.lower() == ".bag" for file in path.iterdir()):
                raise SourceError(f"{path} holds recordings of ROS 1; convert one first, as with rosbags-convert.")
            raise SourceError(
                f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}) and no storage file of a "
                "rosbag2 (.mcap, .db3); pass another folder."
            )
