"""Depth of points: slopes, edges, holes, noise, and the messages that carry depth images."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from taptr_ros.bodies.depth_image import DepthImage, depth_at
from taptr_ros.errors import InvalidDepthError
from taptr_ros.messages.depth import compressed_depth_image, depth_image

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
NOISE = 0.003


def read(depth: np.ndarray, *xy: tuple[float, float], radius: int = 2) -> np.ndarray:
    return depth_at(DepthImage(depth.astype(np.float32), 1.0), np.array(xy, np.float64), radius, NOISE)


def plane(normal: tuple[float, float, float], distance: float) -> np.ndarray:
    """The depth image of a plane: of each pixel, where its ray meets the plane."""
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([(columns - 31.5) / FOCAL, (rows - 23.5) / FOCAL, np.ones(columns.shape)], axis=-1)
    return distance / (rays @ np.array(normal))


def test_a_slope_is_read_at_the_position_itself() -> None:
    normal, distance = (0.5, -0.3, 1.0), 1.2
    depth = plane(normal, distance)
    rng = np.random.default_rng(0)
    xy = rng.uniform(3, 44, (200, 2))
    true = distance / (np.concatenate([(xy - [31.5, 23.5]) / FOCAL, np.ones((200, 1))], axis=1) @ np.array(normal))
    np.testing.assert_allclose(read(depth, *xy), true, rtol=1e-3)
    # Rounding to the pixel would be off by ten times as much.
    rounded = depth[np.rint(xy[:, 1]).astype(int), np.rint(xy[:, 0]).astype(int)]
    assert np.abs(rounded / true - 1).max() > 3e-3


def test_the_two_sides_of_an_edge_are_never_mixed() -> None:
    depth = np.full((HEIGHT, WIDTH), 2.0)
    depth[:, :30] = 0.8
    xy = [(x, 20.3) for x in np.arange(20.0, 40.0, 0.1)]
    found = read(depth, *xy)
    for (x, _), value in zip(xy, found, strict=True):
        # The border between the two is at 29.5.
        if abs(x - 29.5) > 0.01:
            assert value == pytest.approx(0.8 if x < 29.5 else 2.0, abs=1e-6)


def test_pixels_that_mix_two_surfaces_have_no_depth() -> None:
    depth = np.full((HEIGHT, WIDTH), 2.0)
    depth[:, :30], depth[:, 30] = 0.8, 1.4
    found = read(depth, (28.0, 20.0), (30.0, 20.0), (32.0, 20.0))
    np.testing.assert_allclose(found, [0.8, np.nan, 2.0])


def test_a_point_on_a_slope_beside_an_edge_is_not_shifted() -> None:
    depth = plane((0.6, 0.0, 1.0), 1.0)
    true = depth[20, 33]
    depth[:, :33] = 3.0
    assert read(depth, (33.0, 20.0))[0] == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("missing", [0.0, np.nan, np.inf, -1.0])
def test_missing_depths_are_no_depths(missing: float) -> None:
    depth = np.full((HEIGHT, WIDTH), 1.0)
    depth[10:20, 10:20] = missing
    depth[30, 30] = missing
    found = read(depth, (14.0, 14.0), (30.0, 30.0), (40.0, 30.0))
    # In the middle of a hole there is nothing; a single missing pixel is bridged.
    np.testing.assert_allclose(found, [np.nan, 1.0, 1.0])


def test_a_hole_between_two_surfaces_has_no_depth() -> None:
    depth = np.full((HEIGHT, WIDTH), 2.0)
    depth[:, :30], depth[:, 30] = 0.8, 0.0
    assert np.isnan(read(depth, (30.0, 20.0)))[0]


def test_nothing_at_all_gives_nothing() -> None:
    xy = np.array([[5.0, 5.0], [np.nan, 3.0], [-3.0, 5.0], [64.0, 5.0], [np.inf, 0.0]])
    assert np.isnan(read(np.full((HEIGHT, WIDTH), np.nan), *xy)).all()
    assert np.isnan(read(np.ones((HEIGHT, WIDTH)), *xy)).tolist() == [False, True, True, True, True]
    assert depth_at(DepthImage(np.ones((4, 4), np.float32), 1.0), np.empty((0, 2)), 2, NOISE).shape == (0,)


def test_the_border_of_the_image_is_read() -> None:
    depth = plane((0.2, 0.1, 1.0), 1.0)
    found = read(depth, (0.0, 0.0), (63.4, 47.4), (-0.4, 20.0))
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(depth[0, 0], rel=2e-3)


def test_a_window_is_less_noisy_than_a_pixel() -> None:
    rng = np.random.default_rng(1)
    depth = 1.0 + rng.normal(0.0, NOISE, (HEIGHT, WIDTH))
    xy = rng.uniform(4, 40, (300, 2))
    assert np.std(read(depth, *xy) - 1.0) < 0.35 * NOISE


# Messages.


def message(values: np.ndarray, encoding: str, big: int = 0, padding: int = 0) -> Any:
    data = values.astype(values.dtype.newbyteorder(">" if big else "<"))
    rows = [row.tobytes() + b"\xff" * padding for row in data]
    return SimpleNamespace(
        height=values.shape[0], width=values.shape[1], encoding=encoding, is_bigendian=big, step=len(rows[0]),
        data=b"".join(rows),
    )  # fmt: skip


MILLIMETRES = np.arange(12, dtype=np.uint16).reshape(3, 4) * 500


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
def test_raw_depth_images_are_read_in_metres(encoding: str, padding: int, big: int) -> None:
    values = MILLIMETRES if encoding != "32FC1" else (MILLIMETRES / 1000).astype(np.float32)
    image = depth_image(message(values, encoding, big, padding))
    np.testing.assert_allclose(image.values * image.metres, MILLIMETRES / 1000)
    assert image.size == (4, 3)


def compressed(format_: str, values: np.ndarray, head: tuple[float, float] = (0.0, 0.0)) -> Any:
    data = struct.pack("<iff", 0, *head) + cv2.imencode(".png", values)[1].tobytes()
    return SimpleNamespace(format=format_, data=data)


def png_that_claims_four_gigabytes() -> Any:
    message = compressed("16UC1; compressedDepth png", MILLIMETRES)
    length_of_first_part = struct.calcsize("<iff") + 8
    data = bytearray(message.data)
    data[length_of_first_part + 25 : length_of_first_part + 29] = b"\xff" * 4  # of the part after the size
    return SimpleNamespace(format=message.format, data=bytes(data))


@pytest.mark.parametrize("format_", ["16UC1; compressedDepth", "16UC1; compressedDepth png"])
def test_compressed_depth_images_in_millimetres(format_: str) -> None:
    image = compressed_depth_image(compressed(format_, MILLIMETRES))
    np.testing.assert_array_equal(image.values, MILLIMETRES)
    assert image.metres == 0.001


def test_compressed_depth_images_in_metres_hold_inverse_depths() -> None:
    """As compressed_depth_image_transport writes them, with its defaults: at most 10 m, quantised by 100."""
    depth = np.linspace(0.3, 9.5, 12).reshape(3, 4)
    numerator = 100.0 * (100.0 + 1.0)
    offset = 1.0 - numerator / 10.0
    inverse = np.rint(numerator / depth + offset).astype(np.uint16)
    inverse[0, 0] = 0  # where nothing is known
    image = compressed_depth_image(compressed("32FC1; compressedDepth png", inverse, (numerator, offset)))
    assert np.isnan(image.values[0, 0])
    np.testing.assert_allclose(image.values.ravel()[1:], depth.ravel()[1:], rtol=5e-3)


GOOD = message(MILLIMETRES, "16UC1")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (SimpleNamespace(**vars(GOOD) | {"encoding": "rgb8"}), "encoding is 'rgb8'; publish 16UC1"),
        (SimpleNamespace(**vars(GOOD) | {"data": GOOD.data[:-1]}), "has 23 bytes, but 3 rows of step 8 need 24"),
        (SimpleNamespace(**vars(GOOD) | {"step": 7}), "step is 7 bytes, but a row of 4 pixels in 16UC1 has 8"),
        (SimpleNamespace(**vars(GOOD) | {"width": 0}), "width x height is 0x3"),
        (SimpleNamespace(**vars(GOOD) | {"width": 2**31, "height": 2**31}), "publish images of 1 to"),
    ],
)
def test_a_depth_image_that_is_none_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(InvalidDepthError, match=words):
        depth_image(wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (SimpleNamespace(format="jpeg", data=b""), "format is 'jpeg'"),
        (SimpleNamespace(format="16UC1; compressedDepth rvl", data=b""), "compressedDepth rvl"),
        (SimpleNamespace(format="16UC1; compressedDepth", data=b""), r"is empty \(0 bytes\)"),
        (SimpleNamespace(format="16UC1; compressedDepth", data=b"\0" * 500), "cannot be decoded as an image"),
        (
            compressed("16UC1; compressedDepth", MILLIMETRES.astype(np.uint8)),
            "holds uint8 .* instead of one 16-bit number",
        ),
        (compressed("32FC1; compressedDepth png", MILLIMETRES), "has the quantisation 0, 0 before its PNG file"),
        (compressed("32FC1; compressedDepth png", MILLIMETRES, (1.0, np.nan)), "quantisation 1, nan"),
        (png_that_claims_four_gigabytes(), "is cut off or damaged"),
    ],
)
def test_a_compressed_depth_image_that_is_none_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(InvalidDepthError, match=words):
        compressed_depth_image(wrong)
