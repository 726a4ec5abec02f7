"""The bodies that groups of points belong to: their shape, remembered, and their pose in every image."""

from __future__ import annotations

import collections
import dataclasses
import enum

import numpy as np
from numpy.typing import NDArray

from taptr_ros.bodies.camera import Floats
from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.bodies.depth_image import depth_noise
from taptr_ros.bodies.points import LiftedTracks
from taptr_ros.bodies.rigid import (
    IDENTITY,
    Observation,
    Pose,
    Refined,
    refine_pose,
    rotation_vectors,
    search_pose,
)
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.tracking.states import TrackState

FEWEST_POINTS = 3
"""Points that a rigid motion takes."""

_SAMPLES = 48
"""Poses from three points each that are tried when the last pose does not explain what is seen."""

_AGREEMENT = 0.8
"""Share of the points that must agree with the pose next to the last one, or others are tried."""

_THINNEST = 0.03
"""Width of a group across its longest extent, as a share of that, below which its points are on a line."""

_TWIST_TIME = 0.2
"""Seconds over which the twist is measured."""

_MOST_LOOKS = 1000
"""Measurements of a point's place on its body that count. Were they few, places would follow tracks that slip."""


class BodyState(enum.IntEnum):
    """Whether the pose of a body can be relied on, and if not, why."""

    TRACKED = 0
    """It can."""
    WAITING = 1
    """The group has not begun: not yet were three of its points, not on a line, visible with depth in one image."""
    HIDDEN = 2
    """No point of it is visible; the pose is the last one."""
    TOO_FEW_POINTS = 3
    """Too few of its points are visible now; the pose is the last one."""
    ON_A_LINE = 4
    """Its visible points are nearly on a line or in one place, so that the rotation is not known."""
    NOT_RIGID = 5
    """Its points do not move as one body does."""


@dataclasses.dataclass(frozen=True)
class RigidBody:
    """The body of one group in one image."""

    group: int
    state: BodyState
    pose: Pose
    """Where the body is in the camera's optical frame. Its own frame has its origin in the middle of the points with
    which the group began, and then had the axes of the camera."""
    motion: Pose
    """The rigid motion since the group began: moves points in the camera's frame from where they were to where they
    are."""
    covariance: Floats
    """[6,6] of the position in metres and of the rotation about the camera's axes in radians, as ROS orders them."""
    twist: Floats
    """[6] velocity of the body's origin in metres per second, and angular velocity in radians per second, along and
    about the camera's axes; 0 while it is not known."""
    points: int
    """Visible points whose places on the body are known."""
    inliers: int
    """Of these, the points that agree with the pose."""
    residual: float
    """Root mean square distance in metres between inliers and where the pose puts them; NaN if there are none."""


class RigidBodies:
    """The bodies of one stream, image after image."""

    def __init__(self, config: BodiesConfig) -> None:
        self._config = config
        self._bodies: dict[int, _Body] = {}

    def step(self, lifted: LiftedTracks, focal: float) -> list[RigidBody]:
        """Return the bodies of all groups that have three points or more, by group. Images must come in order.

        focal: focal length in pixels, by which errors in pixels become errors of directions.
        """
        groups = lifted.tracks.group
        names, counts = np.unique(groups[groups > 0], return_counts=True)
        present = names[counts >= FEWEST_POINTS].tolist()
        # Groups without points are gone, and one that has nothing but other points is another body.
        bodies = {group: self._bodies[group] for group in names.tolist() if group in self._bodies}
        self._bodies = {}
        found = []
        for group in names.tolist():
            rows = groups == group
            body = bodies.get(group)
            if body is not None and not body.has_any_of(lifted.tracks.ids[rows]):
                body = None
            if body is not None or group in present:
                self._bodies[group] = body or _Body(group, self._config)
                found.append(self._bodies[group].step(lifted, rows, focal))
        return found

    def reset(self) -> None:
        """Forget all bodies: a new stream begins."""
        self._bodies = {}


