"""From a configuration and seeds to clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from taptr_ros.errors import BackendUnavailableError
from taptr_ros.training.scenes.batched.imaging import develop
from taptr_ros.training.scenes.batched.painting import paint
from taptr_ros.training.scenes.clip import Clip
from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.shot import Shot
from taptr_ros.training.scenes.world import LayeredWorld, World


def generate_batch(config: SceneConfig, seeds: Sequence[int], device: str) -> list[Clip]:
    """Return the clips with these seeds, painted and filmed together on a device that PyTorch knows.

    Scenes, motion, light and recording are those of `generate`, and so are pixels, but for differences of a few grey
    levels in how they are rounded. As points are drawn by what is seen, a few of them may be others. Simulated rooms
    are painted by MuJoCo, one after the other, and filmed together.

    Raises `BackendUnavailableError` if the device is absent.
    """
    try:
        place = torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise BackendUnavailableError(
            f"PyTorch cannot make scenes on {device!r} ({str(error).splitlines()[0]}); use one that it finds, such as "
            "cpu, or none, to make them one by one."
        ) from error
    shots = [Shot(config, seed) for seed in seeds]
    painted = _painted([view for shot in shots for view in shot.views], place)
    frames = painted.unflatten(0, (len(shots), config.frames))
    finished = [shot.finish(part) for shot, part in zip(shots, frames.cpu().numpy(), strict=True)]
    developed = develop([film for film, _, _ in finished], frames).cpu().numpy()
    return [Clip(part, xy, visible) for part, (_, xy, visible) in zip(developed, finished, strict=True)]


def _painted(views: Sequence[tuple[World, int]], device: torch.device) -> Tensor:
    """Return what views show, uint8 [M,H,W,3]."""
    layered = [(world.painter, frame) for world, frame in views if isinstance(world, LayeredWorld)]
    if len(layered) == len(views):
        return paint(layered, device)
    return torch.from_numpy(np.stack([world.paint(frame) for world, frame in views])).to(device)
