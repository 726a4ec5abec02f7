"""Encoded images (JPEG, PNG and what else OpenCV reads) as RGB, whatever their headers claim."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros import MAX_IMAGE_PIXELS
from taptr_ros.errors import InvalidImageError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"

MOST_JPEG_SIDE = 65500
"""Most pixels per side of a JPEG."""

_JPEG_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of the JPEG segments that hold the image's size."""


def decode_image(data: NDArray[np.uint8], name: str, advice: str = "repair or remove it") -> NDArray[np.uint8]:
    """Decode an image file, uint8 [bytes], to uint8 [H,W,3] RGB.

    Raises `InvalidImageError`, which begins with `name` and ends with `advice`, for what cannot be decoded, for samples
    that are floating-point numbers, and, before memory is taken, for a header that claims more than `MAX_IMAGE_PIXELS`.
    """
    image = _checked(data, name, advice, cv2.IMREAD_COLOR)
    if image.dtype != np.uint8:
        raise InvalidImageError(f"{name} {_complaint(data, '')}; {advice}.")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def decode_samples(data: NDArray[np.uint8], name: str, advice: str) -> NDArray[Any]:
    """Decode an image file to its samples as they are, [H,W] or [H,W,channels] with blue first.

    Raises `InvalidImageError` as `decode_image` does, whatever the type of the samples.
    """
    return _checked(data, name, advice, cv2.IMREAD_UNCHANGED)


def _checked(data: NDArray[np.uint8], name: str, advice: str, flags: int) -> NDArray[Any]:
    width, height = declared_size(data)
    if width * height > MAX_IMAGE_PIXELS:
        raise InvalidImageError(
            f"{name} claims to have {width}x{height} pixels, more than {MAX_IMAGE_PIXELS}; {advice}."
        )
    if _is_cut_png(data):
        raise InvalidImageError(f"{name} ({len(data)} bytes) is cut off or damaged; {advice}.")
    image, reason = _decode(data, flags)
    if image is None:
        raise InvalidImageError(f"{name} {_complaint(data, reason)}; {advice}.")
    return image


def declared_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the (width, height) that the header of a PNG or JPEG file, uint8 [bytes], claims; (0, 0) if none is found.

    Other kinds of files are left to OpenCV, whose limit `taptr_ros` sets where it is imported before OpenCV.
    """
    head = data[:24].tobytes()
    if head.startswith(_PNG) and len(head) == 24:
        width, height = struct.unpack(">II", head[16:24])
        return width, height
    if head.startswith(_JPEG):
        return _jpeg_size(data)
    return 0, 0


class JpegEncoder:
    """Makes JPEGs of images, one after the other, of a quality from 0 to 100; an image with a larger side is shrunk.

    It keeps the memory that it needs for an image, which costs more to take than the encoding. Not for several threads.
    """

    def __init__(self, quality: int, largest_side: int = MOST_JPEG_SIDE) -> None:
        self._quality, self._largest_side = quality, largest_side
        self._bgr: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return a uint8 [H,W,3] RGB image as JPEG."""
        scale = self._largest_side / max(image.shape[:2])
        if scale < 1.0:
            height, width = (max(round(scale * side), 1) for side in image.shape[:2])
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        if self._bgr.shape != image.shape:
            self._bgr = np.empty(image.shape, np.uint8)
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR, self._bgr)
        _, data = cv2.imencode(".jpg", self._bgr, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        return data.tobytes()


def _is_cut_png(data: NDArray[np.uint8]) -> bool:
    """Return whether a part of a PNG file claims to be longer than the file: OpenCV would take memory for all of it."""
    position = len(_PNG)
    if data[:position].tobytes() != _PNG:
        return False
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8].tobytes())
        position += 12 + length  # its length, its kind and its checksum come besides
        if kind == b"IEND":
            break
    return position > len(data)


def _jpeg_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    position = len(_JPEG)
    while position + 9 <= len(data):
        marker = data[position : position + 9].tobytes()
        if marker[0] != 0xFF:
            break
        if marker[1] in _JPEG_SIZES:
            height, width = struct.unpack(">HH", marker[5:9])
            return width, height
        # A marker may be preceded by fill bytes; every other segment says how long it is.
        position += 1 if marker[1] == 0xFF else 2 + int.from_bytes(marker[2:4], "big")
    return 0, 0


def _decode(data: NDArray[np.uint8], flags: int) -> tuple[NDArray[Any] | None, str]:
    """Return the image as OpenCV decodes it, BGR, or None and OpenCV's reason, if it gives one."""
    if not len(data):
        return None, ""
    try:
        return cv2.imdecode(data, flags), ""
    except (cv2.error, MemoryError) as error:
        return None, str(error)


def _complaint(data: NDArray[np.uint8], reason: str) -> str:
    if not len(data):
        return "is empty (0 bytes)"
    if "CV_IO_MAX_IMAGE" in reason:
        return f"claims to have more than {MAX_IMAGE_PIXELS} pixels"
    image, _ = _decode(data, cv2.IMREAD_UNCHANGED)
    if image is not None and image.dtype.kind == "f":
        return f"holds {8 * image.dtype.itemsize}-bit floating-point numbers instead of 8 or 16 bits per sample"
    return f"({len(data)} bytes) cannot be decoded as an image"
