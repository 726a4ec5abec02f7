"""Fitting an image to the network's input, and naming a file to OpenCV."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import SourceError


def fit_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Stretch an image, uint8 [H,W,3], to float32 [height,width,3] in 0..255.

    Enlarging is bilinear with half-pixel centres and no rounding, as in the released evaluation (spec section 1);
    shrinking averages areas, because bilinear sampling would alias.
    """
    return np.asarray(_stretched(image.astype(np.float32), height, width), np.float32)


def fit_image_to_bytes(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Stretch an image as `fit_image` does, but rounded to uint8 [height,width,3], which takes a third of the time."""
    return np.asarray(_stretched(image, height, width), np.uint8)


def _stretched(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Stretch an image [H,W,3] to [height,width,3]; it keeps its type."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] > height and image.shape[1] > width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def opencv_path(path: Path) -> str:
    """Return a path as OpenCV and FFmpeg take it; raises `SourceError` for one that is not UTF-8, which ends Python.

    FFmpeg takes what comes before a colon in a relative path for a protocol, as in 12:30:00.mp4. Python does not read
    the bytes of a path as UTF-8 where the locale has another encoding.
    """
    try:
        return os.fsencode(path.absolute()).decode()
    except UnicodeDecodeError:
        raise SourceError(f"{path} is no text in UTF-8, as paths of videos must be; rename it.") from None
