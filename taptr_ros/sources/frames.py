"""What every source of images gives: frames, and what is known of them beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import SourceError

DEFAULT_RATE = 30.0
"""Frames per second of a source that does not say how fast it runs."""

MAX_RATE = 1000.0
"""Frames per second above which a rate is taken for nonsense."""

Report = Callable[[str], None]
"""Takes one sentence on an image that is left out."""


class Frame(NamedTuple):
    """One image of a source."""

    image: NDArray[np.uint8]
    """[H,W,3] RGB."""
    stamp: int
    """Nanoseconds."""
    recorded: int
    """Time of recording in nanoseconds; that of the stamp where nothing else is known."""
    number: int
    """Number of the image in the source, from 0; those that are left out count too."""
    origin: str
    """What the image is in its source, for messages: its file, or its number."""
    frame_id: str = ""
    """Coordinate frame of the camera that the message names; empty for sources without messages."""


class Source(Protocol):
    """Images in order. One that is broken or cannot be read is reported and left out, and the next one follows."""

    report: Report
    """Called for every image that is left out; does nothing unless it is set."""

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

    @property
    def can_repeat(self) -> bool:
        """Whether every iteration yields the same frames; a camera goes on where it is."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames from the first on; raise `SourceError` if there is none, or where no more can be read."""


def unreported(_sentence: str) -> None:
    """Take a sentence on an image that is left out, and forget it."""


class LeftOut:
    """A report that counts the images that are left out and says the first sentence only."""

    def __init__(self, say: Report) -> None:
        self._say = say
        self.count = 0

    def __call__(self, sentence: str) -> None:
        """Count an image, and say why it is left out if it is the first one."""
        self.count += 1
        if self.count == 1:
            self._say(f"An image was left out. {sentence}")


class Usable:
    """Keeps the rule of broken images in one pass over a source: each is reported, but not all can be broken."""

    def __init__(self, name: str, report: Report) -> None:
        self._name, self._report = name, report
        self._first = ""
        self._used = 0

    def use(self) -> None:
        """Count an image that is good."""
        self._used += 1

    def leave_out(self, error: Exception) -> None:
        """Report an image that is not, with the sentence on it."""
        self._first = self._first or str(error)
        self._report(str(error))

    def check(self) -> None:
        """Raise `SourceError` if no image was good."""
        if not self._used:
            raise SourceError(f"{self._name} holds no image that can be used. {self._first}".rstrip())
