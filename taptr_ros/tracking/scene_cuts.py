"""Scene cuts: a sudden change of the picture."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

COMPARED_WIDTH = 32
"""Frames are compared at about this width in pixels: a cut shows there, fine texture in motion hardly does."""
RECENT_FRAMES = 4
"""How many frames tell how fast the picture has been changing; a stream may repeat each of its pictures as often."""
RECENT_SHARE = 0.5
"""Share of the greatest recent change by which a change must exceed the threshold."""


class SceneCutDetector:
    """Says of every frame whether a scene cut lies before it, at once and in constant memory.

    The score of a change is the mean difference of hue, saturation and brightness from the previous frame, as in
    PySceneDetect's `ContentDetector`. Fast camera motion scores as high as some cuts, but for many frames in a row: the
    threshold is raised by `RECENT_SHARE` of the greatest score of the last `RECENT_FRAMES` frames. A stream whose first
    frame is grey is compared in brightness alone: hue and saturation would thin the change out to a third.

    threshold: mean change, 0..255, that counts as a cut in a still picture; 0 compares nothing.
    """

    def __init__(self, threshold: float) -> None:
        self._previous: NDArray[np.uint8] | None = None
        self._channels = slice(None)
        self._recent_scores: deque[float] = deque(maxlen=RECENT_FRAMES)
        self.reconfigure(threshold)

    def reconfigure(self, threshold: float) -> None:
        """Take another limit, from the next frame on."""
        self._threshold = threshold
        if not threshold:
            # Frames go by uncompared now: the last one compared must not meet one from long after it.
            self.reset()

    def update(self, image: NDArray[np.uint8]) -> bool:
        """Take the next frame, uint8 [H,W,3] RGB of constant size."""
        if not self._threshold:
            return False
        score = self._score(image)
        limit = self._threshold + RECENT_SHARE * max(self._recent_scores, default=0.0)
        # A cut enters as no more than its limit: it must not hide the next one. Left out altogether, fast motion
        # mistaken for a cut once would be mistaken again in every frame.
        self._recent_scores.append(min(score, limit))
        return score >= limit

    def reset(self) -> None:
        """Forget the previous frames; the next one may have another size."""
        self._previous = None
        self._recent_scores.clear()

    def _score(self, image: NDArray[np.uint8]) -> float:
        """Return the mean change from the previous frame, 0..255; 0 for the first."""
        step = max(1, image.shape[1] // COMPARED_WIDTH)
        size = (max(1, image.shape[1] // step), max(1, image.shape[0] // step))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        hsv = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2HSV), np.uint8)
        previous, self._previous = self._previous, hsv
        if previous is None:
            brightness_only = not np.ptp(small, axis=2).any()
            self._channels = slice(2, 3) if brightness_only else slice(0, 3)
            return 0.0
        return float(cv2.absdiff(hsv, previous)[..., self._channels].mean())
