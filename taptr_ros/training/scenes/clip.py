"""What a generator returns: frames and the true tracks of points in them."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Clip:
    """T frames of H x W pixels with N tracks. All positions are ROS pixels: (0,0) is the centre of the top-left pixel.

    A track belongs to one point of one surface. Every point is visible in at least one frame.
    """

    frames: NDArray[np.uint8]
    """[T,H,W,3] RGB."""
    xy: NDArray[np.float32]
    """[N,T,2] position in every frame, finite also where the point is hidden or outside the image; positions further
    outside than `tracks.FAR` image sizes are clipped to that. With motion blur: the position at mid-exposure."""
    visible: NDArray[np.bool_]
    """[N,T] inside the image and not hidden by anything nearer. Hidden by an edge: covered by more than half."""

    known: NDArray[np.bool_] = dataclasses.field(default_factory=lambda: np.ones((0, 0), np.bool_))
    """[N,T] whether it is known that the point is visible, or that it is hidden; empty: it always is."""

    def __post_init__(self) -> None:
        if not self.known.size:
            object.__setattr__(self, "known", np.ones_like(self.visible))

    def at(self, frames: NDArray[np.int64] | slice) -> Clip:
        """Return some of the frames, numbers [K] or a slice, in their order there, with all tracks."""
        return Clip(self.frames[frames], self.xy[:, frames], self.visible[:, frames], self.known[:, frames])
