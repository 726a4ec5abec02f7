"""`TrackStream` behind a lock: a worker thread steps it while callbacks add, remove and read points."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidPointsError
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.queries import AddedRegion
from taptr_ros.tracking.regions import Region
from taptr_ros.tracking.stream import Answer, Step, TrackStream

Header = Any
"""std_msgs/Header of an image; passed through untouched."""


class SharedTracker:
    """Lets several threads use one `TrackStream`; each call waits for the image in work, but never for another one."""

    def __init__(self, stream: TrackStream) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._header: Header = None

    def warm_up(self, width: int, height: int) -> None:
        """Run every part of the backend once and begin a new stream; see `TrackStream.warm_up`."""
        with self._lock:
            self._stream.warm_up(width, height)

    def step(self, image: NDArray[np.uint8], stamp: int, header: Header = None) -> Step:
        """Take the next image; see `TrackStream.step`. `newest` returns `header` together with the tracks in it."""
        with self._lock:
            step = self._stream.step(image, stamp)
            if step.tracks is not None:
                self._header = header
            return step

    def add(
        self,
        xy: NDArray[np.float64],
        ids: Sequence[int],
        stamp: int,
        groups: Sequence[int] | None = None,
        *,
        replace: bool,
    ) -> tuple[list[int], list[str]]:
        """Add points, each for itself; see `TrackStream.add`."""
        with self._lock:
            return self._stream.add(xy, ids, stamp, groups, replace=replace)

    def add_regions(
        self,
        regions: Sequence[Region],
        groups: Sequence[int],
        count: int,
        stamp: int,
        *,
        replace: bool = False,
        known: bool = False,
    ) -> list[AddedRegion]:
        """Choose points in regions, each a group; see `TrackStream.add_regions`."""
        with self._lock:
            return self._stream.add_regions(regions, groups, count, stamp, replace=replace, known=known)

    def click(self, x: float, y: float, stamp: int = 0, frame_id: str = "") -> None:
        """Add one point chosen by a person; see `TrackStream.click`.

        Raises `InvalidPointsError` if `frame_id` is neither empty nor that of the newest image.
        """
        with self._lock:
            if frame_id and (self._header is None or frame_id != self._header.frame_id):
                raise InvalidPointsError(_other_frame(frame_id, self._header))
            self._stream.click(x, y, stamp)

    def remove(self, ids: Collection[int], groups: Collection[int] = ()) -> tuple[list[int], list[int]]:
        """End tracks by id and by group; return those that no live track has; see `TrackStream.remove`."""
        with self._lock:
            return self._stream.remove(ids, groups)

    def newest(self, ids: Collection[int]) -> tuple[Answer, Header]:
        """Return the tracks `ids`, empty for all, in the newest image, and that image's header."""
        with self._lock:
            return self._stream.newest(ids), self._header

    def reset(self) -> None:
        """Remove all points; the next image begins a new stream."""
        with self._lock:
            self._stream.reset()

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on with other thresholds; see `PointTracker.reconfigure`."""
        with self._lock:
            self._stream.reconfigure(config)


def _other_frame(frame_id: str, header: Header) -> str:
    """Return why a click in a frame that is not the image's is refused."""
    if header is None:
        return f"The click is in the frame {frame_id!r}, but no image has come yet; click again when there is one."
    return (
        f"The click is in the frame {frame_id!r}, but the images are in {header.frame_id!r}: it is probably in metres, "
        "as rviz2 publishes it; click in rqt_image_view, or publish pixels with the image's frame_id or an empty one."
    )
