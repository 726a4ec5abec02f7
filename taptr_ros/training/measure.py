"""Measuring a network during training: the metrics of TAP-Vid on scenes that training does not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.evaluation.datasets import Sequence
from taptr_ros.evaluation.evaluate import evaluate
from taptr_ros.model.small_config import SmallConfig
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.coordinates import RASTER_OFFSET
from taptr_ros.runtime.torch_backend import TorchBackend
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.training.config import EvaluationConfig
from taptr_ros.training.scenes import Clip, generate

FIRST_SEED = 1 << 62
"""Seed of the first evaluation scene. Training draws smaller ones."""


class EvaluationScenes:
    """The scenes, generated once."""

    def __init__(self, config: EvaluationConfig) -> None:
        self._clips = [generate(config.scenes, FIRST_SEED + index) for index in range(config.clips)]

    def sequences(self) -> Iterator[Sequence]:
        """Yield the scenes as sequences to evaluate on."""
        for index, clip in enumerate(self._clips):
            yield as_sequence(f"scene_{index}", clip)

    def scores(self, model: SmallConfig, weights: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Return AJ, delta_avg and OA, in percent, of a network with these weights."""
        return self.scores_of(TorchBackend(model, weights))

    def scores_of(self, backend: Backend) -> dict[str, float]:
        """Return AJ, delta_avg and OA, in percent, of any model."""
        config = TrackerConfig(scene_cut_threshold=0.0)
        mean = evaluate(backend, self.sequences(), tracker_config=config, raster=None)["mean"]
        return {name: mean[name] or 0.0 for name in ("AJ", "delta_avg", "OA")}


def as_sequence(name: str, clip: Clip) -> Sequence:
    """Return a clip as a sequence with ground truth."""
    return Sequence(
        name=name,
        frames=clip.frames,
        points=np.asarray(clip.xy + RASTER_OFFSET, np.float32),
        occluded=~clip.visible,
        valid=np.ones_like(clip.visible),
        size=(clip.frames.shape[1], clip.frames.shape[2]),
    )
