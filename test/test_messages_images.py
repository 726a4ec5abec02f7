"""Image messages to RGB: every encoding against an image encoded by hand or by OpenCV, and what is refused."""

from __future__ import annotations

import array
import dataclasses
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taptr_ros.errors import InvalidImageError
from taptr_ros.messages import cv_bridge_images
from taptr_ros.messages.images import ENCODINGS, compressed_image_to_rgb, image_to_rgb


@dataclasses.dataclass
class Image:
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: bytes | bytearray | array.array | NDArray[np.uint8]


@dataclasses.dataclass
class CompressedImage:
    format: str
    data: bytes


def picture(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """A smooth colour picture, which chroma subsampling and demosaicing hardly change."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([60 + 4 * x, 200 - 5 * y, 90 + 2 * x + 2 * y], axis=-1).astype(np.uint8)


def message(samples: NDArray[np.generic], encoding: str, *, height: int = 24, padding: int = 0) -> Image:
    """Pack rows [rows,W] or [rows,W,channels] with `padding` bytes of rubbish after each."""
    rows = samples.reshape(len(samples), -1)
    raw = np.frombuffer(np.ascontiguousarray(rows).tobytes(), np.uint8).reshape(len(rows), -1)
    padded = np.concatenate([raw, np.full((len(raw), padding), 0xAB, np.uint8)], axis=1)
    return Image(height, samples.shape[1], encoding, 0, padded.shape[1], padded.tobytes())


def bayer(rgb: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """Keep of every pixel the one channel that its place in the 2x2 pattern has."""
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(letter)]
    return mosaic


def luma_chroma(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Y [H,W], U and V [H/2,W/2] as video range BT.601, from OpenCV's planar conversion."""
    height, width = rgb.shape[:2]
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    luma = planes[: height * width].reshape(height, width)
    u, v = planes[height * width :].reshape(2, height // 2, width // 2)
    return luma, u, v


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("8UC3", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0])],
)
def test_colour_encodings_come_out_exactly(encoding: str, channels: list[int], padding: int) -> None:
    rgb = picture()
    assert np.array_equal(image_to_rgb(message(rgb[..., channels], encoding, padding=padding)), rgb)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_fills_all_three_channels(encoding: str) -> None:
    grey = picture()[..., 0]
    assert np.array_equal(image_to_rgb(message(grey, encoding, padding=3)), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
@pytest.mark.parametrize(("encoding", "channels"), [("mono16", [0]), ("rgb16", [0, 1, 2]), ("bgra16", [2, 1, 0, 0])])
def test_two_byte_samples_are_scaled_in_their_byte_order(encoding: str, channels: list[int], byte_order: str) -> None:
    rgb = picture()
    # 257 = 65535 / 255 takes 8 bits to the full range of 16.
    wide = message((rgb[..., channels].astype(np.uint16) * 257).astype(byte_order), encoding, padding=2)
    wide.is_bigendian = int(byte_order == ">u2")
    expected = np.repeat(rgb[..., :1], 3, axis=2) if encoding == "mono16" else rgb
    assert np.array_equal(image_to_rgb(wide), expected)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_the_colours_back(pattern: str) -> None:
    rgb = picture()
    result = image_to_rgb(message(bayer(rgb, pattern), f"bayer_{pattern}8"))
    difference = np.abs(result.astype(int) - rgb)[2:-2, 2:-2]
    assert difference.max() <= 4
    wide = image_to_rgb(message(bayer(rgb, pattern).astype("<u2") * 257, f"bayer_{pattern}16"))
    assert np.array_equal(wide, result)


@pytest.mark.parametrize(
    ("encoding", "order"), [("uyvy", "uyvy"), ("yuv422", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")]
)
def test_packed_yuv_gives_the_colours_back(encoding: str, order: str) -> None:
    rgb = picture()
    luma, u, v = luma_chroma(rgb)
    packed = np.empty((24, 16, 4), np.uint8)
    lumas = iter((luma[:, 0::2], luma[:, 1::2]))
    for place, letter in enumerate(order):
        packed[..., place] = next(lumas) if letter == "y" else np.repeat(u if letter == "u" else v, 2, axis=0)
    result = image_to_rgb(message(packed.reshape(24, 32, 2), encoding, padding=4))
    assert np.abs(result.astype(int) - rgb).max() <= 8


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_semi_planar_yuv_gives_the_colours_back(encoding: str) -> None:
    rgb = picture()
    luma, u, v = luma_chroma(rgb)
    chroma = np.stack([u, v] if encoding == "nv12" else [v, u], axis=-1).reshape(12, 32)
    result = image_to_rgb(message(np.concatenate([luma, chroma]), encoding, padding=6))
    assert result.shape == (24, 32, 3)
    assert np.abs(result.astype(int) - rgb).max() <= 8


@pytest.mark.parametrize(
    "container", [bytes, bytearray, lambda raw: array.array("B", raw), lambda raw: np.frombuffer(raw, np.uint8)]
)
def test_data_of_every_client_library_is_read(container) -> None:
    image = message(picture()[..., ::-1], "bgr8")
    image.data = container(image.data)
    assert np.array_equal(image_to_rgb(image), picture())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "32FC1"}, ["encoding", "32FC1", "rgb8"]),
        ({"height": 0}, ["32x0", "empty"]),
        ({"width": 0}, ["0x24", "empty"]),
        ({"step": 95}, ["step", "95", "96"]),
        ({"height": 25}, ["data", "2304", "2400"]),
        ({"data": b""}, ["data", "0 bytes"]),
        ({"encoding": "nv12", "width": 31}, ["31x24", "2x2"]),
        ({"encoding": "nv12", "height": 23}, ["32x23", "2x2"]),
        ({"encoding": "uyvy", "width": 31}, ["31x24", "2x1"]),
    ],
)
def test_contradictions_name_the_field(change: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InvalidImageError) as caught:
        image_to_rgb(dataclasses.replace(message(picture(), "rgb8"), **change))
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_truncated_data_is_refused_in_every_encoding(encoding: str) -> None:
    step = 32 * 8
    whole = Image(24, 32, encoding, 0, step, bytes(36 * step))
    assert image_to_rgb(whole).shape == (24, 32, 3)
    rows = 36 if encoding in ("nv12", "nv21") else 24
    with pytest.raises(InvalidImageError, match="truncated"):
        image_to_rgb(dataclasses.replace(whole, data=bytes(rows * step - 1)))


