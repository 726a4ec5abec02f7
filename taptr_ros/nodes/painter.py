"""Pictures of the tracks, drawn in a thread of their own for whoever looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from taptr_ros.drawing.overlay import TrackOverlay
from taptr_ros.messages.ros import rgb_image
from taptr_ros.nodes.frame_worker import FrameWorker
from taptr_ros.tracking import Tracks


class _Picture(NamedTuple):
    """What is drawn."""

    image: NDArray[np.uint8]
    tracks: Tracks
    header: Any
    trails_of: tuple[int, int]
    """Stream, and number of the time that somebody looks: another one begins without trails."""


class Drawer(Protocol):
    """Draws the tracks of one stream, image by image."""

    def draw(self, image: NDArray[np.uint8], tracks: Tracks, header: Any) -> Any:
        """Return the message with the tracks in an image, uint8 [H,W,3] RGB, whose header it has."""


class PictureDrawer:
    """Draws on the image: sensor_msgs/Image."""

    def __init__(self) -> None:
        self._overlay = TrackOverlay()

    def draw(self, image: NDArray[np.uint8], tracks: Tracks, header: Any) -> Any:
        """See `Drawer`."""
        return rgb_image(self._overlay.draw(image, tracks), header)


class Painter:
    """Draws tracks on the newest image that it was given, with what `drawer` makes, and hands the message to `publish`.

    `fail` is called with what drawing or publishing raises. `show` is called by one thread.
    """

    def __init__(
        self, drawer: Callable[[], Drawer], publish: Callable[[Any], None], fail: Callable[[Exception], None]
    ) -> None:
        self._make_drawer, self._publish, self._fail = drawer, publish, fail
        self._looks = 0
        self._is_looked_at = False
        self._drawer, self._trails_of = drawer(), (0, 0)
        self._worker: FrameWorker[_Picture] = FrameWorker("painter", self._draw, 1)

    def show(self, image: NDArray[np.uint8], tracks: Tracks, header: Any, *, is_looked_at: bool) -> None:
        """Take the tracks of the next image, uint8 [H,W,3] RGB; they are drawn if somebody looks."""
        was_looked_at, self._is_looked_at = self._is_looked_at, is_looked_at
        if is_looked_at:
            self._looks += not was_looked_at
            self._worker.put(_Picture(image, tracks, header, (tracks.stream, self._looks)))

    def stop(self, timeout: float) -> bool:
        """Finish the picture in work and end the thread; return whether that was done within `timeout` seconds."""
        return self._worker.stop(timeout)

    def _draw(self, picture: _Picture) -> None:
        if picture.trails_of != self._trails_of:
            self._drawer, self._trails_of = self._make_drawer(), picture.trails_of
        try:
            self._publish(self._drawer.draw(picture.image, picture.tracks, picture.header))
        except Exception as error:  # noqa: BLE001
            self._fail(error)
