"""Scenes of flat, bending and jointed cut-outs before a background: fast to make and rich in motion."""

from __future__ import annotations

import dataclasses

import numpy as np

from taptr_ros.training.scenes.config import SceneConfig
from taptr_ros.training.scenes.layer import MAX_SLOPE, Layer, Shadow, Waves
from taptr_ros.training.scenes.motion import Floats, rotation, scaling, shake, smooth_path, tilt, translation
from taptr_ros.training.scenes.outlines import lattice_outline, limb_outline, object_outline
from taptr_ros.training.scenes.scene import Scene
from taptr_ros.training.scenes.textures import Textures

_STILL = 0.05
"""Speed, relative to their clip's, of objects that hardly move."""

_WIDEST_ZOOM = -0.45
"""Logarithm of the camera's zoom where it shows most, relative to its middle."""


def layered_scene(rng: np.random.Generator, config: SceneConfig, times: Floats) -> Scene:
    """Return a scene at `times` [T]: increasing whole numbers of frames, with gaps where views jump."""
    return _Composer(rng, config, times).compose()


@dataclasses.dataclass(frozen=True)
class _Camera:
    """How the view moves, in all frames of the simulated time."""

    turn_and_zoom: Floats
    """[S,3,3] about the image's centre, and to it."""
    pan: Floats
    """[S,2] pixels."""
    lean: Floats
    """[S,3,3] perspective of the background."""


