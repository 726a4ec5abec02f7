"""Scene cuts: a sudden change of the picture, or a gap between the stamps of two frames."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import ContentDetector, FrameTimecode

from taptr_ros.tracking.history import NANOSECONDS

COMPARED_WIDTH = 256
"""Frames are compared at about this width in pixels: cuts show there, noise does not."""


class SceneCutDetector:
    """Says of every frame whether a scene cut lies before it, at once and in constant memory.

    PySceneDetect's `ContentDetector` compares each frame with the previous one. Its adaptive detector waits for
    the frames after a cut, which a live stream cannot. A stream whose first frame is grey is compared in brightness
    alone: hue and saturation would thin the change out to a third.

    threshold: mean change, 0..255, that counts as a cut; 0 compares nothing.
    gap_seconds: gap between two stamps that counts as a cut; 0 none.
    """

    def __init__(self, threshold: float, gap_seconds: float) -> None:
        self._threshold = threshold
        self._gap = int(gap_seconds * NANOSECONDS)
        self._detector: ContentDetector | None = None
        self._last_stamp: int | None = None

    def update(self, image: NDArray[np.uint8], stamp: int) -> bool:
        """Take the next frame, uint8 [H,W,3] RGB of constant size, with its stamp in nanoseconds."""
        gap = self._gap > 0 and self._last_stamp is not None and stamp - self._last_stamp > self._gap
        self._last_stamp = stamp
        return (self._threshold > 0 and self._changed(image)) or gap

    def reset(self) -> None:
        """Forget the previous frame; the next one may have another size."""
        self._detector = None
        self._last_stamp = None

    def _changed(self, image: NDArray[np.uint8]) -> bool:
        step = max(1, image.shape[1] // COMPARED_WIDTH)
        size = (max(1, image.shape[1] // step), max(1, image.shape[0] // step))
        small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
        if self._detector is None:
            grey = not np.ptp(small, axis=2).any()
            # A minimum scene length of 0 switches the detector's own waiting for more frames off.
            self._detector = ContentDetector(threshold=self._threshold, min_scene_len=0, luma_only=grey)
        # The detector asks for a time but, without a minimum scene length, only hands it back.
        return bool(self._detector.process_frame(FrameTimecode(0, fps=1.0), small))
