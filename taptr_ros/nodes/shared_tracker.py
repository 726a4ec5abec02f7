"""`PointTracker` behind a lock: a worker thread steps it while callbacks add, remove and read points."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidPointsError, InvalidStampError, TaptrError
from taptr_ros.tracking import PointTracker, TrackerConfig, Tracks
from taptr_ros.tracking.history import NANOSECONDS

LONGEST_WAIT = 10.0
"""How far, in seconds, the stamp of query points may be ahead of the newest image: more is a clock of another kind."""

WARM_UP_ID = 2**64 - 1
"""Id of the point of the warm-up: so large that it does not advance the ids that are assigned."""

Header = Any
"""std_msgs/Header of an image; passed through untouched."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What came of one image."""

    tracks: Tracks
    """All tracks in the image."""
    notices: list[str]
    """Sentences to report: why a new stream began, which waiting points were dropped."""
    new_stream: bool
    """Whether this image begins a new stream: all tracks before it are gone."""


class SharedTracker:
    """Lets several threads use one `PointTracker`; each call waits for the image in work, but never for another one.

    It also answers for a live stream what `PointTracker` leaves to its caller: a stamp that jumps back or another image
    size begins a new stream, points are accepted or refused one by one, and the newest tracks can be read.
    """

    def __init__(self, tracker: PointTracker) -> None:
        self._tracker = tracker
        self._lock = threading.Lock()
        self._newest: Tracks | None = None
        self._newest_header: Header = None

    def warm_up(self, width: int, height: int) -> None:
        """Run every part of the backend once on a black image and begin a new stream."""
        with self._lock:
            self._tracker.reset()
            self._tracker.add([[width / 2, height / 2]], ids=[WARM_UP_ID])
            image = np.zeros((height, width, 3), np.uint8)
            for stamp in (0, 1):
                self._tracker.step(image, stamp)
            self._begin_stream()

    def step(self, image: NDArray[np.uint8], stamp: int, header: Header = None) -> Step:
        """Track all points into the next image, uint8 [H,W,3] RGB, with its stamp in nanoseconds.

        `newest` returns `header` together with the tracks in this image.

        Raises `InvalidStampError` for an image with the stamp of the one before, and `InvalidImageError`.
        """
        with self._lock:
            notices: list[str] = []
            if reason := self._new_stream_reason(stamp, image.shape[1], image.shape[0]):
                notices.append(reason)
                self._begin_stream()
            if stamp == self._last_stamp:
                raise InvalidStampError(
                    f"The image's stamp {stamp} ns is that of the image before; publish every image once, with the "
                    "time at which it was taken."
                )
            new_stream = self._newest is None
            try:
                tracks = self._tracker.step(image, stamp)
            except (InvalidPointsError, InvalidStampError) as error:
                # Points that waited for this image cannot start in it. They are gone now; the image is still good.
                notices.append(f"Waiting points were dropped. {error}")
                tracks = self._tracker.step(image, stamp)
            self._newest, self._newest_header = tracks, header
            return Step(tracks, notices, new_stream)

    def add(
        self, xy: NDArray[np.float64], ids: Sequence[int], stamp: int, *, replace: bool
    ) -> tuple[list[int], list[str]]:
        """Add points [N,2] in pixels, chosen in the image with `stamp`; 0 is the newest image.

        Return for each its id, 0 if it was refused, and why it was refused, empty if it was not. With `replace` all
        other tracks are removed first.
        """
        with self._lock:
            if replace:
                self._tracker.clear()
                self._forget(None)
            if (last := self._last_stamp) is not None and stamp - last > LONGEST_WAIT * NANOSECONDS:
                reason = (
                    f"The query stamp {stamp} ns is {(stamp - last) / NANOSECONDS:.1f} s later than the newest image; "
                    "give the stamp of the image in which the points were chosen, or 0."
                )
                return [0] * len(xy), [reason] * len(xy)
            results = _add_each(self._tracker, xy, ids, stamp or last)
        accepted = [result if isinstance(result, int) else 0 for result in results]
        return accepted, ["" if isinstance(result, int) else str(result) for result in results]

    def click(self, x: float, y: float, stamp: int) -> None:
        """Add one point chosen by a person. Raises what `PointTracker.add` raises.

        Display tools stamp clicks with their own clock: a stamp later than the newest image stands for that image.
        """
        with self._lock:
            last = self._last_stamp
            seen = last is not None and 0 < stamp <= last
            self._tracker.add([[x, y]], stamp=stamp if seen else last)

    def remove(self, ids: Collection[int]) -> list[int]:
        """End tracks by id; return those ids that no live track has, each once."""
        with self._lock:
            wanted = list(dict.fromkeys(ids))
            live = set(self._tracker.ids.tolist())
            known = [id_ for id_ in wanted if id_ in live]
            self._tracker.remove(known)
            self._forget(known)
            return [id_ for id_ in wanted if id_ not in live]

    def newest(self, ids: Collection[int]) -> tuple[Tracks | None, Header, list[int]]:
        """Return the tracks `ids`, empty for all, in the newest image, its header, and the ids no live track has.

        The tracks are None before the first image. Points that wait for their first image are not among them.
        """
        with self._lock:
            live = set(self._tracker.ids.tolist())
            unknown = [id_ for id_ in dict.fromkeys(ids) if id_ not in live]
            tracks = self._newest
            if tracks is not None and ids:
                tracks = _select(tracks, np.isin(tracks.ids, np.array(list(ids), np.uint64)))
            return tracks, self._newest_header, unknown

    def reset(self) -> None:
        """Remove all points and begin a new stream."""
        with self._lock:
            self._begin_stream()

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on with other thresholds; see `PointTracker.reconfigure`."""
        with self._lock:
            self._tracker.reconfigure(config)

    @property
    def _last_stamp(self) -> int | None:
        return None if self._newest is None else self._newest.stamp

    def _begin_stream(self) -> None:
        self._tracker.reset()
        self._newest = self._newest_header = None

    def _forget(self, ids: Collection[int] | None) -> None:
        """Take tracks that have ended, None for all, out of what is reported of the newest image."""
        if self._newest is not None:
            tracks = self._newest
            ended = np.ones(len(tracks.ids), bool) if ids is None else np.isin(tracks.ids, np.array(ids, np.uint64))
            self._newest = _select(tracks, ~ended)

    def _new_stream_reason(self, stamp: int, width: int, height: int) -> str | None:
        last = self._newest
        if last is None:
            return None
        if stamp < last.stamp:
            seconds = (last.stamp - stamp) / NANOSECONDS
            return f"The image stamp jumped back by {seconds:.3f} s: a new stream begins, all tracks are removed."
        if (width, height) != (last.width, last.height):
            return (
                f"The image size changed from {last.width}x{last.height} to {width}x{height}: a new stream begins, "
                "all tracks are removed."
            )
        return None


def _add_each(
    tracker: PointTracker, xy: NDArray[np.float64], ids: Sequence[int], stamp: int | None
) -> list[int | TaptrError]:
    """Add those points that can be added; return each point's id or the error.

    Points from the past cost the tracker one run through the frames since, however many they are: so all are tried
    together, and halves of them while some are refused.
    """
    if not len(xy):
        return []
    try:
        return [*tracker.add(xy, ids, stamp).tolist()]
    except TaptrError as error:
        if len(xy) == 1:
            return [error]
    half = len(xy) // 2
    return _add_each(tracker, xy[:half], ids[:half], stamp) + _add_each(tracker, xy[half:], ids[half:], stamp)


def _select(tracks: Tracks, chosen: NDArray[np.bool_]) -> Tracks:
    """Return the tracks for which `chosen` [n] holds."""
    arrays: dict[str, Any] = {
        name: value[chosen] for name, value in vars(tracks).items() if isinstance(value, np.ndarray)
    }
    return dataclasses.replace(tracks, **arrays)
