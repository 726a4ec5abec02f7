"""scripts/bodies.py and the drawing of axes, in short: what they measure is right where the answer is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from taptr_ros.bodies.camera import CameraModel
from taptr_ros.bodies.rigid import IDENTITY, Pose
from taptr_ros.bodies.rigid_bodies import BodyState, RigidBody
from taptr_ros.drawing.axes import draw_axes
from taptr_ros.errors import BackendUnavailableError
from taptr_ros.runtime.loading import load_backend

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "bodies.py"

if not SCRIPT.exists():
    pytest.skip("not in the source tree", allow_module_level=True)

MATRIX = np.array([[300.0, 0.0, 159.5], [0.0, 300.0, 119.5], [0.0, 0.0, 1.0]])


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bodies_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bodies_script", module)  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def test_bodies_of_a_simulated_room_are_followed(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    if not importlib.util.find_spec("mujoco"):  # not importorskip: importing it decides how it draws
        pytest.skip("needs MuJoCo")
    monkeypatch.setattr(script, "FRAMES", 6)
    monkeypatch.setattr(script, "LANDED", 10)
    monkeypatch.setattr(script, "HIDDEN", range(3, 5))
    monkeypatch.setattr(script, "SETTLING", 1)
    try:
        found = script.simulation(load_backend("lucas_kanade"), [16], script.CONFIG)
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    assert np.median(found["open: position"]) < 0.004
    assert np.median(found["open: rotation"]) < 2.0
    assert np.mean(found["open: trusted"]) > 0.9
    assert np.median(found["point error, depth alone"]) < np.median(found["point error"]) < 0.01
    for row in script.simulation_table(found):
        assert len(row) == 2


def static_scene(path: Path, frames: int = 12) -> Path:
    """A picture that stands 0.8 m in front of a camera which moves to the left, in the format of the script."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 400, 3)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    colors, depths, poses = [], [], []
    for frame in range(frames):
        start = 60 - 3 * frame
        image = np.ascontiguousarray(texture[:, start : start + 320])
        colors.append(cv2.imencode(".jpg", image)[1].ravel())
        depths.append(cv2.imencode(".png", np.full((240, 320), 800, np.uint16))[1].ravel())
        pose = np.eye(4)
        pose[0, 3] = -3 * frame * 0.8 / 300
        poses.append(pose)
    np.savez(
        path,
        color_jpeg=np.concatenate(colors),
        color_offsets=np.cumsum([0, *map(len, colors)]),
        depth_png=np.concatenate(depths),
        depth_offsets=np.cumsum([0, *map(len, depths)]),
        camera_in_world=np.stack(poses),
        intrinsics=MATRIX,
        period_ns=33_333_333,
    )
    return path


def test_a_scene_that_stands_still_stands_still(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = script.real(load_backend("lucas_kanade"), static_scene(tmp_path / "scene.npz"), script.CONFIG)
    assert len(result["frame"]) == 12
    assert np.median(result["moved"][11]) < 0.002
    assert np.median(result["depth alone"][11]) < 1e-6
    assert (result["position"][11] < 0.01, result["rotation"][11] < 0.7) == (True, True)
    monkeypatch.setattr(script, "REAL_FRAMES", (5, 11))
    for row in script.real_table({"one": result, "other": result}):
        assert len(row) == 3


def test_the_time_of_the_node_is_measured_on_bodies_that_are_tracked(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")
    monkeypatch.setattr(script, "TIMED_FRAMES", 5)
    rows = dict(script.node_times())
    assert rows["bodies tracked, per cent"] == "100.0"
    assert float(rows["whole frame"].split()[0]) > 0


def test_axes_are_drawn_where_the_body_is() -> None:
    camera = CameraModel(MATRIX, np.empty(0), False, 320, 240)
    pose = Pose(np.eye(3), np.array([0.1, 0.0, 1.0]))
    body = RigidBody(3, BodyState.TRACKED, pose, IDENTITY, np.eye(6), np.zeros(6), 8, 8, 0.001)
    plain = np.full((240, 320, 3), 128, np.uint8)
    drawn = draw_axes(plain, [body], camera, length=0.2)
    # 0.1 m at one metre is 30 pixels: x ends 60 pixels right of 189.5, y 60 below 119.5.
    assert drawn[120, 235].tolist() == [230, 60, 60]
    assert drawn[165, 190].tolist() == [70, 200, 70]
    assert (plain == 128).all()
    lost = RigidBody(3, BodyState.HIDDEN, pose, IDENTITY, np.eye(6), np.zeros(6), 0, 0, np.nan)
    np.testing.assert_array_equal(draw_axes(plain, [lost], camera), plain)
