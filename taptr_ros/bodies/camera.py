"""The camera of a sensor_msgs/CameraInfo: from pixels to rays and back, with the lens's distortion, binning and ROI."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidCameraError

Floats = NDArray[np.float64]

_COEFFICIENTS: dict[str, tuple[int, ...]] = {
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
    "": (0,),
}
"""How many coefficients each distortion model of ROS may have; those of no lens at all have no name.

Zeros after them count for nothing: some drivers publish five numbers whatever the model.
"""

_ITERATIONS, _PRECISION = 12, 1e-3
"""Most steps of Newton's method that invert a distortion, and how near in pixels they must come."""


class CameraInfoMessage(Protocol):
    """What is read of a sensor_msgs/CameraInfo, whoever made it: rclpy, rosbags or a test."""

    height: int
    width: int
    distortion_model: str
    d: Any
    k: Any
    p: Any
    binning_x: int
    binning_y: int
    roi: Any


@dataclasses.dataclass(frozen=True)
class CameraModel:
    """A lens and the pixels behind it; pixel (0, 0) is the centre of the top-left one of the image as it is published.

    Points are in the camera's optical frame (REP 103): x right, y down, z forward, in metres.
    """

    matrix: Floats
    """[3,3] focal lengths and principal point in pixels of the published image, after binning and ROI."""
    distortion: Floats
    """[k] coefficients as OpenCV orders them; empty for a lens without distortion."""
    fisheye: bool
    """Whether the coefficients are those of the equidistant (fisheye) model."""
    width: int
    """Width of the published image in pixels."""
    height: int
    """Height of the published image in pixels."""

    @property
    def focal(self) -> float:
        """Mean focal length in pixels."""
        return float(0.5 * (self.matrix[0, 0] + self.matrix[1, 1]))

    def project(self, points: Floats) -> Floats:
        """Return the positions [n,2] in pixels of points [n,3] in front of the camera."""
        return self._distort(points[:, :2] / points[:, 2:])[0]

    def rays(self, xy: Floats) -> Floats:
        """Return the directions [n,2], x / z and y / z, in which positions [n,2] in pixels are seen.

        NaN for positions that the lens model cannot have: outside the circle that it fills, or where it folds over.
        """
        rays = np.full((len(xy), 2), np.nan)
        finite = np.isfinite(xy).all(axis=1)
        rays[finite] = self._undistorted(np.asarray(xy[finite], np.float64))
        return rays

    def _undistorted(self, xy: Floats) -> Floats:
        straight: Floats = (xy - self.matrix[:2, 2]) / self.matrix[[0, 1], [0, 1]]
        if not len(xy) or not len(self.distortion):
            return straight
        undistort = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        rays = np.asarray(undistort(xy[:, np.newaxis], self.matrix, self.distortion), np.float64)[:, 0]
        # OpenCV stops after a few steps, far from lenses' middles too early; Newton's method ends what it began.
        wrong = ~np.isfinite(rays).all(axis=1)
        rays[wrong] = straight[wrong]
        with np.errstate(all="ignore"):  # coefficients may be anything; what comes of bad ones is not good below
            return self._refined(xy, rays)

    def _refined(self, xy: Floats, rays: Floats) -> Floats:
        """Return the rays [n,2] of positions [n,2], near those given; NaN where there is none."""
        seen, slopes = self._distort(rays)
        for _ in range(_ITERATIONS):
            missing = xy - seen
            if np.abs(missing).max() < _PRECISION:
                break
            regular = np.abs(np.linalg.det(slopes)) > 1e-9
            rays[regular] += np.linalg.solve(slopes[regular], missing[regular, :, np.newaxis])[..., 0]
            np.clip(rays, -1e3, 1e3, out=rays)
            seen, slopes = self._distort(rays)
        # A lens that turns the picture over has left the range in which it was calibrated.
        good = (np.abs(xy - seen) < 10 * _PRECISION).all(axis=1) & (np.linalg.det(slopes) > 0)
        rays[~good] = np.nan
        return rays

    def _distort(self, rays: Floats) -> tuple[Floats, Floats]:
        """Return the positions [n,2] in which rays [n,2] are seen, and how they change with these [n,2,2]."""
        zero = np.zeros(3)
        ends = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)[:, np.newaxis]
        if not len(rays):
            return np.empty((0, 2)), np.empty((0, 2, 2))
        if self.fisheye:
            xy, slopes = cv2.fisheye.projectPoints(ends, zero, zero, self.matrix, self.distortion)
            # After focal lengths, centre, coefficients and rotation.
            moved = np.asarray(slopes)[:, 11:13]
        else:
            xy, slopes = cv2.projectPoints(ends, zero, zero, self.matrix, self.distortion)
            moved = np.asarray(slopes)[:, 3:5]  # after the rotation
        return np.asarray(xy, np.float64).reshape(-1, 2), np.asarray(moved, np.float64).reshape(-1, 2, 2)


