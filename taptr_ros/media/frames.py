"""What every source of images gives: frames, and what is known of them beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BAG_SUFFIXES = frozenset({".db3", ".mcap"})
"""File name endings of rosbag2 storage files."""

STORAGES = ("mcap", "sqlite3")
"""Storage formats of a rosbag2 that can be written."""

DEFAULT_RATE = 30.0
"""Frames per second of a source that does not say how fast it runs."""

MAX_RATE = 1000.0
"""Frames per second above which a rate is taken for nonsense."""


class Frame(NamedTuple):
    """One image of a source."""

    image: NDArray[np.uint8]
    """[H,W,3] RGB."""
    stamp: int
    """Nanoseconds."""
    recorded: int
    """Time of recording in nanoseconds; that of the stamp where nothing else is known."""
    frame_id: str = ""
    """Coordinate frame of the camera that the message names; empty for sources without messages."""


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

    @property
    def is_compressed(self) -> bool:
        """Whether the images lie in the source as sensor_msgs/CompressedImage messages."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames from the first on; raise `SourceError` for one that cannot be read."""
