"""The camera model: every distortion model against OpenCV's projection, binning, ROI, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from taptr_ros.bodies.camera import camera_model
from taptr_ros.errors import InvalidCameraError

K = np.array([[520.0, 0.0, 322.5], [0.0, 515.0, 236.25], [0.0, 0.0, 1.0]])

LENSES = {
    "no_name": ("", []),
    "plumb_bob_0": ("plumb_bob", [0.0] * 5),
    "plumb_bob_4": ("plumb_bob", [-0.28, 0.07, 0.001, -0.0005]),
    "plumb_bob_5": ("plumb_bob", [0.12, -0.22, 0.001, 0.0015, 0.09]),
    "rational_polynomial": ("rational_polynomial", [0.6, -0.4, 0.0008, -0.0006, 0.05, 0.9, -0.5, 0.15]),
    "thin_prism": ("rational_polynomial", [0.6, -0.4, 0.0008, -0.0006, 0.05, 0.9, -0.5, 0.15, 1e-3, 0.0, -1e-3, 0.0]),
    "equidistant": ("equidistant", [-0.02, 0.006, -0.004, 0.001]),
    "equidistant_0": ("equidistant", [0.0] * 4),
}


def info(model: str = "plumb_bob", d: Any = (0.0,) * 5, **more: Any) -> Any:
    """A CameraInfo of 640x480 pixels."""
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    fields = {
        "header": None,
        "width": 640,
        "height": 480,
        "distortion_model": model,
        "d": np.array(d, np.float64),
        "k": K.ravel(),
        "p": np.hstack([K, np.zeros((3, 1))]).ravel(),
        "binning_x": 0,
        "binning_y": 0,
        "roi": roi,
    }
    return SimpleNamespace(**(fields | more))


def roi(x: int, y: int, width: int, height: int) -> Any:
    return SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height, do_rectify=False)


def points(spread: float = 0.55) -> np.ndarray:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.3, 4.0, (500, 1))
    return np.concatenate([rng.uniform(-spread, spread, (500, 2)) * depth, depth], axis=1)


def opencv_pixels(model: str, d: Any, places: np.ndarray) -> np.ndarray:
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    zero, coefficients = np.zeros(3), np.array(d, np.float64)
    if model == "equidistant":
        return project(places[:, np.newaxis], zero, zero, K, coefficients)[0].reshape(-1, 2)
    return project(places, zero, zero, K, coefficients if len(d) else None)[0].reshape(-1, 2)


@pytest.mark.parametrize("lens", LENSES)
def test_rays_and_pixels_agree_with_opencv(lens: str) -> None:
    model, d = LENSES[lens]
    camera, places = camera_model(info(model, d)), points()
    xy = opencv_pixels(model, d, places)
    np.testing.assert_allclose(camera.project(places), xy, atol=1e-6)
    np.testing.assert_allclose(camera.rays(xy), places[:, :2] / places[:, 2:], atol=2e-5)


def test_zeros_after_the_coefficients_count_for_nothing() -> None:
    """Some drivers publish five numbers whatever the model."""
    model, d = LENSES["equidistant"]
    xy = np.array([[10.0, 20.0], [600.0, 400.0]])
    np.testing.assert_array_equal(camera_model(info(model, [*d, 0.0])).rays(xy), camera_model(info(model, d)).rays(xy))
    assert not len(camera_model(info("rational_polynomial", [0.0] * 5)).distortion)


def test_the_whole_image_of_a_wide_lens_has_rays() -> None:
    """OpenCV's own inversion alone is off by pixels in the corners of such a lens."""
    d = [-0.28, 0.07, 0.001, -0.0005]
    camera = camera_model(info("plumb_bob", d))
    xy = np.stack(np.meshgrid([0.0, 320.0, 639.0], [0.0, 240.0, 479.0]), axis=-1).reshape(-1, 2)
    rays = camera.rays(xy)
    assert np.isfinite(rays).all()
    np.testing.assert_allclose(
        opencv_pixels("plumb_bob", d, np.concatenate([rays, np.ones((9, 1))], axis=1)), xy, atol=0.01
    )


