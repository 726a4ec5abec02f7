"""`PointTracker`: points in, images in, tracks out, for as long as the stream runs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptr_ros.errors import (
    CapacityError,
    DuplicateIdError,
    InvalidConfigError,
    InvalidImageError,
    InvalidStampError,
    TaptrError,
    UnknownIdError,
)
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.coordinates import UnitCoordinates
from taptr_ros.runtime.memory import check_memory
from taptr_ros.settings import settings_of
from taptr_ros.tracking.checks import (
    as_groups,
    as_ids,
    as_points,
    as_stamp,
    image_size,
    outside,
    outside_error,
    repeated,
)
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.history import NANOSECONDS, EncodedFrame, FrameHistory
from taptr_ros.tracking.queries import (
    OWN_GROUPS_END,
    AddedRegion,
    IdAllocator,
    WaitingPoint,
    WaitingQueries,
    WaitingRegion,
    chosen_groups,
    chosen_ids,
)
from taptr_ros.tracking.regions import ChosenPoints, Region, points_in, shrinking, shrunk_grey
from taptr_ros.tracking.replenishment import INTERVAL as REPLENISHMENT_INTERVAL
from taptr_ros.tracking.replenishment import Replenishment
from taptr_ros.tracking.scene_cuts import SceneCutDetector
from taptr_ros.tracking.states import COLUMNS, RefusedPoint, RefusedRegion, Tracks
from taptr_ros.tracking.support import support_layout
from taptr_ros.tracking.track_set import NewTracks, TrackSet

WARM_UP_ID = 2**64 - 1
"""Id of the point of the warm-up: so large that it does not advance the ids that are assigned."""


class PointTracker:
    """Tracks points through a stream of images, one image at a time.

    Points are added and removed between images. What is kept is bounded and taken at the start. Pixels are those of
    the incoming image, (0, 0) the centre of its top-left pixel; stamps are nanoseconds and the only clock.

    A call that raises an exception of `taptr_ros.errors` has changed nothing. Not safe for several threads at once.
    `first_number` is the number of the first frame: that of another tracker, which is to `take_over` the tracks later.
    Raises `InvalidConfigError`, before memory is taken, for a configuration that this machine has not enough of it for.
    """

    def __init__(self, backend: Backend, config: TrackerConfig | None = None, first_number: int = 0) -> None:
        self._backend = backend
        self._first_number = first_number
        self._config = config = config or TrackerConfig()
        # While points catch up, no more frames can be remembered than the history holds.
        slots = (config.memory_slots, min(config.memory_slots, config.history_frames))
        self._check_memory(slots)
        self._live, self._catching_up = (TrackSet(backend, config, count) for count in slots)
        self._waiting = WaitingQueries()
        self._ids, self._groups = IdAllocator(), IdAllocator(OWN_GROUPS_END)
        self._replenishment = Replenishment()
        self._added = 0
        self._streams = 0
        self._scene_cuts = SceneCutDetector(config.scene_cut_threshold)
        self._history = FrameHistory(config.history_seconds, config.history_frames, config.stamp_tolerance)

    @property
    def config(self) -> TrackerConfig:
        """The configuration in use."""
        return self._config

    @property
    def ids(self) -> NDArray[np.uint64]:
        """Ids [n] of all points in the order in which they were added, those that wait for a frame included."""
        tracks = self._live.tracks
        ids = np.array(self.waiting_ids, np.uint64)
        sequence = np.array([point.sequence for point in self._waiting.points], np.int64)
        order = np.argsort(np.concatenate([tracks["sequence"], sequence]))
        return np.concatenate([tracks["id"], ids])[order]

    @property
    def groups(self) -> list[int]:
        """All groups that have points, those that wait for a frame included, in ascending order; never 0."""
        return sorted(self.ids_of_groups())

    def ids_of_groups(self) -> dict[int, list[int]]:
        """Return the ids of the points of every group, none of one whose region waits for its image."""
        tracks = self._live.tracks
        points = [*zip(tracks["group"].tolist(), tracks["id"].tolist(), strict=True)]
        points += [(point.group, point.id) for point in self._waiting.points]
        ids: dict[int, list[int]] = {region.group: [] for region in self._waiting.regions}
        for group, id_ in points:
            if group:
                ids.setdefault(group, []).append(id_)
        return ids

    @property
    def waiting_ids(self) -> list[int]:
        """Ids of the points that wait for the image in which they start."""
        return [point.id for point in self._waiting.points]

    @property
    def newest(self) -> EncodedFrame | None:
        """The frame of the newest image, None before the first one of the stream."""
        return self._history.last

    @property
    def tracks(self) -> Tracks | None:
        """All tracks in the newest frame as they are now, points added since included; None before the first frame."""
        return self._report(self.newest) if self.newest else None

    def add(
        self,
        xy: ArrayLike,
        ids: ArrayLike | None = None,
        stamp: int | None = None,
        groups: ArrayLike | None = None,
    ) -> NDArray[np.uint64]:
        """Add query points `xy` [N,2] in pixels and return their ids, uint64 [N].

        `ids` [N] chooses the ids; 0, or no `ids`, takes new ones, which are never given out twice. `groups` [N] says
        which points belong to one body; 0, or no `groups`, is none.

        `stamp` is that of the image in which the points were chosen. Without it they start in the next image. If that
        image has passed, the points start in it all the same and are tracked through the images since, here and now;
        should the tracker not have seen it, the nearest image within the configured tolerance stands in. If it has
        yet to come, the points wait for it.

        All points are added or none. Raises `InvalidPointsError`, `DuplicateIdError`, `CapacityError`, and
        `InvalidStampError` for a stamp that the frame history does not hold (any more) or that is far ahead. Before
        the first image its size and clock are not known: what does not fit them is then refused by the first `step`.
        """
        points = as_points(xy)
        chosen, group = chosen_ids(ids, len(points)), chosen_groups(groups, len(points))
        start = None if stamp is None else self._history.start_of(as_stamp(stamp))
        kept = set(self.ids.tolist())
        for error in self._errors(points, chosen, kept):
            if error is not None:
                raise error
        return np.array(self._start(points, chosen, group, kept, stamp, start), np.uint64)

    def add_each(
        self,
        xy: ArrayLike,
        ids: ArrayLike | None = None,
        stamp: int | None = None,
        groups: ArrayLike | None = None,
        *,
        replace: bool = False,
    ) -> tuple[list[int], list[str]]:
        """Add those of the points that can be added, as `add` does; a bad one does not keep the others out.

        Return for each point its id, 0 if it was refused, and why it was refused, empty if it was not. With `replace`,
        all other points are removed first, unless every new one is refused. Raises `InvalidPointsError` for points,
        ids or groups that are not numbers in the right shape.
        """
        points = as_points(xy)
        chosen, group = chosen_ids(ids, len(points)), chosen_groups(groups, len(points))
        try:
            start = None if stamp is None else self._history.start_of(as_stamp(stamp))
        except InvalidStampError as error:
            return [0] * len(points), [str(error)] * len(points)
        kept = set() if replace else set(self.ids.tolist())
        errors = self._errors(points, chosen, kept)
        good = [index for index, error in enumerate(errors) if error is None]
        if replace and (good or not errors):
            self.clear()
        accepted = self._start(
            points[good], [chosen[index] for index in good], [group[index] for index in good], kept, stamp, start
        )
        result = [0] * len(points)
        for index, id_ in zip(good, accepted, strict=True):
            result[index] = id_
        return result, ["" if error is None else str(error) for error in errors]

    def take_over(self, other: PointTracker) -> None:
        """Take over the tracks of another tracker on the same backend, which is empty then.

        Both must have seen the same newest image, under the same number, and share their memory's layout. Raises
        `InvalidStampError` if they have not, `DuplicateIdError` and `CapacityError` as `add` does, and
        `InvalidConfigError` if the layout differs.
        """
        mine, others = self.newest, other.newest
        if mine is None or others is None or (mine.stamp, mine.number) != (others.stamp, others.number):
            raise InvalidStampError("The two trackers have not seen the same newest image; step both through it first.")
        if other.config.memory_slots != self._config.memory_slots:
            raise InvalidConfigError(
                f"memory_slots is {self._config.memory_slots} here and {other.config.memory_slots} there; make both "
                "trackers with the same."
            )
        ids = other._live.tracks["id"].tolist()
        kept = self.ids.tolist()
        if twice := set(ids) & set(kept):
            raise DuplicateIdError(f"Id {min(twice)} is in use in both trackers; choose others.")
        if len(ids) + len(kept) > self._config.capacity:
            raise CapacityError(
                f"{len(ids)} points and the {len(kept)} present exceed the capacity of {self._config.capacity}; "
                "remove some or raise `capacity`."
            )
        self._ids.assign(ids, kept)
        self._live.adopt(other._live, self._added)
        self._added += other._added

    def add_regions(
        self,
        regions: Sequence[Region],
        count: int | None = None,
        groups: ArrayLike | None = None,
        stamp: int | None = None,
        *,
        replace: bool = False,
    ) -> list[AddedRegion]:
        """Choose points in regions of one image, each the view of one body, and add them as a group each.

        A region that cannot be used does not keep the others out; what became of each is returned, in their order.
        `regions.points_in` chooses the points, up to `count` in each region, by default `points_per_region`. `groups`
        [R] chooses the groups; 0, or no `groups`, takes new ones, which are never given out twice. A group that has
        points is refused.

        `stamp` and `replace` are as for `add` and `add_each`. A region whose image has yet to come waits for it; its
        group is known then, its ids are not. If nothing can be chosen when it comes, the region is among the
        `refused_regions` of the result of `step`.

        Raises `InvalidPointsError` for groups or a count that are not whole numbers.
        """
        count = self._config.points_per_region if count is None else int(as_ids(count)[0])
        chosen = chosen_groups(groups, len(regions))
        try:
            start = None if stamp is None else self._history.start_of(as_stamp(stamp))
        except InvalidStampError as error:
            return [AddedRegion(0, [], str(error)) for _ in regions]
        taken = set() if replace else set(self.groups)
        room = self._config.capacity
        if not replace:
            room -= len(self.ids) + sum(region.count for region in self._waiting.regions)
        found: list[ChosenPoints | TaptrError | None] = []
        for region, group in zip(regions, chosen, strict=True):
            try:
                if group and group in taken:
                    raise DuplicateIdError(
                        f"Group {group} is in use or given twice; choose another, or remove that group first."
                    )
                region.check()
                points = None if start is None else _points_in(region, start, count)
                needed = count if points is None else len(points.xy)
                if needed > room:
                    raise _no_room(region, needed, room, self._config.capacity)
            except TaptrError as error:
                found.append(error)
                continue
            taken.add(group)
            room -= needed
            found.append(points)
        if replace and (not regions or any(not isinstance(points, TaptrError) for points in found)):
            self.clear()
        return self._start_regions(regions, found, chosen, count, stamp, start)

    def remove(self, ids: ArrayLike = (), groups: ArrayLike = ()) -> None:
        """Remove points by id and by group; all or none.

        Raises `UnknownIdError` for an id or group that no point has, and `DuplicateIdError` for one given twice.
        """
        unwanted = as_ids(ids)
        given, given_groups = unwanted.tolist(), as_groups(groups).tolist()
        if (twice := repeated(given)) is not None:
            raise _given_twice(twice)
        if (twice := repeated(given_groups)) is not None:
            raise DuplicateIdError(f"Group {twice} is given twice in one call; use every group once.")
        if unknown := sorted(set(given) - set(self.ids.tolist())):
            raise UnknownIdError(f"No point has the id {unknown[0]}; remove only ids that `add` returned.")
        if unknown := sorted(set(given_groups) - set(self.groups)):
            raise UnknownIdError(f"No point has the group {unknown[0]}; remove only groups of points that exist.")
        tracks = self._live.tracks
        ended = np.union1d(unwanted, tracks["id"][np.isin(tracks["group"], given_groups)])
        self._live.remove(ended)
        self._replenishment.lower(ended.tolist())
        self._waiting.remove(set(given), set(given_groups))

    def clear(self) -> None:
        """Remove all points. The stream goes on: frames and stamps are remembered."""
        self._live.clear()
        self._waiting.clear()
        self._replenishment.keep(())

    def reset(self) -> None:
        """Begin a new stream: remove all points, forget frames, stamps and the image size. Ids still do not repeat."""
        self.clear()
        self._history.clear()
        self._scene_cuts.reset()

    def warm_up(self, width: int, height: int) -> None:
        """Run every part of the backend once on a black image, as no stream that is counted, and `reset`."""
        streams = self._streams
        self.reset()
        self.add([[width / 2, height / 2]], ids=[WARM_UP_ID])
        for stamp in (0, 1):
            self.step(np.zeros((height, width, 3), np.uint8), stamp)
        self.reset()
        self._streams = streams

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on with other thresholds, from the next image on.

        Raises `InvalidConfigError` if a field that decides on the layout of the tracks' memory differs.
        """
        for entry in settings_of(TrackerConfig):
            present, wanted = getattr(self._config, entry.name), getattr(config, entry.name)
            if not entry.live and wanted != present:
                raise InvalidConfigError(
                    f"{entry.name} is {present!r} and cannot become {wanted!r} while points are tracked; "
                    "make a new tracker."
                )
        self._config = config
        self._live.reconfigure(config)
        self._catching_up.reconfigure(config)
        self._scene_cuts.reconfigure(config.scene_cut_threshold)
        self._history.reconfigure(config.history_seconds, config.stamp_tolerance)

    def step(self, image: NDArray[np.uint8], stamp: int) -> Tracks:
        """Track all points into the next `image`, uint8 [H,W,3] RGB, with `stamp` in nanoseconds.

        Points that waited for an image and turn out to be unusable are dropped, and listed as `refused` in the result:
        those outside the image, and those chosen in an image that never came or on another clock. `refused_regions`
        lists regions likewise.

        Raises `InvalidImageError` for an image of another type, shape or size than the stream's, `InvalidStampError`
        for a stamp that is not later than the last one (`reset` begins a new stream), and `InvalidConfigError` for the
        first image of a stream if there is not enough memory to keep `history_frames` of its size.
        """
        coordinates = self._coordinates_of(image)
        stamp = self._later_stamp(stamp)

        last = self._history.last
        grey = shrunk_grey(image)
        if last is None:
            # A backend that does not tell how large its features are keeps as much as the image in grey.
            self._check_history(
                grey.size + (self._backend.info.feature_bytes or coordinates.width * coordinates.height)
            )
        features = self._backend.encode(image)
        is_gap = last is not None and 0 < self._config.gap_seconds * NANOSECONDS < stamp - last.stamp
        scene_cut = self._scene_cuts.update(image) or is_gap
        number = last.number + 1 if last else self._first_number
        frame = EncodedFrame(number, stamp, coordinates, features, grey, scene_cut)

        due, refused = self._waiting.take_due(stamp, coordinates, self._history)
        refused_regions = self._add_due_regions(frame, due)
        for start in dict.fromkeys(start for start in due.values() if start is not None):
            self._catch_up([query for query, chosen in due.items() if chosen is start], start)
        starting = _new_tracks([query for query, start in due.items() if start is None], frame)
        decoded = self._live.advance(frame, last.features if last else None, starting)
        self._history.append(frame := dataclasses.replace(frame, decoded=decoded))
        self._streams += last is None
        self._replenish(frame)
        return self._report(frame, refused, tuple(refused_regions))

    def _replenish(self, frame: EncodedFrame) -> None:
        """Replace lost points of groups that began as regions, if that is wanted."""
        if not self._config.replenish or frame.number % REPLENISHMENT_INTERVAL:
            return
        self._replenishment.keep(self.ids_of_groups())
        tracks, coordinates = self._live.tracks, frame.coordinates
        scale = shrinking(coordinates.width, coordinates.height, frame.grey)
        xy = (coordinates.to_pixels(tracks["xy"]).astype(np.float64) + 0.5) * scale - 0.5
        for replacement in self._replenishment.replacements(frame.grey, tracks, xy):
            count, lost = len(replacement.xy), replacement.lost_ids
            if len(self.ids) - len(lost) + count > self._config.capacity:
                continue
            self._live.remove(np.array(lost, np.uint64))
            places = (replacement.xy + 0.5) / scale - 0.5
            ids = self._start(places, [0] * count, [replacement.group] * count, self.ids.tolist(), frame.stamp, frame)
            self._replenishment.replace(replacement, ids)

    def _check_memory(self, slots: tuple[int, int]) -> None:
        config, info = self._config, self._backend.info
        rows = support_layout(config.support, info).row_count(config.capacity)
        if info.device == "cpu":
            check_memory(
                sum(rows * info.bytes_per_track(count) for count in slots),
                f"{config.capacity} tracks with {config.memory_slots} memory slots",
                "lower `capacity` or `memory_slots`",
            )
            self._check_history(info.feature_bytes)

    def _check_history(self, feature_bytes: int) -> None:
        frames = self._config.history_frames
        check_memory(frames * feature_bytes, f"The features of {frames} past images", "lower `history_frames`")

    def _errors(self, points: NDArray[np.float64], chosen: list[int], kept: Collection[int]) -> list[TaptrError | None]:
        """Return for each new point what is wrong with it beside the points `kept`, None if it can be added."""
        image = self.newest.coordinates if self.newest else None
        errors: list[TaptrError | None] = [None] * len(points)
        for index in np.flatnonzero(outside(points, image)).tolist():
            errors[index] = outside_error(float(points[index, 0]), float(points[index, 1]), image)
        taken = set(kept)
        for index, id_ in enumerate(chosen):
            if errors[index] is not None or not id_:
                continue
            if id_ in kept:
                errors[index] = DuplicateIdError(f"Id {id_} is in use; choose another or remove that point first.")
            elif id_ in taken:
                errors[index] = _given_twice(id_)
            taken.add(id_)
        usable = [index for index, error in enumerate(errors) if error is None]
        room = self._config.capacity - len(kept)
        full = CapacityError(
            f"{len(usable)} new points and the {len(kept)} present exceed the capacity of {self._config.capacity}; "
            "remove some or raise `capacity`."
        )
        for index in usable[max(room, 0) :]:
            errors[index] = full
        return errors

    def _start(
        self,
        points: NDArray[np.float64],
        chosen: list[int],
        groups: list[int],
        kept: Collection[int],
        stamp: int | None,
        start: EncodedFrame | None,
    ) -> list[int]:
        """Add good points in the frame `start`, or as ones that wait if it is None; return their ids."""
        self._groups.note([group for group in groups if group])
        queries = self._queries(points, chosen, groups, kept, stamp)
        if start is None:
            self._waiting.points += queries
        elif queries:
            self._catch_up(queries, start)
        return [query.id for query in queries]

    def _queries(
        self,
        points: NDArray[np.float64],
        chosen: list[int],
        groups: list[int],
        kept: Collection[int],
        stamp: int | None,
    ) -> list[WaitingPoint]:
        ids = self._ids.assign(chosen, kept)
        queries = [
            WaitingPoint(id_, self._added + index, (x, y), stamp, group)
            for index, (id_, (x, y), group) in enumerate(zip(ids, points.tolist(), groups, strict=True))
        ]
        self._added += len(queries)
        return queries

    def _start_regions(
        self,
        regions: Sequence[Region],
        found: list[ChosenPoints | TaptrError | None],
        chosen: list[int],
        count: int,
        stamp: int | None,
        start: EncodedFrame | None,
    ) -> list[AddedRegion]:
        """Add the regions in which points were `found`, or let them wait if `start` is None."""
        good = [index for index, points in enumerate(found) if not isinstance(points, TaptrError)]
        groups = dict(zip(good, self._groups.assign([chosen[index] for index in good], self.groups), strict=True))
        added = [AddedRegion(groups.get(index, 0), [], str(points or "")) for index, points in enumerate(found)]
        if start is None:
            self._waiting.regions += [
                WaitingRegion(regions[index], group, count, stamp) for index, group in groups.items()
            ]
            return added
        begun = {index: points for index, points in enumerate(found) if isinstance(points, ChosenPoints)}
        xy = np.concatenate([points.xy for points in begun.values()] or [np.empty((0, 2))])
        of_points = [groups[index] for index, points in begun.items() for _ in points.xy]
        ids = iter(self._start(xy, [0] * len(xy), of_points, self.ids.tolist(), stamp, start))
        for index, points in begun.items():
            added[index] = AddedRegion(groups[index], list(itertools.islice(ids, len(points.xy))), "")
            self._begin_body(groups[index], points, added[index].ids, start)
        return added

    def _begin_body(self, group: int, points: ChosenPoints, ids: list[int], frame: EncodedFrame) -> None:
        self._replenishment.keep(self.ids_of_groups())
        self._replenishment.begin(group, frame.grey, points.inside, ids, points.in_grey)

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
                "pass images in order, or reset the tracker to begin a new stream."
            )
        return stamp

    def _add_due_regions(
        self, frame: EncodedFrame, due: dict[WaitingPoint, EncodedFrame | None]
    ) -> list[RefusedRegion]:
        """Choose the points of the regions that are due now, and put them with the others that are.

        Return those regions in which that never is possible.
        """
        refused: list[RefusedRegion] = []
        waiting: list[WaitingRegion] = []
        for entry in self._waiting.regions:
            try:
                is_due, past = self._history.due(entry.stamp, frame.stamp)
                if not is_due:
                    waiting.append(entry)
                    continue
                points = _points_in(entry.region, past or frame, entry.count)
                kept, length = [*self.ids.tolist(), *(query.id for query in due)], len(points.xy)
                if length > (room := self._config.capacity - len(kept)):
                    raise _no_room(entry.region, length, room, self._config.capacity)
            except TaptrError as error:
                refused.append(RefusedRegion(entry.group, str(error)))
                continue
            queries = self._queries(points.xy, [0] * length, [entry.group] * length, kept, entry.stamp)
            due.update(dict.fromkeys(queries, past))
            self._begin_body(entry.group, points, [query.id for query in queries], past or frame)
        self._waiting.regions = waiting
        return refused

    def _catch_up(self, queries: list[WaitingPoint], start: EncodedFrame) -> None:
        """Start points in a past frame and bring them to the present."""
        joins = self._backend.info.starting_queries_join_decoder and start.decoded
        if start is self._history.last and not joins:
            self._live.start(start, _new_tracks(queries, start))
            return
        # Apart from all others, which have passed these frames already.
        self._catching_up.clear()
        for frame, previous_features in self._history.since(start):
            starting = _new_tracks(queries if frame is start else [], frame)
            self._catching_up.advance(frame, previous_features, starting)
        self._live.adopt(self._catching_up)

    def _report(
        self,
        frame: EncodedFrame,
        refused: tuple[RefusedPoint, ...] = (),
        refused_regions: tuple[RefusedRegion, ...] = (),
    ) -> Tracks:
        tracks = self._live.tracks
        kept: dict[str, Any] = {column.name: tracks[column.name].copy() for column in COLUMNS if column.in_table}
        return Tracks(
            ids=tracks["id"].copy(),
            xy=frame.coordinates.to_pixels(tracks["xy"]),
            age=(frame.number - tracks["start"]).astype(np.uint32),
            stamp=frame.stamp,
            width=frame.coordinates.width,
            height=frame.coordinates.height,
            scene_cut=frame.scene_cut,
            stream=self._streams,
            refused=refused,
            refused_regions=refused_regions,
            **kept,
        )


def _new_tracks(queries: list[WaitingPoint], frame: EncodedFrame) -> NewTracks:
    pixels = np.array([query.xy for query in queries], np.float64).reshape(-1, 2)
    return NewTracks(
        ids=np.array([query.id for query in queries], np.uint64),
        sequence=np.array([query.sequence for query in queries], np.int64),
        xy=frame.coordinates.from_pixels(pixels),
        group=np.array([query.group for query in queries], np.uint32),
    )


def _points_in(region: Region, frame: EncodedFrame, count: int) -> ChosenPoints:
    return points_in(region, frame.grey, frame.coordinates.width, frame.coordinates.height, count)


def _no_room(region: Region, needed: int, room: int, capacity: int) -> CapacityError:
    return CapacityError(
        f"{region.name} needs {needed} points, but of the capacity of {capacity} only {max(room, 0)} are free; remove "
        "some, ask for fewer points or raise `capacity`."
    )


def _given_twice(id_: int) -> DuplicateIdError:
    return DuplicateIdError(f"Id {id_} is given twice in one call; use every id once.")
