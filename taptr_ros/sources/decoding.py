"""Image files: which names they have, and their pixels as RGB."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""File name endings, in lower case, of what a folder's images may be."""


def to_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image as OpenCV decodes it, uint8 [H,W,3] BGR, as RGB."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
