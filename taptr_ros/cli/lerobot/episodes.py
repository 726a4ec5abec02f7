"""The episodes of a LeRobot dataset as recordings, and what a worker does with them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.video_utils import decode_video_frames
from numpy.typing import NDArray

from taptr_ros.cli.batch.model import Model, sentence
from taptr_ros.cli.offline import new_tracker, requested_points, track_frames
from taptr_ros.errors import SourceError
from taptr_ros.runtime.backend import Backend
from taptr_ros.sources.frames import Frame, Report, unreported
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.history import NANOSECONDS

VALUES = ("x", "y", "visibility", "confidence")
"""What the feature holds of every point: x and y in units of the image, 0 at its left and upper edge and 1 at its right
and lower one. All are 0 in a frame in which the point is not tracked yet."""

_DECODED_AT_ONCE = 32
"""Frames of a video, which LeRobot decodes together."""


@dataclasses.dataclass(frozen=True)
class Episode:
    """An episode and the camera that is tracked in it."""

    index: int
    camera: str
    """Key of the feature that holds the images."""
    key: str
    """What the tracks follow from, as a number."""


@dataclasses.dataclass(frozen=True)
class TrackedEpisode:
    """The tracks of an episode."""

    values: NDArray[np.float32]
    """[T,N,4], the last axis as in `VALUES`."""


@dataclasses.dataclass(frozen=True)
class FailedEpisode:
    """An episode that cannot be tracked."""

    sentence: str


def opened_dataset(root: Path) -> Any:
    """Return the LeRobot dataset in a folder; raises `SourceError` if it cannot be read."""
    if not (root / "meta" / "info.json").is_file():
        raise SourceError(f"{root} holds no LeRobot dataset (meta/info.json is missing); pass the dataset's folder.")
    try:
        return LeRobotDataset(f"local/{root.name}", root=root)
    except Exception as error:
        raise SourceError(f"{root} cannot be read as a LeRobot dataset ({sentence(error)[:300]}).") from error


class EpisodeSource:
    """The images of one camera in one episode, in order, stamped by their number at the dataset's rate."""

    is_compressed = False
    can_repeat = True

    def __init__(self, dataset: Any, index: int, camera: str) -> None:
        self.name = f"episode {index}"
        self.report: Report = unreported
        self.rate = float(dataset.meta.fps)
        self._dataset, self._index, self._camera = dataset, index, camera
        self._row = dataset.meta.episodes[index]
        self.frame_count = int(self._row["length"])

    def __iter__(self) -> Iterator[Frame]:
        for number, image in enumerate(self._images()):
            stamp = round(number * NANOSECONDS / self.rate)
            yield Frame(image, stamp, stamp, number, f"frame {number} of {self.name}")

    def _images(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the images, uint8 [H,W,3] RGB, as LeRobot decodes them."""
        rows = range(int(self._row["dataset_from_index"]), int(self._row["dataset_to_index"]))
        if self._camera not in self._dataset.meta.video_keys:
            for row in rows:
                image = self._dataset.hf_dataset[row][self._camera]  # float32 [3,H,W], 0 to 1
                yield np.rint(255 * image.permute(1, 2, 0).numpy()).astype(np.uint8)
            return
        path = self._dataset.root / self._dataset.meta.get_video_file_path(self._index, self._camera)
        start = self._row[f"videos/{self._camera}/from_timestamp"]
        for first in range(0, len(rows), _DECODED_AT_ONCE):
            some = rows[first : first + _DECODED_AT_ONCE]
            stamps = [start + float(self._dataset.hf_dataset[row]["timestamp"]) for row in some]
            decoded = decode_video_frames(path, stamps, self._dataset.tolerance_s, return_uint8=True)
            for image in decoded.numpy().reshape(len(some), *decoded.shape[-3:]):
                yield np.ascontiguousarray(image.transpose(1, 2, 0))


class EpisodeWorker:
    """Tracks episodes of one dataset with one model, both of which it opens once."""

    def __init__(self, root: Path, points: argparse.Namespace, model: Model, tracker: TrackerConfig) -> None:
        self._root, self._points, self._model, self._tracker = root, points, model, tracker
        self._backend: Backend | None = None
        self._dataset: Any = None

    def load(self) -> str:
        """Load the model and open the dataset; return why that is not possible, as one sentence, or nothing."""
        try:
            self._backend = self._model.load()
            self._dataset = opened_dataset(self._root)
        except Exception as error:  # noqa: BLE001 - it travels as a sentence
            return sentence(error)
        return ""

    def work(self, episode: Episode) -> TrackedEpisode | FailedEpisode:
        """Track the points through an episode. Whatever is wrong with it becomes a sentence."""
        try:
            return TrackedEpisode(self._track(EpisodeSource(self._dataset, episode.index, episode.camera)))
        except Exception as error:  # noqa: BLE001 - an episode may be damaged in any way
            return FailedEpisode(sentence(error))

    def _track(self, source: EpisodeSource) -> NDArray[np.float32]:
        assert self._backend is not None  # noqa: S101 - `load` comes first
        queries = requested_points(self._points, source)
        tracker = new_tracker(self._backend, self._tracker, queries)
        values = np.zeros((source.frame_count, len(queries.ids), len(VALUES)), np.float32)
        column_of = {identifier: column for column, identifier in enumerate(queries.ids.tolist())}
        notices: list[str] = []
        for frame, tracks in track_frames(source, queries, tracker, quiet=True, say=notices.append):
            columns = [column_of[identifier] for identifier in tracks.ids.tolist()]
            # The centre of the first pixel is (0, 0) in pixels; the image begins half a pixel before it.
            values[frame.number, columns, :2] = (tracks.xy + 0.5) / (tracks.width, tracks.height)
            values[frame.number, columns, 2] = tracks.visibility
            values[frame.number, columns, 3] = tracks.confidence
        if notices:
            raise SourceError(" ".join(notices))
        return values
