"""Recipes that need no file."""

from __future__ import annotations

from taptr_ros.model.small_config import SmallConfig
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
