"""Conversion of ROS image messages to RGB arrays, on plain attributes, so that bags and nodes share it."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros import MAX_IMAGE_PIXELS
from taptr_ros.errors import InvalidImageError
from taptr_ros.messages import cv_bridge_images
from taptr_ros.messages.encoded import decode_image

Data = Any
"""Bytes of a message: `bytes`, `array.array` (rclpy) or a uint8 array (rosbags)."""


class ImageMessage(Protocol):
    """What is read of a sensor_msgs/Image, whoever made it: rclpy, rosbags or a test."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Data


class CompressedImageMessage(Protocol):
    """What is read of a sensor_msgs/CompressedImage."""

    format: str
    data: Data


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How the samples of an encoding lie in a message."""

    samples: int
    """Samples per pixel in a row."""
    conversion: int | None
    """OpenCV's conversion to RGB; None for what is RGB already."""
    sample_bytes: int = 1
    """1 or 2 bytes per sample; two-byte samples are scaled down to one."""
    block: tuple[int, int] = (1, 1)
    """Pixels (x, y) that share one chroma sample. At (2, 2) the chroma follows the luma, in half as many rows."""


# OpenCV names a Bayer pattern by the second and third pixel of its second row, ROS by the first two of both rows.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}

_LAYOUTS: dict[str, _Layout] = {
    "rgb8": _Layout(3, None),
    "bgr8": _Layout(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(3, cv2.COLOR_BGR2RGB),
    "8UC4": _Layout(4, cv2.COLOR_BGRA2RGB),
    "rgb16": _Layout(3, None, sample_bytes=2),
    "bgr16": _Layout(3, cv2.COLOR_BGR2RGB, sample_bytes=2),
    "rgba16": _Layout(4, cv2.COLOR_RGBA2RGB, sample_bytes=2),
    "bgra16": _Layout(4, cv2.COLOR_BGRA2RGB, sample_bytes=2),
    "mono16": _Layout(1, cv2.COLOR_GRAY2RGB, sample_bytes=2),
    **{f"bayer_{pattern}8": _Layout(1, code) for pattern, code in _BAYER.items()},
    **{f"bayer_{pattern}16": _Layout(1, code, sample_bytes=2) for pattern, code in _BAYER.items()},
    "uyvy": _Layout(2, cv2.COLOR_YUV2RGB_UYVY, block=(2, 1)),
    "yuv422": _Layout(2, cv2.COLOR_YUV2RGB_UYVY, block=(2, 1)),
    "yuyv": _Layout(2, cv2.COLOR_YUV2RGB_YUYV, block=(2, 1)),
    "yuv422_yuy2": _Layout(2, cv2.COLOR_YUV2RGB_YUYV, block=(2, 1)),
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, block=(2, 2)),
    "nv21": _Layout(1, cv2.COLOR_YUV2RGB_NV21, block=(2, 2)),
}

ENCODINGS: tuple[str, ...] = tuple(_LAYOUTS)
"""The encodings that `image_to_rgb` reads, as sensor_msgs names them."""

DEPTH_ENCODINGS = ("16UC1", "32FC1")
"""The encodings of depth images, in millimetres and in metres (REP 118)."""

LABEL_ENCODINGS = ("mono8", "mono16", "8UC1", "16UC1")
"""The encodings that `labels_of_image` reads."""


