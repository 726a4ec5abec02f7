"""Frames that were shown, as JPEG in a temporary file, so that all of them can be shown again."""

from __future__ import annotations

import concurrent.futures
import os
import tempfile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taptr_ros.messages.encoded import JpegEncoder, decode_image

QUALITY = 90
"""Of the JPEGs, 0 to 100."""

MOST_BYTES = 8 << 30
"""Size of the file at which it is full: three hours of 640x480 pixels or more."""

MOST_WAITING = 8
"""Images that may wait to be encoded."""


class _Place(NamedTuple):
    """Where a JPEG lies in the file."""

    start: int
    length: int


class FrameStore:
    """Encodes frames in a thread of its own and keeps them in the order in which they came; a context manager.

    The file has no name and is gone with the process. Raises `OSError` if the disk is full.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="taptr_view")  # noqa: SIM115  # closed by `close`
        self._jpegs = JpegEncoder(QUALITY)
        self._encoder = concurrent.futures.ThreadPoolExecutor(1, "frame store")
        self._places: list[concurrent.futures.Future[_Place]] = []
        self._end = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def is_full(self) -> bool:
        """Whether no further frame should be kept."""
        return self._end >= MOST_BYTES

    def append(self, image: NDArray[np.uint8]) -> None:
        """Keep a frame, uint8 [H,W,3] RGB."""
        if len(self) >= MOST_WAITING:
            self._places[-MOST_WAITING].result()
        self._places.append(self._encoder.submit(self._write, image))

    def jpeg(self, index: int) -> bytes:
        """Return a frame as JPEG, by its place in the order, from any thread."""
        start, length = self._places[index].result()
        return os.pread(self._file.fileno(), length, start)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return a frame as uint8 [H,W,3] RGB; it is not exactly what was kept."""
        return decode_image(np.frombuffer(self.jpeg(index), np.uint8), f"Frame {index}", "start again")

    def clear(self) -> None:
        """Forget all frames."""
        for place in self._places:
            place.cancel()
        concurrent.futures.wait(self._places)
        self._places = []
        self._end = 0
        os.ftruncate(self._file.fileno(), 0)

    def close(self) -> None:
        """End the thread and remove the file."""
        self._encoder.shutdown(cancel_futures=True)
        self._file.close()

    def _write(self, image: NDArray[np.uint8]) -> _Place:
        data = self._jpegs.encode(image)
        place = _Place(self._end, len(data))
        written = 0
        while written < len(data):
            written += os.pwrite(self._file.fileno(), data[written:], place.start + written)
        self._end += len(data)
        return place
