"""Training batches: views of clips, with points to follow."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from taptr_ros.errors import DatasetError
from taptr_ros.evaluation.datasets import load_dataset, resize_frame
from taptr_ros.runtime.coordinates import RASTER_OFFSET
from taptr_ros.training.clip_files import load_frames, load_tracks, pool_files
from taptr_ros.training.config import DataConfig, StageConfig, TrainingConfig
from taptr_ros.training.scenes import Clip, generate
from taptr_ros.training.views import ClipTracks, ContrastIn, View, contrast, draw_view, film

SEQUENCE_FRAMES = 48
"""Most frames that are read of a sequence at once."""

SEQUENCE_SIDE = 320
"""Sequences are reduced until their shorter side has this many pixels."""

DISPLACED_SHARE = 0.03
"""Share of the points that are thought to be elsewhere after a frame, so that they are to be found again."""

DISPLACEMENT = 10.0, 100.0
"""Least and greatest distance, in pixels, to where they are thought to be."""

STORE_PAUSE = 0.2
"""Seconds between two looks of a frame store at its folders."""

MOST_TRIES = 200
"""Views that are drawn for a place in a batch before the clips are taken to be useless."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """B clips of T frames of S x S pixels, with N points each that are visible in the first frame."""

    images: Tensor
    """[T,B,S,S,3] uint8 RGB."""
    xy: Tensor
    """[T,B,N,2] float32 true positions in unit coordinates; NaN where unknown, which implies not visible."""
    visible: Tensor
    """[T,B,N] bool."""
    known: Tensor
    """[T,B,N] bool: whether anything is learnt of the point in this frame."""
    displaced: Tensor
    """[T,B,N,2] float32 unit coordinates that are added to where a point is found, for it to be sought again."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The tracks of a clip that a source drew, and where its frames are."""

    tracks: ClipTracks
    frames: NDArray[np.uint8] | Path
    """[T,H,W,3], or the file that holds them."""
    contrast_in: ContrastIn

    @classmethod
    def of(cls, clip: Clip) -> Drawn:
        """Return a clip that has no file."""
        return cls(ClipTracks.of(clip), clip.frames, lambda frame: contrast(clip.frames[frame], clip.xy[:, frame]))


@dataclasses.dataclass(frozen=True)
class Shot:
    """A view of a clip and the frames to film it from."""

    view: View
    frames: NDArray[np.uint8] | Path
    """[T,H,W,3] the view's frames, or the file of the clip."""


class ClipSource(Protocol):
    """Where clips come from. Positions may be NaN in frames in which the point is not visible."""

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw a clip."""
        ...


class GeneratedClips:
    """`ClipSource` that generates every clip when it is drawn."""

    def __init__(self, data: DataConfig) -> None:
        self._scenes = data.scenes

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Generate a clip."""
        scenes = self._scenes[rng.integers(len(self._scenes))]
        return Drawn.of(generate(scenes, int(rng.integers(1 << 62))))


class StoredClips:
    """`ClipSource` of the clips in a folder, which generators may change meanwhile."""

    reread = 64
    """Draws after which the folder is read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[Path] = []
        self._draws = 0

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Read the tracks of a clip."""
        while True:
            if self._draws % self.reread == 0:
                self._files = pool_files(self._folder)
            self._draws += 1
            try:
                path = self._files[rng.integers(len(self._files))]
                tracks, contrasts = load_tracks(path)
            except FileNotFoundError:
                # A generator has replaced it since.
                self._draws = 0
            else:
                return Drawn(tracks, path, contrasts.T.__getitem__)


class SequenceClips:
    """`ClipSource` of sequences with ground truth, in the formats that `taptr eval` reads."""

    def __init__(self, folder: Path) -> None:
        """Open all sequences in `folder`; their frames stay compressed until they are drawn."""
        self._sequences = list(load_dataset(folder))

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Read a part of a sequence; nothing is known of a point where its visibility is unknown."""
        sequence = self._sequences[rng.integers(len(self._sequences))]
        count = min(SEQUENCE_FRAMES, len(sequence.frames))
        first = int(rng.integers(len(sequence.frames) - count + 1))
        shown = slice(first, first + count)
        scale = min(1.0, SEQUENCE_SIDE / min(sequence.size))
        height, width = (round(scale * side) for side in sequence.size)
        images = (sequence.frames[frame] for frame in range(first, first + count))
        frames = np.stack([resize_frame(image, (height, width)) for image in images])
        known = sequence.valid[:, shown]
        visible = ~sequence.occluded[:, shown] & known
        xy = sequence.points[:, shown] * [width / sequence.size[1], height / sequence.size[0]] - RASTER_OFFSET
        return Drawn.of(Clip(frames, np.where(visible[..., None], xy, np.nan).astype(np.float32), visible, known))


class MixedClips:
    """`ClipSource` that draws from a second source with a certain probability."""

    def __init__(self, first: ClipSource, second: ClipSource, share: float) -> None:
        self._first, self._second, self._share = first, second, share

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw a clip from one of the two."""
        return (self._second if rng.random() < self._share else self._first).draw(rng)


def draw_shot(source: ClipSource, stage: StageConfig, rng: np.random.Generator) -> Shot:
    """Draw a view of one of the source's clips that is of use; raises `DatasetError` if none is."""
    for _ in range(MOST_TRIES):
        drawn = source.draw(rng)
        if drawn.tracks.visible.shape[1] < stage.frames:
            continue
        view = draw_view(drawn.tracks, drawn.contrast_in, stage, rng)
        if view is not None:
            frames = drawn.frames
            return Shot(view, frames if isinstance(frames, Path) else np.ascontiguousarray(frames[view.frames]))
    raise DatasetError(
        f"{MOST_TRIES} clips in a row have fewer than {stage.frames} frames, or too few points that can be followed "
        "through them; use longer clips with more texture."
    )


