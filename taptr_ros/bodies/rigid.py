"""Rigid motions: fitted to points, searched for among outliers, and refined on pixels and depths together."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.bodies.camera import Floats

_INLIER = 11.3
"""Squared error, in standard deviations, that one in a hundred good points exceeds (chi-square, three dimensions)."""

_STEPS = 8
"""Most steps of a refinement."""

_SMALLEST_STEP = 2e-4
"""Metres and radians below which a refinement has arrived: the next step would be far smaller still."""

_DIAGONAL = np.diag_indices(6)


class Pose(NamedTuple):
    """A rigid motion, or where a body is: x becomes rotation @ x + translation."""

    rotation: Floats
    """[3,3]."""
    translation: Floats
    """[3] metres."""

    def apply(self, points: Floats) -> Floats:
        """Return moved points [...,3]."""
        return np.asarray(points @ self.rotation.T + self.translation)

    def then(self, other: Pose) -> Pose:
        """Return the motion that is this one and then the other one."""
        return Pose(other.rotation @ self.rotation, other.apply(self.translation))

    def inverse(self) -> Pose:
        """Return the motion back."""
        return Pose(self.rotation.T, -self.rotation.T @ self.translation)


IDENTITY = Pose(np.eye(3), np.zeros(3))


def rotation_matrix(vector: Floats) -> Floats:
    """Return the rotation [3,3] about an axis [3] by its length in radians."""
    return np.asarray(cv2.Rodrigues(np.asarray(vector, np.float64).reshape(3, 1))[0], np.float64)


def rotation_vector(rotation: Floats) -> Floats:
    """Return the axis [3] of a rotation [3,3], as long as its angle in radians."""
    return np.asarray(cv2.Rodrigues(np.ascontiguousarray(rotation))[0], np.float64).reshape(3)


def rotation_vectors(rotations: Floats) -> Floats:
    """Return the axes [n,3] of rotations [n,3,3] by less than half a turn, each as long as its angle in radians."""
    sines = 0.5 * np.stack([rotations[:, 2, 1], rotations[:, 0, 2], rotations[:, 1, 0]], axis=1)
    sines -= 0.5 * np.stack([rotations[:, 1, 2], rotations[:, 2, 0], rotations[:, 0, 1]], axis=1)
    sine = np.linalg.norm(sines, axis=1)
    angle = np.arctan2(sine, 0.5 * (np.trace(rotations, axis1=1, axis2=2) - 1.0))
    return np.asarray(sines * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 1.0)[:, np.newaxis])


def quaternion(rotation: Floats) -> Floats:
    """Return a rotation [3,3] as ROS has it: [4] x, y, z, w, with w >= 0."""
    vector = rotation_vector(rotation)
    angle = float(np.linalg.norm(vector))
    # sinc(x) is sin(pi x) / (pi x).
    return np.array([*(0.5 * np.sinc(0.5 * angle / np.pi) * vector), max(np.cos(0.5 * angle), 0.0)])


def pose_of(message: Any) -> Pose:
    """Return a geometry_msgs/Pose, whoever made it. A quaternion of any length but 0 counts as its direction."""
    position, orientation = message.position, message.orientation
    x, y, z, w = (getattr(orientation, name) for name in "xyzw")
    square = x * x + y * y + z * z + w * w
    across = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation = np.eye(3) + 2.0 * (w * across + across @ across) / square
    return Pose(rotation, np.array([position.x, position.y, position.z]))


def fit_motion(before: Floats, after: Floats, weights: Floats | None = None) -> Pose:
    """Return the rigid motion that brings points [...,n,3] closest to others [...,n,3], as Kabsch has it.

    Weights [...,n] count the squared distances. Stacks of point sets give stacks of motions: rotation [...,3,3] and
    translation [...,3]. Three points that are not on a line are enough.
    """
    weights = np.ones(before.shape[:-1]) if weights is None else weights
    shares = (weights / weights.sum(axis=-1, keepdims=True))[..., np.newaxis]
    middle_before, middle_after = ((shares * points).sum(axis=-2, keepdims=True) for points in (before, after))
    spread = np.swapaxes(shares * (before - middle_before), -1, -2) @ (after - middle_after)
    left, _, right = np.linalg.svd(spread)
    turn = np.swapaxes(right, -1, -2) @ np.swapaxes(left, -1, -2)
    # A reflection would fit better: the direction of least spread is turned round instead.
    right[..., 2, :] *= np.linalg.det(turn)[..., np.newaxis]
    turn = np.swapaxes(right, -1, -2) @ np.swapaxes(left, -1, -2)
    moved = (middle_before @ np.swapaxes(turn, -1, -2))[..., 0, :]
    return Pose(turn, np.asarray(middle_after[..., 0, :] - moved))


@dataclasses.dataclass(frozen=True)
class Observation:
    """Points of a body as a camera sees them in one frame; n points."""

    shape: Floats
    """[n,3] places on the body in metres, in the body's frame."""
    rays: Floats
    """[n,2] directions x / z and y / z in which they are seen."""
    depth: Floats
    """[n] depths in metres; NaN where there is none."""
    ray_noise: Floats
    """[n] standard deviation of the directions."""
    depth_noise: Floats
    """[n] standard deviation of the depths in metres; any number where there is none."""

    @property
    def has_depth(self) -> NDArray[np.bool_]:
        """[n] whether there is a depth."""
        return np.isfinite(self.depth)

    @property
    def points(self) -> Floats:
        """[n,3] in metres in the camera's frame; NaN where there is no depth."""
        return np.concatenate([self.rays, np.ones((len(self.rays), 1))], axis=1) * self.depth[:, np.newaxis]

    def select(self, chosen: NDArray[np.bool_]) -> Observation:
        """Return the points for which `chosen` [n] holds."""
        return Observation(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


def squared_errors(seen: Observation, poses: Pose) -> Floats:
    """Return by how much poses [...] miss each point, [...,n]: squared, in standard deviations of what is measured."""
    places = seen.shape @ np.swapaxes(poses.rotation, -1, -2) + poses.translation[..., np.newaxis, :]
    depth = places[..., 2]
    ahead = np.maximum(depth, 1e-3)
    sideways = (places[..., :2] / ahead[..., np.newaxis] - seen.rays) / seen.ray_noise[:, np.newaxis]
    along = np.where(seen.has_depth, (depth - seen.depth) / seen.depth_noise, 0.0)
    return np.where(depth > 0, (sideways**2).sum(axis=-1) + along**2, np.inf)


def is_inlier(squared: Floats) -> NDArray[np.bool_]:
    """Return which points [n] agree with a pose, by their `squared_errors`."""
    return squared <= _INLIER


def search_pose(seen: Observation, guesses: list[Pose], rng: np.random.Generator, samples: int) -> Pose | None:
    """Return the pose that agrees with most points, of the guesses and of those that few points give (RANSAC).

    Three points with depth give a pose, `samples` times; where few have depth, pixels do (perspective-n-point). None if
    there is no pose to be had.
    """
    candidates = [*guesses]
    with_depth = np.flatnonzero(seen.has_depth)
    if len(with_depth) >= 3:
        triples = with_depth[rng.integers(0, len(with_depth), (samples, 3))]
        distinct = (np.sort(triples, axis=1)[:, 1:] != np.sort(triples, axis=1)[:, :-1]).all(axis=1)
        triples = triples[distinct]
        fitted = fit_motion(seen.shape[triples], seen.points[triples])
        candidates += map(Pose, fitted.rotation, fitted.translation)
    if len(with_depth) < max(3, len(seen.rays) // 2) and len(seen.rays) >= 4:
        candidates += _pose_from_pixels(seen)
    if not candidates:
        return None
    stack = Pose(*(np.stack(part) for part in zip(*candidates, strict=True)))
    costs = np.minimum(squared_errors(seen, stack), _INLIER).sum(axis=-1)
    return candidates[int(costs.argmin())]


def _pose_from_pixels(seen: Observation) -> list[Pose]:
    """Return the pose that OpenCV finds without depths, if it finds one."""
    threshold = float(np.sqrt(_INLIER) * np.median(seen.ray_noise))
    try:
        found, turn, shift, _ = cv2.solvePnPRansac(
            seen.shape,
            seen.rays,
            np.eye(3),
            None,
            iterationsCount=100,
            reprojectionError=threshold,
            flags=cv2.SOLVEPNP_SQPNP,
        )
    except cv2.error:  # for points that lie in one place or on a line
        return []
    if not found or not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        return []
    return [Pose(rotation_matrix(np.asarray(turn, np.float64)), np.asarray(shift, np.float64).reshape(3))]


class Refined(NamedTuple):
    """A pose that fits best, and how well it is known."""

    pose: Pose
    covariance: Floats
    """[6,6] of the translation in metres and of a rotation after it, about the camera's axes, in radians."""
    inliers: NDArray[np.bool_]
    """[n] which points agree with it."""


def refine_pose(seen: Observation, pose: Pose) -> Refined:
    """Return the pose near `pose` that explains pixels and depths best; outliers lose their weight (Geman-McClure).

    Gauss-Newton on the six numbers of a small motion: a shift of the body's origin, and a rotation about it.
    """
    for _ in range(_STEPS):
        misses, slopes = _linearised(seen, pose)
        # The weight of a point that is _INLIER away is a quarter.
        weights = (1.0 + np.einsum("ni,ni->n", misses, misses) / _INLIER) ** -2
        weighted = (slopes * weights[:, np.newaxis, np.newaxis]).reshape(-1, 6)
        information = weighted.T @ slopes.reshape(-1, 6)
        information[_DIAGONAL] += 1e-6 * np.trace(information) / 6 + 1e-12
        # OpenCV's solver needs a tenth of the time of NumPy's for so small a matrix.
        _, solution = cv2.solve(information, -(weighted.T @ misses.reshape(-1, 1)), flags=cv2.DECOMP_CHOLESKY)
        step = np.asarray(solution, np.float64).ravel()
        pose = Pose(rotation_matrix(step[3:]) @ pose.rotation, pose.translation + step[:3])
        if np.abs(step).max() < _SMALLEST_STEP:
            break  # so small a step changes nothing of what follows
    else:
        misses, slopes = _linearised(seen, pose)
    inliers = is_inlier(np.einsum("ni,ni->n", misses, misses))
    return Refined(pose, _covariance(misses[inliers], slopes[inliers], seen.has_depth[inliers]), inliers)


def _linearised(seen: Observation, pose: Pose) -> tuple[Floats, Floats]:
    """Return what the pose misses [n,3], in standard deviations, and how a small motion [6] changes that [n,3,6]."""
    arms = seen.shape @ pose.rotation.T
    right, down, away = arms.T
    x, y, z = (arms + pose.translation).T
    z = np.maximum(z, 1e-3)
    known = seen.has_depth
    along = np.where(known, 1.0 / seen.depth_noise, 0.0)
    across = 1.0 / (z * seen.ray_noise)
    sideways, downwards = x / z, y / z
    misses = np.empty((len(z), 3))
    misses[:, 0] = (sideways - seen.rays[:, 0]) / seen.ray_noise
    misses[:, 1] = (downwards - seen.rays[:, 1]) / seen.ray_noise
    misses[:, 2] = np.where(known, (z - seen.depth) * along, 0.0)
    # A shift moves every point alike; a rotation r moves a point by r x arm, so its slopes are arm x those of a shift.
    slopes = np.zeros((len(z), 3, 6))
    slopes[:, 0, 0] = slopes[:, 1, 1] = across
    slopes[:, 0, 2], slopes[:, 1, 2], slopes[:, 2, 2] = -across * sideways, -across * downwards, along
    slopes[:, :, 3] = down[:, np.newaxis] * slopes[:, :, 2]
    slopes[:, :, 4] = -right[:, np.newaxis] * slopes[:, :, 2]
    slopes[:, 1, 3] -= away * across
    slopes[:, 0, 4] += away * across
    slopes[:, 0, 5], slopes[:, 1, 5] = -down * across, right * across
    return misses, slopes


def _covariance(misses: Floats, slopes: Floats, has_depth: NDArray[np.bool_]) -> Floats:
    """Return the covariance [6,6] of a pose from points [n] that agree with it: infinite where they tell nothing."""
    if not len(misses):
        return np.diag(np.full(6, np.inf))
    rows = slopes.reshape(-1, 6)
    values, axes = np.linalg.eigh(rows.T @ rows)
    numbers = 2 * len(misses) + int(has_depth.sum())
    # What is measured may scatter more than it should.
    scale = max(1.0, float((misses**2).sum()) / max(numbers - 6, 1))
    return np.asarray((axes * (scale / np.maximum(values, 1e-9))) @ axes.T)
