"""Rooms for MuJoCo: a table, objects that fall and are thrown, jointed figures, and a robot arm. Metres, z is up."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as Xml

import cv2
import numpy as np

from taptr_ros.training.scenes.textures import Textures

_FACE = 160
"""Texels along a side of an object's texture."""

_WALL = 512
"""Texels along a side of a wall's texture."""

_SURFACES = 10
"""Textures that a room's objects share; each is six pictures, one for each side of a cube."""

_SHADOW_SHARE = 0.6
"""Share of rooms in which things throw shadows, which doubles the time to draw them."""

_STILL, _MOVING, _LED = ("1", "1"), ("1", "3"), ("2", "0")
"""Contact type and affinity: moving things touch all others; what is led along a path (the arm) touches those only."""

_SHAPES = ("box", "box", "sphere", "capsule", "cylinder", "ellipsoid", "compound", "compound")

LED_PREFIX = "led"
"""What the names of joints begin with that follow given paths instead of forces."""

Element = Xml.Element


@dataclasses.dataclass(frozen=True)
class Room:
    """A scene for MuJoCo."""

    xml: str
    """Its description in MJCF. Camera 0 hangs on the only mocap body."""
    pictures: dict[str, bytes]
    """PNG files that the description names."""
    target: tuple[float, float, float]
    """Where most happens: the middle of the table's top."""
    half_width: float
    """Distance from the middle of the floor to the walls."""
    background_bodies: int
    """Bodies from number 0 on that never move: walls, floor and table."""


def random_room(rng: np.random.Generator, textures: Textures, size: tuple[int, int], field_of_view: float) -> Room:
    """Return a room for pictures of `size` (height, width) with this vertical field of view in degrees."""
    return _Builder(rng, textures).build(size, field_of_view)