def camera_model(info: CameraInfoMessage, *, rectified: bool = False) -> CameraModel:
    """Return the camera that a CameraInfo describes, for images as they are published beside it.

    `rectified` says that these are rectified images (`image_rect`), for which ROS publishes the same CameraInfo: then
    `p` is the matrix and there is no distortion. A binned pixel is the mean of a block of full ones, so a position u
    of the full image is at (u + 0.5) / binning - 0.5 in the binned one.

    Raises `InvalidCameraError`, naming the field, for a camera that is not calibrated, and for a distortion model other
    than plumb_bob, rational_polynomial and equidistant.
    """
    name = "p" if rectified else "k"
    entries = np.asarray(info.p if rectified else info.k, np.float64)
    matrix = entries.reshape(3, -1)[:, :3].copy()
    if not entries.any():
        raise InvalidCameraError(
            f"camera_info's {name} is all zero: the camera is not calibrated; calibrate it, for instance with "
            "camera_calibration, and publish the result."
        )
    if not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise InvalidCameraError(
            f"camera_info's {name} has the focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g} and the middle "
            f"({matrix[0, 2]:g}, {matrix[1, 2]:g}) in pixels; publish finite numbers, and focal lengths above 0."
        )
    # A skew, which ROS has no use for, would be the one entry that is not honoured below.
    matrix = np.array([[matrix[0, 0], 0.0, matrix[0, 2]], [0.0, matrix[1, 1], matrix[1, 2]], [0.0, 0.0, 1.0]])
    binning = np.maximum([info.binning_x, info.binning_y], 1).astype(np.float64)
    roi = info.roi
    if (roi.width or roi.height) and (
        roi.x_offset + roi.width > info.width or roi.y_offset + roi.height > info.height or not roi.width * roi.height
    ):
        raise InvalidCameraError(
            f"camera_info's roi is {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset}), but the full image is "
            f"{info.width}x{info.height}; publish a roi inside it, or zeros for the whole image."
        )
    matrix[:2, 2] = (matrix[:2, 2] - [roi.x_offset, roi.y_offset] + 0.5) / binning - 0.5
    matrix[[0, 1], [0, 1]] /= binning
    width, height = (
        int((part or whole) // bin_)
        for part, whole, bin_ in zip((roi.width, roi.height), (info.width, info.height), binning, strict=True)
    )
    distortion, fisheye = (np.empty(0), False) if rectified else _distortion(info)
    return CameraModel(matrix, distortion, fisheye, width, height)


def _distortion(info: CameraInfoMessage) -> tuple[Floats, bool]:
    """Return the coefficients as OpenCV takes them, and whether they are of its fisheye model."""
    model, coefficients = info.distortion_model, np.asarray(info.d, np.float64).reshape(-1)
    allowed = _COEFFICIENTS.get(model)
    if allowed is None:
        raise InvalidCameraError(
            f"camera_info's distortion_model is {model!r}; publish one of plumb_bob, rational_polynomial and "
            "equidistant, or rectified images and set `rectified`."
        )
    # A lens without distortion may come with any number of zeros, but only a fisheye lens bends without coefficients.
    is_fisheye = model == "equidistant"
    known = coefficients[: max(allowed)]
    is_plain = not coefficients.any() and not is_fisheye
    if (
        not np.isfinite(coefficients).all()
        or coefficients[len(known) :].any()
        or not (is_plain or len(known) in allowed)
    ):
        raise InvalidCameraError(
            f"camera_info's d has {len(coefficients)} coefficients, but {model or 'no distortion_model'} has "
            f"{' or '.join(map(str, allowed))}, all finite; calibrate the camera again."
        )
    return np.empty(0) if is_plain else known, is_fisheye
