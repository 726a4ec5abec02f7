"""What a worker does: it keeps the model, and tracks one recording, or one part of one, after the other."""

from __future__ import annotations

import argparse
import dataclasses
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from taptr_ros.cli.batch.extras import Extras
from taptr_ros.cli.batch.files import Kind, content_key, result_name, stem
from taptr_ros.cli.batch.inputs import FileStates, Input, beside, content_checksum, file_states, local_copy
from taptr_ros.cli.batch.model import Model, sentence
from taptr_ros.cli.batch.pieces import Part, parts_of, pieces_in
from taptr_ros.cli.batch.rows import SCHEMA, RowsFile, Summary
from taptr_ros.cli.offline import new_tracker, requested_points, track_frames
from taptr_ros.errors import SourceError
from taptr_ros.runtime.backend import Backend
from taptr_ros.sources.frames import Recording
from taptr_ros.sources.opening import open_source
from taptr_ros.sources.storage_names import is_bag
from taptr_ros.tracking.config import TrackerConfig

BESIDE = {"points": ".csv", "boxes": ".boxes.csv", "mask": ".png"}
"""What can lie beside a recording and say what to track, and the ending of its name."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do with every recording."""

    grid: int | None
    """Points per side of a grid; None if what to track is beside the recordings."""
    beside: str | None
    """What is beside each recording, a key of `BESIDE`; None for a grid."""
    points_per_region: int
    """Most points in a box or label."""
    every: float | None
    """Seconds after which a new grid starts; None for one at the start only."""
    rate: float | None
    """Frames per second of folders of images; None for the default."""
    topic: str | None
    """Topic of the images in bags that have several."""
    model: Model
    tracker: TrackerConfig
    kinds: tuple[Kind, ...]
    """What to write beside the rows."""

    @property
    def options(self) -> dict[str, Any]:
        """What all rows of a dataset have in common, by the names of the options."""
        return {
            "--grid": self.grid,
            "--beside": self.beside,
            "--points-per-region": self.points_per_region,
            "--every": self.every,
            "--fps": self.rate,
            "--image-topic": self.topic,
            "--memory": self.tracker.memory_slots,
            "--support": self.tracker.support,
            "--lost-after": self.tracker.lost_after,
            "--replenish": self.tracker.replenish,
        }

    def key(self, content: str, points: str) -> str:
        """Return the key of results that follow from these contents of a recording and of the file of its points."""
        return content_key([content, points, self.options, self.model.identity, SCHEMA.names])


@dataclasses.dataclass(frozen=True)
class Task:
    """A recording, or a part of one, to track."""

    recording: Input
    done: frozenset[str] = frozenset()
    """Keys of what the dataset has of the recording."""
    part: Part | None = None
    """None for a recording of which nothing is known yet."""
    key: str = ""
    """Of the recording of the part."""
    states: FileStates | None = None
    """Of its files, when it was cut."""


@dataclasses.dataclass(frozen=True)
class Tracked:
    """A recording, or a part of one, that was tracked."""

    key: str
    summary: Summary
    files: dict[str, dict[str, bytes]]
    """By path in the dataset's folder: the content of a file under an empty path, or that of a folder's files. The rows
    come last."""


@dataclasses.dataclass(frozen=True)
class DoneBefore:
    """A recording that the dataset has already."""

    key: str


@dataclasses.dataclass(frozen=True)
class Cut:
    """A recording that is to be tracked in parts."""

    key: str
    parts: tuple[Part, ...]
    states: FileStates


@dataclasses.dataclass(frozen=True)
class Failed:
    """A recording that cannot be tracked."""

    sentence: str
    key: str
    """Empty if its content could not be read."""


Outcome = Tracked | DoneBefore | Cut | Failed


class TrackingWorker:
    """Tracks recordings with one model, which it loads once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._backend: Backend | None = None

    def load(self) -> str:
        """Load the model; return why that is not possible, as one sentence, or nothing."""
        try:
            self._backend = self._plan.model.load()
        except Exception as error:  # noqa: BLE001 - it travels as a sentence
            return sentence(error)
        return ""

    def work(self, task: Task) -> Outcome:
        """Do a task. Whatever is wrong with the recording becomes a sentence, for the others to go on."""
        started = time.perf_counter()
        recording, key = task.recording, task.key
        try:
            with ExitStack() as opened:
                path = opened.enter_context(local_copy(recording.location))
                points = self._points_beside(recording, path, opened)
                if not (path.is_file() or path.is_dir()):
                    open_source(path)  # says what is wrong with it
                states = () if recording.is_remote else file_states(path)
                if task.part is None:
                    key = self._plan.key(content_checksum(path), content_checksum(points) if points else "")
                    if key in task.done and not self._plan.every:
                        return DoneBefore(key)
                source = self._opened(path)
                if task.part is None and self._plan.every:
                    return Cut(key, tuple(parts_of(source, self._plan.every)), states)
                tracked = self._track(recording, source, points, task.part or Part.whole(), key, started)
                is_changed = task.part is not None and states != task.states
                if is_changed or not (recording.is_remote or file_states(path) == states):
                    raise SourceError(f"{path} changed while it was read; start the command again when it is complete.")
                return tracked
        except Exception as error:  # noqa: BLE001 - a recording may be damaged in any way
            return Failed(sentence(error), key)

    def _points_beside(self, recording: Input, path: Path, opened: ExitStack) -> Path | None:
        """Return the path of what is beside a recording and says what to track, None if nothing should."""
        if not self._plan.beside:
            return None
        location = beside(recording.location, BESIDE[self._plan.beside], is_folder=path.is_dir())
        points = opened.enter_context(local_copy(location))
        if not points.is_file():
            raise SourceError(f"{location} does not exist; it should say what to track in {recording.location}.")
        return points

    def _opened(self, path: Path) -> Recording:
        topic = self._plan.topic if is_bag(path) else None
        rate = self._plan.rate if path.is_dir() and not is_bag(path) else None
        return open_source(path, image_topic=topic, rate=rate)

    def _track(
        self, recording: Input, source: Recording, points: Path | None, part: Part, key: str, started: float
    ) -> Tracked:
        assert self._backend is not None  # noqa: S101 - `load` comes first
        wanted = argparse.Namespace(grid=self._plan.grid, points=None, boxes=None, mask=None)
        wanted.points_per_region = self._plan.points_per_region
        if self._plan.beside:
            setattr(wanted, self._plan.beside, points if self._plan.beside == "mask" else str(points))
        beginning = stem(recording.name)
        rows = RowsFile(recording.name, getattr(source, "topic", ""))
        notices: list[str] = []
        files: dict[str, dict[str, bytes]] = {}
        started_points = 0
        for number, piece in pieces_in(source, part):
            queries = requested_points(wanted, piece)
            tracker = new_tracker(self._backend, self._plan.tracker, queries)
            first = number * part.frames_per_piece
            with Extras(self._plan.kinds, source, queries) as extras:
                for frame, tracks in track_frames(piece, queries, tracker, quiet=True, say=notices.append):
                    rows.append(number, first + frame.number, tracks)
                    extras.write(frame, tracks)
                for kind, content in extras.complete().items():
                    files[result_name(kind, beginning, number, key)] = content
            started_points += len(queries.ids)
        data, summary = rows.close(started_points, time.perf_counter() - started, notices)
        files[result_name(Kind.ROWS, beginning, part.number, key)] = {"": data}
        return Tracked(key, summary, files)
