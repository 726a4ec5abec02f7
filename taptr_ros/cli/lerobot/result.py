"""A LeRobot dataset with tracks: what is kept until all episodes are tracked, and the dataset that is made then."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.compute_stats import get_feature_stats
from lerobot.datasets.dataset_tools import add_features
from lerobot.datasets.io_utils import write_stats
from numpy.typing import NDArray

from taptr_ros.cli.lerobot.episodes import VALUES, Episode
from taptr_ros.errors import InvalidConfigError

SUFFIX = ".unfinished"
"""What follows the name of the new dataset in that of the folder with the tracks of the episodes so far."""

_DATASET = "dataset"


def feature_name(camera: str) -> str:
    """Return the name of the feature with the tracks of a camera: observation.tracks.KEY."""
    return f"observation.tracks.{camera.removeprefix('observation.').removeprefix('images.')}"


class Unfinished:
    """The tracks of the episodes so far, in a folder beside the new dataset; locked while this is open.

    Raises `InvalidConfigError` if another run is writing into it.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._folder = out.with_name(out.name + SUFFIX)
        self._folder.mkdir(exist_ok=True)
        self._lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InvalidConfigError(
                f"Another run of this command is making {out}; wait for its end, or name another folder."
            ) from None

    def has(self, episode: Episode) -> bool:
        """Return whether the tracks of an episode are there."""
        return self._path(episode).is_file()

    def add(self, episode: Episode, values: NDArray[np.float32]) -> None:
        """Keep the tracks [T,N,4] of an episode, whole or not at all."""
        path = self._path(episode)
        unfinished = path.with_suffix(".part")
        try:
            with unfinished.open("wb") as file:
                np.save(file, values)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise

    def finish(self, dataset: Any, episodes: Mapping[str, Sequence[Episode]]) -> dict[str, tuple[int, ...]]:
        """Make the new dataset of the old one and of the tracks, by camera, of all its episodes.

        Return the shapes of the new features by their names.
        """
        made = self._folder / _DATASET
        shutil.rmtree(made, ignore_errors=True)
        features: dict[str, tuple[NDArray[np.float32], dict[str, Any]]] = {}
        for camera, of_camera in episodes.items():
            values = self._joined(camera, of_camera)
            names = {"points": [str(point + 1) for point in range(values.shape[1])], "values": list(VALUES)}
            features[feature_name(camera)] = (values, {"dtype": "float32", "shape": values.shape[1:], "names": names})
        new = add_features(dataset, features, output_dir=made, repo_id=dataset.repo_id)
        stats = dict(new.meta.stats or {})
        for name, (values, _) in features.items():
            of_numbers = get_feature_stats(values.reshape(len(values), -1), axis=0, keepdims=False)
            stats[name] = {
                key: number if key == "count" else number.reshape(values.shape[1:])
                for key, number in of_numbers.items()
            }
        write_stats(stats, made)
        made.replace(self._out)
        shutil.rmtree(self._folder)
        return {name: values.shape[1:] for name, (values, _) in features.items()}

    def _joined(self, camera: str, episodes: Sequence[Episode]) -> NDArray[np.float32]:
        """Return the tracks of all episodes one after the other, in a file: they may be larger than memory.

        Where points were chosen in each image for itself, episodes may have fewer; what is missing is 0.
        """
        arrays = [np.load(self._path(episode), mmap_mode="r") for episode in episodes]
        shape = (sum(map(len, arrays)), max(array.shape[1] for array in arrays), len(VALUES))
        joined: NDArray[np.float32] = np.lib.format.open_memmap(
            self._folder / f"{feature_name(camera)}.joined", "w+", np.float32, shape
        )
        first = 0
        for array in arrays:
            joined[first : first + len(array), : array.shape[1]] = array
            first += len(array)
        return joined

    def close(self) -> None:
        """Let others write."""
        os.close(self._lock)

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, episode: Episode) -> Path:
        return self._folder / f"{feature_name(episode.camera)}.{episode.index:06d}.{episode.key}.npy"
