"""A scene: layers in the order they are painted."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.layer import Layer


@dataclasses.dataclass(frozen=True)
class Scene:
    """Layers that cover each other, in T frames."""

    layers: list[Layer]
    """L layers; the first is the background."""
    order: NDArray[np.int64]
    """[T,L] in every frame the layers from the farthest to the nearest."""
    height: int
    """Image height in pixels."""
    width: int
    """Image width in pixels."""

    @property
    def frames(self) -> int:
        """T."""
        return len(self.order)
