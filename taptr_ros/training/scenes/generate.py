"""From a configuration and a seed to a clip."""

from __future__ import annotations

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
