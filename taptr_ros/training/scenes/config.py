"""The configuration of the scene generators."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

from taptr_ros.errors import InvalidConfigError

Kind = Literal["layered", "spatial", "simulated"]

SHARES = ("photo_share", "motion_blur_share", "compression_share", "cut_share")
"""Fields that are a share, 0..1."""


@dataclasses.dataclass(frozen=True)
class SceneConfig:
    """What `generate` makes. Lengths in pixels are given for an image whose shorter side is 256, and scale with it.

    Raises `InvalidConfigError` if a value is out of range.
    """

    kind: Kind = "layered"
    """`layered`: flat, bending and jointed cut-outs that move in front of each other and of a background.
    `spatial`: boxes and upright cut-outs in space, through which the camera moves.
    `simulated`: rooms with a table, tumbling objects, jointed figures and robot arms; needs MuJoCo and OpenGL."""
    height: int = 256
    """Image height in pixels."""
    width: int = 256
    """Image width in pixels."""
    frames: int = 24
    """Frames per clip."""
    points: int = 256
    """Tracks per clip."""

    photos: str | None = None
    """Folder of photos (.jpg, .png) to cut textures from; without one all textures are procedural."""
    photo_share: float = 0.85
    """Share of the textures that come from photos."""

    slowest: float = 0.4
    """Least root-mean-square speed of the camera in pixels per frame; each clip's is log-uniform between the two."""
    fastest: float = 14.0
    """Greatest root-mean-square speed of the camera. Objects move at 0.2 to 3 times their clip's speed."""

    motion_blur_share: float = 0.3
    """Share of the clips with motion blur."""
    compression_share: float = 0.5
    """Share of the clips that went through lossy compression, of single frames or predictive as video."""
    cut_share: float = 0.0
    """Share of the clips with scene cuts: to another view of the same scene, to another scene, or there and back."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidConfigError(f"kind is {self.kind!r}; choose one of {', '.join(get_args(Kind))}.")
        for name, lowest in (("height", 32), ("width", 32), ("frames", 1), ("points", 1)):
            if getattr(self, name) < lowest:
                raise InvalidConfigError(f"{name} is {getattr(self, name)!r}; use {lowest} or more.")
        for name in SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidConfigError(f"{name} is {getattr(self, name)!r}; use a share from 0 to 1.")
        if not (math.isfinite(self.fastest) and 0.0 < self.slowest <= self.fastest):
            raise InvalidConfigError(
                f"slowest and fastest are {self.slowest!r} and {self.fastest!r}; use speeds above 0, slowest first."
            )

    @property
    def unit(self) -> float:
        """Pixels of this image per pixel of one whose shorter side is 256."""
        return min(self.height, self.width) / 256.0
