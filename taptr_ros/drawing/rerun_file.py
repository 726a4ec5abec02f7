"""Tracks for the viewer Rerun (https://rerun.io): images, points with their ids, and trails, in an .rrd file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType

import numpy as np
import rerun
from numpy.typing import NDArray

from taptr_ros.drawing.overlay import track_colour
from taptr_ros.drawing.trails import Trails, located
from taptr_ros.tracking.states import COLUMNS, Tracks

IMAGE, POINTS, TRAILS = "image", "image/points", "image/trails"
"""Entities in the file."""

FRAME, STAMP = "frame", "stamp"
"""Its time lines: the number of the image, and its stamp."""

_QUALITY = 85
"""Of the JPEG images, 0 to 100."""

_CALENDAR = 10**17
"""Stamps in nanoseconds from which on they are points in time, of 1973 and later, and not the time since the start."""

_HIDDEN = 110
"""Opacity, of 255, of a point that is not seen."""


class RerunFile:
    """An .rrd file written image by image; a context manager that completes the file on leaving.

    Raises `OSError` if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        with path.open("wb"):
            pass  # Rerun only logs that it cannot write
        self._recording = rerun.RecordingStream("taptr_ros")
        self._recording.set_log_time_enabled(False)
        self._recording.set_log_tick_enabled(False)
        self._recording.save(path)
        self._trails = Trails()

    def write(self, image: NDArray[np.uint8], tracks: Tracks, number: int) -> None:
        """Add a uint8 [H,W,3] RGB image, the `number`-th of its recording, with the tracks in it."""
        recording = self._recording
        recording.set_time(FRAME, sequence=number)
        if tracks.stamp >= _CALENDAR:
            recording.set_time(STAMP, timestamp=np.datetime64(tracks.stamp, "ns"))
        else:
            recording.set_time(STAMP, duration=np.timedelta64(tracks.stamp, "ns"))
        recording.log(IMAGE, rerun.Image(image).compress(_QUALITY))
        self._trails.extend(tracks)
        chosen = located(tracks)
        shown = tracks.select(chosen)
        colours = [(*track_colour(identifier), 255) for identifier in shown.ids.tolist()]
        recording.log(
            POINTS,
            rerun.Points2D(
                shown.xy + 0.5,  # Rerun's (0, 0) is the corner of the first pixel
                colors=[
                    (*colour[:3], 255 if visible else _HIDDEN)
                    for colour, visible in zip(colours, shown.visible.tolist(), strict=True)
                ],
                labels=[str(identifier) for identifier in shown.ids.tolist()],
                show_labels=False,
                radii=rerun.Radius.ui_points(4.0),
            ),
            rerun.AnyValues(**{column.name: getattr(shown, column.name) for column in COLUMNS if column.name != "xy"}),
        )
        strips, of_strips = [], []
        for row, colour in zip(np.flatnonzero(chosen), colours, strict=True):
            for piece in self._trails.pieces(int(row)):
                if len(piece) > 1:
                    strips.append(piece + 0.5)
                    of_strips.append(colour)
        recording.log(TRAILS, rerun.LineStrips2D(strips, colors=of_strips, radii=rerun.Radius.ui_points(1.0)))

    def __enter__(self) -> RerunFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):
            self._recording.flush()
        self._recording.disconnect()
