"""Images that need no file: a camera that pans over a texture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def panning_images(height: int, width: int, frames: int) -> list[NDArray[np.uint8]]:
    """Return images uint8 [height,width,3] RGB of one texture, moved by (3, 2) pixels from each to the next."""
    generator = np.random.default_rng(7)
    shape = (height + 2 * frames, width + 3 * frames, 3)
    texture = np.zeros(shape, np.float32)
    # Coarse and fine blobs give every pyramid level of a network or of optical flow something to follow; finer ones
    # would change the picture from frame to frame as much as a scene cut does.
    for blob in (6.0, 15.0, 40.0):
        octave = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), blob)
        texture += (octave - octave.mean()) / octave.std()
    levels = np.clip(128.0 + 25.0 * texture, 0, 255).astype(np.uint8)
    return [levels[2 * f : 2 * f + height, 3 * f : 3 * f + width].copy() for f in range(frames)]