class FrameStore:
    """The frames of clips in files, on a device; on a GPU they stay there for the next view.

    A thread brings what is new in the folders, so that training need not wait for it.
    """

    def __init__(self, device: torch.device, folders: Sequence[Path]) -> None:
        self._device, self._folders = device, folders
        self._kept: dict[Path, Tensor] = {}
        self.lock = threading.Lock()
        """Held while the thread uses the device."""
        self._stopped = threading.Event()
        if device.type != "cpu":
            threading.Thread(target=self._follow, daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()

    def frames(self, path: Path, numbers: NDArray[np.int64]) -> Tensor:
        """Return frames [T,H,W,3] of a clip; raises `FileNotFoundError` if a generator has replaced it."""
        kept = self._kept.get(path)
        if kept is not None:
            return kept[torch.from_numpy(np.ascontiguousarray(numbers)).to(self._device)]
        return torch.from_numpy(load_frames(path)[numbers]).to(self._device)

    def _follow(self) -> None:
        """Keep what the folders hold."""
        while not self._stopped.wait(STORE_PAUSE):
            files = {path for folder in self._folders for path in pool_files(folder)}
            for gone in set(self._kept) - files:
                del self._kept[gone]
            for path in sorted(files - set(self._kept)):
                with contextlib.suppress(FileNotFoundError):
                    frames = torch.from_numpy(load_frames(path))
                    with self.lock:
                        self._kept[path] = frames.to(self._device)


class Batches:
    """The batches of a run, one per step: the same one on every run with the same clips."""

    def __init__(self, config: TrainingConfig, source: ClipSource, rank: int, device: torch.device) -> None:
        data = config.data
        self._source, self._device = source, device
        self._shots = _Shots(config, source, rank)
        folders = [Path(folder) for folder in (data.pool, data.recordings) if folder is not None]
        self._store = FrameStore(device, folders)
        self._loaders = data.loaders

    def draw(self, steps: Iterable[int]) -> Iterator[Batch]:
        """Yield the batches of steps, on the device."""
        loader = DataLoader(
            self._shots,
            batch_size=None,
            sampler=steps,
            num_workers=self._loaders,
            prefetch_factor=4 if self._loaders else None,
            multiprocessing_context="spawn" if self._loaders else None,
        )
        for step, shots in loader:
            yield self._batch(self._shots.config.stage_at(step)[0], step, shots)

    def close(self) -> None:
        """End what works beside training."""
        self._store.close()

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Keep everything but the caller from using the device."""
        with self._store.lock:
            yield

    def _frames(self, shot: Shot) -> Tensor | None:
        """Return a shot's frames [T,H,W,3] on the device; None if a generator has replaced the clip."""
        if isinstance(shot.frames, np.ndarray):
            return torch.from_numpy(shot.frames).to(self._device)
        try:
            return self._store.frames(shot.frames, shot.view.frames)
        except FileNotFoundError:
            return None

    def _batch(self, stage: StageConfig, step: int, shots: list[Shot]) -> Batch:
        rng = self._shots.random(step, len(shots))
        frames: list[Tensor] = []
        for index in range(len(shots)):
            while (found := self._frames(shots[index])) is None:
                shots[index] = draw_shot(self._source, stage, rng)
            frames.append(found)
        images: list[Tensor] = [frames[0]] * len(shots)
        for size in {part.shape for part in frames}:
            alike = [index for index, part in enumerate(frames) if part.shape == size]
            filmed = film(torch.stack([frames[index] for index in alike]), [shots[i].view for i in alike], stage.size)
            for index, image in zip(alike, filmed, strict=True):
                images[index] = image
        views = [shot.view for shot in shots]
        xy = np.stack([view.xy.transpose(1, 0, 2) for view in views], axis=1)
        visible, known = (
            np.stack([part.T for part in parts], axis=1)
            for parts in zip(*((v.visible, v.known) for v in views), strict=True)
        )
        direction = rng.uniform(0.0, 2.0 * np.pi, visible.shape)
        low, high = np.log(DISPLACEMENT)
        distance = np.exp(rng.uniform(low, high, visible.shape)) * (rng.random(visible.shape) < DISPLACED_SHARE)
        displaced = np.stack((np.cos(direction), np.sin(direction)), axis=-1) * distance[..., np.newaxis] / stage.size
        on_device = (
            torch.from_numpy(np.ascontiguousarray(part)).to(self._device, non_blocking=True)
            for part in (((xy + 0.5) / stage.size).astype(np.float32), visible, known, displaced.astype(np.float32))
        )
        return Batch(torch.stack(images, dim=1), *on_device)


class _Shots(Dataset[tuple[int, list[Shot]]]):
    """The shots of every step, which loader processes draw ahead."""

    def __init__(self, config: TrainingConfig, source: ClipSource, rank: int) -> None:
        self.config, self._source, self._rank = config, source, rank

    def random(self, step: int, place: int) -> np.random.Generator:
        """Return where a place in a step's batch takes its random numbers from."""
        return np.random.default_rng((self.config.seed, step, self._rank, place))

    def __getitem__(self, step: int) -> tuple[int, list[Shot]]:
        stage, _ = self.config.stage_at(step)
        return step, [draw_shot(self._source, stage, self.random(step, place)) for place in range(stage.clips)]
