"""Encoded images: what their headers claim is not believed, and what is wrong with them is said."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest

from taptr_ros import MAX_IMAGE_PIXELS
from taptr_ros.errors import InvalidImageError
from taptr_ros.messages.encoded import declared_size, decode_image

IMAGE = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)


def encoded(ending: str, image: np.ndarray = IMAGE) -> np.ndarray:
    return cv2.imencode(ending, image)[1].reshape(-1)


def png_claiming(width: int, height: int) -> np.ndarray:
    """A PNG file of some 70 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return np.frombuffer(b"\x89PNG\r\n\x1a\n" + head + body, np.uint8)


def jpeg_claiming(width: int, height: int) -> np.ndarray:
    data = bytearray(encoded(".jpg").tobytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return np.frombuffer(bytes(data), np.uint8)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff", ".webp", ".ppm"])
def test_images_are_decoded_as_rgb(ending: str) -> None:
    expected = cv2.imdecode(encoded(ending), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decode_image(encoded(ending), "it"), expected)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_the_size_is_read_from_the_header(ending: str) -> None:
    assert declared_size(encoded(ending)) == (20, 12)


def test_fill_bytes_and_long_segments_of_a_jpeg_are_passed() -> None:
    data = encoded(".jpg").tobytes()
    comment = b"\xff\xff\xfe" + (60_000).to_bytes(2, "big") + bytes(59_998)
    assert declared_size(np.frombuffer(data[:2] + comment + data[2:], np.uint8)) == (20, 12)


@pytest.mark.parametrize("make", [png_claiming, jpeg_claiming])
@pytest.mark.parametrize(("width", "height"), [(36864, 36864), (65500, 65500), (8192, 8193)])
def test_a_claimed_size_above_the_limit_is_refused(make, width: int, height: int) -> None:
    with pytest.raises(
        InvalidImageError, match=f"claims to have {width}x{height} pixels, more than {MAX_IMAGE_PIXELS}"
    ):
        decode_image(make(width, height), "it")


@pytest.mark.parametrize("make", [png_claiming, jpeg_claiming])
def test_a_claimed_size_within_the_limit_is_decoded_or_refused(make) -> None:
    try:
        image = decode_image(make(4000, 3000), "it")
    except InvalidImageError as error:
        assert "cannot be decoded" in str(error)  # noqa: PT017  # either is right
    else:
        assert image.shape == (3000, 4000, 3)


def test_opencv_refuses_what_other_headers_claim_where_the_package_was_imported_first() -> None:
    bitmap = bytearray(encoded(".bmp").tobytes())
    bitmap[18:26] = struct.pack("<ii", 40_000, 30_000)
    program = (
        "import sys, numpy as np; from taptr_ros.messages.encoded import decode_image\n"
        "decode_image(np.frombuffer(sys.stdin.buffer.read(), np.uint8), 'it')"
    )
    ended = subprocess.run([sys.executable, "-c", program], input=bytes(bitmap), capture_output=True, check=False)
    assert b"InvalidImageError: it claims to have more than" in ended.stderr


@pytest.mark.parametrize("claimed", [2**32 - 1, 2**31 - 1, 1_000_000])
def test_a_part_of_a_png_that_claims_to_be_longer_than_the_file_takes_no_memory(claimed: int) -> None:
    data = bytearray(encoded(".png").tobytes())
    data[33:37] = struct.pack(">I", claimed)
    started = time.process_time()
    with pytest.raises(InvalidImageError, match=rf"it \({len(data)} bytes\) is cut off or damaged"):
        decode_image(np.frombuffer(bytes(data), np.uint8), "it")
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("data", [b"", b"rubbish", encoded(".png").tobytes()[:60], encoded(".jpg").tobytes()[:30]])
def test_rubbish_is_refused_with_its_size_and_the_advice(data: bytes) -> None:
    with pytest.raises(InvalidImageError, match=rf"it .*\({len(data)} bytes\).*; throw it away\.$"):
        decode_image(np.frombuffer(data, np.uint8), "it", "throw it away")


def test_floating_point_samples_are_named() -> None:
    with pytest.raises(InvalidImageError, match="32-bit floating-point"):
        decode_image(encoded(".tiff", np.full((5, 5), 0.5, np.float32)), "it")


def test_16_bit_samples_are_scaled() -> None:
    image = decode_image(encoded(".png", np.full((5, 5), 65535, np.uint16)), "it")
    assert (image.dtype, image.shape, image.min()) == (np.uint8, (5, 5, 3), 255)
