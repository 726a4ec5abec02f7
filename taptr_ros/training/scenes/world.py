"""What every kind of scene offers: pictures, and true tracks of points seen in them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.motion import Floats
from taptr_ros.training.scenes.painting import Painter
from taptr_ros.training.scenes.scene import Scene
from taptr_ros.training.scenes.tracks import locate_points, owners, track_points

TrueTracks = tuple[Floats, NDArray[np.bool_]]
"""Positions [N,T,2] in pixels and visibility [N,T]."""


class World(Protocol):
    """A scene in T frames."""

    def paint(self, frame: int) -> NDArray[np.uint8]:
        """Return frame number `frame`, uint8 [H,W,3] RGB."""
        ...

    def surfaces(self, xy: Floats, frame: int) -> NDArray[np.int64]:
        """Return which surface [N] is seen at positions [N,2] of a frame.

        0 and less is background, more is an object, and less than 0 nothing that could be tracked.
        """
        ...

    def track(self, xy: Floats, starts: NDArray[np.int64]) -> TrueTracks:
        """Return the tracks of what is seen at positions [N,2] of the frames `starts` [N]."""
        ...


class LayeredWorld:
    """A world of painted layers."""

    def __init__(self, scene: Scene, shutter: float) -> None:
        self._scene, self.painter = scene, Painter(scene, shutter)

    def paint(self, frame: int) -> NDArray[np.uint8]:
        """See `World`."""
        return self.painter.paint(frame)

    def surfaces(self, xy: Floats, frame: int) -> NDArray[np.int64]:
        """See `World`."""
        return owners(self._scene, xy, frame)

    def track(self, xy: Floats, starts: NDArray[np.int64]) -> TrueTracks:
        """See `World`."""
        return track_points(self._scene, *locate_points(self._scene, xy, starts))
