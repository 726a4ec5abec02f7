"""`PointTracker`: points in, images in, tracks out, for as long as the stream runs."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptr_ros.errors import (
    CapacityError,
    InvalidConfigError,
    InvalidImageError,
    InvalidStampError,
    TaptrError,
    UnknownIdError,
)
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.coordinates import UnitCoordinates
from taptr_ros.tracking.checks import as_ids, as_points, as_stamp, image_size, outside, outside_error, refuse_repeated
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.history import Frame, FrameHistory
from taptr_ros.tracking.queries import IdAllocator, Query
from taptr_ros.tracking.scene_cuts import SceneCutDetector
from taptr_ros.tracking.states import Tracks
from taptr_ros.tracking.track_set import NewTracks, TrackSet


class PointTracker:
    """Tracks points through a stream of images, one image at a time.

    Points are added and removed between images. Nothing here grows with the length of the stream. Pixels are those of
    the incoming image, (0, 0) the centre of its top-left pixel; stamps are nanoseconds and the only clock.

    A call that raises an exception of `taptr_ros.errors` has changed nothing, save as `step` says of points that
    waited. Not safe for several threads at once.
    """

    def __init__(self, backend: Backend, config: TrackerConfig | None = None) -> None:
        self._backend = backend
        self._config = config = config or TrackerConfig()
        self._live = TrackSet(backend, config, config.memory_slots)
        self._catching_up: TrackSet | None = None
        self._waiting: list[Query] = []
        self._ids = IdAllocator()
        self._added = 0
        self._scene_cuts = SceneCutDetector(config.scene_cut_threshold, config.gap_seconds)
        self._history = FrameHistory(config.history_seconds, config.history_frames, config.stamp_tolerance)

    @property
    def config(self) -> TrackerConfig:
        """The configuration in use."""
        return self._config

    @property
    def ids(self) -> NDArray[np.uint64]:
        """Ids [n] of all points in the order in which they were added, those that wait for a frame included."""
        tracks = self._live.tracks
        ids = np.array([query.id for query in self._waiting], np.uint64)
        sequence = np.array([query.sequence for query in self._waiting], np.int64)
        order = np.argsort(np.concatenate([tracks["sequence"], sequence]))
        return np.concatenate([tracks["id"], ids])[order]

    def add(self, xy: ArrayLike, ids: ArrayLike | None = None, stamp: int | None = None) -> NDArray[np.uint64]:
        """Add query points `xy` [N,2] in pixels and return their ids, uint64 [N].

        `ids` [N] chooses the ids; 0, or no `ids`, takes new ones, which are never given out twice.

        `stamp` is that of the image in which the points were chosen. Without it they start in the next image. If that
        image has passed, the points start in it all the same and are tracked through the images since, here and now;
        should the tracker not have seen it, the nearest image within the configured tolerance stands in. If it has
        yet to come, the points wait for it.

        All points are added or none. Raises `InvalidPointsError`, `DuplicateIdError`, `CapacityError`, and
        `InvalidStampError` for a stamp that the frame history does not hold (any more). Before the first image its
        size is not known: points beyond its right or lower edge are then refused by the first `step`.
        """
        points = as_points(xy)
        last = self._history.last
        if last is not None and (bad := outside(points, last.coordinates)).any():
            x, y = points[bad][0]
            raise outside_error(x, y, last.coordinates)
        taken = self.ids.tolist()
        if len(taken) + len(points) > self._config.capacity:
            raise CapacityError(
                f"{len(points)} new points and the {len(taken)} present exceed the capacity of "
                f"{self._config.capacity}; remove some or raise `capacity`."
            )
        start = None if stamp is None else self._past_frame(as_stamp(stamp))
        assigned = self._ids.assign(ids, len(points), taken)
        queries = [
            Query(id_, self._added + index, (x, y), stamp)
            for index, (id_, (x, y)) in enumerate(zip(assigned.tolist(), points.tolist(), strict=True))
        ]
        if start is None:
            self._waiting += queries
        else:
            self._catch_up(queries, start)
        self._added += len(queries)
        return assigned

    def remove(self, ids: ArrayLike) -> None:
        """Remove points by id; all or none. Raises `UnknownIdError`, and `DuplicateIdError` for an id given twice."""
        unwanted = as_ids(ids)
        refuse_repeated(unwanted.tolist())
        if unknown := sorted(set(unwanted.tolist()) - set(self.ids.tolist())):
            raise UnknownIdError(f"No point has the id {unknown[0]}; remove only ids that `add` returned.")
        self._live.remove(unwanted)
        self._waiting = [query for query in self._waiting if query.id not in unwanted]

    def clear(self) -> None:
        """Remove all points. The stream goes on: frames and stamps are remembered."""
        self._live.clear()
        self._waiting = []

    def reset(self) -> None:
        """Begin a new stream: remove all points, forget frames, stamps and the image size. Ids still do not repeat."""
        self.clear()
        self._history.clear()
        self._scene_cuts.reset()

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on with other thresholds, from the next image on.

        Raises `InvalidConfigError` if a field that decides on the layout of the tracks' memory differs.
        """
        for name in TrackerConfig.STRUCTURAL:
            present, wanted = getattr(self._config, name), getattr(config, name)
            if wanted != present:
                raise InvalidConfigError(
                    f"{name} is {present!r} and cannot become {wanted!r} while points are tracked; make a new tracker."
                )
        self._config = config
        self._live.reconfigure(config)
        if self._catching_up is not None:
            self._catching_up.reconfigure(config)
        self._scene_cuts.reconfigure(config.scene_cut_threshold, config.gap_seconds)
        self._history.reconfigure(config.history_seconds, config.stamp_tolerance)

    def step(self, image: NDArray[np.uint8], stamp: int) -> Tracks:
        """Track all points into the next `image`, uint8 [H,W,3] RGB, with `stamp` in nanoseconds.

        Raises `InvalidImageError` for an image of another type, shape or size than the stream's, and
        `InvalidStampError` for a stamp that is not later than the last one: `reset` begins a new stream.

        Points that waited for an image and turn out to be unusable are dropped, as if `add` had refused them, and the
        first of them is reported: with `InvalidPointsError` if it is outside the image, with `InvalidStampError` if
        the image in which it was chosen never came. This image has then not been used: the same call again works.
        """
        coordinates = self._coordinates_of(image)
        stamp = self._later_stamp(stamp)
        due = self._due_queries(stamp, coordinates)

        last = self._history.last
        features = self._backend.encode(image)
        scene_cut = self._scene_cuts.update(image, stamp)
        frame = Frame(last.number + 1 if last else 0, stamp, coordinates, features, scene_cut)

        self._waiting = [query for query in self._waiting if query not in due]
        for start in dict.fromkeys(start for start in due.values() if start is not None):
            self._catch_up([query for query, chosen in due.items() if chosen is start], start)
        starting = _new_tracks([query for query, start in due.items() if start is None], frame)
        decoded = self._live.advance(frame, last.features if last else None, starting)
        self._history.append(dataclasses.replace(frame, decoded=decoded))
        return self._report(frame)

    def _coordinates_of(self, image: NDArray[np.uint8]) -> UnitCoordinates:
        width, height = image_size(image)
        coordinates = UnitCoordinates(width, height, self._backend.info.corner_aligned_coordinates)
        last = self._history.last
        if last is not None and coordinates != last.coordinates:
            raise InvalidImageError(
                f"The image has {width}x{height} pixels but the stream {last.coordinates.width}x"
                f"{last.coordinates.height}; reset the tracker to begin a new stream."
            )
        return coordinates

    def _later_stamp(self, stamp: int) -> int:
        stamp, last = as_stamp(stamp), self._history.last
        if last is not None and stamp <= last.stamp:
            raise InvalidStampError(
                f"The stamp {stamp} ns is not later than the last one, {last.stamp} ns; "
                "give images in order or reset the tracker to begin a new stream."
            )
        return stamp

    def _past_frame(self, stamp: int) -> Frame | None:
        """Return the frame in which points chosen at `stamp` start, None if it has yet to come."""
        last = self._history.last
        if last is None or stamp > last.stamp:
            return None
        if (frame := self._history.nearest(stamp)) is None:
            raise self._stamp_error(stamp)
        return frame

    def _stamp_error(self, stamp: int) -> InvalidStampError:
        return InvalidStampError(
            f"No image near the query stamp {stamp} ns is in the frame history ({self._history.span}); give newer "
            "points or raise `history_seconds`, `history_frames` or `stamp_tolerance`."
        )

    def _due_queries(self, stamp: int, coordinates: UnitCoordinates) -> dict[Query, Frame | None]:
        """Return the waiting points that start now, each with the past frame that it starts in, None for the new one.

        Drops those that cannot start, and raises for the first of them.
        """
        due: dict[Query, Frame | None] = {}
        unusable: dict[Query, TaptrError] = {}
        for query in self._waiting:
            if outside(np.array([query.xy]), coordinates).any():
                unusable[query] = outside_error(*query.xy, coordinates)
            elif query.stamp is None:
                due[query] = None
            elif query.stamp <= stamp:
                past = self._history.nearest(query.stamp)
                if past is not None and query.stamp - past.stamp < stamp - query.stamp:
                    due[query] = past
                elif stamp - query.stamp <= self._history.tolerance:
                    due[query] = None
                else:
                    unusable[query] = self._stamp_error(query.stamp)
        if unusable:
            self._waiting = [query for query in self._waiting if query not in unusable]
            raise next(iter(unusable.values()))
        return due

    def _catch_up(self, queries: list[Query], start: Frame) -> None:
        """Start points in a past frame, track them through the frames since, apart from all others, and adopt them."""
        if self._catching_up is None:
            # No more frames can be remembered than the history holds.
            slots = min(self._config.memory_slots, self._config.history_frames)
            self._catching_up = TrackSet(self._backend, self._config, slots)
        self._catching_up.clear()
        for frame, previous_features in self._history.since(start):
            starting = _new_tracks(queries if frame is start else [], frame)
            self._catching_up.advance(frame, previous_features, starting)
        self._live.adopt(self._catching_up)

    def _report(self, frame: Frame) -> Tracks:
        tracks = self._live.tracks
        return Tracks(
            ids=tracks["id"].copy(),
            xy=frame.coordinates.to_pixels(tracks["xy"]),
            visibility=tracks["visibility"].copy(),
            visible=tracks["visible"].copy(),
            state=tracks["state"].copy(),
            age=(frame.number - tracks["start"]).astype(np.uint32),
            frames_since_seen=tracks["unseen"].copy(),
            stamp=frame.stamp,
            width=frame.coordinates.width,
            height=frame.coordinates.height,
            scene_cut=frame.scene_cut,
        )


def _new_tracks(queries: list[Query], frame: Frame) -> NewTracks:
    pixels = np.array([query.xy for query in queries], np.float64).reshape(-1, 2)
    return NewTracks(
        ids=np.array([query.id for query in queries], np.uint64),
        sequence=np.array([query.sequence for query in queries], np.int64),
        xy=frame.coordinates.from_pixels(pixels),
    )
