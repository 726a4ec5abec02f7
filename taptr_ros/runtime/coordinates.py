"""The one place where pixels become the network's unit coordinates and back.

Pixels are ROS and OpenCV pixels of the incoming image: (0,0) is the centre of the top-left pixel, so the image spans
[-0.5, width - 0.5] x [-0.5, height - 0.5]. Unit coordinates run over the image, x to the right, y down:

- half-pixel convention: x = (x_px + 0.5) / width, so 0..1 is the image's area;
- corner-aligned convention (released weights, spec section 1): x = x_px / (width - 1), so 0..1 spans pixel centres.

TAP-Vid's raster convention counts from the image's corner: raster = pixel + 0.5.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

RASTER_OFFSET = 0.5
"""TAP-Vid raster coordinate of a point minus its pixel coordinate."""


@dataclasses.dataclass(frozen=True)
class UnitCoordinates:
    """Conversion between pixels of one image size and unit coordinates."""

    width: int
    """Image width in pixels."""
    height: int
    """Image height in pixels."""
    corner_aligned: bool
    """Use the corner-aligned convention instead of the half-pixel one."""

    def from_pixels(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Convert pixels [...,2] (x, y) to unit coordinates, float32 [...,2]."""
        size = np.array([self.width, self.height], np.float64)
        if self.corner_aligned:
            return np.asarray(pixels / np.maximum(size - 1.0, 1.0), np.float32)
        return np.asarray((pixels + 0.5) / size, np.float32)

    def to_pixels(self, unit: NDArray[np.floating]) -> NDArray[np.float32]:
        """Convert unit coordinates [...,2] (x, y) to pixels, float32 [...,2]."""
        size = np.array([self.width, self.height], np.float64)
        if self.corner_aligned:
            return np.asarray(unit * np.maximum(size - 1.0, 1.0), np.float32)
        return np.asarray(unit * size - 0.5, np.float32)
