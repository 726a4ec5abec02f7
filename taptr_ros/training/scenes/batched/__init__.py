"""Scenes made many at a time with PyTorch: the same clips as one at a time, to within rounding, faster on a GPU."""

from taptr_ros.training.scenes.batched.generate import generate_batch

__all__ = ["generate_batch"]
