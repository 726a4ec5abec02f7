"""Rigid motions and bodies: fits against brute force, outliers, holes, occlusions, and when a pose is not trusted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.bodies.points import LiftedTracks
from taptr_ros.bodies.rigid import (
    Observation,
    Pose,
    fit_motion,
    quaternion,
    refine_pose,
    rotation_matrix,
    rotation_vector,
    rotation_vectors,
    search_pose,
)
from taptr_ros.bodies.rigid_bodies import BodyState, RigidBodies, RigidBody
from taptr_ros.tracking import Tracks

FOCAL, PERIOD = 600.0, 33_333_333
CONFIG = BodiesConfig()


def random_pose(rng: np.random.Generator, angle: float = 3.0) -> Pose:
    vector = rng.standard_normal(3)
    vector *= rng.uniform(0, angle) / np.linalg.norm(vector)
    return Pose(rotation_matrix(vector), rng.uniform([-0.3, -0.3, 0.7], [0.3, 0.3, 1.3]))


def squared_distance(before: np.ndarray, after: np.ndarray, weights: np.ndarray, pose: Pose) -> float:
    return float((weights * ((pose.apply(before) - after) ** 2).sum(axis=1)).sum())


@pytest.mark.parametrize("seed", range(20))
def test_no_other_motion_fits_better(seed: int) -> None:
    """Against brute force: motions around the fitted one, in every direction and of many sizes, and random ones."""
    rng = np.random.default_rng(seed)
    before, pose = rng.normal(0, 0.1, (rng.integers(3, 20), 3)), random_pose(rng)
    after = pose.apply(before) + rng.normal(0, 0.02, before.shape)
    weights = rng.uniform(0.1, 1.0, len(before))
    best = fit_motion(before, after, weights)
    assert np.linalg.det(best.rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(best.rotation @ best.rotation.T, np.eye(3), atol=1e-12)
    least = squared_distance(before, after, weights, best)
    for size, direction in itertools.product((1e-4, 1e-2, 1.0), np.concatenate([np.eye(6), -np.eye(6)])):
        step = size * direction
        other = Pose(rotation_matrix(step[:3]) @ best.rotation, best.translation + step[3:])
        assert squared_distance(before, after, weights, other) >= least - 1e-12
    for _ in range(200):
        assert squared_distance(before, after, weights, random_pose(rng)) >= least - 1e-12


def test_a_reflection_is_never_fitted() -> None:
    before = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    assert np.linalg.det(fit_motion(before, before * [1, 1, -1]).rotation) == pytest.approx(1.0)


def test_stacks_are_fitted_one_by_one() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.standard_normal((2, 7, 5, 3))
    stack = fit_motion(before, after)
    for index in range(7):
        one = fit_motion(before[index], after[index])
        np.testing.assert_allclose(stack.rotation[index], one.rotation)
        np.testing.assert_allclose(stack.translation[index], one.translation)


def test_poses_compose_and_turn_back() -> None:
    rng = np.random.default_rng(0)
    one, other, points = random_pose(rng), random_pose(rng), rng.standard_normal((5, 3))
    np.testing.assert_allclose(one.then(other).apply(points), other.apply(one.apply(points)))
    np.testing.assert_allclose(one.then(one.inverse()).apply(points), points)


def test_axes_of_many_rotations_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.uniform(-1.7, 1.7, (50, 3)), np.zeros((1, 3)), np.full((1, 3), 1e-9)])
    turned = np.stack([rotation_matrix(vector) for vector in vectors])
    np.testing.assert_allclose(rotation_vectors(turned), vectors, atol=1e-9)
    for rotation, vector in zip(turned, vectors, strict=True):
        np.testing.assert_allclose(rotation_vector(rotation), vector, atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.5, 3.0, np.pi])
def test_quaternions_turn_as_their_matrices(angle: float) -> None:
    axis = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])
    x, y, z, w = quaternion(rotation_matrix(angle * axis))
    vector, point = np.array([x, y, z]), np.array([0.3, 0.2, -0.7])
    turned = point + 2 * np.cross(vector, np.cross(vector, point) + w * point)
    np.testing.assert_allclose(turned, rotation_matrix(angle * axis) @ point, atol=1e-9)
    assert w >= 0


def observed(
    rng: np.random.Generator, shape: np.ndarray, pose: Pose, *, outliers: int = 0, holes: int = 0, noise: float = 1.0
) -> Observation:
    """What a camera sees of a body, with noise; the first points are outliers, the last ones have no depth."""
    places = pose.apply(shape)
    places[:outliers] += rng.uniform(0.05, 0.3, (outliers, 3)) * rng.choice([-1, 1], (outliers, 3))
    ray_noise, depth_noise = np.full(len(shape), 1.0 / FOCAL), 0.003 * places[:, 2] ** 2
    rays = places[:, :2] / places[:, 2:] + noise * rng.normal(0, 1.0 / FOCAL, (len(shape), 2))
    depth = places[:, 2] + noise * rng.normal(0, depth_noise)
    depth[len(shape) - holes :] = np.nan
    return Observation(shape, rays, depth, ray_noise, depth_noise)


def error(pose: Pose, true: Pose) -> tuple[float, float]:
    """Metres and degrees."""
    angle = np.degrees(np.linalg.norm(rotation_vector(pose.rotation @ true.rotation.T)))
    return float(np.linalg.norm(pose.translation - true.translation)), float(angle)


@pytest.mark.parametrize("holes", [0, 10, 24])
@pytest.mark.parametrize("seed", range(8))
def test_a_pose_is_found_among_outliers_and_holes_without_a_guess(seed: int, holes: int) -> None:
    rng = np.random.default_rng(seed)
    shape, true = rng.uniform(-0.08, 0.08, (24, 3)), random_pose(rng)
    seen = observed(rng, shape, true, outliers=6, holes=holes)
    found = search_pose(seen, [], rng, 48)
    assert found is not None
    refined = refine_pose(seen, found)
    position, rotation = error(refined.pose, true)
    assert position < (0.006 if holes < 24 else 0.02)
    assert rotation < 2.0
    assert not refined.inliers[:6].any()
    assert refined.inliers[6:].sum() >= 15


def test_the_covariance_is_that_of_the_errors() -> None:
    """Over many draws, errors in units of their covariance are distributed as chi-square with six degrees: mean 6."""
    rng = np.random.default_rng(0)
    distances = []
    for _ in range(300):
        shape, true = rng.uniform(-0.08, 0.08, (16, 3)), random_pose(rng)
        refined = refine_pose(observed(rng, shape, true), true)
        turned = rotation_vector(true.rotation @ refined.pose.rotation.T)
        miss = np.concatenate([true.translation - refined.pose.translation, turned])
        distances.append(miss @ np.linalg.solve(refined.covariance, miss))
    # The scale that scattered measurements add, and outliers that are left out by chance, act against each other.
    assert 4.5 < np.mean(distances) < 7.0


def test_without_noise_the_pose_is_exact() -> None:
    rng = np.random.default_rng(5)
    shape, true = rng.uniform(-0.08, 0.08, (10, 3)), random_pose(rng)
    near = Pose(rotation_matrix(np.full(3, 0.05)) @ true.rotation, true.translation + 0.01)
    refined = refine_pose(observed(rng, shape, true, noise=0.0, holes=4), near)
    assert error(refined.pose, true) < (1e-6, 1e-4)
    assert refined.inliers.all()


# Bodies over time.


class Stage:
    """Bodies that move, and the tracks of their points with noise of a depth camera."""

    def __init__(self, shapes: dict[int, np.ndarray], seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self.shapes, self.number, self.first_id = shapes, 0, 0
        self.bodies = RigidBodies(CONFIG)

    def step(
        self,
        poses: dict[int, Pose | NDArray[np.float64]],
        *,
        hidden: tuple[int, ...] = (),
        shown: int = 10**6,
        holes: bool = False,
        gone: tuple[int, ...] = (),
    ) -> dict[int, RigidBody]:
        """Return the bodies in the next frame, by group; a pose may also be the places [n,3] themselves."""
        places, groups, ids, visible = [], [], [], []
        for group, shape in self.shapes.items():
            if group in gone:
                continue
            pose = poses[group]
            places.append(pose.apply(shape) if isinstance(pose, Pose) else pose)
            groups.append(np.full(len(shape), group))
            ids.append(self.first_id + 100 * group + np.arange(len(shape)))
            visible.append((np.arange(len(shape)) < shown) & (group not in hidden))
        xyz, group, seen = np.concatenate(places), np.concatenate(groups), np.concatenate(visible)
        rays = xyz[:, :2] / xyz[:, 2:] + self._rng.normal(0, 0.5 / FOCAL, (len(xyz), 2))
        depth = xyz[:, 2] + self._rng.normal(0, 0.002, len(xyz))
        depth[~seen | holes] = np.nan
        points = np.concatenate([rays, np.ones((len(xyz), 1))], axis=1) * depth[:, np.newaxis]
        tracks = Tracks(
            ids=np.concatenate(ids).astype(np.uint64),
            group=group.astype(np.uint32),
            xy=(FOCAL * rays + [320, 240]).astype(np.float32),
            visibility=seen.astype(np.float32),
            confidence=seen.astype(np.float32),
            visible=seen,
            state=np.where(seen, 0, 1).astype(np.uint8),
            age=np.zeros(len(xyz), np.uint32),
            frames_since_seen=np.zeros(len(xyz), np.uint32),
            stamp=self.number * PERIOD,
            width=640,
            height=480,
            scene_cut=False,
        )
        self.number += 1
        return {body.group: body for body in self.bodies.step(LiftedTracks(tracks, rays, points), FOCAL)}


def cloud(points: int = 16, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.08, 0.08, (points, 3))


def moving(frame: int) -> Pose:
    """10 cm/s to the right and 60 degrees a second about an axis."""
    seconds = frame * PERIOD / 1e9
    return Pose(
        rotation_matrix(np.radians(60.0) * seconds * np.array([0.0, 0.6, 0.8])), np.array([0.1 * seconds, 0, 1])
    )


def true_pose(body: RigidBody, first: Pose, now: Pose, start: RigidBody) -> Pose:
    """Where a body that began at `start` must be."""
    assert body.group == start.group
    return start.pose.then(first.inverse().then(now))


def test_two_bodies_keep_their_poses_apart() -> None:
    stage = Stage({3: cloud(), 8: cloud(seed=2)})
    still = Pose(np.eye(3), np.array([-0.2, 0.1, 1.2]))
    starts = stage.step({3: moving(0), 8: still})
    np.testing.assert_allclose(starts[3].pose.rotation, np.eye(3))
    for frame in range(1, 60):
        bodies = stage.step({3: moving(frame), 8: still})
    assert {group: body.state for group, body in bodies.items()} == {3: BodyState.TRACKED, 8: BodyState.TRACKED}
    for group, first, now in ((3, moving(0), moving(59)), (8, still, still)):
        position, rotation = error(bodies[group].pose, true_pose(bodies[group], first, now, starts[group]))
        assert (position < 0.003, rotation < 1.5) == (True, True)
    assert (bodies[3].points, bodies[3].inliers) == (16, 16)
    assert 0.0005 < bodies[3].residual < 0.006
    # The motion since the start moves points of the camera's frame, whatever the body's own frame is.
    points = moving(0).apply(stage.shapes[3])
    np.testing.assert_allclose(bodies[3].motion.apply(points), moving(59).apply(stage.shapes[3]), atol=0.006)


def test_the_twist_is_the_velocity() -> None:
    stage = Stage({1: cloud(40)})
    found = np.array([stage.step({1: moving(frame)})[1].twist for frame in range(30)])
    np.testing.assert_array_equal(found[0], 0.0)
    mean = found[10:].mean(axis=0)
    np.testing.assert_allclose(mean[:3], [0.1, 0.0, 0.0], atol=0.03)
    np.testing.assert_allclose(mean[3:], np.radians(60.0) * np.array([0.0, 0.6, 0.8]), atol=0.1)


def test_a_body_continues_its_pose_after_an_occlusion() -> None:
    """Hidden for a second, it moves on by 10 cm and turns by 60 degrees: the last pose is no guess any more."""
    stage = Stage({1: cloud()})
    start = stage.step({1: moving(0)})[1]
    for frame in range(1, 30):
        before = stage.step({1: moving(frame)})[1]
    for frame in range(30, 60):
        hidden = stage.step({1: moving(frame)}, hidden=(1,))[1]
        assert hidden.state == BodyState.HIDDEN
        np.testing.assert_array_equal(hidden.pose.rotation, before.pose.rotation)
        assert np.isinf(hidden.covariance[0, 0])
    back = stage.step({1: moving(60)})[1]
    assert back.state == BodyState.TRACKED
    position, rotation = error(back.pose, true_pose(back, moving(0), moving(60), start))
    assert (position < 0.004, rotation < 2.0) == (True, True)


def test_frames_without_depth_are_solved_from_pixels() -> None:
    stage = Stage({1: cloud(24)})
    start = stage.step({1: moving(0)})[1]
    for frame in range(1, 20):
        stage.step({1: moving(frame)})
    for frame in range(20, 40):
        body = stage.step({1: moving(frame)}, holes=True)[1]
        assert body.state == BodyState.TRACKED
        position, rotation = error(body.pose, true_pose(body, moving(0), moving(frame), start))
        assert (position < 0.015, rotation < 2.5) == (True, True)


def test_too_few_points_are_said() -> None:
    stage = Stage({1: cloud()})
    stage.step({1: moving(0)})
    for frame in range(1, 5):
        body = stage.step({1: moving(frame)}, shown=2)[1]
        assert (body.state, body.points) == (BodyState.TOO_FEW_POINTS, 2)
    assert stage.step({1: moving(5)})[1].state == BodyState.TRACKED


def test_points_on_a_line_are_said() -> None:
    line = np.outer(np.linspace(-0.1, 0.1, 12), [0.6, 0.7, 0.2])
    stage = Stage({1: line})
    assert {stage.step({1: moving(frame)})[1].state for frame in range(10)} <= {BodyState.WAITING, BodyState.ON_A_LINE}
    # A body of which later only the points on a line are seen.
    stage = Stage({1: np.concatenate([line, cloud()])})
    assert stage.step({1: moving(0)})[1].state == BodyState.TRACKED
    assert stage.step({1: moving(1)}, shown=12)[1].state == BodyState.ON_A_LINE


def test_a_group_that_is_no_rigid_body_is_said() -> None:
    shape = cloud(20)
    stage = Stage({1: shape})
    stage.step({1: moving(0)})
    for frame in range(1, 30):
        apart = shape + np.repeat([[0.01 * frame, 0, 1], [0, -0.01 * frame, 1]], 10, axis=0)
        body = stage.step({1: apart})[1]
    assert body.state == BodyState.NOT_RIGID


def test_a_group_begins_when_it_has_depth() -> None:
    stage = Stage({1: cloud()})
    assert stage.step({1: moving(0)}, holes=True)[1].state == BodyState.WAITING
    body = stage.step({1: moving(1)})[1]
    assert body.state == BodyState.TRACKED
    np.testing.assert_allclose(body.pose.translation, moving(1).apply(stage.shapes[1]).mean(axis=0), atol=0.003)


def test_points_that_come_later_join_the_body() -> None:
    shape = cloud(20)
    stage = Stage({1: shape[:8]})
    start = stage.step({1: moving(0)})[1]
    stage.shapes = {1: shape}
    for frame in range(1, 20):
        body = stage.step({1: moving(frame)})[1]
    assert (body.points, body.state) == (20, BodyState.TRACKED)
    # The old ones are gone: the new ones alone carry the pose on.
    tracked = stage.step({1: np.concatenate([moving(20).apply(shape)])})[1]
    position, rotation = error(tracked.pose, true_pose(tracked, moving(0), moving(20), start))
    assert (position < 0.004, rotation < 2.0) == (True, True)


def test_a_group_that_loses_all_its_points_is_gone_and_others_go_on() -> None:
    stage = Stage({1: cloud(), 2: cloud(seed=2)})
    poses = {1: moving(0), 2: Pose(np.eye(3), np.array([0.2, 0.1, 1.2]))}
    assert stage.step(poses).keys() == {1, 2}
    bodies = stage.step(poses, gone=(1,))
    assert bodies.keys() == {2}
    assert bodies[2].state == BodyState.TRACKED


def test_a_group_that_has_nothing_but_other_points_is_another_body() -> None:
    """A request that replaces all points may give an old group to another body, from one image to the next."""
    stage = Stage({1: cloud()})
    for frame in range(5):
        stage.step({1: moving(frame)})
    stage.shapes = {1: cloud(30, seed=5)}
    stage.first_id = 1000
    elsewhere = Pose(np.eye(3), np.array([0.2, 0.1, 1.2]))
    body = stage.step({1: elsewhere})[1]
    assert (body.state, body.points) == (BodyState.TRACKED, 30)
    np.testing.assert_allclose(body.pose.translation, elsewhere.apply(stage.shapes[1]).mean(axis=0), atol=0.003)
    np.testing.assert_array_equal(body.motion.translation, 0.0)


def test_groups_of_two_points_and_points_of_no_group_are_no_bodies() -> None:
    stage = Stage({0: cloud(), 5: cloud(2)})
    assert stage.step({0: moving(0), 5: moving(0)}) == {}


def test_the_same_frames_give_the_same_bodies_to_the_bit() -> None:
    found = []
    for _ in range(2):
        stage = Stage({1: cloud(), 2: cloud(seed=2)})
        for frame in range(25):
            bodies = stage.step({1: moving(frame), 2: moving(2 * frame)}, hidden=(1,) if 10 < frame < 15 else ())
        found.append(bodies)
    for group in (1, 2):
        for one, other in zip(found[0][group].pose, found[1][group].pose, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(found[0][group].covariance, found[1][group].covariance)
