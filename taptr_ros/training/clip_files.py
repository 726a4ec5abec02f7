"""Clips on disk: a pool that generator processes fill and refresh while training draws from it."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.sharedctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import DatasetError
from taptr_ros.training.scenes import Clip, SceneConfig, generate
from taptr_ros.training.views import ClipTracks, contrast

SUFFIX = ".clip.npz"

PAUSE = 2.0
"""Seconds between two looks of an idle generator at what training has drawn."""


def save_clip(path: Path, clip: Clip) -> None:
    """Write a clip, uncompressed, so that no reader ever sees half of it; and the contrast round its points."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    contrasts = np.stack([contrast(frame, xy) for frame, xy in zip(clip.frames, clip.xy.swapaxes(0, 1), strict=True)])
    with unfinished.open("wb") as file:
        np.savez(
            file,
            frames=clip.frames,
            xy=clip.xy,
            visible=clip.visible,
            known=clip.known,
            contrast=contrasts.T.clip(0.0, 255.0).astype(np.uint8),
        )
    unfinished.replace(path)


def load_frames(path: Path) -> NDArray[np.uint8]:
    """Read the frames [T,H,W,3] of what `save_clip` wrote."""
    with np.load(path) as file:
        frames: NDArray[np.uint8] = file["frames"]
        return frames


def load_tracks(path: Path) -> tuple[ClipTracks, NDArray[np.float32]]:
    """Read the tracks of what `save_clip` wrote, and the contrast [N,T] round the points, but not the frames."""
    with np.load(path) as file:
        with file.zip.open("frames.npy") as frames:
            np.lib.format.read_magic(frames)
            shape, _, _ = np.lib.format.read_array_header_1_0(frames)
        tracks = ClipTracks(file["xy"], file["visible"], file["known"], (shape[1], shape[2]))
        return tracks, file["contrast"].astype(np.float32)


def pool_files(folder: Path) -> list[Path]:
    """Return the clips in a pool, by name: that is, oldest seed first."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))


class Generators:
    """Processes that keep a pool full and replace its oldest clips as they are used up.

    They end with the process that started them.
    """

    def __init__(
        self,
        folder: Path,
        scenes: Sequence[SceneConfig],
        *,
        processes: int,
        clips: int,
        uses: float,
        first: int = 0,
    ) -> None:
        """Start `processes` of them.

        Args:
            folder: the pool.
            scenes: clip number i is made by `scenes[i % len(scenes)]` with the seed i.
            first: number of the first clip, if the pool is empty.
            processes: how many.
            clips: the size of the pool.
            uses: how often a clip is drawn, on average, before it is replaced.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(f".*{SUFFIX}.*"):
            unfinished.unlink()
        # A process forked from one whose libraries have threads may wait for ever for a lock that no thread will free.
        context = multiprocessing.get_context("spawn")
        self._drawn = context.Value("q", 0)
        first = 1 + max((int(path.name.partition(".")[0]) for path in pool_files(folder)), default=first - 1)
        self._processes = [
            context.Process(
                target=_fill,
                args=(folder, scenes, range(first + index, 1 << 62, processes), clips, uses, self._drawn),
                daemon=True,
            )
            for index in range(processes)
        ]
        for process in self._processes:
            process.start()

    def count(self, clips: int) -> None:
        """Note that `clips` more have been drawn."""
        with self._drawn.get_lock():
            self._drawn.value += clips

    def check(self) -> None:
        """Raise `DatasetError` if a generator has ended."""
        if not all(process.is_alive() for process in self._processes):
            raise DatasetError("A scene generator failed; its error is above.")

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
            process.join()


def _fill(
    folder: Path,
    scenes: Sequence[SceneConfig],
    seeds: range,
    clips: int,
    uses: float,
    drawn: multiprocessing.sharedctypes.Synchronized[int],
) -> None:
    """Generate clips for ever: until the pool is full, and then one for every `uses` clips drawn."""
    cv2.setNumThreads(1)
    parent = os.getppid()
    made = 0
    for seed in seeds:
        while True:
            if os.getppid() != parent:
                return
            missing = clips - len(pool_files(folder))
            # Every process answers for its share of what has been drawn.
            if missing > 0 or made < drawn.value / uses / (seeds.step or 1):
                break
            time.sleep(PAUSE)
        save_clip(folder / f"{seed:012d}{SUFFIX}", generate(scenes[seed % len(scenes)], seed))
        if missing <= 0:
            made += 1
            for oldest in pool_files(folder)[: 1 - missing]:
                # Another process may have been faster.
                with contextlib.suppress(FileNotFoundError):
                    oldest.unlink()
