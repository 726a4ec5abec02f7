"""Lost points of a group are replaced by others on the same body, never on what is behind or before it.

The first view of the body, its region in the image in which it was chosen, is kept. In a later image the visible points
tell how that view has moved, as an affine map that most of them agree with. A place counts as the body's where the
moved region is, between points that agree, and looks there as the first view does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.tracking.regions import LEAST_APART, Bytes, Floats, spread_places
from taptr_ros.tracking.states import TrackState

INTERVAL = 5
"""Frames between two looks for lost points."""

MOST_VIEW_PIXELS = 1 << 17
"""Pixels of a view that is kept; larger regions are shrunk."""

FEWEST = 4
"""Fewest points that must agree on how the body has moved."""

AGREEMENT = 0.5
"""Least share of the visible points that must agree."""

TOLERANCE_SHARE, LEAST_TOLERANCE = 0.04, 3.0
"""How far a point may be from where the others put it: a share of the body's size, and at least so many pixels."""

SMALLEST_SCALE, LARGEST_SCALE = 0.25, 4.0
"""How much smaller and larger, along any direction, the body may look than in its first view."""

MARGIN = 3
"""Pixels by which a replacement stays away from the border of the moved region."""

PATCH = 7
"""Pixels on each side of a place that are compared with the first view."""

SEARCH = 3
"""Pixels by which the view may be off at a place, because the body is not flat."""

LIKENESS = 0.8
"""Least normalised cross-correlation with the first view."""

CANDIDATES = 4
"""Places that are compared for each point that is missing."""


@dataclasses.dataclass
class BodyView:
    """The first view of a body, and where its points are in it. Its pixels are those of `grey`."""

    grey: NDArray[np.float32]
    """[h,w]."""
    inside: Bytes
    """[h,w] 1 where the region is."""
    count: int
    """How many points the group is kept at."""
    places: dict[int, tuple[float, float]]
    """Where each point is, by its id; a replacement is where it would have been."""


@dataclasses.dataclass(frozen=True)
class Replacement:
    """New points of a group."""

    group: int
    """The group."""
    xy: Floats
    """[k,2] their places in the grey image."""
    lost_ids: list[int]
    """Tracks that end for them, at most k; those that have ended already are not among them."""
    places: list[tuple[float, float]]
    """[k] the same places in the first view."""


