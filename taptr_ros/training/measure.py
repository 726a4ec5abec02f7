"""Measuring a network during training: the metrics of TAP-Vid on scenes that training does not see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from taptr_ros.drawing.overlay import TrackOverlay
from taptr_ros.evaluation.datasets import AnnotatedSequence
from taptr_ros.evaluation.evaluate import evaluate
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.coordinates import RASTER_OFFSET
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.tracker import PointTracker
from taptr_ros.training.config import EvaluationConfig
from taptr_ros.training.scenes import Clip, generate

FIRST_SEED = 1 << 62
"""Seed of the first evaluation scene. Training draws smaller ones."""


TRACKER = TrackerConfig(scene_cut_threshold=0.0)
"""The tracker's settings, as `taptr eval` has them: without looking for scene cuts."""


class EvaluationScenes:
    """The scenes, generated once."""

    def __init__(self, config: EvaluationConfig) -> None:
        self._clips = [generate(config.scenes, FIRST_SEED + index) for index in range(config.clips)]

    def sequences(self) -> Iterator[AnnotatedSequence]:
        """Yield the scenes as sequences to evaluate on."""
        for index, clip in enumerate(self._clips):
            yield as_sequence(f"scene_{index}", clip)

    def scores(self, backend: Backend) -> dict[str, float]:
        """Return AJ, delta_avg and OA, in percent, of a model."""
        mean = evaluate(backend, self.sequences(), tracker_config=TRACKER, raster=None)["mean"]
        return {name: mean[name] or 0.0 for name in ("AJ", "delta_avg", "OA")}

    def picture(self, backend: Backend) -> NDArray[np.uint8]:
        """Return the last frame of the first scene with the tracks that a model found, uint8 [H,W,3]."""
        clip = self._clips[0]
        tracker, overlay = PointTracker(backend, TRACKER), TrackOverlay()
        tracker.add(clip.xy[clip.visible[:, 0], 0])
        for number, frame in enumerate(clip.frames):
            picture = overlay.draw(frame, tracker.step(frame, number))
        return picture


def as_sequence(name: str, clip: Clip) -> AnnotatedSequence:
    """Return a clip as a sequence with ground truth."""
    return AnnotatedSequence(
        name=name,
        frames=clip.frames,
        points=np.asarray(clip.xy + RASTER_OFFSET, np.float32),
        occluded=~clip.visible,
        valid=np.ones_like(clip.visible),
        size=(clip.frames.shape[1], clip.frames.shape[2]),
    )
