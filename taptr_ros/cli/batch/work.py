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
from taptr_ros.cli.batch.inputs import Input, content_checksum, local_copy
from taptr_ros.cli.batch.model import Model, sentence
from taptr_ros.cli.batch.pieces import Part, parts_of, pieces_in
from taptr_ros.cli.batch.rows import SCHEMA, RowsFile
from taptr_ros.cli.offline import requested_points, track_frames
from taptr_ros.runtime.backend import Backend
from taptr_ros.sources.frames import Recording
from taptr_ros.sources.opening import open_source
from taptr_ros.sources.storage_names import is_bag
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.tracker import PointTracker

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


@dataclasses.dataclass(frozen=True)
class Tracked:
    """A recording, or a part of one, that was tracked."""

    key: str
    frames: int
    points: int
    rows: int
    visible: int
    """Rows of points that are seen."""
    seconds: float
    notices: tuple[str, ...]
    """Sentences on images that were left out, and the like."""
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


@dataclasses.dataclass(frozen=True)
class Failed:
    """A recording that cannot be tracked."""

    sentence: str


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
        try:
            with ExitStack() as opened:
                return self._work(task, opened)
        except Exception as error:  # noqa: BLE001 - a recording may be damaged in any way
            return Failed(sentence(error))

    def _work(self, task: Task, opened: ExitStack) -> Outcome:
        started = time.perf_counter()
        path = opened.enter_context(local_copy(task.recording.location))
        beside = None
        if self._plan.beside:
            beside = opened.enter_context(local_copy(location_beside(task.recording, path, self._plan.beside)))
        topic = self._plan.topic if is_bag(path) else None
        rate = self._plan.rate if path.is_dir() and not is_bag(path) else None
        source = open_source(path, image_topic=topic, rate=rate)
        part, key = task.part, task.key
        if part is None:
            key = self._plan.key(content_checksum(path), content_checksum(beside) if beside else "")
            if key in task.done and not self._plan.every:
                return DoneBefore(key)
        if part is None and self._plan.every:
            return Cut(key, tuple(parts_of(source, self._plan.every)))
        return self._track(task.recording, source, beside, part or Part.whole(), key, started)

    def _track(
        self, recording: Input, source: Recording, beside: Path | None, part: Part, key: str, started: float
    ) -> Tracked:
        assert self._backend is not None  # noqa: S101 - `load` comes first
        wanted = argparse.Namespace(grid=self._plan.grid, points=None, boxes=None, mask=None)
        wanted.points_per_region = self._plan.points_per_region
        if self._plan.beside:
            setattr(wanted, self._plan.beside, beside if self._plan.beside == "mask" else str(beside))
        beginning = stem(recording.name)
        rows = RowsFile(recording.name, getattr(source, "topic", ""))
        notices: list[str] = []
        files: dict[str, dict[str, bytes]] = {}
        frames = started_points = 0
        for number, piece in pieces_in(source, part):
            queries = requested_points(wanted, piece)
            config = dataclasses.replace(self._plan.tracker, capacity=len(queries.ids))
            tracker = PointTracker(self._backend, config)
            first = number * part.frames_per_piece
            with Extras(self._plan.kinds, source, queries) as extras:
                for frame, tracks in track_frames(piece, queries, tracker, quiet=True, say=notices.append):
                    rows.append(number, first + frame.number, tracks)
                    extras.write(frame, tracks)
                    frames += 1
                for kind, content in extras.complete().items():
                    files[result_name(kind, beginning, number, key)] = content
            started_points += len(queries.ids)
        files[result_name(Kind.ROWS, beginning, part.number, key)] = {"": rows.close()}
        seconds = time.perf_counter() - started
        return Tracked(key, frames, started_points, rows.rows, rows.visible, seconds, tuple(notices), files)


def location_beside(recording: Input, copy: Path, kind: str) -> str:
    """Return the location of the file beside a recording: street.csv for street.mp4, my_bag.csv for a folder."""
    location = recording.location
    return (location if copy.is_dir() else location.removesuffix(copy.suffix)) + BESIDE[kind]
