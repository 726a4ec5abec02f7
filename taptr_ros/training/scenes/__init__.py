"""Synthetic scenes with exact tracks and visibility. NumPy and OpenCV only; `docs/scenes.md` describes them."""

from taptr_ros.training.scenes.clip import Clip
from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.generate import generate

__all__ = ["Clip", "SceneConfig", "generate"]