def image_to_rgb(message: ImageMessage) -> NDArray[np.uint8]:
    """Return a sensor_msgs/Image as uint8 [H,W,3] RGB.

    Where cv_bridge is installed it converts, save for what it refuses or misreads: encodings without a colour meaning,
    which count as OpenCV's, planar ones, padding that is no multiple of a pixel. An `rgb8` image needs no conversion:
    it is a view of the message's data, which may be read-only; every other encoding is a new array. Row padding
    (`step`) is left out and two-byte samples are scaled to 0..255 in the message's byte order.

    Raises `InvalidImageError`, naming the field, if the encoding is unknown or the sizes contradict each other.
    """
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        nature = ", as depth images have it" if message.encoding in DEPTH_ENCODINGS else ""
        raise InvalidImageError(
            f"The image's encoding is {message.encoding!r}{nature}; publish one of {', '.join(ENCODINGS)}."
        )
    samples: NDArray[Any] = _samples(message, layout)
    is_converted = layout.conversion is not None or layout.sample_bytes > 1
    if is_converted and message.step % (layout.samples * layout.sample_bytes) == 0:
        image = cv_bridge_images.converted(message)
        if image is not None:
            return image
    if layout.sample_bytes == 2:
        # The same scale as cv_bridge: full range to full range.
        samples = cv2.convertScaleAbs(samples, alpha=255.0 / 65535.0)
    if layout.conversion is None:
        return np.asarray(samples, np.uint8)
    return np.asarray(cv2.cvtColor(samples, layout.conversion), np.uint8)


def labels_of_image(message: ImageMessage) -> NDArray[np.unsignedinteger]:
    """Return a sensor_msgs/Image of labels as they are, uint8 or uint16 [H,W]; that may be a view of its data.

    Raises `InvalidImageError`, naming the field, if the encoding is another one or the sizes contradict each other.
    """
    if message.encoding not in LABEL_ENCODINGS:
        raise InvalidImageError(
            f"The mask's encoding is {message.encoding!r}; send one of {', '.join(LABEL_ENCODINGS)}, with a label for "
            "each body."
        )
    return _samples(message, _Layout(1, None, sample_bytes=2 if "16" in message.encoding else 1), "mask")


def compressed_image_to_rgb(message: CompressedImageMessage) -> NDArray[np.uint8]:
    """Return a sensor_msgs/CompressedImage (JPEG, PNG or what else OpenCV decodes) as uint8 [H,W,3] RGB.

    Raises `InvalidImageError` if the data cannot be decoded, or claims to be an image of too many pixels.
    """
    data = np.frombuffer(message.data, np.uint8)
    return decode_image(
        data, f"The compressed image of format {message.format!r}", "publish complete JPEG or PNG images"
    )


def _samples(message: ImageMessage, layout: _Layout, name: str = "image") -> NDArray[Any]:
    """Return the samples without padding, uint8 or uint16, [rows,W] or [rows,W,samples]; uint8 is a view of data."""
    height, width, step = message.height, message.width, message.step
    if height <= 0 or width <= 0:
        raise InvalidImageError(f"The {name}'s width x height is {width}x{height}; publish images that are not empty.")
    if width * height > MAX_IMAGE_PIXELS:
        raise InvalidImageError(
            f"The {name}'s width x height is {width}x{height}, more than {MAX_IMAGE_PIXELS} pixels; publish smaller "
            "images."
        )
    block_width, block_height = layout.block
    if width % block_width or height % block_height:
        raise InvalidImageError(
            f"The {name}'s width x height is {width}x{height}, but {message.encoding} needs multiples of "
            f"{block_width}x{block_height}; crop by a pixel."
        )
    row_bytes = width * layout.samples * layout.sample_bytes
    if step < row_bytes:
        raise InvalidImageError(
            f"The {name}'s step is {step} bytes, but a row of {width} pixels in {message.encoding} has {row_bytes}; "
            "correct step, width or encoding."
        )
    rows = height * 3 // 2 if block_height == 2 else height
    data = np.frombuffer(message.data, np.uint8)
    if data.size < rows * step:
        raise InvalidImageError(
            f"The {name}'s data has {data.size} bytes, but {rows} rows of step {step} need {rows * step}; "
            "the message is truncated or its height or step is wrong."
        )
    kept = data[: rows * step].reshape(rows, step)[:, :row_bytes]
    if layout.sample_bytes == 2:
        kept = np.ascontiguousarray(kept).view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)
    return kept if layout.samples == 1 else kept.reshape(rows, width, layout.samples)
