"""A contact sheet: clips as rows of frames with their tracks drawn."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.training.scenes.clip import Clip

TRAIL_FRAMES = 6
"""Frames that a trail reaches back."""

_GAP = 2
"""Pixels between frames."""

_SUBPIXEL_BITS = 4
"""Fractional bits of the coordinates given to OpenCV."""

_RADIUS = 2.5
"""Pixels from a point to the rim of its disc, before enlargement."""

_DARK = (16, 16, 16)


def contact_sheet(clips: list[Clip], columns: int, points: int, scale: int) -> NDArray[np.uint8]:
    """Return uint8 [H,W,3] RGB: each clip a row of `columns` frames, evenly spread over it, `scale` times enlarged.

    Up to `points` tracks of each are drawn: a disc where the point is visible, a ring where something hides it, nothing
    where it is outside the image, and, where it was visible, the way it came over the last frames.
    """
    return np.concatenate([_row(clip, columns, points, scale) for clip in clips])


def _row(clip: Clip, columns: int, points: int, scale: int) -> NDArray[np.uint8]:
    shown = np.linspace(0, len(clip.frames) - 1, columns).round().astype(np.int64)
    chosen = np.unique(np.linspace(0, len(clip.xy) - 1, points).round().astype(np.int64))
    pictures = [_draw(clip, chosen, frame, scale) for frame in shown.tolist()]
    return np.concatenate([np.pad(picture, ((0, _GAP), (0, _GAP), (0, 0))) for picture in pictures], axis=1)


def _draw(clip: Clip, chosen: NDArray[np.int64], frame: int, scale: int) -> NDArray[np.uint8]:
    """Return one frame, enlarged, with the chosen tracks."""
    size = (clip.frames.shape[2] * scale, clip.frames.shape[1] * scale)
    picture = np.asarray(cv2.resize(clip.frames[frame], size, interpolation=cv2.INTER_NEAREST), np.uint8)
    # Where a pixel becomes several, its centre is in the middle of those.
    fixed = np.rint((clip.xy * scale + 0.5 * (scale - 1)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    radius = round(_RADIUS * scale * (1 << _SUBPIXEL_BITS))
    for point in chosen.tolist():
        for past in range(max(0, frame - TRAIL_FRAMES), frame):
            if clip.visible[point, past : past + 2].all():
                ends = fixed[point, past].tolist(), fixed[point, past + 1].tolist()
                cv2.line(picture, *ends, _colour(point), 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    for point in chosen.tolist():
        colour, centre = _colour(point), fixed[point, frame].tolist()
        if clip.visible[point, frame]:
            cv2.circle(picture, centre, radius + (1 << _SUBPIXEL_BITS), _DARK, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
            cv2.circle(picture, centre, radius, colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
        else:
            cv2.circle(picture, centre, radius, colour, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return picture


def _colour(point: int) -> tuple[int, int, int]:
    """Return a bright colour; the golden ratio keeps the hues of neighbouring points far apart."""
    red, green, blue = colorsys.hsv_to_rgb(0.6180339887 * point % 1.0, 0.8, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