class _Composer:
    """Makes the layers of one scene.

    Paths are simulated over S frames, the first to the last of the given times, so that a jump in time is a jump of
    the view.
    """

    def __init__(self, rng: np.random.Generator, config: SceneConfig, times: Floats) -> None:
        self._rng, self._config = rng, config
        self._times = times
        self._shown = (times - times[0]).astype(np.int64)
        self._simulated = int(self._shown[-1]) + 1
        self._size = np.array([config.width, config.height], np.float64)
        self._speed = float(np.exp(rng.uniform(np.log(config.slowest), np.log(config.fastest))))
        self._textures = Textures(rng, config)
        self._camera = self._move_camera()

    def compose(self) -> Scene:
        """Return the scene: background, objects and figures, and now and then something right before the camera."""
        rng = self._rng
        layers = [self._background()]
        figures = int(rng.choice((0, 0, 0, 1, 1, 2)))
        objects = int(rng.integers(3, 9)) - 2 * figures
        for figure in rng.permutation(np.arange(max(objects, 1) + figures) < figures):
            layers += self._figure() if figure else [self._object()]
        if rng.random() < 0.3:
            layers.append(self._lattice())
        order = np.tile(np.arange(len(layers)), (len(self._times), 1))
        return Scene(layers, order, self._config.height, self._config.width)

    def _path(self, speed: float, reach: float) -> Floats:
        return smooth_path(self._rng, self._simulated, speed, reach)

    def _path_or_rest(self, share: float, speed: float, reach: float) -> Floats:
        return self._path(speed, reach) if self._rng.random() < share else np.zeros(self._simulated)

    def _pixels(self, low: float, high: float) -> float:
        """Return a log-uniform length, given for an image whose shorter side is 256."""
        return self._config.unit * float(np.exp(self._rng.uniform(np.log(low), np.log(high))))

    def _move_camera(self) -> _Camera:
        rng, unit, speed = self._rng, self._config.unit, self._speed
        reach = self._pixels(40, 500)
        pan = np.stack([self._path(speed * unit, reach), self._path(0.7 * speed * unit, reach)], axis=-1)
        roll = self._roll(speed)
        if rng.random() < 0.5:
            tremor = rng.uniform(0.2, 1.5)
            pan += np.stack([shake(rng, self._simulated, tremor * unit) for _ in range(2)], axis=-1)
            roll = roll + shake(rng, self._simulated, 0.002 * tremor)
        quick = rng.random() < 0.2
        zoom = self._path_or_rest(0.7, 0.04 if quick else 0.004 * speed, 0.7 if quick else 0.4)
        zoom += _WIDEST_ZOOM - zoom.min() + rng.uniform(0.0, 0.5)
        # Seen from this near, and with this little lean and zoom, the horizon stays far outside the image.
        distance = 0.85 * float(np.hypot(*self._size))
        lean_x, lean_y = (self._path_or_rest(0.5, 0.004 * speed, 0.25) for _ in range(2))
        lean = tilt(lean_x, lean_y, distance)
        centre = (self._size - 1) / 2
        turn_and_zoom = translation(*centre) @ rotation(roll) @ scaling(np.exp(zoom))
        return _Camera(turn_and_zoom, pan, lean)

    def _roll(self, speed: float) -> Floats:
        """Return angles [S]: mostly little, sometimes a camera that turns on and on."""
        style = self._rng.random()
        if style < 0.3:
            return np.zeros(self._simulated)
        if style < 0.8:
            return self._path(0.004 * speed, 0.5)
        return self._path(self._rng.uniform(0.03, 0.15), 100.0)

    def _background(self) -> Layer:
        rng, config = self._rng, self._config
        # Texels are smaller than pixels: a photo stays sharp, and its mirror images begin farther out.
        shrink = rng.uniform(0.45, 0.95)
        side = int(rng.integers(448, 640))
        height, width = side, int(side * rng.uniform(1.0, 1.33))
        texture = self._textures.surface(height, width)
        centred = scaling(shrink * config.unit) @ translation(-(width - 1) / 2, -(height - 1) / 2)
        camera = self._camera
        placed = camera.turn_and_zoom @ camera.lean @ translation(camera.pan[:, 0], camera.pan[:, 1]) @ centred
        waves = self._waves(5 / shrink, side) if rng.random() < 0.15 else None
        return self._layer(texture, None, placed, waves=waves)

    def _object(self) -> Layer:
        rng = self._rng
        large = rng.random() < 0.5
        width, height = (int(rng.integers(*((90, 220) if large else (28, 110)))) for _ in range(2))
        texture, mask = self._textures.surface(height, width), object_outline(rng, height, width)
        placed = self._placement(float(np.hypot(width, height))) @ self._centred(width, height)
        waves = self._waves(0.1 * min(width, height), min(width, height)) if rng.random() < 0.4 else None
        return self._layer(texture, mask, placed, waves=waves, decorated=True)

    def _centred(self, width: int, height: int) -> Floats:
        """Return the matrix from texels to pixels about the centre, at about one texel per pixel."""
        # Up to two texels per pixel keep close things sharp; above one pixel per texel they blur, as distance does.
        scale = self._config.unit * self._rng.uniform(0.6, 1.3)
        return scaling(scale) @ translation(-(width - 1) / 2, -(height - 1) / 2)

    def _placement(self, extent: float) -> Floats:
        """Return [S,3,3]: how an object of this extent in texels moves. Its own origin starts out near the image."""
        rng, unit = self._rng, self._config.unit
        speed = self._speed * float(np.exp(rng.uniform(np.log(0.2), np.log(3.0))))
        if rng.random() < 0.15:
            speed *= _STILL
        reach = self._pixels(30, 400)
        start = rng.uniform(-0.55, 0.55, 2) * self._size
        x, y = (start[axis] + self._path(speed * unit, reach) for axis in range(2))
        spinning = rng.random() < 0.15
        turn = rng.uniform(-np.pi, np.pi) + self._path_or_rest(
            0.75, rng.uniform(0.03, 0.2) if spinning else 0.012 * speed, 100.0 if spinning else 1.5
        )
        growing = rng.random() < 0.15
        size = self._path_or_rest(0.7, 0.05 if growing else 0.006 * speed, 0.9 if growing else 0.6)
        lean = tilt(
            self._path_or_rest(0.5, 0.012 * speed, 1.1),
            self._path_or_rest(0.5, 0.012 * speed, 1.1),
            unit * extent * rng.uniform(1.2, 4.0),
        )
        placed = translation(x, y) @ rotation(turn) @ scaling(np.exp(size)) @ lean
        if rng.random() < 0.75:
            # In the world, nearer than the background: the camera's motion shifts it more.
            nearness = rng.uniform(0.8, 1.8)
            pan = self._camera.pan * nearness
            return self._camera.turn_and_zoom @ translation(pan[:, 0], pan[:, 1]) @ placed
        return translation(*((self._size - 1) / 2)) @ placed

    def _figure(self) -> list[Layer]:
        """Return a jointed body: a trunk, and limbs of one to three links that swing about their joints."""
        rng, unit = self._rng, self._config.unit
        width, height = (int(rng.integers(40, 110)) for _ in range(2))
        trunk = self._placement(2.0 * max(width, height))
        scale = rng.uniform(0.6, 1.2)
        texture, mask = self._textures.surface(height, width), object_outline(rng, height, width)
        centred = scaling(scale * unit) @ translation(-(width - 1) / 2, -(height - 1) / 2)
        trunk_layer = self._layer(texture, mask, trunk @ centred, decorated=True)
        behind: list[Layer] = []
        before: list[Layer] = []
        for _ in range(rng.integers(1, 4)):
            start = rng.uniform(-0.3, 0.3, 2) * (width, height) * scale * unit
            joint = trunk @ translation(*start)
            heading, thickness = rng.uniform(-np.pi, np.pi), int(rng.integers(16, 36))
            chain = []
            for _ in range(rng.integers(1, 4)):
                length = int(rng.integers(30, 80))
                swing = self._path(rng.uniform(0.01, 0.12), rng.uniform(0.3, 1.3))
                joint = joint @ rotation(heading + swing)
                inset = thickness / 2
                limb = joint @ scaling(scale * unit) @ translation(-inset, -(thickness - 1) / 2)
                texture = self._textures.surface(thickness, length)
                chain.append(self._layer(texture, limb_outline(thickness, length), limb))
                joint = joint @ translation((length - 2 * inset) * scale * unit, 0.0)
                heading, thickness = rng.uniform(-1.0, 1.0), max(14, int(thickness * 0.85))
            if rng.random() < 0.5:
                behind += chain
            else:
                before += chain
        return [*behind, trunk_layer, *before]

    def _lattice(self) -> Layer:
        """Return bars or a frame right before the camera, still or passing by."""
        rng, unit = self._rng, self._config.unit
        width, height = int(rng.integers(160, 320)), int(rng.integers(160, 320))
        texture, mask = self._textures.surface(height, width), lattice_outline(rng, height, width)
        start = rng.uniform(-0.4, 0.4, 2) * self._size + (self._size - 1) / 2
        speed = self._speed * rng.choice((_STILL, 0.5, 1.5)) * unit
        x, y = (start[axis] + self._path(speed, self._pixels(20, 300)) for axis in range(2))
        turn = rng.uniform(-np.pi, np.pi) + self._path(0.003 * self._speed, 0.3)
        scale = scaling(rng.uniform(0.8, 1.4) * unit) @ translation(-(width - 1) / 2, -(height - 1) / 2)
        return self._layer(texture, mask, translation(x, y) @ rotation(turn) @ scale)

    def _waves(self, amplitude: float, extent: float) -> Waves:
        """Return a bend of up to `amplitude` texels for a texture of `extent` texels."""
        rng = self._rng
        count = int(rng.integers(1, 4))
        number = 2 * np.pi / (extent * rng.uniform(0.7, 2.0, count))
        strength = np.minimum(rng.uniform(0.3, 1.0, count) * amplitude, MAX_SLOPE / count / number)
        along, across = rng.uniform(0, 2 * np.pi, (2, count))
        return Waves(
            strength[:, np.newaxis] * np.stack([np.cos(along), np.sin(along)], axis=-1),
            number[:, np.newaxis] * np.stack([np.cos(across), np.sin(across)], axis=-1),
            rng.uniform(-0.4, 0.4, count),
            rng.uniform(0, 2 * np.pi, count),
        )

    def _layer(
        self,
        texture: np.ndarray,
        mask: np.ndarray | None,
        placed: Floats,
        waves: Waves | None = None,
        decorated: bool = False,
    ) -> Layer:
        """Return the layer at the shown ones of its simulated placements [S,3,3]."""
        rng = self._rng
        shadow, gain = None, None
        if decorated and rng.random() < 0.35:
            offset = rng.uniform(-12, 12, 2) * self._config.unit
            shadow = Shadow((float(offset[0]), float(offset[1])), rng.uniform(0.35, 0.8))
        if decorated and rng.random() < 0.25:
            gain = np.exp(self._path(0.02, 0.3))[self._shown]
        placed = placed / placed[:, 2:, 2:]
        change = np.gradient(placed, axis=0) if len(placed) > 1 else np.zeros_like(placed)
        return Layer(texture, mask, placed[self._shown], change[self._shown], self._times, waves, gain, shadow=shadow)
