"""Synthetic scenes with exact tracks and visibility; `docs/scenes.md` describes them.

NumPy and OpenCV are enough, but simulated rooms need MuJoCo.
"""

from taptr_ros.training.scenes.clip import Clip
from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.generate import generate

__all__ = ["Clip", "SceneConfig", "generate"]