def test_a_position_that_the_lens_cannot_have_has_no_ray() -> None:
    """A barrel whose radius never exceeds 0.667 has nothing at the corners."""
    camera = camera_model(info("plumb_bob", [-0.75, 0.0, 0.0, 0.0]))
    rays = camera.rays(np.array([[322.5, 236.25], [639.0, 479.0], [np.nan, 5.0]]))
    np.testing.assert_allclose(rays[0], 0.0, atol=1e-9)
    assert np.isnan(rays[1:]).all()


def test_no_points_have_no_rays() -> None:
    for model, d in LENSES.values():
        assert camera_model(info(model, d)).rays(np.empty((0, 2))).shape == (0, 2)


def test_binning_and_roi_move_the_pixels_as_a_sensor_does() -> None:
    """A published pixel is the mean of 2x3 full ones of the region: its centre is the mean of their centres."""
    camera = camera_model(info(binning_x=2, binning_y=3, roi=roi(100, 60, 400, 300)))
    assert (camera.width, camera.height) == (200, 100)
    full = camera_model(info())
    binned = np.array([[0.0, 0.0], [7.0, 11.0], [199.0, 99.0]])
    of_full = np.array([100.0, 60.0]) + binned * [2, 3] + [0.5, 1.0]
    np.testing.assert_allclose(camera.rays(binned), full.rays(of_full), atol=1e-12)


def test_distortion_is_of_the_lens_and_not_of_the_region() -> None:
    model, d = LENSES["plumb_bob_5"]
    part, full = camera_model(info(model, d, roi=roi(64, 32, 320, 240))), camera_model(info(model, d))
    np.testing.assert_allclose(part.rays(np.array([[10.0, 20.0]])), full.rays(np.array([[74.0, 52.0]])), atol=1e-9)


def test_rectified_images_have_matrix_p_and_no_distortion() -> None:
    p = np.array([[400.0, 0, 300, -20.0], [0, 410, 230, 0], [0, 0, 1, 0]])
    camera = camera_model(info(*LENSES["plumb_bob_4"], p=p.ravel()), rectified=True)
    np.testing.assert_allclose(camera.rays(np.array([[700.0, 640.0]])), [[1.0, 1.0]])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (info(k=np.zeros(9)), "camera_info's k is all zero"),
        (info(k=np.full(9, np.nan)), "focal lengths nan and nan"),
        (info(k=(-K).ravel()), "focal lengths -520"),
        (info("fov", [0.9]), "distortion_model is 'fov'; publish one of plumb_bob"),
        (info(k=[520.0, 0.0, np.inf, 0.0, 515.0, 236.25, 0.0, 0.0, 1.0]), "the middle \\(inf, 236.25\\)"),
        (info("equidistant", []), "d has 0 coefficients, but equidistant has 4"),
        (info("plumb_bob", [0.1] * 8), "d has 8 coefficients, but plumb_bob has 0 or 4 or 5"),
        (info("rational_polynomial", [0.1] * 5), "d has 5 coefficients, but rational_polynomial has 8 or 12 or 14"),
        (info("", [0.1] * 5), "d has 5 coefficients, but no distortion_model has 0"),
        (info("equidistant", [0.1, 0.2]), "d has 2 coefficients, but equidistant has 4"),
        (info("plumb_bob", [0.1, np.nan, 0.0, 0.0, 0.0]), "all finite"),
        (info(roi=roi(600, 0, 100, 480)), "roi is 100x480 at"),
        (info(roi=roi(0, 0, 100, 0)), "roi is 100x0"),
    ],
)
def test_a_camera_that_is_none_is_refused_in_a_sentence(wrong: Any, words: str) -> None:
    with pytest.raises(InvalidCameraError, match=words) as refusal:
        camera_model(wrong)
    assert str(refusal.value).endswith(".")
    assert ";" in str(refusal.value)


def test_a_zero_matrix_for_rectified_images_is_named() -> None:
    with pytest.raises(InvalidCameraError, match="camera_info's p is all zero"):
        camera_model(info(p=np.zeros(12)), rectified=True)