class Replenishment:
    """The first views of all groups that began as a region, and what is missing in each.

    All positions are pixels of the grey images in which points are chosen.
    """

    def __init__(self) -> None:
        self._views: dict[int, BodyView] = {}

    def begin(self, group: int, grey: Bytes, inside: Bytes, ids: Sequence[int], xy: Floats) -> None:
        """Remember the view of a body in the grey image [h,w] in which its points, ids and places [N,2], begin."""
        left, top, width, height = cv2.boundingRect(inside)
        scale = min(1.0, math.sqrt(MOST_VIEW_PIXELS / (width * height)))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        crop = np.s_[top : top + height, left : left + width]
        factor = np.array(size) / (width, height)
        places = ((xy - (left, top) + 0.5) * factor - 0.5).tolist()
        self._views[group] = BodyView(
            cv2.resize(grey[crop], size, interpolation=cv2.INTER_AREA).astype(np.float32),
            np.asarray(cv2.resize(inside[crop], size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8),
            len(ids),
            {id_: (x, y) for id_, (x, y) in zip(ids, places, strict=True)},
        )

    def keep(self, groups: Collection[int]) -> None:
        """Forget the bodies of all other groups."""
        self._views = {group: view for group, view in self._views.items() if group in groups}

    def lower(self, ids: Collection[int]) -> None:
        """Take note that a caller has removed points: they are not to be replaced."""
        for view in self._views.values():
            for id_ in ids:
                view.count -= view.places.pop(id_, None) is not None

    def replace(self, replacement: Replacement, ids: Sequence[int]) -> None:
        """Take note that a replacement has been carried out, with these ids [k]."""
        view = self._views[replacement.group]
        for id_ in replacement.lost_ids:
            view.places.pop(id_, None)
        view.places.update(zip(ids, replacement.places, strict=True))

    def replacements(self, grey: Bytes, tracks: NDArray[np.void], xy: Floats) -> Iterator[Replacement]:
        """Yield what can be replaced now, group by group.

        Args:
            grey: uint8 [h,w], the newest image.
            tracks: [n] records of all tracks in it (dtype `slot_table.RECORD`).
            xy: [n,2] where they are.
        """
        for group, view in self._views.items():
            own = tracks["group"] == group
            located = own & (tracks["state"] != TrackState.LOST)
            missing = view.count - int(located.sum())
            if missing <= 0:
                continue
            known = np.isin(tracks["id"], np.array(list(view.places), np.uint64))
            seen = np.flatnonzero(own & known & tracks["visible"])
            places = np.array([view.places[id_] for id_ in tracks["id"][seen].tolist()]).reshape(-1, 2)
            motion = _motion(places, xy[seen])
            if motion is None:
                continue
            moved, agreeing = motion
            found = _places_on_body(view, grey, moved, xy[seen][agreeing], xy[located], missing)
            if found:
                lost = tracks["id"][own & ~located].tolist()
                new, old = zip(*found, strict=True)
                yield Replacement(group, np.array(new), lost[: len(found)], list(old))


def _motion(places: Floats, xy: Floats) -> tuple[Floats, NDArray[np.bool_]] | None:
    """Return the affine map [2,3] from the first view to the image, and which of the points [N,2] agree with it.

    None if too few do, or if the body would look far smaller, larger or flatter than in its first view.
    """
    if len(xy) < FEWEST:
        return None
    size = float(np.linalg.norm(np.ptp(xy, axis=0)))
    tolerance = max(TOLERANCE_SHARE * size, LEAST_TOLERANCE)
    # Six numbers need more points than four do.
    estimate = cv2.estimateAffine2D if len(xy) >= 2 * FEWEST else cv2.estimateAffinePartial2D
    moved, inliers = estimate(places, xy, method=cv2.RANSAC, ransacReprojThreshold=tolerance)
    if moved is None or not np.isfinite(moved).all():
        return None
    agreeing = inliers.ravel() > 0
    scales = np.linalg.svd(moved[:, :2], compute_uv=False)
    is_sound = (
        agreeing.sum() >= max(FEWEST, AGREEMENT * len(xy))
        and np.linalg.det(moved[:, :2]) > 0
        and SMALLEST_SCALE <= scales[1] <= scales[0] <= LARGEST_SCALE
    )
    return (np.asarray(moved, np.float64), agreeing) if is_sound else None


def _places_on_body(
    view: BodyView, grey: Bytes, moved: Floats, agreeing: Floats, taken: Floats, count: int
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return up to `count` places on the body, each in the image and in the first view.

    Args:
        view: the body.
        grey: uint8 [h,w], the image.
        moved: affine map [2,3] from the view to the image.
        agreeing: [N,2] points of the body in the image that agree with it.
        taken: [M,2] points of the group in the image, which new ones keep away from.
        count: how many are wanted.
    """
    # The part of the image round the points, and what else is compared.
    low = np.maximum(np.floor(agreeing.min(axis=0)).astype(int) - PATCH - SEARCH, 0)
    high = np.minimum(np.ceil(agreeing.max(axis=0)).astype(int) + PATCH + SEARCH + 1, grey.shape[::-1])
    width, height = (high - low).tolist()
    if min(width, height) <= 2 * (PATCH + SEARCH):
        return []
    image = grey[low[1] : high[1], low[0] : high[0]]
    to_part = moved - np.array([[0, 0, low[0]], [0, 0, low[1]]])
    inside = cv2.warpAffine(view.inside, to_part, (width, height), flags=cv2.INTER_NEAREST)
    inside = cv2.erode(inside, np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8), borderValue=0)
    between = np.zeros_like(inside)
    cv2.fillConvexPoly(between, cv2.convexHull(np.rint(agreeing - low).astype(np.int32)), 1)
    free = np.zeros((height, width), np.uint8)
    around = PATCH + SEARCH
    middle = np.s_[around : height - around, around : width - around]
    free[middle] = cv2.bitwise_and(inside, between)[middle]
    for x, y in np.rint(taken - low).astype(int).tolist():
        if -around < x < width + around and -around < y < height + around:
            cv2.circle(free, (x, y), int(LEAST_APART) + 1, 0, cv2.FILLED)
    candidates = spread_places(image, free, CANDIDATES * count)
    first_view = cv2.warpAffine(view.grey, to_part, (width, height), flags=cv2.INTER_LINEAR)
    back = cv2.invertAffineTransform(to_part)
    found: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for x, y in candidates.astype(int).tolist():
        patch = image[y - PATCH : y + PATCH + 1, x - PATCH : x + PATCH + 1].astype(np.float32)
        sought = first_view[y - around : y + around + 1, x - around : x + around + 1]
        _, likeness, _, best = cv2.minMaxLoc(cv2.matchTemplate(sought, patch, cv2.TM_CCOEFF_NORMED))
        if likeness >= LIKENESS:
            place = back @ [x + best[0] - SEARCH, y + best[1] - SEARCH, 1.0]
            found.append(((float(x + low[0]), float(y + low[1])), (float(place[0]), float(place[1]))))
    return found[:count]
