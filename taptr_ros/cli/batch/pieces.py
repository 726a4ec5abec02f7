"""A long recording in pieces of equal length, each of which is tracked as a recording of its own."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

from taptr_ros.sources.frames import Frame, Recording, Report, Source, unreported

MOST_PARTS = 16
"""Most parts that a recording is cut into: each has to pass over the frames before it."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Pieces of a recording that one worker tracks, one after the other."""

    number: int
    """Number of the part, from 0."""
    pieces: range
    """Numbers of its pieces; the last part of a recording also has those that follow, if there are any."""
    is_last: bool
    frames_per_piece: int
    """0 for a recording that is not cut."""

    @classmethod
    def whole(cls) -> Part:
        """Return the one part, and the one piece, of a recording that is not cut."""
        return cls(0, range(1), is_last=True, frames_per_piece=0)


def parts_of(source: Recording, seconds: float) -> list[Part]:
    """Return the parts of a recording, for pieces of this many seconds at the rate that the source announces."""
    frames = max(1, round(seconds * source.rate))
    pieces = math.ceil(source.frame_count / frames) if source.frame_count else 1
    count = min(pieces, MOST_PARTS)
    ends = [pieces * number // count for number in range(count + 1)]
    return [Part(number, range(ends[number], ends[number + 1]), number == count - 1, frames) for number in range(count)]


def pieces_in(source: Recording, part: Part) -> Iterator[tuple[int, Source]]:
    """Yield the pieces of a part with their numbers; each must be read to its end before the next one."""
    if not part.frames_per_piece:
        yield 0, source
        return
    reports = _Reports()
    source.report = reports
    frames = source.frames_from(part.pieces.start * part.frames_per_piece)
    for number, of_piece in itertools.groupby(frames, lambda frame: frame.number // part.frames_per_piece):
        if number >= part.pieces.stop and not part.is_last:
            return
        yield number, Piece(source, number * part.frames_per_piece, of_piece, reports)


class Piece:
    """The frames of one piece as a source, numbered from 0; only its first frame can be read more than once.

    Attributes:
        first: number of its first frame in the recording, if that is not left out.
    """

    frame_count = None
    can_repeat = False

    def __init__(self, source: Source, first: int, frames: Iterator[Frame], reports: _Reports) -> None:
        self.name, self.rate, self.is_compressed = source.name, source.rate, source.is_compressed
        self.first = first
        self._frames = frames
        self._reports = reports
        self._first_frame = self._numbered(next(frames))

    @property
    def report(self) -> Report:
        """Called for every image that is left out."""
        return self._reports.report

    @report.setter
    def report(self, report: Report) -> None:
        self._reports.report = report

    def __iter__(self) -> Iterator[Frame]:
        yield self._first_frame
        for frame in self._frames:
            yield self._numbered(frame)

    def _numbered(self, frame: Frame) -> Frame:
        return frame._replace(number=frame.number - self.first)


class _Reports:
    """Hands on to the piece in work what the source reports."""

    def __init__(self) -> None:
        self.report: Report = unreported

    def __call__(self, sentence: str) -> None:
        self.report(sentence)
