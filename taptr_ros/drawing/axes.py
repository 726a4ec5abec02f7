"""Drawing of bodies on a frame: their axes and groups."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.bodies.camera import CameraModel
from taptr_ros.bodies.rigid_bodies import BodyState, RigidBody

_COLOURS = ((230, 60, 60), (70, 200, 70), (70, 110, 255))
"""RGB of the axes x, y and z, as rviz has them."""

_OUTLINE, _TEXT = (16, 16, 16), (255, 255, 255)


def draw_axes(
    image: NDArray[np.uint8], bodies: Sequence[RigidBody], camera: CameraModel, length: float = 0.08
) -> NDArray[np.uint8]:
    """Return a copy of the uint8 [H,W,3] RGB image with the axes of those bodies whose pose can be trusted.

    length: of the axes in metres.
    """
    canvas: NDArray[np.uint8] = image.copy()
    scale = max(0.85, max(image.shape[:2]) / 900.0)
    for body in bodies:
        ends = body.pose.apply(np.concatenate([np.zeros((1, 3)), length * np.eye(3)]))
        if body.state != BodyState.TRACKED or (ends[:, 2] <= 0).any():
            continue
        origin, *tips = np.rint(camera.project(ends)).astype(int).tolist()
        # The farthest first, so that nearer ones are drawn over it.
        for axis in np.argsort(-ends[1:, 2]).tolist():
            cv2.line(canvas, origin, tips[axis], _OUTLINE, round(6 * scale), cv2.LINE_AA)
            cv2.line(canvas, origin, tips[axis], _COLOURS[axis], round(3 * scale), cv2.LINE_AA)
        for colour, thickness in ((_OUTLINE, 4), (_TEXT, 1)):
            place = (origin[0] + 6, origin[1] + round(18 * scale))
            cv2.putText(
                canvas, str(body.group), place, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, colour, thickness, cv2.LINE_AA
            )
    return canvas