class _Body:
    """What is remembered of one group."""

    def __init__(self, group: int, config: BodiesConfig) -> None:
        self._group, self._config = group, config
        self._rng = np.random.default_rng(group)
        self._ids = np.zeros(0, np.uint64)
        self._shape = np.zeros((0, 3))
        self._looks = np.zeros(0)
        """Measurements of each point's place; 0 where it is not known."""
        self._start: Pose | None = None
        self._pose = IDENTITY
        self._covariance = np.diag(np.full(6, np.inf))
        self._recent: collections.deque[tuple[int, Pose]] = collections.deque()

    def step(self, lifted: LiftedTracks, rows: NDArray[np.bool_], focal: float) -> RigidBody:
        """Return the body in the next image; `rows` [n] are its points."""
        tracks = lifted.tracks
        self._follow(tracks.ids[rows])
        rays, xyz = lifted.rays[rows], lifted.xyz[rows]
        visible = (tracks.state[rows] == TrackState.VISIBLE) & np.isfinite(rays).all(axis=1)
        if self._start is None:
            return self._begin(tracks.stamp, visible, xyz, focal)
        known = visible & (self._looks > 0)
        seen = self._observation(known, rays, xyz, focal)
        count = int(known.sum())
        if not visible.any():
            return self._unseen(BodyState.HIDDEN, count)
        fewest = FEWEST_POINTS if int(seen.has_depth.sum()) >= FEWEST_POINTS else FEWEST_POINTS + 1
        if count < fewest:
            return self._unseen(BodyState.TOO_FEW_POINTS, count)
        refined = self._located(seen)
        state = self._judged(seen, refined)
        if state == BodyState.TRACKED:
            self._pose, self._covariance = refined.pose, refined.covariance
            self._recent.append((tracks.stamp, refined.pose))
            inliers = np.zeros(len(known), np.bool_)
            inliers[known] = refined.inliers
            self._learn(visible, inliers, xyz)
        return self._report(state, refined.pose, refined.covariance, count, refined.inliers, seen)

    def has_any_of(self, ids: NDArray[np.uint64]) -> bool:
        """Return whether one of these points was a point of the body in the last image."""
        return np.array_equal(ids, self._ids) or bool(np.isin(ids, self._ids).any())

    def _follow(self, ids: NDArray[np.uint64]) -> None:
        """Take new points in and let those go that have ended."""
        if np.array_equal(ids, self._ids):
            return
        old_row = {identifier: row for row, identifier in enumerate(self._ids.tolist())}
        rows = np.array([old_row.get(identifier, -1) for identifier in ids.tolist()], np.int64)
        kept = rows >= 0
        shape, looks = np.zeros((len(ids), 3)), np.zeros(len(ids))
        shape[kept], looks[kept] = self._shape[rows[kept]], self._looks[rows[kept]]
        self._ids, self._shape, self._looks = ids.copy(), shape, looks

    def _begin(self, stamp: int, visible: NDArray[np.bool_], xyz: Floats, focal: float) -> RigidBody:
        """Begin the body with the points that are visible with depth, if they are enough."""
        measured = visible & np.isfinite(xyz).all(axis=1)
        points = xyz[measured]
        if len(points) < FEWEST_POINTS or _on_a_line(points, self._measured_width(points)):
            return self._unseen(BodyState.WAITING, 0)
        self._start = self._pose = Pose(np.eye(3), points.mean(axis=0))
        self._shape[measured] = points - self._start.translation
        self._looks[measured] = 1.0
        self._recent.append((stamp, self._pose))
        depth = self._pose.translation[2:]
        sideways, along = depth * self._config.pixel_noise / focal, depth_noise(depth, self._config.depth_noise)
        variances = np.concatenate([sideways, sideways, along]) ** 2 / len(points)
        # Of the position: by definition the body now has the rotation that it has.
        self._covariance = np.diag(np.concatenate([variances, np.zeros(3)]))
        seen = self._observation(measured, xyz[:, :2] / xyz[:, 2:], xyz, focal)
        return self._report(
            BodyState.TRACKED, self._pose, self._covariance, len(points), np.ones(len(points), np.bool_), seen
        )

    def _measured_width(self, points: Floats) -> float:
        """Return the width in metres that noise alone gives to points [n,3] on a line, and a margin."""
        return 2.0 * float(depth_noise(points[:, 2].mean(keepdims=True), self._config.depth_noise)[0])

    def _observation(self, rows: NDArray[np.bool_], rays: Floats, xyz: Floats, focal: float) -> Observation:
        depth = xyz[rows, 2]
        away = np.where(np.isfinite(depth), depth, self._pose.translation[2])
        # A place on the body that was measured k times is uncertain by 1/k of the variance itself.
        doubt = np.sqrt(1.0 + 1.0 / np.maximum(self._looks[rows], 1.0))
        return Observation(
            self._shape[rows],
            rays[rows],
            depth,
            doubt * self._config.pixel_noise / focal,
            doubt * depth_noise(away, self._config.depth_noise),
        )

    def _located(self, seen: Observation) -> Refined:
        """Return the pose that explains what is seen: near the last one or, if that explains too little, anywhere."""
        near = refine_pose(seen, self._pose)
        if near.inliers.mean() >= _AGREEMENT:
            return near
        best = search_pose(seen, [near.pose, self._pose], self._rng, _SAMPLES)
        return near if best is None or best is near.pose else refine_pose(seen, best)

    def _judged(self, seen: Observation, refined: Refined) -> BodyState:
        agreeing = int(refined.inliers.sum())
        if agreeing < FEWEST_POINTS or agreeing < self._config.inlier_share * len(seen.rays):
            return BodyState.NOT_RIGID
        variances = np.stack([refined.covariance[:3, :3], refined.covariance[3:, 3:]])
        position, rotation = np.sqrt(np.maximum(np.linalg.eigvalsh(variances)[:, -1], 0.0))
        if (
            position > self._config.position_error
            or np.degrees(rotation) > self._config.rotation_error
            or _on_a_line(seen.shape[refined.inliers])
        ):
            return BodyState.ON_A_LINE
        return BodyState.TRACKED

    def _learn(self, visible: NDArray[np.bool_], inliers: NDArray[np.bool_], xyz: Floats) -> None:
        """Measure places on the body: of new points, and again of known ones that agree."""
        measured = np.isfinite(xyz).all(axis=1) & visible & (inliers | (self._looks == 0))
        places = self._pose.inverse().apply(xyz[measured])
        self._looks[measured] = np.minimum(self._looks[measured] + 1.0, _MOST_LOOKS)
        self._shape[measured] += (places - self._shape[measured]) / self._looks[measured, np.newaxis]

    def _unseen(self, state: BodyState, points: int) -> RigidBody:
        return self._result(state, self._pose, np.diag(np.full(6, np.inf)), points, 0, np.nan)

    def _report(
        self,
        state: BodyState,
        pose: Pose,
        covariance: Floats,
        points: int,
        inliers: NDArray[np.bool_],
        seen: Observation,
    ) -> RigidBody:
        places = pose.apply(seen.shape[inliers])
        depth = np.where(seen.has_depth[inliers], seen.depth[inliers], places[:, 2])
        squared = ((places[:, :2] - seen.rays[inliers] * depth[:, np.newaxis]) ** 2).sum(axis=1)
        squared += (places[:, 2] - depth) ** 2
        residual = float(np.sqrt(squared.mean())) if len(squared) else np.nan
        return self._result(state, pose, covariance, points, int(inliers.sum()), residual)

    def _result(
        self, state: BodyState, pose: Pose, covariance: Floats, points: int, inliers: int, residual: float
    ) -> RigidBody:
        motion = IDENTITY if self._start is None else self._start.inverse().then(pose)
        twist = self._twist() if state == BodyState.TRACKED else np.zeros(6)
        return RigidBody(self._group, state, pose, motion, covariance, twist, points, inliers, residual)

    def _twist(self) -> Floats:
        """Return the velocities [6] of a steady motion through the last poses."""
        newest, pose = self._recent[-1]
        while newest - self._recent[0][0] > _TWIST_TIME * NANOSECONDS:
            self._recent.popleft()
        if len(self._recent) < 2:
            return np.zeros(6)
        times = np.array([stamp - newest for stamp, _ in self._recent]) / NANOSECONDS
        poses = np.array([[*other.rotation, other.translation] for _, other in self._recent])
        turned = rotation_vectors(poses[:, :3] @ pose.rotation.T)
        values = np.concatenate([poses[:, 3] - pose.translation, turned], axis=1)
        times = times - times.mean()
        return np.asarray(times @ values / (times @ times))


def _on_a_line(points: Floats, noise: float = 1e-4) -> bool:
    """Return whether points [n,3] are nearly on a line, or in one place; `noise` is a width that says nothing."""
    apart = points - points.mean(axis=0)
    # The variances along the principal axes, from the least to the greatest.
    _, middle, greatest = np.sqrt(np.maximum(np.linalg.eigvalsh(apart.T @ apart / len(points)), 0.0))
    return bool(middle <= max(_THINNEST * greatest, noise))
