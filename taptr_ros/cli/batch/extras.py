"""What a batch writes beside the rows, for each piece of a recording: npz, bag, overlay, Rerun."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from taptr_ros.cli.batch.files import Kind
from taptr_ros.cli.points import RequestedPoints
from taptr_ros.cli.tracks_file import TracksFile
from taptr_ros.drawing.overlay import OverlayVideo, TrackOverlay
from taptr_ros.sources.frames import Frame, Source
from taptr_ros.tracking.states import Tracks

TRACKS_TOPIC = "/tracks"
"""Topic of the tracks in bags."""

Write = Callable[[Frame, Tracks], Any]


class Extras:
    """Writes files of several kinds into a folder of its own while a piece is tracked; a context manager."""

    def __init__(self, kinds: Iterable[Kind], source: Source, queries: RequestedPoints) -> None:
        self._kinds = tuple(kinds)
        self._source, self._queries = source, queries
        self._opened = ExitStack()
        self._writers: list[Write] = []

    def __enter__(self) -> Extras:
        self._folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="taptr_")))
        self._writing = self._opened.enter_context(ExitStack())
        for kind in self._kinds:
            self._path(kind).parent.mkdir()
        self._writers = [self._writer(kind, self._path(kind)) for kind in self._kinds]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()

    def write(self, frame: Frame, tracks: Tracks) -> None:
        """Take the tracks of one image."""
        for write in self._writers:
            write(frame, tracks)

    def complete(self) -> dict[Kind, dict[str, bytes]]:
        """Complete the files and return those of every kind: content by path, the empty path for a single file."""
        self._writing.close()
        return {kind: _content(self._path(kind)) for kind in self._kinds}

    def _path(self, kind: Kind) -> Path:
        return self._folder / kind.folder / f"tracks{kind.suffix}"

    def _writer(self, kind: Kind, path: Path) -> Write:
        if kind is Kind.NPZ:
            frames: list[Tracks] = []
            self._writing.callback(lambda: TracksFile.collect(self._queries.ids, frames).save(path))
            return lambda _, tracks: frames.append(tracks)
        if kind is Kind.OVERLAY:
            video = self._writing.enter_context(OverlayVideo(path, self._source.rate))
            overlay = TrackOverlay()
            return lambda frame, tracks: video.write(overlay.draw(frame.image, tracks))
        if kind is Kind.RRD:
            from taptr_ros.drawing.rerun_file import RerunFile

            file = self._writing.enter_context(RerunFile(path))
            return lambda frame, tracks: file.write(frame.image, tracks, frame.number)
        return self._bag_writer(path)

    def _bag_writer(self, path: Path) -> Write:
        from taptr_ros.sources.bags import BagWriter, RecordedMessage
        from taptr_ros.sources.interfaces import TRACKED_POINTS, serialized_tracks

        bag = self._writing.enter_context(BagWriter(path))
        bag.add_topic(TRACKS_TOPIC, TRACKED_POINTS)

        def write(frame: Frame, tracks: Tracks) -> None:
            bag.write(TRACKS_TOPIC, RecordedMessage(frame.recorded, serialized_tracks(tracks, frame.frame_id)))

        return write


def _content(path: Path) -> dict[str, bytes]:
    """Return the content of a file, or of all files in a folder, by path relative to it."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
