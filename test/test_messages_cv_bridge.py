"""Image messages to RGB, against cv_bridge where that is installed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv_bridge.boost.cv_bridge_boost", reason="cv_bridge is not installed: it is not on PyPI")
pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")

from cv_bridge import CvBridge
from sensor_msgs.msg import Image

from taptr_ros.messages import cv_bridge_images
from taptr_ros.messages.images import image_to_rgb


@pytest.fixture(autouse=True)
def converts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package takes cv_bridge's result where it is installed; what is compared here is its own."""
    monkeypatch.setattr(cv_bridge_images, "converted", lambda _: None)


SAMPLES = {
    **dict.fromkeys(("rgb8", "bgr8", "8UC3"), 3),
    **dict.fromkeys(("rgba8", "bgra8"), 4),
    **dict.fromkeys(("mono8", "8UC1", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"), 1),
    **dict.fromkeys(("yuv422", "yuv422_yuy2", "uyvy", "yuyv"), 2),
}
"""Bytes per pixel."""

SIXTEEN_BIT = {"mono16": 1, "rgb16": 3, "bgr16": 3, "rgba16": 4, "bgra16": 4}
"""Samples of two bytes per pixel."""

HEIGHT, WIDTH = 24, 32


def message(encoding: str, rows: np.ndarray, *, big_endian: bool = False) -> Image:
    """A message of rows [HEIGHT,bytes]."""
    step = rows.shape[1]
    return Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=step, is_bigendian=big_endian, data=rows.tobytes())


def by_cv_bridge(encoding: str, rows: np.ndarray) -> np.ndarray:
    # cv_bridge knows one name of each YUV layout only, and converts nothing that has no colour meaning: that is
    # BGR and grey in OpenCV.
    synonyms = {"8UC3": "bgr8", "8UC1": "mono8", "uyvy": "yuv422", "yuyv": "yuv422_yuy2"}
    return CvBridge().imgmsg_to_cv2(message(synonyms.get(encoding, encoding), rows), "rgb8")


def random_bytes(per_row: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, per_row), np.uint8)


# cv_bridge reads padding of whole pixels only.
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", SAMPLES)
def test_eight_bit_encodings_agree(encoding: str, padding: int) -> None:
    rows = random_bytes(SAMPLES[encoding] * (WIDTH + padding))
    np.testing.assert_array_equal(image_to_rgb(message(encoding, rows)), by_cv_bridge(encoding, rows))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", SIXTEEN_BIT)
def test_sixteen_bit_encodings_agree(encoding: str, big_endian: bool) -> None:
    rows = random_bytes(2 * SIXTEEN_BIT[encoding] * WIDTH)
    # cv_bridge swaps bytes with a function that NumPy 2 does not have: it gets them swapped.
    sent = np.ascontiguousarray(rows).view(np.uint16).byteswap().view(np.uint8) if big_endian else rows
    difference = image_to_rgb(message(encoding, sent, big_endian=big_endian)).astype(int) - by_cv_bridge(encoding, rows)
    assert np.abs(difference).max() <= 1  # the order of scaling and conversion rounds differently
