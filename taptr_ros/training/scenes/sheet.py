"""A contact sheet: clips as rows of frames with their tracks drawn."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.media.overlay import TrackOverlay
from taptr_ros.tracking.states import Tracks, TrackState
from taptr_ros.training.scenes.clip import Clip

_GAP = 2
"""Pixels between frames."""


def contact_sheet(clips: list[Clip], columns: int, points: int, scale: int) -> NDArray[np.uint8]:
    """Return uint8 [H,W,3] RGB: each clip a row of `columns` frames, evenly spread over it, `scale` times enlarged.

    Up to `points` tracks of each are drawn: a disc where the point is visible, a ring where something hides it, nothing
    where it is outside the image, and the way it came over the frames before.
    """
    return np.concatenate([_row(clip, columns, points, scale) for clip in clips])


def _row(clip: Clip, columns: int, points: int, scale: int) -> NDArray[np.uint8]:
    shown = set(np.linspace(0, len(clip.frames) - 1, columns).round().astype(int).tolist())
    chosen = np.linspace(0, len(clip.xy) - 1, min(points, len(clip.xy))).round().astype(np.int64)
    overlay, pictures = TrackOverlay(), []
    for index, frame in enumerate(clip.frames):
        size = (frame.shape[1] * scale, frame.shape[0] * scale)
        drawn = overlay.draw(
            np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST), np.uint8),
            _tracks(clip, chosen, index, scale),
        )
        if index in shown:
            pictures.append(cv2.copyMakeBorder(drawn, 0, _GAP, 0, _GAP, cv2.BORDER_CONSTANT))
    return np.concatenate([np.asarray(picture, np.uint8) for picture in pictures], axis=1)


def _tracks(clip: Clip, chosen: NDArray[np.int64], frame: int, scale: int) -> Tracks:
    """Return one frame's tracks of the chosen points [n], in an image enlarged `scale` times, as a tracker would."""
    height, width = clip.frames.shape[1:3]
    xy, visible = clip.xy[chosen, frame], clip.visible[chosen, frame]
    outside = ((xy < -0.5) | (xy > np.array([width, height]) - 0.5)).any(axis=1)
    state = np.where(visible, TrackState.VISIBLE, np.where(outside, TrackState.OUT_OF_VIEW, TrackState.OCCLUDED))
    count = len(chosen)
    return Tracks(
        ids=np.arange(1, count + 1, dtype=np.uint64),
        xy=(xy * scale + 0.5 * (scale - 1)).astype(np.float32),
        visibility=visible.astype(np.float32),
        visible=visible,
        state=state.astype(np.uint8),
        age=np.full(count, frame, np.uint32),
        frames_since_seen=np.zeros(count, np.uint32),
        stamp=frame,
        width=width * scale,
        height=height * scale,
        scene_cut=False,
    )
