"""Tracks as annotations of an image for Foxglove, where foxglove_msgs is installed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.drawing.overlay import LABELLED_POINTS, track_colour
from taptr_ros.drawing.trails import Trails, located
from taptr_ros.tracking import Tracks

CORNER = 0.5
"""Added to pixels: the origin of annotations is the corner of the first pixel, that of ROS its centre."""

DIAMETER, OUTLINE, TRAIL, FONT_SIZE = 9.0, 1.5, 2.0, 12.0
"""Sizes in pixels: of a point, its outline, its trail and its id."""

NO_FILL, DARK, WHITE = (0.0, 0.0, 0.0, 0.0), (0.06, 0.06, 0.06, 1.0), (1.0, 1.0, 1.0, 1.0)
"""Colours, red, green, blue and opacity from 0 to 1."""


@functools.cache
def image_annotations_kind() -> Any:
    """Return the class foxglove_msgs/ImageAnnotations, or None if foxglove_msgs is not installed."""
    try:
        from foxglove_msgs.msg import ImageAnnotations
    except ImportError:
        return None
    return ImageAnnotations


class AnnotationDrawer:
    """Makes foxglove_msgs/ImageAnnotations: a circle for each located point, hollow if it is hidden, trails and ids."""

    def __init__(self) -> None:
        from foxglove_msgs.msg import CircleAnnotation, Color, Point2, PointsAnnotation, TextAnnotation

        self._circle, self._line, self._text = CircleAnnotation, PointsAnnotation, TextAnnotation
        self._colour, self._point = Color, Point2
        self._trails = Trails()

    def draw(self, _image: NDArray[np.uint8], tracks: Tracks, header: Any) -> Any:
        """See `painter.Drawer`; nothing is drawn on the image itself."""
        self._trails.extend(tracks)
        kind = image_annotations_kind()
        result = kind()
        if "timestamp" in kind.get_fields_and_field_types():  # since 2025
            result.timestamp = header.stamp
        rows = np.flatnonzero(located(tracks)).tolist()
        for row in rows:
            self._add(result, row, tracks, header.stamp, with_id=len(rows) <= LABELLED_POINTS)
        return result

    def _add(self, result: Any, row: int, tracks: Tracks, stamp: Any, *, with_id: bool) -> None:
        identifier = int(tracks.ids[row])
        red, green, blue = (channel / 255.0 for channel in track_colour(identifier))
        colour = self._rgba((red, green, blue, 1.0))
        is_visible = bool(tracks.visible[row])
        for piece in self._trails.pieces(row):
            if len(piece) > 1:
                places = [self._place(x, y) for x, y in piece.tolist()]
                kind = self._line.LINE_STRIP
                result.points.append(
                    self._line(timestamp=stamp, type=kind, points=places, outline_color=colour, thickness=TRAIL)
                )
        x, y = tracks.xy[row].tolist()
        result.circles.append(
            self._circle(
                timestamp=stamp,
                position=self._place(x, y),
                diameter=DIAMETER,
                thickness=OUTLINE,
                fill_color=colour if is_visible else self._rgba(NO_FILL),
                outline_color=self._rgba(DARK) if is_visible else colour,
            )
        )
        if with_id:
            result.texts.append(
                self._text(
                    timestamp=stamp,
                    position=self._place(x + DIAMETER / 2, y - DIAMETER / 2),
                    text=str(identifier),
                    font_size=FONT_SIZE,
                    text_color=self._rgba(WHITE),
                    background_color=self._rgba((*DARK[:3], 0.6)),
                )
            )

    def _place(self, x: float, y: float) -> Any:
        return self._point(x=x + CORNER, y=y + CORNER)

    def _rgba(self, channels: tuple[float, float, float, float]) -> Any:
        return self._colour(**dict(zip("rgba", channels, strict=True)))
