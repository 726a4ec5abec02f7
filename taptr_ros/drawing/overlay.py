"""Drawing of tracks on a frame: points, fading trails and ids; and an mp4 file of such frames."""

from __future__ import annotations

import colorsys
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.drawing.trails import TRAIL_FRAMES, Trails, located
from taptr_ros.runtime.images import opencv_path
from taptr_ros.tracking.states import Tracks

LABELLED_POINTS = 64
"""More points than these are drawn without ids, which would hide the picture."""

OVERLAY_MARK = b"\0\0\0\x11freetaptr_ros"
"""An empty box of the mp4 format at a video's end: players skip it, and it tells who made the file."""

_MOST_TICKS = 65535
"""Largest numerator of a rate in MPEG-4; the denominator is a power of ten."""

_SLOWEST = 0.01
"""Lowest rate in frames per second that OpenCV hands on."""

_MOST_PIXELS = 8190
"""Largest width or height of a frame in MPEG-4 that is even."""

_FADES = (0.25, 0.45, 0.7, 1.0)
"""Opacity of a trail from its oldest quarter to its newest."""

_SUBPIXEL_BITS = 4
"""Fractional bits of the coordinates given to OpenCV."""

_OUTLINE = (16, 16, 16)
_TEXT = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Colour = tuple[int, int, int]