class _Builder:
    def __init__(self, rng: np.random.Generator, textures: Textures) -> None:
        self._rng, self._textures = rng, textures
        self._root = Xml.Element("mujoco")
        self._assets = Xml.SubElement(self._root, "asset")
        self._world = Xml.SubElement(self._root, "worldbody")
        self._pictures: dict[str, bytes] = {}
        self._led = 0
        self._surfaces = [self._material(_FACE) for _ in range(_SURFACES)]

    def build(self, size: tuple[int, int], field_of_view: float) -> Room:
        rng = self._rng
        self._settings(size)
        half_width, table_height = rng.uniform(1.4, 3.0), rng.uniform(0.3, 0.8)
        table = rng.uniform(0.45, 0.9, 2)
        self._walls(half_width)
        self._table(table, table_height)
        self._lights(half_width)
        camera = Xml.SubElement(self._world, "body", name="camera", mocap="true")
        Xml.SubElement(camera, "camera", name="camera", fovy=_text(field_of_view))
        for _ in range(rng.integers(4, 12)):
            self._object(table, table_height)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            self._figure(table, table_height)
        for _ in range(rng.choice((0, 1, 1, 2))):
            self._arm(table, table_height)
        xml = Xml.tostring(self._root, encoding="unicode")
        return Room(xml, self._pictures, (0.0, 0.0, table_height + 0.1), half_width, background_bodies=2)

    def _settings(self, size: tuple[int, int]) -> None:
        visual = Xml.SubElement(self._root, "visual")
        Xml.SubElement(visual, "global", offheight=str(size[0]), offwidth=str(size[1]))
        # Drawn in software, finer shadows and rounder spheres would double the time.
        Xml.SubElement(visual, "quality", shadowsize="512", offsamples="4", numslices="20", numstacks="12")
        Xml.SubElement(visual, "map", znear="0.02", zfar="10", shadowclip="2")
        ambient = self._rng.uniform(0.25, 0.6)
        Xml.SubElement(visual, "headlight", ambient=_text(ambient, ambient, ambient), diffuse="0 0 0", specular="0 0 0")
        Xml.SubElement(self._root, "statistic", extent="2", center="0 0 0.6")

    def _lights(self, half_width: float) -> None:
        rng = self._rng
        shadows = rng.random() < _SHADOW_SHARE
        for index in range(rng.integers(1, 3)):
            x, y = rng.uniform(-0.8, 0.8, 2) * half_width
            colour = rng.uniform(0.5, 0.9) * rng.uniform(0.85, 1.15, 3)
            height = rng.uniform(1.6, 2.4)
            Xml.SubElement(
                self._world,
                "light",
                pos=_text(x, y, height),
                dir=_text(-0.5 * x, -0.5 * y, -height),
                directional="true" if rng.random() < 0.4 else "false",
                castshadow="true" if shadows and index == 0 else "false",
                diffuse=_text(*colour.clip(0, 1)),
                specular=_text(*(0.6 * colour).clip(0, 1)),
                cutoff="70",
                exponent=_text(rng.uniform(1, 8)),
            )

    def _material(self, texels: int, wall: bool = False) -> str:
        """Add a material whose texture has its own picture for each side of a cube, or one for all; return its name."""
        rng = self._rng
        name = f"surface{len(self._pictures)}"
        if wall:
            picture = self._textures.surface(texels, texels)
            layout: dict[str, str] = {}
        else:
            picture = np.concatenate([self._textures.surface(texels, texels) for _ in range(6)], axis=1)
            layout = {"gridsize": "1 6", "gridlayout": "RLUDFB"}
        encoded = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])[1]
        self._pictures[f"{name}.png"] = encoded.tobytes()
        texture = {"name": name, "type": "cube", "file": f"{name}.png", **layout}
        Xml.SubElement(self._assets, "texture", texture)
        specular, shininess = rng.uniform((0.2, 0.1), (1.0, 0.9)) if rng.random() < 0.4 else (0.0, 0.0)
        shine = {"specular": _text(specular), "shininess": _text(shininess)}
        Xml.SubElement(self._assets, "material", {"name": name, "texture": name, **shine})
        return name

    def _geom(
        self, parent: Element, kind: str, size: tuple[float, ...], material: str, contact: tuple[str, str], **more: str
    ) -> None:
        settings = {"type": kind, "size": _text(*size), "material": material, "density": "400", **more}
        settings["contype"], settings["conaffinity"] = contact
        Xml.SubElement(parent, "geom", settings)

    def _walls(self, half_width: float) -> None:
        """Add floor, ceiling and four walls, 0.1 thick."""
        height = 2.6
        for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
            place, half = [0.0, 0.0, height / 2], [half_width, half_width, height / 2]
            place[axis], half[axis] = sign * (half_width + 0.1), 0.1
            material = self._material(_WALL, wall=True)
            self._geom(self._world, "box", tuple(half), material, _STILL, pos=_text(*place))
        for z in (-0.1, height + 0.1):
            material = self._material(_WALL, wall=True)
            size = (half_width, half_width, 0.1)
            self._geom(self._world, "box", size, material, _STILL, pos=_text(0, 0, z))

    def _table(self, half_size: np.ndarray, height: float) -> None:
        table = Xml.SubElement(self._world, "body", name="table")
        top, legs = self._material(_WALL, wall=True), self._surface()
        thickness = 0.03
        size = (float(half_size[0]), float(half_size[1]), thickness)
        self._geom(table, "box", size, top, _STILL, pos=_text(0, 0, height - thickness))
        for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            place = (x * (half_size[0] - 0.05), y * (half_size[1] - 0.05), height / 2 - thickness)
            self._geom(table, "box", (0.03, 0.03, height / 2 - thickness), legs, _STILL, pos=_text(*place))

    def _above_table(self, table: np.ndarray, table_height: float, low: float, high: float) -> str:
        x, y = self._rng.uniform(-0.8, 0.8, 2) * table
        return _text(x, y, table_height + self._rng.uniform(low, high))

    def _object(self, table: np.ndarray, table_height: float) -> None:
        """Add something that is free to move: one shape, or several that hold together."""
        rng = self._rng
        place = self._above_table(table, table_height, 0.06, 0.6)
        body = Xml.SubElement(self._world, "body", pos=place, euler=_text(*rng.uniform(-180, 180, 3)))
        Xml.SubElement(body, "freejoint")
        kind = _SHAPES[rng.integers(len(_SHAPES))]
        if kind != "compound":
            self._geom(body, kind, tuple(rng.uniform(0.03, 0.13, 3)), self._surface(), _MOVING)
            return
        material = self._surface()
        for _ in range(rng.integers(2, 5)):
            part = ("box", "cylinder", "capsule", "ellipsoid")[rng.integers(4)]
            offset, angles = rng.uniform(-0.07, 0.07, 3), rng.uniform(-180, 180, 3)
            placed = {"pos": _text(*offset), "euler": _text(*angles)}
            self._geom(body, part, tuple(rng.uniform(0.02, 0.08, 3)), material, _MOVING, **placed)

    def _figure(self, table: np.ndarray, table_height: float) -> None:
        """Add a body with limbs of two links that swing freely, as a doll's do."""
        rng = self._rng
        place = self._above_table(table, table_height, 0.3, 0.7)
        trunk = Xml.SubElement(self._world, "body", pos=place, euler=_text(*rng.uniform(-180, 180, 3)))
        Xml.SubElement(trunk, "freejoint")
        half = rng.uniform(0.04, 0.1, 3)
        self._geom(trunk, "box", tuple(half), self._surface(), _MOVING)
        material = self._surface()
        for _ in range(rng.integers(2, 5)):
            direction = rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            start, parent = direction * half, trunk
            for link in range(2):
                length, radius = rng.uniform(0.06, 0.14), rng.uniform(0.015, 0.03)
                limb = Xml.SubElement(parent, "body", pos=_text(*start))
                axis = rng.standard_normal(3)
                Xml.SubElement(limb, "joint", type="ball" if link == 0 else "hinge", axis=_text(*axis), damping="0.002")
                end = direction * length
                self._geom(limb, "capsule", (radius,), material, _MOVING, fromto=_text(0, 0, 0, *end))
                start, parent = end, limb

    def _arm(self, table: np.ndarray, table_height: float) -> None:
        """Add a robot arm beside the table or above it: links on hinges, and a gripper."""
        rng = self._rng
        hanging = rng.random() < 0.2
        if hanging:
            place, turned = (*rng.uniform(-0.3, 0.3, 2), table_height + 1.1), (180.0, 0.0, rng.uniform(0, 360))
        else:
            angle = rng.uniform(0, 2 * np.pi)
            place = (1.05 * np.cos(angle) * table[0], 1.05 * np.sin(angle) * table[1], table_height)
            turned = (0.0, 0.0, rng.uniform(0, 360))
        parent = Xml.SubElement(self._world, "body", pos=_text(*place), euler=_text(*turned))
        materials = [self._surface() for _ in range(3)]
        self._geom(parent, "cylinder", (0.08, 0.05), materials[0], _LED)
        length, radius = 0.05, rng.uniform(0.035, 0.06)
        for link in range(rng.integers(4, 8)):
            parent = Xml.SubElement(parent, "body", pos=_text(0, 0, length), gravcomp="1")
            axis = ("0 0 1", "0 1 0", "0 1 0", "1 0 0")[link % 4]
            Xml.SubElement(parent, "joint", name=self._led_name(), type="hinge", axis=axis)
            length = rng.uniform(0.1, 0.28)
            material = materials[rng.integers(len(materials))]
            if rng.random() < 0.5:
                self._geom(parent, "capsule", (radius,), material, _LED, fromto=_text(0, 0, 0, 0, 0, length))
            else:
                half = (radius, 0.8 * radius, length / 2)
                self._geom(parent, "box", half, material, _LED, pos=_text(0, 0, length / 2))
                self._geom(parent, "cylinder", (1.1 * radius, 1.1 * radius), material, _LED, euler="90 0 0")
            radius *= 0.88
        hand = Xml.SubElement(parent, "body", pos=_text(0, 0, length), gravcomp="1")
        self._geom(hand, "box", (0.06, 0.025, 0.015), materials[0], _LED)
        for side in (-1, 1):
            finger = Xml.SubElement(hand, "body", pos=_text(0.03 * side, 0, 0.05), gravcomp="1")
            Xml.SubElement(finger, "joint", name=self._led_name(), type="slide", axis=_text(side, 0, 0))
            self._geom(finger, "box", (0.008, 0.018, 0.045), materials[1], _LED)

    def _surface(self) -> str:
        """Return the name of one of the materials for objects."""
        return self._surfaces[self._rng.integers(_SURFACES)]

    def _led_name(self) -> str:
        self._led += 1
        return f"{LED_PREFIX}{self._led}"


def _text(*numbers: float) -> str:
    return " ".join(f"{number:.6g}" for number in numbers)
