"""A clip between its making and its painting: scenes, cuts, and what a film and points are chosen by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.choice import choose_points
from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.imaging import Film
from taptr_ros.training.scenes.layered import layered_scene
from taptr_ros.training.scenes.spatial import spatial_scene
from taptr_ros.training.scenes.world import LayeredWorld, World

Whole = NDArray[np.int64]


class Shot:
    """A clip whose scenes are made but not painted yet."""

    def __init__(self, config: SceneConfig, seed: int) -> None:
        """Make the scenes of the clip with this seed."""
        self._config, self._rng = config, np.random.default_rng(seed)
        # What has been drawn for points, which depends on what is seen, must not matter.
        (self._film_rng,) = self._rng.spawn(1)
        times, self._shown = _edit(self._rng, config)
        blurred = self._rng.random() < config.motion_blur_share
        shutter = float(self._rng.uniform(0.3, 1.0)) if blurred else 0.0
        self._worlds = [_world(self._rng, config, time, shutter) for time in times]

    @property
    def views(self) -> list[tuple[World, int]]:
        """What each of the T frames shows: a world, and the number of the frame in it."""
        return [(self._worlds[number], frame) for frame, number in enumerate(self._shown)]

    def finish(self, frames: NDArray[np.uint8]) -> tuple[Film, NDArray[np.float32], NDArray[np.bool_]]:
        """Choose points and a film for the painted frames [T,H,W,3]; to be called once.

        Returns the film, positions [N,T,2] in pixels and visibility [N,T].
        """
        xy: list[NDArray[np.float32]] = []
        visible: list[NDArray[np.bool_]] = []
        for number, world in enumerate(self._worlds):
            own = self._shown == number
            # Each scene gets points in proportion to its share of the frames.
            share = int((self._shown <= number).sum()) / len(self._shown)
            wanted = round(self._config.points * share) - sum(len(part) for part in xy)
            chosen, starts = choose_points(self._rng, world, frames, wanted, np.flatnonzero(own))
            positions, seen = world.track(chosen, starts)
            xy.append(positions.astype(np.float32))
            visible.append(seen & own)
        return Film(self._film_rng, self._config, frames[0]), np.concatenate(xy), np.concatenate(visible)


def _world(rng: np.random.Generator, config: SceneConfig, times: NDArray[np.float64], shutter: float) -> World:
    if config.kind == "simulated":
        from taptr_ros.training.scenes.simulated import simulated_world

        return simulated_world(rng, config, times, shutter)
    compose = spatial_scene if config.kind == "spatial" else layered_scene
    return LayeredWorld(compose(rng, config, times), shutter)


def _edit(rng: np.random.Generator, config: SceneConfig) -> tuple[list[NDArray[np.float64]], Whole]:
    """Return, for every scene of the clip, the time of each frame [T]; and which scene each frame shows [T]."""
    frames = np.arange(config.frames)
    time = frames.astype(np.float64)
    if config.frames < 3 or rng.random() >= config.cut_share:
        return [time], np.zeros(config.frames, np.int64)
    first, second = np.sort(rng.choice(np.arange(1, config.frames), 2, replace=False))
    style = rng.integers(3)
    if style == 0:
        # Another view of the same scene, which went on unseen in between.
        return [time + (frames >= first) * float(rng.integers(10, 60))], np.zeros(config.frames, np.int64)
    if style == 1:
        # Another scene.
        return [time, time], (frames >= first).astype(np.int64)
    # Another scene for a while.
    return [time, time], ((frames >= first) & (frames < second)).astype(np.int64)
