"""`TrackStream`: a tracker on a stream as it comes, with images that are late, repeated, unstamped or of another size.

The node and the commands for files track through it, so that a recorded stream is treated like a live one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from taptr_ros.tracking.checks import image_size
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.history import NANOSECONDS, EncodedFrame
from taptr_ros.tracking.queries import AddedRegion
from taptr_ros.tracking.regions import Region
from taptr_ros.tracking.states import Tracks
from taptr_ros.tracking.tracker import PointTracker

IMAGES_OF_A_NEW_SIZE = 3
"""Images of one other size in a row that begin a new stream; fewer are left out."""

LONGEST_GAP = 3600
"""Seconds between two images beyond which the stamp of the second is doubted, as a damaged one or another clock's."""

MOST_POINTS = 65536
"""Points, or ids, that one request may hold: as many as the largest tracker."""


MOST_REGIONS = 256
"""Regions that one request may hold."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What came of one image."""

    tracks: Tracks | None
    """All tracks in the image; None if it was left out."""
    left_out: str = ""
    """Why the image was left out, as one sentence; empty if it was used."""
    notices: tuple[str, ...] = ()
    """Sentences to report: why a new stream began, which waiting points were dropped."""
    new_stream: bool = False
    """Whether this image begins a new stream: all tracks before it are gone."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """The tracks that were asked for."""

    tracks: Tracks | None
    """In the newest image, points added since included; None before the first image."""
    waiting_ids: list[int]
    """Ids of the points that wait for the image in which they start."""
    unknown_ids: list[int]
    """Ids that were asked for and belong to no point."""


class TrackStream:
    """Decides what every image of a stream is, and accepts or refuses points one by one.

    An image with the stamp of the newest one, or at most `late_tolerance` older, or without a stamp among ones that
    have one, is left out. So is a single one that is older still, or later by more than `LONGEST_GAP`; if the next
    image follows it, the stamps have jumped: back, a new stream begins, and ahead, the stream goes on there. Another
    image size that stays begins a new stream, too; single images of another size are left out. Not safe for several
    threads at once.
    """

    def __init__(self, tracker: PointTracker) -> None:
        self._tracker = tracker
        self._other_size: tuple[int, int] | None = None
        self._of_other_size = 0
        self._doubted: int | None = None
        """Stamp of the newest image if that was left out because its stamp had jumped."""

    def warm_up(self, width: int, height: int) -> None:
        """Run every part of the backend once on a black image and begin a new stream."""
        self._tracker.warm_up(width, height)
        self._forget_doubts()

    def step(self, image: NDArray[np.uint8], stamp: int) -> Step:
        """Track all points into the next image, uint8 [H,W,3] RGB, with its stamp in nanoseconds.

        Raises `InvalidImageError` for what is no such image.
        """
        size, newest = image_size(image), self._tracker.newest
        restart = None
        if newest is not None:
            if left_out := self._unusable_stamp(stamp, newest.stamp) or self._doubtful_jump(stamp, newest.stamp):
                return Step(None, left_out)
            restart = self._jump_back(stamp, newest.stamp)
            if restart is None and size != (newest.coordinates.width, newest.coordinates.height):
                restart = self._lasting_size_change(size, newest)
                if restart is None:
                    return Step(None, _other_size_notice(size, newest))
        self._forget_doubts()
        if restart is not None:
            self._tracker.reset()
        tracks = self._tracker.step(image, stamp)
        notices = [] if restart is None else [f"{restart}: a new stream begins, all tracks are removed."]
        if tracks.refused:
            first = tracks.refused[0]
            notices.append(f"{len(tracks.refused)} waiting points were dropped. Point {first.id}: {first.reason}")
        if tracks.refused_regions:
            region = tracks.refused_regions[0]
            notices.append(
                f"{len(tracks.refused_regions)} waiting regions were dropped. Group {region.group}: {region.reason}"
            )
        return Step(tracks, notices=tuple(notices), new_stream=restart is not None or newest is None)

    def add(
        self,
        xy: NDArray[np.float64],
        ids: Sequence[int],
        stamp: int,
        groups: Sequence[int] | None = None,
        *,
        replace: bool,
    ) -> tuple[list[int], list[str]]:
        """Add points [N,2] in pixels, chosen in the image with `stamp`; 0 is the newest image.

        Return for each its id, 0 if it was refused, and why it was refused, empty if it was not. With `replace` all
        other points are removed first, unless every new one is refused.
        """
        if refusal := too_many(len(xy)):
            return [0] * len(xy), [refusal] * len(xy)
        return self._tracker.add_each(xy, ids, stamp or self._last_stamp, groups, replace=replace)

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
        """Choose up to `count` points, 0 for the configured number, in regions of the image with `stamp`, 0 the newest.

        See `PointTracker.add_regions`. With `known`, a region of a group that is tracked already is no mistake: it is
        left alone, and so is its group, whose ids are returned.
        """
        count = count or self._tracker.config.points_per_region
        if refusal := too_many_regions(len(regions), count):
            return [AddedRegion(0, [], refusal)] * len(regions)
        tracked = self._tracker.ids_of_groups() if known else {}
        new = [index for index, group in enumerate(groups) if group not in tracked]
        added = [AddedRegion(group, tracked.get(group, []), "") for group in groups]
        answers = self._tracker.add_regions(
            [regions[index] for index in new],
            count,
            [groups[index] for index in new],
            stamp or self._last_stamp,
            replace=replace,
        )
        for index, answer in zip(new, answers, strict=True):
            added[index] = answer
        return added

    def click(self, x: float, y: float, stamp: int) -> None:
        """Add one point chosen by a person. Raises what `PointTracker.add` raises.

        Display tools stamp clicks with their own clock: a stamp later than the newest image stands for that image.
        """
        last = self._last_stamp
        seen = last is not None and 0 < stamp <= last
        self._tracker.add([[x, y]], stamp=stamp if seen else last)

    def remove(self, ids: Collection[int], groups: Collection[int] = ()) -> tuple[list[int], list[int]]:
        """End tracks by id and by group; return those ids and those groups that no live track has, each once."""
        wanted, wanted_groups = list(dict.fromkeys(ids)), list(dict.fromkeys(groups))
        live, live_groups = set(self._tracker.ids.tolist()), set(self._tracker.groups)
        self._tracker.remove(
            [id_ for id_ in wanted if id_ in live], [group for group in wanted_groups if group in live_groups]
        )
        return (
            [id_ for id_ in wanted if id_ not in live],
            [group for group in wanted_groups if group not in live_groups],
        )

    def newest(self, ids: Collection[int]) -> Answer:
        """Return the tracks `ids`, empty for all, in the newest image."""
        wanted, tracks = set(ids), self._tracker.tracks
        waiting = [id_ for id_ in self._tracker.waiting_ids if not ids or id_ in wanted]
        known = {*waiting, *(tracks.ids.tolist() if tracks else ())}
        if tracks is not None and ids:
            tracks = tracks.select(np.isin(tracks.ids, np.array(list(wanted), np.uint64)))
        return Answer(tracks, waiting, [id_ for id_ in dict.fromkeys(ids) if id_ not in known])

    def reset(self) -> None:
        """Remove all points; the next image begins a new stream."""
        self._tracker.reset()
        self._forget_doubts()

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on with other thresholds; see `PointTracker.reconfigure`."""
        self._tracker.reconfigure(config)

    @property
    def _last_stamp(self) -> int | None:
        return self._tracker.newest.stamp if self._tracker.newest else None

    def _forget_doubts(self) -> None:
        self._other_size, self._of_other_size = None, 0
        self._doubted = None

    def _unusable_stamp(self, stamp: int, newest: int) -> str | None:
        """Return why an image with this stamp is left out, None if it is not."""
        if stamp == newest:
            return (
                f"The image's stamp {stamp} ns is the same as the previous image's; publish every image once, with "
                "the time at which it was taken."
            )
        if stamp == 0:
            return "The image has no stamp (0); publish every image with the time at which it was taken."
        late = newest - stamp
        if 0 < late <= self._tracker.config.late_tolerance * NANOSECONDS:
            return (
                f"The image is {late / NANOSECONDS:.6f} s older than the previous one; publish images in order, or "
                "lower `late_tolerance` if this is a new stream."
            )
        return None

    def _doubtful_jump(self, stamp: int, newest: int) -> str | None:
        """Return why an image is left out whose stamp has jumped; None if none has, or the one before as well."""
        limit = LONGEST_GAP * NANOSECONDS
        if newest < stamp <= newest + limit:
            return None
        before, self._doubted = self._doubted, stamp
        is_back = stamp < newest
        if before is not None and before < stamp and (stamp <= before + limit if is_back else newest < before):
            return None
        seconds = abs(newest - stamp) / NANOSECONDS
        effect = "a new stream begins" if is_back else "the stream goes on there"
        return (
            f"The image is {seconds:.3f} s {'older' if is_back else 'later'} than the previous one; if the next "
            f"one follows it, {effect}, otherwise its stamp was wrong."
        )

    def _jump_back(self, stamp: int, newest: int) -> str | None:
        if stamp > newest:
            return None
        return f"The image stamp jumped back by {(newest - stamp) / NANOSECONDS:.3f} s"

    def _lasting_size_change(self, size: tuple[int, int], newest: EncodedFrame) -> str | None:
        """Count an image of another size; say so when it is the last of several in a row."""
        self._of_other_size = self._of_other_size + 1 if size == self._other_size else 1
        self._other_size = size
        if self._of_other_size < IMAGES_OF_A_NEW_SIZE:
            return None
        return f"The image size changed from {_text(newest)} to {size[0]}x{size[1]}"


def too_many(count: int) -> str | None:
    """Return why a request with this number of points or ids is refused, None if it is not."""
    if count <= MOST_POINTS:
        return None
    return f"The request holds {count} points, more than {MOST_POINTS}; send fewer at once."


def too_many_regions(regions: int, count: int) -> str | None:
    """Return why a request for `count` points in each of some regions is refused, None if it is not."""
    if regions > MOST_REGIONS:
        return f"The request holds {regions} regions, more than {MOST_REGIONS}; send fewer at once."
    return too_many(regions * count)


def _other_size_notice(size: tuple[int, int], newest: EncodedFrame) -> str:
    return (
        f"The image has {size[0]}x{size[1]} pixels but the stream {_text(newest)}; publish one camera on one topic. "
        f"{IMAGES_OF_A_NEW_SIZE} such images in a row begin a new stream."
    )


def _text(frame: EncodedFrame) -> str:
    return f"{frame.coordinates.width}x{frame.coordinates.height}"
