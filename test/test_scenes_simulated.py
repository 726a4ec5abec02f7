"""Simulated rooms: tracks and visibility against depth, segmentation and marks that MuJoCo draws."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray

from taptr_ros.errors import BackendUnavailableError
from taptr_ros.training.scenes import SceneConfig, generate
from taptr_ros.training.scenes.choice import choose_points
from taptr_ros.training.scenes.offscreen import OffscreenRenderer, load_mujoco
from taptr_ros.training.scenes.simulated import SimulatedWorld, simulated_world

CONFIG = SceneConfig(kind="simulated", height=96, width=128, frames=4, points=150, slowest=8.0, motion_blur_share=0.0)
TIMES = np.arange(CONFIG.frames, dtype=np.float64)

if not importlib.util.find_spec("mujoco"):
    # Not importorskip: importing it decides how it draws.
    pytest.skip("needs MuJoCo", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def _opengl() -> None:
    try:
        mujoco = load_mujoco()
        model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><camera/></worldbody></mujoco>")
        OffscreenRenderer(model, 32, 32).close()
    except BackendUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=[0, 2, 15])
def world(request: pytest.FixtureRequest) -> SimulatedWorld:
    return simulated_world(np.random.default_rng(request.param), CONFIG, TIMES, 0.0)


@dataclasses.dataclass
class Tracked:
    """Tracks of a room, and where their points are in it."""

    xy: NDArray[np.float64]
    visible: NDArray[np.bool_]
    points: NDArray[np.float64]
    """[T,N,3] metres."""
    eyes: NDArray[np.float64]
    """[T,3] where the camera is."""
    views: NDArray[np.float64]
    """[T,3,3] its axes in columns: right, up, back."""


@pytest.fixture(scope="module")
def tracked(world) -> Tracked:
    frames = np.stack([world.paint(frame) for frame in range(CONFIG.frames)])
    chosen = choose_points(np.random.default_rng(0), world, frames, CONFIG.points, np.arange(CONFIG.frames))
    xy, visible = world.track(*chosen)
    # Where it was chosen, a point is seen, at the place where it was chosen.
    rows = np.arange(len(xy))
    assert visible[rows, chosen[1]].all()
    assert np.abs(xy[rows, chosen[1]] - chosen[0]).max() < 1e-6
    part, local = world.attach(*chosen)
    points, eyes, views = [], [], []
    for frame in range(CONFIG.frames):
        world.restore_frame(frame)
        points.append(world.place(part, local))
        eyes.append(world.data.cam_xpos[0].copy())
        views.append(world.data.cam_xmat[0].reshape(3, 3).copy())
    return Tracked(xy, visible, np.stack(points), np.stack(eyes), np.stack(views))


def test_visibility_agrees_with_the_drawn_depth(world, tracked) -> None:
    """Visible points lie on what is drawn, hidden ones behind it. MuJoCo's own renderer draws, rays have no part."""
    checked = 0
    assert not tracked.visible.all()
    with load_mujoco().Renderer(world.model, CONFIG.height, CONFIG.width) as renderer:
        renderer.enable_depth_rendering()
        for frame in range(CONFIG.frames):
            world.restore_frame(frame)
            renderer.update_scene(world.data, camera=0)
            drawn = renderer.render()
            depth = -((tracked.points[frame] - tracked.eyes[frame]) @ tracked.views[frame])[:, 2]
            xy = tracked.xy[:, frame]
            inside = ((xy > 1) & (xy < (CONFIG.width - 2, CONFIG.height - 2))).all(axis=1)
            steps = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(9, 2)
            for point in np.flatnonzero(inside & (depth > 0.05)):
                pixels = np.rint(xy[point]).astype(int) + steps
                parts, _ = world.attach(pixels.astype(np.float64), np.full(9, frame))
                if np.ptp(parts):
                    # At the edge of a body the picture does not tell what is seen between its pixels.
                    continue
                around = drawn[pixels[:, 1], pixels[:, 0]]
                checked += 1
                if tracked.visible[point, frame]:
                    assert around.min() - 0.005 < depth[point] < around.max() + 0.005
                else:
                    assert around.min() < depth[point]
    assert checked > 100


def test_positions_agree_with_marks_that_are_drawn(world, tracked) -> None:
    """A ball on the line of sight to a point is drawn where the track says."""
    mujoco = load_mujoco()
    errors = []
    with mujoco.Renderer(world.model, CONFIG.height, CONFIG.width) as renderer:
        for frame in range(CONFIG.frames):
            world.restore_frame(frame)
            renderer.update_scene(world.data, camera=0)
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            unmarked, bodies = renderer.render().astype(np.int64), renderer.scene.ngeom
            xy = tracked.xy[:, frame]
            inside = ((xy > 8) & (xy < (CONFIG.width - 9, CONFIG.height - 9))).all(axis=1)
            for point in np.flatnonzero(inside & tracked.visible[:, frame])[::12]:
                sight = tracked.points[frame, point] - tracked.eyes[frame]
                ball = renderer.scene.geoms[bodies]
                size = np.full(3, 0.012 * np.linalg.norm(sight))
                place, colour = tracked.eyes[frame] + 0.9 * sight, np.array([1, 0, 1, 1], np.float32)
                mujoco.mjv_initGeom(ball, mujoco.mjtGeom.mjGEOM_SPHERE, size, place, np.eye(3).ravel(), colour)
                ball.emission = 1.0
                renderer.scene.ngeom = bodies + 1
                changed = np.abs(renderer.render() - unmarked).sum(axis=-1) > 30
                y, x = np.mgrid[: CONFIG.height, : CONFIG.width]
                centre = np.array([(x * changed).sum(), (y * changed).sum()]) / changed.sum()
                errors.append(np.abs(centre - xy[point]).max())
    assert len(errors) > 15
    # A ball of a few pixels is only so round.
    assert np.median(errors) < 0.2
    assert np.quantile(errors, 0.9) < 0.5


def test_clips_are_the_same_for_the_same_seed() -> None:
    config = dataclasses.replace(CONFIG, height=64, width=64, frames=2, motion_blur_share=1.0)
    first, other, again = (generate(config, seed) for seed in (0, 1, 0))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.xy, again.xy)
    assert np.array_equal(first.visible, again.visible)
    assert not np.array_equal(first.frames, other.frames)
    assert first.visible.any(axis=1).all()
    assert np.isfinite(first.xy).all()
