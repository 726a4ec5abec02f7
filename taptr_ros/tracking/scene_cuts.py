"""Scene cuts: a sudden change of the picture, or a gap between the stamps of two frames."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import ContentDetector, FrameTimecode, StatsManager

from taptr_ros.tracking.history import NANOSECONDS

COMPARED_WIDTH = 32
"""Frames are compared at about this width in pixels: a cut shows there, fine texture in motion hardly does."""
RECENT_FRAMES = 4
"""How many frames tell how fast the picture has been changing; a stream may repeat each of its pictures as often."""
RECENT_SHARE = 0.5
"""Share of the greatest recent change by which a change must exceed the threshold."""


class SceneCutDetector:
    """Says of every frame whether a scene cut lies before it, at once and in constant memory.

    PySceneDetect's `ContentDetector` scores the change from the previous frame. Fast camera motion scores as high as
    some cuts, but for many frames in a row: the threshold is raised by `RECENT_SHARE` of the greatest score of the
    last `RECENT_FRAMES` frames. PySceneDetect's own adaptive detector also waits for the frames after a cut, which a
    live stream cannot. A stream whose first frame is grey is compared in brightness alone: hue and saturation would
    thin the change out to a third.

    threshold: mean change, 0..255, that counts as a cut in a still picture; 0 compares nothing.
    gap_seconds: gap between two stamps that counts as a cut; 0 none.
    """

    def __init__(self, threshold: float, gap_seconds: float) -> None:
        self._detector: ContentDetector | None = None
        self._recent_scores: deque[float] = deque(maxlen=RECENT_FRAMES)
        self._last_stamp: int | None = None
        self.reconfigure(threshold, gap_seconds)

    def reconfigure(self, threshold: float, gap_seconds: float) -> None:
        """Take other limits, from the next frame on."""
        self._threshold = threshold
        self._gap = int(gap_seconds * NANOSECONDS)
        if not threshold:
            # Frames go by uncompared now: the last one compared must not meet one from long after it.
            self._forget_pictures()

    def update(self, image: NDArray[np.uint8], stamp: int) -> bool:
        """Take the next frame, uint8 [H,W,3] RGB of constant size, with its stamp in nanoseconds."""
        gap = self._gap > 0 and self._last_stamp is not None and stamp - self._last_stamp > self._gap
        self._last_stamp = stamp
        return (self._threshold > 0 and self._changed(image)) or gap

    def reset(self) -> None:
        """Forget the previous frames; the next one may have another size."""
        self._forget_pictures()
        self._last_stamp = None

    def _forget_pictures(self) -> None:
        self._detector = None
        self._recent_scores.clear()

    def _changed(self, image: NDArray[np.uint8]) -> bool:
        score = self._score(image)
        limit = self._threshold + RECENT_SHARE * max(self._recent_scores, default=0.0)
        # A cut enters as no more than its limit: it must not hide the next one. Left out altogether, fast motion
        # mistaken for a cut once would be mistaken again in every frame.
        self._recent_scores.append(min(score, limit))
        return score >= limit

    def _score(self, image: NDArray[np.uint8]) -> float:
        """Return the mean change from the previous frame, 0..255; 0 for the first."""
        step = max(1, image.shape[1] // COMPARED_WIDTH)
        size = (max(1, image.shape[1] // step), max(1, image.shape[0] // step))
        small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
        if self._detector is None:
            self._detector = ContentDetector(luma_only=not np.ptp(small, axis=2).any())
            self._detector.stats_manager = StatsManager()
        # One time for all frames, so that the stored score of each replaces that of the frame before.
        time = FrameTimecode(0, fps=1.0)
        self._detector.process_frame(time, small)
        (score,) = self._detector.stats_manager.get_metrics(time, [ContentDetector.FRAME_SCORE_KEY])
        return 0.0 if score is None else float(score)
