"""Depth images of ROS to arrays (REP 118), on plain attributes, so that bags and nodes share it."""

from __future__ import annotations

import math
import struct

import numpy as np

from taptr_ros import MAX_IMAGE_PIXELS
from taptr_ros.bodies.depth_image import DepthImage
from taptr_ros.errors import InvalidDepthError, InvalidImageError
from taptr_ros.messages.encoded import decode_samples
from taptr_ros.messages.images import CompressedImageMessage, ImageMessage

_MILLIMETRES, _METRES = 0.001, 1.0

_KINDS = {"16UC1": ("u2", _MILLIMETRES), "mono16": ("u2", _MILLIMETRES), "32FC1": ("f4", _METRES)}
"""Type of a pixel, and metres that a value of 1 stands for, by the encoding."""

_HEAD = struct.Struct("<iff")
"""What compressed_depth_image_transport puts before a PNG file: a number, and the two of its inverse depths."""


def depth_image(message: ImageMessage) -> DepthImage:
    """Return a sensor_msgs/Image of depths: 16UC1 (or mono16) in millimetres, or 32FC1 in metres.

    The values are a view of the message's data, without its padding. Raises `InvalidDepthError`, naming the field, for
    another encoding and for sizes that contradict each other.
    """
    if message.encoding not in _KINDS:
        raise InvalidDepthError(
            f"The depth image's encoding is {message.encoding!r}; publish 16UC1 (millimetres) or 32FC1 (metres), as "
            "REP 118 has it."
        )
    kind, metres = _KINDS[message.encoding]
    pixel = np.dtype((">" if message.is_bigendian else "<") + kind)
    height, width, step = message.height, message.width, message.step
    if height <= 0 or width <= 0 or width * height > MAX_IMAGE_PIXELS:
        raise InvalidDepthError(
            f"The depth image's width x height is {width}x{height}; publish images of 1 to {MAX_IMAGE_PIXELS} pixels."
        )
    if step < width * pixel.itemsize:
        raise InvalidDepthError(
            f"The depth image's step is {step} bytes, but a row of {width} pixels in {message.encoding} has "
            f"{width * pixel.itemsize}; correct step, width or encoding."
        )
    data = np.frombuffer(message.data, np.uint8)
    if data.size < height * step:
        raise InvalidDepthError(
            f"The depth image's data has {data.size} bytes, but {height} rows of step {step} need {height * step}; the "
            "message is truncated or its height or step is wrong."
        )
    rows = data[: height * step].reshape(height, step)[:, : width * pixel.itemsize]
    return DepthImage(np.ascontiguousarray(rows).view(pixel), metres)


def compressed_depth_image(message: CompressedImageMessage) -> DepthImage:
    """Return a sensor_msgs/CompressedImage of the transport `compressedDepth`: PNG, of 16UC1 or of 32FC1.

    Depths of 32FC1 lie in the file as inverse depths a / (value - b), with a and b before it. Raises
    `InvalidDepthError` for another format, `rvl` among them, and for data that cannot be decoded.
    """
    encoding, _, transport = (part.strip() for part in message.format.partition(";"))
    if encoding not in _KINDS or not transport.startswith("compressedDepth") or "rvl" in transport:
        raise InvalidDepthError(
            f"The compressed depth image's format is {message.format!r}; publish '16UC1; compressedDepth png' or "
            "'32FC1; compressedDepth png', as the transport compressedDepth does with the format png."
        )
    data = np.frombuffer(message.data, np.uint8)
    try:
        values = decode_samples(
            data[_HEAD.size :],
            "The PNG file in the compressed depth image",
            "publish with the transport compressedDepth",
        )
    except InvalidImageError as error:
        raise InvalidDepthError(str(error)) from error
    if values.dtype != np.uint16 or values.ndim != 2:
        raise InvalidDepthError(
            f"The PNG file in the compressed depth image holds {values.dtype} {list(values.shape)} instead of one "
            "16-bit number per pixel; publish with the transport compressedDepth."
        )
    if encoding != "32FC1":
        return DepthImage(np.asarray(values), _MILLIMETRES)
    _, numerator, offset = _HEAD.unpack(data[: _HEAD.size].tobytes())
    if not (math.isfinite(offset) and 0 < numerator < math.inf):
        raise InvalidDepthError(
            f"The compressed depth image in 32FC1 has the quantisation {numerator:g}, {offset:g} before its PNG file; "
            "publish with the transport compressedDepth, which writes a finite one above 0 first."
        )
    with np.errstate(all="ignore"):
        depths = np.float32(numerator) / (values.astype(np.float32) - np.float32(offset))
    return DepthImage(np.where(values > 0, depths, np.float32(np.nan)), _METRES)
