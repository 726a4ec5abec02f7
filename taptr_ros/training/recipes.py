"""Recipes that need no file."""

from __future__ import annotations

from pathlib import Path

from taptr_ros.model.small_config import SmallConfig
from taptr_ros.runtime.loading import MODEL_FILE, TAPTR_SMALL, WEIGHTS
from taptr_ros.training.config import DataConfig, EvaluationConfig, StageConfig, TrainingConfig
from taptr_ros.training.scenes import SceneConfig


def smoke_recipe() -> TrainingConfig:
    """Return a recipe that trains a network of half the width on small scenes, within about a minute."""
    scenes = SceneConfig(height=96, width=96, frames=8, points=64, fastest=4.0)
    return TrainingConfig(
        model=SmallConfig(
            name="smoke",
            level_channels=(16, 32, 32),
            hidden_dim=64,
            decoder_layers=2,
            feedforward_dim=128,
            height=96,
            width=96,
        ),
        stages=(
            StageConfig(steps=90, frames=2, size=64, clips=4, points=24, rate=(2e-3, 2e-3)),
            StageConfig(steps=90, frames=4, size=64, clips=2, points=24, rate=(2e-3, 2e-4)),
        ),
        data=DataConfig(scenes=(scenes,)),
        evaluation=EvaluationConfig(every=1000, scenes=scenes, clips=4),
        average_decay=0.98,
        log_every=20,
    )


def recordings_recipe(folder: Path, recordings: Path) -> TrainingConfig:
    """Return a recipe that goes on from the package's model, half with `recordings` and half with scenes.

    The scenes are kept in the run's `folder`. Rates are low: the model is to learn what is new, and to forget nothing.
    """
    return TrainingConfig(
        initial=str(WEIGHTS / TAPTR_SMALL / MODEL_FILE),
        processes=2,
        threads=1,
        average_decay=0.98,
        warmup_steps=10,
        stages=(StageConfig(steps=200, frames=12, size=256, clips=2, points=48, rate=(4e-5, 1e-6)),),
        data=DataConfig(
            recordings=str(recordings),
            recording_share=0.5,
            pool=str(folder / "pool"),
            pool_clips=60,
            pool_start=8,
            scenes=(SceneConfig(kind="spatial"), SceneConfig(kind="layered")),
        ),
        evaluation=EvaluationConfig(every=1000, clips=0),
        log_every=10,
    )
