"""Fitting an image to the network's input."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def fit_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Stretch an image, uint8 [H,W,3], to float32 [height,width,3] in 0..255.

    Enlarging is bilinear with half-pixel centres and no rounding, as in the released evaluation (spec section 1);
    shrinking averages areas, because bilinear sampling would alias.
    """
    pixels = image.astype(np.float32)
    if image.shape[:2] == (height, width):
        return pixels
    shrinks = image.shape[0] > height and image.shape[1] > width
    fitted = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(fitted, np.float32)
