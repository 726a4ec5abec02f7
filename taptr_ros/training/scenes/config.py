"""The configuration of the scene generators."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from taptr_ros.errors import InvalidConfigError
from taptr_ros.settings import check_settings, setting

Kind = Literal["layered", "spatial", "simulated"]

FASTEST = 1e6
"""Pixels per frame above which no speed makes sense."""


@dataclasses.dataclass(frozen=True)
class SceneConfig:
    """What `generate` makes. Lengths in pixels are given for an image whose shorter side is 256, and scale with it.

    Raises `InvalidConfigError` if a value is out of range.
    """

    kind: Kind = setting(
        "layered",
        "`layered`: flat, bending and jointed cut-outs that move in front of each other and of a background. "
        "`spatial`: boxes and upright cut-outs in space, through which the camera moves. "
        "`simulated`: rooms with a table, tumbling objects, jointed figures and robot arms; needs MuJoCo and OpenGL.",
    )
    height: int = setting(256, "Image height in pixels.", limits=(32, math.inf))
    width: int = setting(256, "Image width in pixels.", limits=(32, math.inf))
    frames: int = setting(24, "Frames per clip.", limits=(1, math.inf))
    points: int = setting(256, "Tracks per clip.", limits=(1, math.inf))

    photos: str | None = setting(
        None,
        "Folder of photos (.jpg, .png) to cut textures from; without one all textures are procedural.",
    )
    photo_share: float = setting(0.85, "Share of the textures that come from photos.", limits=(0.0, 1.0))

    slowest: float = setting(
        0.4,
        "Least root-mean-square speed of the camera in pixels per frame; each clip's is log-uniform between the two.",
        limits=(0.0, FASTEST),
        excluded=(0.0,),
    )
    fastest: float = setting(
        14.0,
        "Greatest root-mean-square speed of the camera. Objects move at 0.2 to 3 times their clip's speed.",
        limits=(0.0, FASTEST),
        excluded=(0.0,),
    )

    motion_blur_share: float = setting(0.3, "Share of the clips with motion blur.", limits=(0.0, 1.0))
    compression_share: float = setting(
        0.5,
        "Share of the clips that went through lossy compression, of single frames or predictive as video.",
        limits=(0.0, 1.0),
    )
    cut_share: float = setting(
        0.0,
        "Share of the clips with scene cuts: to another view of the same scene, to another scene, or there and back.",
        limits=(0.0, 1.0),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.slowest > self.fastest:
            raise InvalidConfigError(
                f"slowest is {self.slowest!r}, but fastest is {self.fastest!r}; put the lower speed first."
            )

    @property
    def unit(self) -> float:
        """Pixels of this image per pixel of one whose shorter side is 256."""
        return min(self.height, self.width) / 256.0
