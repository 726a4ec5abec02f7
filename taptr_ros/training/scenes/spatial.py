"""Scenes of boxes and upright cut-outs on a ground, seen by a camera that moves through them: parallax at little cost.

x is to the right, y ahead, z up, in metres; the camera starts out at x = y = 0 and looks ahead. Everything is made of
flat layers, and bodies are painted from the farthest to the nearest.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.layer import Layer
from taptr_ros.training.scenes.motion import Floats, shake, smooth_path
from taptr_ros.training.scenes.outlines import object_outline
from taptr_ros.training.scenes.scene import Scene
from taptr_ros.training.scenes.textures import Textures

_MARGIN = 3
"""Texels around the face of a box that are clear, so that its edges are smooth."""

_SHADOW_OPACITY = 110
"""Opacity, of 255, of shadows: below one half, so that they hide nothing."""


def spatial_scene(rng: np.random.Generator, config: SceneConfig, times: Floats) -> Scene:
    """Return a scene at `times` [T]: increasing whole numbers of frames, with gaps where views jump."""
    return _Composer(rng, config, times).compose()


@dataclasses.dataclass(frozen=True)
class _Pose:
    """How a body moves, in all S frames of the simulated time."""

    place: Floats
    """[S,3] where its middle is."""
    axes: Floats
    """[S,3,3] its axes in columns."""


class _Composer:
    def __init__(self, rng: np.random.Generator, config: SceneConfig, times: Floats) -> None:
        self._rng, self._config, self._times = rng, config, times
        self._shown = (times - times[0]).astype(np.int64)
        self._simulated = int(self._shown[-1]) + 1
        self._textures = Textures(rng, config)
        # Half the diagonal of the image, as an angle: with the camera's turns it stays well below 90 degrees.
        self._focal = 0.5 * float(np.hypot(config.width, config.height)) / np.tan(rng.uniform(0.4, 0.65))
        self._speed = float(np.exp(rng.uniform(np.log(config.slowest), np.log(config.fastest)))) * config.unit
        self._depth = rng.uniform(2.8, 7.0)
        self._eye, self._view = self._move_camera()
        light = rng.normal((0.0, -0.5, 1.5), 1.0)
        self._light = light / np.linalg.norm(light)
        self._layers: list[Layer] = []
        self._distances: list[Floats] = []

    def compose(self) -> Scene:
        """Return the scene."""
        rng = self._rng
        self._backdrop()
        grounded = rng.random() < 0.75
        if grounded:
            self._ground()
        for _ in range(rng.integers(3, 8)):
            self._box(grounded)
        for _ in range(rng.integers(2, 7)):
            self._cutout(grounded)
        distances = np.stack(self._distances, axis=-1)[self._shown]
        order = np.argsort(-distances, axis=1, kind="stable")
        return Scene(self._layers, order, self._config.height, self._config.width)

    def _path(self, speed: float, reach: float) -> Floats:
        return smooth_path(self._rng, self._simulated, speed, reach)

    def _move_camera(self) -> tuple[Floats, Floats]:
        """Return the camera's place [S,3] and its axes [S,3,3] in columns: right, down, ahead."""
        rng = self._rng
        # What the image moves by at a middle distance.
        step = self._speed / self._focal
        sideways, ahead, up = (
            0.4 * self._depth * self._path(step * rng.uniform(0.3, 1.5), reach) for reach in (0.6, 0.4, 0.2)
        )
        eye = np.stack([sideways, ahead.clip(-2.0, 0.5 * self._depth), rng.uniform(0.6, 1.6) + up], axis=-1)
        eye[:, 2] = eye[:, 2].clip(0.25)
        yaw, pitch = self._path(0.7 * step, 0.3), rng.uniform(-0.4, 0.0) + self._path(0.4 * step, 0.15)
        style = rng.random()
        roll = self._path(rng.uniform(0.02, 0.1), 100.0) if style < 0.12 else self._path(0.4 * step, 0.4)
        if rng.random() < 0.6:
            tremor = rng.uniform(0.2, 1.5) * self._config.unit / self._focal
            yaw, pitch, roll = (angle + shake(rng, self._simulated, tremor) for angle in (yaw, pitch, roll))
        ahead_axis = np.stack([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)], axis=-1)
        level = np.stack([np.cos(yaw), -np.sin(yaw), np.zeros_like(yaw)], axis=-1)
        down = np.cross(ahead_axis, level)
        right = np.cos(roll)[:, np.newaxis] * level + np.sin(roll)[:, np.newaxis] * down
        return eye, np.stack([right, np.cross(ahead_axis, right), ahead_axis], axis=-1)

    def _plane(
        self,
        texture: NDArray[np.uint8],
        mask: NDArray[np.uint8] | None,
        corner: Floats,
        across: Floats,
        down: Floats,
        distance: Floats,
        normal: Floats | None = None,
    ) -> None:
        """Add a layer whose texel (i, j) is at `corner` + i `across` + j `down`, each [3] or [S,3].

        distance: [S] what it is ordered by. normal: [S,3] outwards, of faces that are not seen from behind.
        """
        vectors = np.broadcast_arrays(across, down, corner - self._eye)
        in_camera = np.swapaxes(self._view, 1, 2) @ np.stack(vectors, axis=-1)
        middle = (self._config.width - 1) / 2, (self._config.height - 1) / 2
        lens = np.array([[self._focal, 0.0, middle[0]], [0.0, self._focal, middle[1]], [0.0, 0.0, 1.0]])
        placed = lens @ in_camera
        change = np.gradient(placed, axis=0) if len(placed) > 1 else np.zeros_like(placed)
        drawn = gain = None
        if normal is not None:
            drawn = (normal * (corner - self._eye)).sum(axis=-1)[self._shown] < 0.0
            gain = (0.6 + 0.55 * (normal @ self._light).clip(0.0))[self._shown]
        shown = self._shown
        self._layers.append(Layer(texture, mask, placed[shown], change[shown], self._times, gain=gain, drawn=drawn))
        self._distances.append(distance)

    def _always(self, distance: float) -> Floats:
        return np.full(self._simulated, distance)

    def _backdrop(self) -> None:
        """Add what lies behind everything: a picture without end, upright, ahead."""
        side = int(self._rng.integers(448, 640))
        texel = 1.3 * self._depth / side
        corner = np.array([-0.5 * side * texel, self._depth, 0.6 * side * texel])
        texture = self._textures.surface(side, side)
        self._plane(texture, None, corner, np.array([texel, 0, 0]), np.array([0, 0, -texel]), self._always(1e9))

    def _ground(self) -> None:
        """Add four tiles that reach from behind the camera to the backdrop: the near ones show their finer texels."""
        side = 512
        extent = 0.5 * self._depth + 1.5
        for x in (-extent, 0.0):
            for y in (self._depth - extent, self._depth - 2 * extent):
                texture = self._textures.surface(side, side)
                texel = extent / side
                corner = np.array([x, y + extent, 0.0])
                mask = np.full((side, side), 255, np.uint8)
                self._plane(texture, mask, corner, np.array([texel, 0, 0]), np.array([0, -texel, 0]), self._always(1e8))

    def _pose(self, half_height: float, grounded: bool) -> _Pose:
        """Return a pose in view: standing, sliding along, or, where there is no ground, also turning over."""
        rng = self._rng
        ahead = rng.uniform(1.0, self._depth - 0.6)
        aside = rng.uniform(-0.6, 0.6) * ahead
        place = np.tile([aside, ahead, half_height if grounded else rng.uniform(0.0, 2.2)], (self._simulated, 1))
        heading = rng.uniform(-np.pi, np.pi) + np.zeros(self._simulated)
        lean = np.zeros((2, self._simulated))
        step = self._speed * ahead / self._focal
        if rng.random() < 0.5:
            place[:, 0] += self._path(step * rng.uniform(0.2, 1.5), rng.uniform(0.2, 1.5))
            place[:, 1] += self._path(step * rng.uniform(0.1, 0.8), 0.6)
            heading += self._path(rng.uniform(0.0, 0.1), rng.uniform(0.5, 10.0))
        if not grounded:
            lean += [self._path(rng.uniform(0.0, 0.08), rng.uniform(0.3, 3.0)) for _ in range(2)]
        turns = [_turn(heading, 2), _turn(lean[0], 0), _turn(lean[1], 1)]
        return _Pose(place, turns[0] @ turns[1] @ turns[2])

    def _shadow(self, pose: _Pose, half_width: float) -> None:
        """Add a soft dark spot on the ground under a body."""
        side = 32
        row, column = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        mask = (_SHADOW_OPACITY * (1.3 * (1.0 - np.hypot(row, column))).clip(0.0, 1.0)).astype(np.uint8)
        texel = 3.0 * half_width / side
        corner = pose.place + 0.5 * side * np.array([-texel, texel, 0.0])
        corner[:, 2] = 0.0
        black = np.zeros((side, side, 3), np.uint8)
        self._plane(black, mask, corner, np.array([texel, 0, 0]), np.array([0, -texel, 0]), self._always(1e7))

    def _box(self, grounded: bool) -> None:
        rng = self._rng
        half = rng.uniform(0.1, 0.45, 3)
        pose = self._pose(half[2], grounded)
        distance = np.linalg.norm(pose.place - self._eye, axis=1)
        if grounded:
            self._shadow(pose, float(half[:2].max()))
        texels_per_metre = rng.uniform(110, 220)
        for axis in range(3):
            for sign in (1.0, -1.0):
                normal = sign * pose.axes[:, :, axis]
                # Seen from outside, down is downwards on the sides, and across completes it.
                down = -pose.axes[:, :, 2] if axis < 2 else pose.axes[:, :, 1]
                across = np.cross(normal, -down)
                spans = (
                    np.abs(np.einsum("sij,si->sj", pose.axes, across)[0]),
                    np.abs(np.einsum("sij,si->sj", pose.axes, down)[0]),
                )
                width, height = (2 * float(span @ half) for span in spans)
                columns, rows = (max(24, int(extent * texels_per_metre)) + 2 * _MARGIN for extent in (width, height))
                mask = np.zeros((rows, columns), np.uint8)
                mask[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = 255
                across = -across * width / (columns - 2 * _MARGIN)
                down = down * height / (rows - 2 * _MARGIN)
                corner = pose.place + normal * half[axis] - across * (columns - 1) / 2 - down * (rows - 1) / 2
                self._plane(self._textures.surface(rows, columns), mask, corner, across, down, distance, normal)

    def _cutout(self, grounded: bool) -> None:
        """Add an upright flat thing with an outline, turned about to the camera: a tree, a person, a sign."""
        rng = self._rng
        width, height = rng.uniform(0.2, 0.9), rng.uniform(0.3, 1.6)
        pose = self._pose(0.5 * height, grounded)
        if grounded:
            self._shadow(pose, 0.4 * width)
        texels_per_metre = rng.uniform(100, 180)
        columns, rows = (max(32, int(extent * texels_per_metre)) for extent in (width, height))
        texture, mask = self._textures.surface(rows, columns), object_outline(rng, rows, columns)
        turned = rng.uniform(-0.6, 0.6) + self._path(rng.uniform(0.0, 0.03), 0.5)
        across = np.stack([np.cos(turned), np.sin(turned), np.zeros_like(turned)], axis=-1) * width / columns
        down = np.array([0.0, 0.0, -height / rows])
        corner = pose.place - across * (columns - 1) / 2 - down * (rows - 1) / 2
        self._plane(texture, mask, corner, across, down, np.linalg.norm(pose.place - self._eye, axis=1))


def _turn(angle: Floats, axis: int) -> Floats:
    """Return matrices [S,3,3] that turn by angles [S] about a coordinate axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, first, second], matrix[:, second, first] = -np.sin(angle), np.sin(angle)
    return matrix
