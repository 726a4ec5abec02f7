"""Points spread over an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 256
"""Most points per side of a grid: its square is the largest capacity of a tracker."""


def grid_points(side: int, width: int, height: int) -> NDArray[np.float32]:
    """Return the centres of side x side equal cells of a width x height image, row by row: [side * side, 2] pixels."""
    centres = (np.arange(side) + 0.5) / side
    y, x = np.meshgrid(centres * height - 0.5, centres * width - 0.5, indexing="ij")
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