def test_compressed_images_are_decoded() -> None:
    bgr = cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR)
    png = cv2.imencode(".png", bgr)[1].tobytes()
    assert np.array_equal(compressed_image_to_rgb(CompressedImage("png", png)), picture())
    jpeg = cv2.imencode(".jpg", bgr)[1].tobytes()
    assert np.abs(compressed_image_to_rgb(CompressedImage("jpeg", jpeg)).astype(int) - picture()).mean() < 3


@pytest.mark.parametrize("data", [b"", b"not an image"])
def test_rubbish_in_a_compressed_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImageError, match=rf"format 'jpeg' .*\({len(data)} bytes\).*publish complete JPEG"):
        compressed_image_to_rgb(CompressedImage("jpeg", data))


def test_a_compressed_image_that_announces_too_much_is_refused() -> None:
    def png(width: int, height: int) -> bytes:
        return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes(41)

    jpeg = bytearray(cv2.imencode(".jpg", picture())[1].tobytes())
    # The frame's segment begins with its marker, its length and 8 bits per sample.
    size = jpeg.index(b"\xff\xc0\x00\x11\x08") + 5
    jpeg[size : size + 4] = b"\xff\xff\xff\xff"
    for data in (png(40_000, 40_000), png(2**31, 2**31), bytes(jpeg)):
        with pytest.raises(InvalidImageError, match="claims to have"):
            compressed_image_to_rgb(CompressedImage("png", data))
    # OpenCV raises for some of what it cannot decode.
    with pytest.raises(InvalidImageError, match="cannot be decoded"):
        compressed_image_to_rgb(CompressedImage("png", png(0, 7) + bytes(4)))


BRIDGES = {
    "works": """
class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        import numpy as np
        if message.encoding == "mono8":
            raise RuntimeError("not this one")
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)[..., ::-1].copy()
        pixels[0, 0] += CALLS
        return pixels
CALLS = 0
""",
    "cannot be imported": "raise ImportError('numpy.core.multiarray failed to import')",
    "crashes": "class CvBridge:\n    def imgmsg_to_cv2(self, *_):\n        import os\n        os.abort()",
}


@pytest.mark.parametrize("kind", BRIDGES)
def test_cv_bridge_converts_where_it_works_and_never_ends_the_process(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cv_bridge.py").write_text(BRIDGES[kind])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    cv_bridge_images.cv_bridge.cache_clear()
    try:
        image = picture()
        sent = message(image[..., ::-1], "bgr8")
        np.testing.assert_array_equal(image_to_rgb(sent), image)
        if kind == "works":
            sys.modules["cv_bridge"].CALLS = 1
            assert (image_to_rgb(sent) != image).any(), "it was not asked"
        grey = picture()[..., 0].copy()
        for _ in range(2):
            np.testing.assert_array_equal(image_to_rgb(message(grey, "mono8"))[..., 1], grey)
        # A row of 32 pixels and 4 bytes, which it would misread.
        np.testing.assert_array_equal(image_to_rgb(message(image[..., ::-1], "bgr8", padding=4)), image)
        assert len([record for record in caplog.records if "cv_bridge does not work" in record.message]) == (
            kind != "works"
        )
    finally:
        sys.modules.pop("cv_bridge", None)
        cv_bridge_images.cv_bridge.cache_clear()
