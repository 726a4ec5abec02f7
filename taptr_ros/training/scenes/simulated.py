"""Rooms that MuJoCo simulates and draws, with exact tracks: points are cast onto bodies and move with them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.motion import Floats, shake, smooth_path
from taptr_ros.training.scenes.offscreen import OffscreenRenderer, load_mujoco
from taptr_ros.training.scenes.rooms import LED_PREFIX, Room, random_room
from taptr_ros.training.scenes.textures import Textures
from taptr_ros.training.scenes.tracks import inside_image, near_image
from taptr_ros.training.scenes.world import TrueTracks

_STEPS = 8
"""Steps of the simulation per frame; motion blur takes its pictures from them."""

_MOST_EXPOSURES = 4
"""Most pictures that are averaged for one frame with motion blur."""

_PIXELS_PER_EXPOSURE = 2.0
"""Pixels of motion between two averaged pictures, until `_MOST_EXPOSURES` are reached."""

_TOLERANCE = 0.002
"""Metres in front of a point that something may be without hiding it; rounding and curved surfaces stay below."""

_ATTEMPTS = 5
"""Rooms that are tried if the simulation of one fails, which a body thrown into another can cause."""


def simulated_world(rng: np.random.Generator, config: SceneConfig, times: Floats, shutter: float) -> SimulatedWorld:
    """Return a room at `times` [T]: increasing whole numbers of frames, with gaps where views jump."""
    for _ in range(_ATTEMPTS):
        world = SimulatedWorld(rng, config, times, shutter)
        if world.stable:
            return world
    raise RuntimeError(f"none of {_ATTEMPTS} rooms could be simulated")


class SimulatedWorld:
    """A room in T frames; a `World`."""

    def __init__(self, rng: np.random.Generator, config: SceneConfig, times: Floats, shutter: float) -> None:
        self._mujoco = load_mujoco()
        self._height, self._width, self._shutter = config.height, config.width, shutter
        field_of_view = rng.uniform(35.0, 65.0)
        self._focal = 0.5 * config.height / np.tan(0.5 * np.radians(field_of_view))
        room = random_room(rng, Textures(rng, config), (config.height, config.width), field_of_view)
        self._model = self._mujoco.MjModel.from_xml_string(room.xml, room.pictures)
        self._data = self._mujoco.MjData(self._model)
        self._is_object = self._model.geom_bodyid >= room.background_bodies
        # One frame before the first and one after the last, for motion blur.
        self._steps = (times - times[0]).astype(np.int64) * _STEPS + _STEPS
        frames = int(times[-1] - times[0]) + 3
        speed = float(np.exp(rng.uniform(np.log(config.slowest), np.log(config.fastest)))) * config.unit
        self._eyes, self._views = _camera_path(rng, room, frames, speed / self._focal)
        self._states = self._simulate(rng, frames, speed / self._focal)
        self._renderer: OffscreenRenderer | None = None

    @property
    def stable(self) -> bool:
        """Whether the simulation went well."""
        return not any(warning.number for warning in self._data.warning)

    def paint(self, frame: int) -> NDArray[np.uint8]:
        """See `World`."""
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self._model, self._height, self._width)
        step = int(self._steps[frame])
        count = self._exposures(step)
        total = np.zeros((self._height, self._width, 3), np.float32)
        for exposure in range(count):
            self.restore(step + round(_STEPS * self._shutter * ((exposure + 0.5) / count - 0.5)))
            self._renderer.update(self._data)
            cv2.accumulate(self._renderer.draw(), total)
        return np.asarray(cv2.convertScaleAbs(total, alpha=1.0 / count), np.uint8)

    def surfaces(self, xy: Floats, frame: int) -> NDArray[np.int64]:
        """See `World`: the number of the body's part, or 0 for walls, floor and table."""
        step = int(self._steps[frame])
        self.restore(step)
        part, _ = self._cast(self._rays(xy, step), step)
        return np.where(part < 0, -1, np.where(self._is_object[part], part, 0))

    def track(self, xy: Floats, starts: NDArray[np.int64]) -> TrueTracks:
        """See `World`."""
        part, local = self.attach(xy, starts)
        positions = np.empty((len(xy), len(self._steps), 2))
        visible = np.empty((len(xy), len(self._steps)), np.bool_)
        for frame, step in enumerate(self._steps.tolist()):
            self.restore(step)
            world = self.place(part, local)
            positions[:, frame], depth = self._project(world, step)
            rays = world - self._eyes[step]
            _, distance = self._cast(rays, step)
            slack = _TOLERANCE / np.linalg.norm(rays, axis=1)
            visible[:, frame] = (depth > 0) & ((distance < 0) | (distance > 1.0 - slack))
        positions = near_image(positions, self._height, self._width)
        return positions, visible & inside_image(positions, self._height, self._width)

    def attach(self, xy: Floats, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
        """Return the parts [N] that are seen at positions [N,2] of the frames `starts` [N], and where on them [N,3]."""
        part, local = np.empty(len(xy), np.int64), np.empty((len(xy), 3))
        for frame in np.unique(starts).tolist():
            rows, step = np.flatnonzero(starts == frame), int(self._steps[frame])
            self.restore(step)
            rays = self._rays(xy[rows], step)
            part[rows], distance = self._cast(rays, step)
            hit = self._eyes[step] + rays * distance[:, np.newaxis]
            axes = self._data.geom_xmat[part[rows]].reshape(-1, 3, 3)
            local[rows] = np.einsum("nji,nj->ni", axes, hit - self._data.geom_xpos[part[rows]])
        return part, local

    def place(self, part: NDArray[np.int64], local: Floats) -> Floats:
        """Return the places [N,3] in the room of points [N,3] of parts [N], as the bodies were restored last."""
        axes = self._data.geom_xmat[part].reshape(-1, 3, 3)
        return np.asarray(np.einsum("nij,nj->ni", axes, local) + self._data.geom_xpos[part])

    @property
    def model(self) -> Any:
        """The room as MuJoCo's model."""
        return self._model

    @property
    def data(self) -> Any:
        """The room's state in MuJoCo, as it was restored last."""
        return self._data

    def restore_frame(self, frame: int) -> None:
        """Put all bodies and the camera where they are in a frame."""
        self.restore(int(self._steps[frame]))

    def restore(self, step: int) -> None:
        """Put all bodies and the camera where they were at a step of the simulation."""
        self._data.qpos[:] = self._states[step]
        self._data.mocap_pos[0] = self._eyes[step]
        self._mujoco.mju_mat2Quat(self._data.mocap_quat[0], self._views[step].ravel())
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_comPos(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)

    def _simulate(self, rng: np.random.Generator, frames: int, speed: float) -> Floats:
        """Return the joints' positions [S,nq] at S = frames * `_STEPS` steps.

        speed: of what is thrown, in radians per frame as seen from a metre away.
        """
        model, data, mujoco = self._model, self._data, self._mujoco
        frame_time = np.exp(rng.uniform(np.log(1 / 60), np.log(1 / 15)))
        model.opt.timestep = frame_time / _STEPS
        led = [joint for joint in range(model.njnt) if model.joint(joint).name.startswith(LED_PREFIX)]
        turning = [model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE for joint in led]
        places, rates = model.jnt_qposadr[led], model.jnt_dofadr[led]
        joints = [_joint_path(rng, frames, turns) for turns in turning]
        paths = _every_step(np.stack(joints, axis=-1) if joints else np.empty((frames, 0)), frames)
        change = np.gradient(paths, axis=0) / model.opt.timestep
        settling = int(rng.choice((0, 40, 300)))
        for _ in range(settling):
            data.qpos[places], data.qvel[rates] = paths[0], 0.0
            mujoco.mj_step(model, data)
        for joint in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
            if rng.random() < 0.6:
                thrown = model.jnt_dofadr[joint]
                data.qvel[thrown : thrown + 3] = rng.normal(0.0, speed / frame_time, 3)
                data.qvel[thrown + 3 : thrown + 6] = rng.normal(0.0, min(0.1 / frame_time, 5.0), 3)
        states = np.empty((frames * _STEPS, model.nq))
        for step, state in enumerate(states):
            data.qpos[places], data.qvel[rates] = paths[step], change[step]
            state[:] = data.qpos
            mujoco.mj_step(model, data)
        return states

    def _exposures(self, step: int) -> int:
        """Return how many pictures to average, by how far bodies move in the image while light is gathered."""
        if not self._shutter:
            return 1
        ends = []
        for offset in (-0.5, 0.5):
            moment = step + round(_STEPS * self._shutter * offset)
            self.restore(moment)
            ends.append(self._project(self._data.geom_xpos, moment)[0])
        moved = np.linalg.norm(ends[1] - ends[0], axis=1)[inside_image(ends[0], self._height, self._width)]
        farthest = float(np.quantile(moved, 0.75)) if len(moved) else 0.0
        return int(np.clip(np.ceil(farthest / _PIXELS_PER_EXPOSURE), 1, _MOST_EXPOSURES))

    def _rays(self, xy: Floats, step: int) -> Floats:
        """Return the rays [N,3] from the camera through positions [N,2]; they advance by 1 along its axis."""
        centre = (np.array([self._width, self._height]) - 1) / 2
        right, down = ((xy - centre) / self._focal).T
        return np.asarray(np.stack([right, -down, np.full(len(xy), -1.0)], axis=-1) @ self._views[step].T)

    def _project(self, points: Floats, step: int) -> tuple[Floats, Floats]:
        """Return the positions [N,2] of `points` [N,3] in the image, and their depths [N]."""
        right, up, back = ((points - self._eyes[step]) @ self._views[step]).T
        # Points in the camera's plane are nowhere; a tiny depth puts them far away.
        depth = np.where(np.abs(back) < 1e-9, 1e-9, -back)
        centre = (np.array([self._width, self._height]) - 1) / 2
        return centre + self._focal * np.stack([right, -up], axis=-1) / depth[:, np.newaxis], depth

    def _cast(self, rays: Floats, step: int) -> tuple[NDArray[np.int64], Floats]:
        """Return which part [N] each ray [N,3] from the camera hits first, and after how many of its lengths [N].

        Both are -1 for rays that hit nothing. The bodies must have been restored.
        """
        lengths = np.linalg.norm(rays, axis=1)
        parts, distances = np.empty(len(rays), np.int64), np.empty(len(rays))
        eye, hit = self._eyes[step], np.empty(1, np.int32)
        # One by one: mj_multiRay passes over some bodies beside the camera.
        for index, direction in enumerate(rays / lengths[:, np.newaxis]):
            distances[index] = self._mujoco.mj_ray(self._model, self._data, eye, direction, None, True, -1, hit)
            parts[index] = hit[0]
        return parts, np.where(parts < 0, -1.0, distances / lengths)


def _every_step(paths: Floats, frames: int) -> Floats:
    """Return paths [F,K], one value per frame, as [F * _STEPS,K], one per step; straight between frames."""
    frame, step = np.divmod(np.arange(frames * _STEPS), _STEPS)
    share = step[:, np.newaxis] / _STEPS
    return np.asarray(paths[frame] * (1.0 - share) + paths[np.minimum(frame + 1, frames - 1)] * share)


def _joint_path(rng: np.random.Generator, frames: int, turns: bool) -> Floats:
    """Return how a joint of an arm moves, [F] radians or, where it slides, metres."""
    if turns:
        return rng.uniform(-1.0, 1.0) + smooth_path(rng, frames, rng.uniform(0.0, 0.08), rng.uniform(0.3, 1.5))
    return np.asarray(np.abs(smooth_path(rng, frames, 0.002, 0.03)), np.float64)


def _camera_path(rng: np.random.Generator, room: Room, frames: int, speed: float) -> tuple[Floats, Floats]:
    """Return the camera's place [S,3] and axes [S,3,3] (columns: right, up, back) at S = frames * `_STEPS` steps.

    It moves around the middle of the table and looks about there. speed: of the image, in radians per frame.
    """

    def path(low: float, high: float, reach: float) -> Floats:
        return smooth_path(rng, frames, speed * rng.uniform(low, high), reach)

    farthest = room.half_width - 0.15
    radius = rng.uniform(0.5, farthest) * np.exp(path(0.0, 0.5, 0.4))
    around = rng.uniform(-np.pi, np.pi) + path(0.0, 1.2, rng.uniform(0.3, 3.0))
    above = rng.uniform(0.15, 1.2) + path(0.0, 0.6, 0.4)
    offset = np.stack([np.cos(around) * np.cos(above), np.sin(around) * np.cos(above), np.sin(above)], axis=-1)
    eye = np.array(room.target) + radius[:, np.newaxis] * offset
    eye[:, :2] = eye[:, :2].clip(-farthest, farthest)
    eye[:, 2] = eye[:, 2].clip(0.15, 2.4)
    away = radius[:, np.newaxis] * np.stack([path(0.1, 1.0, rng.uniform(0.1, 0.5)) for _ in range(3)], axis=-1)
    goal = np.array(room.target) + rng.uniform(-0.25, 0.25, 3) + away
    roll = rng.uniform(-0.2, 0.2) + path(0.0, 0.5, 0.4)
    if rng.random() < 0.15:
        roll = roll + smooth_path(rng, frames, rng.uniform(0.02, 0.1), 100.0)
    if rng.random() < 0.5:
        tremor = rng.uniform(0.0005, 0.004)
        goal = goal + np.stack([shake(rng, frames, tremor) for _ in range(3)], axis=-1) * radius[:, np.newaxis]
        roll = roll + shake(rng, frames, tremor)
    eye, goal = _every_step(eye, frames), _every_step(goal, frames)
    roll = _every_step(roll[:, np.newaxis], frames)
    back = _unit(eye - goal)
    level = _unit(np.cross([0.0, 0.0, 1.0], back))
    upright = np.cross(back, level)
    right = np.cos(roll) * level + np.sin(roll) * upright
    return eye, np.stack([right, np.cross(back, right), back], axis=-1)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
