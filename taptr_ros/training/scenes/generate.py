"""From a configuration and a seed to a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taptr_ros.training.scenes.clip import Clip
from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.shot import Shot


def generate(config: SceneConfig, seed: int) -> Clip:
    """Return the clip with this seed: the same one on every call and, with one OpenCV version, on every machine."""
    shot = Shot(config, seed)
    frames = np.stack([world.paint(frame) for world, frame in shot.views])
    film, xy, visible = shot.finish(frames)
    return Clip(film.develop(frames), xy, visible)


def generate_many(config: SceneConfig, seeds: Sequence[int], device: str | None = None) -> list[Clip]:
    """Return the clips with these seeds: one by one as `generate` does, or together on a device that PyTorch knows.

    See `taptr_ros.training.scenes.batched` for what differs then.
    """
    if device is None:
        return [generate(config, seed) for seed in seeds]
    from taptr_ros.training.scenes.batched import generate_batch

    return generate_batch(config, seeds, device)