class TrackOverlay:
    """Draws one stream's tracks frame by frame and remembers their trails.

    A visible point is a disc, an occluded one a ring round a dark core; points that are lost or out of view are not
    drawn and end their trail.
    """

    def __init__(self) -> None:
        self._trails = Trails()

    def draw(self, image: NDArray[np.uint8], tracks: Tracks) -> NDArray[np.uint8]:
        """Return a copy of the uint8 [H,W,3] RGB image with the tracks of the same frame drawn on it."""
        scale = max(0.85, max(image.shape[:2]) / 900.0)
        self._trails.extend(tracks)
        colours = [track_colour(identifier) for identifier in tracks.ids.tolist()]
        places = _fixed_point(self._trails.xy)
        canvas = self._draw_trails(np.ascontiguousarray(image), places, colours, max(1, round(1.6 * scale)))
        rows = np.flatnonzero(located(tracks))
        for row in rows:
            _draw_point(canvas, places[row, -1], colours[row], bool(tracks.visible[row]), scale)
        if len(rows) <= LABELLED_POINTS:
            _draw_labels(canvas, tracks.xy[rows], tracks.ids[rows], scale)
        return canvas

    def _draw_trails(
        self, image: NDArray[np.uint8], places: NDArray[np.int32], colours: list[Colour], thickness: int
    ) -> NDArray[np.uint8]:
        """Return a copy of the image with the trails, drawn from their oldest part to their newest."""
        canvas: NDArray[np.uint8] = image.copy()
        length = TRAIL_FRAMES // len(_FADES)
        for part, opacity in enumerate(_FADES):
            steps = slice(part * length, (part + 1) * length + 1)
            trails, known = places[:, steps], self._trails.known[:, steps]
            # Trails shorter than a pixel would only cost time; a lost point's trail may belong to another scene.
            moved = (np.ptp(trails, axis=1).max(axis=1, initial=0) >= 1 << _SUBPIXEL_BITS) & (known.sum(axis=1) > 1)
            moved &= self._trails.known[:, -1]
            if not moved.any():
                continue
            layer = canvas.copy()
            for row in np.flatnonzero(moved):
                lines = [trails[row]] if known[row].all() else _split(trails[row], known[row])
                cv2.polylines(layer, lines, False, colours[row], thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
            canvas = np.asarray(cv2.addWeighted(layer, opacity, canvas, 1.0 - opacity, 0.0), np.uint8)
        return canvas


class OverlayVideo:
    """An mp4 file written frame by frame; a context manager that completes the file on leaving.

    The codec has limits: a rate with too many digits is rounded, larger frames are shrunk, and frames of another size
    than the first are stretched to that. Raises `OSError` if the file cannot be written, `SourceError` for a path that
    OpenCV does not take.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._opencv_path = path, opencv_path(path)
        self._rate = _writable_rate(rate)
        self._size = (0, 0)
        self._writer = cv2.VideoWriter()

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a uint8 [H,W,3] RGB image."""
        if not self._writer.isOpened():
            self._size = _writable_size(*image.shape[1::-1])
            # MPEG-4 part 2: the one mp4 codec that every OpenCV build carries and that keeps up with a tracker.
            code = cv2.VideoWriter.fourcc(*"mp4v")
            if not self._writer.open(self._opencv_path, code, self._rate, self._size):
                raise OSError(f"{self._path} cannot be written as a video")
        if image.shape[1::-1] != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer.isOpened():
            self._writer.release()
            with self._path.open("ab") as file:
                file.write(OVERLAY_MARK)


def is_overlay(path: Path) -> bool:
    """Return whether a file is a video that `OverlayVideo` completed."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(OVERLAY_MARK), 0))
        return file.read() == OVERLAY_MARK


def _writable_rate(rate: float) -> float:
    """Return the rate with as many decimals as the codec has room for."""
    digits = next(digits for digits in (3, 2, 1, 0) if round(rate * 10**digits) <= _MOST_TICKS or not digits)
    return max(round(rate, digits), _SLOWEST)


def _writable_size(width: int, height: int) -> tuple[int, int]:
    """Return the size (width, height) nearest to this one that the codec takes."""
    scale = min(1.0, _MOST_PIXELS / max(width, height))
    return max(round(scale * width), 2), max(round(scale * height), 2)


class _Box(NamedTuple):
    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: _Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def track_colour(identifier: int) -> Colour:
    """Return the bright colour of a track, RGB; the golden ratio keeps the hues of neighbouring ids far apart."""
    red, green, blue = colorsys.hsv_to_rgb((0.03 + identifier * 0.6180339887) % 1.0, 0.72, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _fixed_point(xy: NDArray[np.float32]) -> NDArray[np.int32]:
    return np.rint(np.asarray(xy) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _split(trail: NDArray[np.int32], known: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """Return the pieces of a trail [n,2] between the places where the position was unknown."""
    first, *others = np.split(trail, np.flatnonzero(~known))
    return [first, *(piece[1:] for piece in others)]


def _draw_point(
    canvas: NDArray[np.uint8], centre: NDArray[np.int32], colour: Colour, visible: bool, scale: float
) -> None:
    """Draw a disc with a dark rim; an occluded point has a dark core too."""
    discs = [(5.7, _OUTLINE), (4.5, colour)] if visible else [(5.7, _OUTLINE), (4.8, colour), (2.9, _OUTLINE)]
    for radius, fill in discs:
        fixed_radius = round(radius * scale * (1 << _SUBPIXEL_BITS))
        cv2.circle(canvas, centre.tolist(), fixed_radius, fill, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_labels(canvas: NDArray[np.uint8], xy: NDArray[np.float32], ids: NDArray[np.uint64], scale: float) -> None:
    """Write each id beside its point, where it covers no other point or label, if there is such a place."""
    font_scale, thickness, margin = 0.45 * scale, max(1, round(scale)), 2
    reach = 6.5 * scale
    taken = [_Box(*map(round, (x - reach, y - reach, x + reach, y + reach))) for x, y in xy.tolist()]
    height, width = canvas.shape[:2]
    for (x, y), identifier in zip(xy.tolist(), ids.tolist(), strict=True):
        text = str(identifier)
        (text_width, text_height), _ = cv2.getTextSize(text, _FONT, font_scale, thickness)
        box_width, box_height = text_width + 2 * margin, text_height + 2 * margin
        for left, top in (
            (x + reach, y - reach - box_height),
            (x - reach - box_width, y - reach - box_height),
            (x + reach, y + reach),
            (x - reach - box_width, y + reach),
        ):
            box = _Box(round(left), round(top), round(left) + box_width, round(top) + box_height)
            inside = box.left >= 0 and box.top >= 0 and box.right <= width and box.bottom <= height
            if inside and not any(box.overlaps(other) for other in taken):
                # Text is legible on any picture if what lies behind it is dark.
                canvas[box.top : box.bottom, box.left : box.right] //= 3
                origin = (box.left + margin, box.bottom - margin)
                cv2.putText(canvas, text, origin, _FONT, font_scale, _TEXT, thickness, cv2.LINE_AA)
                taken.append(box)
                break
