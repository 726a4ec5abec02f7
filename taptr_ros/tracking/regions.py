"""Regions of an image, each the view of one body, and the points that are chosen in them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidRegionError

MOST_PIXELS = 1 << 20
"""Pixels of the images in which points are chosen; larger ones are shrunk. Networks see even fewer."""

LEAST_THICKNESS = 4.0
"""A region must have a pixel whose distance to the nearest pixel outside exceeds this: be 8 pixels wide somewhere."""

MARGIN_SHARE, LEAST_MARGIN, MOST_MARGIN = 0.25, 2.0, 8.0
"""Points are farther from the region's border than this share of its thickness, in pixels within these limits."""

LEAST_APART = 4.0
"""Shortest distance in pixels between two points of a region."""

SPACING_SHARE = 0.8
"""First distance tried between points, as a share of the side of a square that is one point's share of the area."""

LEAST_TEXTURE = 1.0
"""Least `texture` in grey levels per pixel. Noise with a standard deviation of 4 grey levels stays below."""

SMOOTHING, WINDOW = 1.0, 5
"""Standard deviation in pixels by which images are smoothed, and the side of the window of `texture`."""

AROUND = 8
"""Pixels round a region that its texture depends on."""

CUT_OUT_PIXELS, SURROUNDINGS, MIDDLE, LEAST_BODY = 64 * 64, 0.5, 0.35, 0.3
"""How a body is cut out of a box: the box is shrunk to so many pixels; it is compared with what lies round it, a share
of its sides wide; the body fills the middle of the box, a share of its sides, and at least a share of its area."""

FEWEST_IN_BODY = 4
"""Points that must be found in what was cut out, or the whole box counts."""

FARTHEST = 1e6
"""Coordinates in pixels beyond this, either way, are nonsense."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


class Region(Protocol):
    """Where a body is seen in an image."""

    @property
    def name(self) -> str:
        """What the region is in the request, for messages."""

    @property
    def holds_background(self) -> bool:
        """Whether it may hold what is behind the body, too."""

    def check(self) -> None:
        """Raise `InvalidRegionError` for a region that is in no image."""

    def inside(self, width: int, height: int, shape: tuple[int, int]) -> Bytes:
        """Return which pixels lie inside, 1 or 0 [h,w], of an image of width x height that was shrunk to shape (h, w).

        Raises `InvalidRegionError` if none does, or if the region is of an image of another size.
        """


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle in an image, in pixels."""

    name: str
    """What it is in the request, for messages."""
    x: float
    """Column of its first pixel: x = 0 and width = 2 covers the pixels 0 and 1, from -0.5 to 1.5."""
    y: float
    """Row of its first pixel."""
    width: float
    """Pixels in a row."""
    height: float
    """Rows."""
    angle: float = 0.0
    """Radians by which it is turned about its centre, counterclockwise as one sees the image."""

    @property
    def holds_background(self) -> bool:
        """See `Region`."""
        return True

    def check(self) -> None:
        """See `Region`."""
        numbers = (self.x, self.y, self.width, self.height, self.angle)
        if not all(math.isfinite(number) for number in numbers):
            raise InvalidRegionError(f"{self.name} has a coordinate that is not finite; use pixels.")
        if self.width <= 0 or self.height <= 0:
            raise InvalidRegionError(
                f"{self.name} is {self.width:g} pixels wide and {self.height:g} high; both must be above 0."
            )

    def inside(self, width: int, height: int, shape: tuple[int, int]) -> Bytes:
        """See `Region`. A box that reaches over the image's edge is cut there."""
        self.check()
        result = np.zeros(shape, np.uint8)
        numbers = (self.x, self.y, self.width, self.height)
        if max(map(abs, numbers)) <= FARTHEST:
            scale = np.array([shape[1] / width, shape[0] / height])
            # Corners count from the image's corner, so that pixel i spans i to i + 1.
            centre = np.array([self.x + self.width / 2, self.y + self.height / 2])
            half = np.array([self.width / 2, self.height / 2])
            if self.angle:
                _fill_turned(result, centre, half, self.angle, scale)
            else:
                # Pixels whose centres are inside.
                left, top = np.maximum(np.ceil((centre - half) * scale - 0.5), 0).astype(int)
                right, bottom = np.maximum(np.floor((centre + half) * scale - 0.5) + 1, 0).astype(int)
                result[top:bottom, left:right] = 1
        if not result.any():
            raise InvalidRegionError(
                f"{self.name} at ({self.x:g}, {self.y:g}) with {self.width:g}x{self.height:g} pixels holds no pixel of "
                f"the image of {width}x{height} pixels; use pixels of that image."
            )
        return result


@dataclasses.dataclass(frozen=True)
class LabelMask:
    """An image of labels, one for each body, 0 where there is none; shrunk like the images in which points are chosen.

    Raises `InvalidRegionError` if it is empty.
    """

    labels: NDArray[np.unsignedinteger]
    """[h,w] uint8 or uint16."""
    width: int
    """Width in pixels before it was shrunk."""
    height: int
    """Height likewise."""

    @classmethod
    def of(cls, labels: NDArray[np.unsignedinteger]) -> LabelMask:
        """Return the mask of labels uint8 or uint16 [H,W]."""
        if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16) or not labels.size:
            raise InvalidRegionError(
                f"The mask is {labels.dtype} {list(labels.shape)}; pass uint8 or uint16 [H,W] that is not empty."
            )
        height, width = labels.shape
        shape = shrunk_shape(width, height)
        shrunk = (
            cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) if shape != labels.shape else labels
        )
        # A copy: the caller may use its array again while the region waits for its image.
        return cls(np.array(shrunk), width, height)

    @property
    def present(self) -> list[int]:
        """The labels that it holds, in ascending order, without 0."""
        return [label for label in np.flatnonzero(np.bincount(self.labels.ravel())).tolist() if label]

    def regions(self, labels: list[int] | None = None) -> list[Label]:
        """Return the regions of some labels, None for all.

        Raises `InvalidRegionError` if the mask is asked for all and holds none.
        """
        wanted = self.present if labels is None else labels
        if labels is None and not wanted:
            raise InvalidRegionError("The mask holds no label, 0 everywhere; give every body a number from 1 on.")
        return [Label(self, label) for label in wanted]


@dataclasses.dataclass(frozen=True)
class Label:
    """The pixels of a mask that have a label."""

    mask: LabelMask
    """The mask, which several regions may share."""
    label: int
    """From 1 on."""

    @property
    def name(self) -> str:
        """See `Region`."""
        return f"Label {self.label} of the mask"

    @property
    def holds_background(self) -> bool:
        """See `Region`."""
        return False

    def check(self) -> None:
        """See `Region`."""
        if not self.label:
            raise InvalidRegionError("Label 0 of the mask stands for no body; ask for labels from 1 on.")
        if not (self.mask.labels == self.label).any():
            raise InvalidRegionError(f"{self.name} is nowhere in it; ask for labels that it holds.")

    def inside(self, width: int, height: int, shape: tuple[int, int]) -> Bytes:
        """See `Region`."""
        self.check()
        mask = self.mask
        if (mask.width, mask.height) != (width, height):
            raise InvalidRegionError(
                f"The mask has {mask.width}x{mask.height} pixels but the image {width}x{height}; send a mask of the "
                "image's size."
            )
        return np.asarray(mask.labels == self.label, np.uint8)


def shrunk_shape(width: int, height: int) -> tuple[int, int]:
    """Return (height, width) of what is kept of an image of width x height pixels."""
    scale = min(1.0, math.sqrt(MOST_PIXELS / (width * height)))
    return max(1, int(height * scale)), max(1, int(width * scale))


def shrunk_view(image: Bytes) -> Bytes:
    """Return what is kept of an image uint8 [H,W,3] RGB to choose points in it later, uint8 [h,w,3]; always a copy."""
    height, width = image.shape[:2]
    shape = shrunk_shape(width, height)
    view = image
    while view.shape[0] * view.shape[1] > 4 * MOST_PIXELS:
        # The mean of 2x2 pixels, and several times as fast as averaging over areas at once.
        view = np.asarray(
            cv2.resize(view, (view.shape[1] // 2, view.shape[0] // 2), interpolation=cv2.INTER_LINEAR), np.uint8
        )
    if shape == (height, width):
        return np.array(view, np.uint8)
    return np.asarray(cv2.resize(view, shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def grey_of(view: Bytes) -> Bytes:
    """Return a view uint8 [h,w,3] RGB in grey, uint8 [h,w]."""
    return np.asarray(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), np.uint8)


@dataclasses.dataclass(frozen=True)
class ChosenPoints:
    """Points of a region."""

    xy: Floats
    """[N,2] in pixels of the image."""
    in_view: Floats
    """[N,2] in pixels of the view in which they were chosen."""
    inside: Bytes
    """[h,w] 1 where that view shows the body."""


def points_in(region: Region, view: Bytes, width: int, height: int, count: int) -> ChosenPoints:
    """Choose up to `count` points in a region of an image of width x height pixels.

    view: the image as `shrunk_view` returns it.

    Raises `InvalidRegionError`, in one sentence with the region's name, if there is no point to choose.
    """
    inside = region.inside(width, height, view.shape[:2])
    grey = grey_of(view)
    chosen, body = np.empty((0, 2)), inside
    if region.holds_background:
        body = cut_out(view, inside)
        with contextlib.suppress(InvalidRegionError):  # thin or plain bodies: their box may have points
            chosen = choose_points(grey, body, count)
    if len(chosen) < min(count, FEWEST_IN_BODY):
        body = inside
        try:
            chosen = choose_points(grey, inside, count)
        except InvalidRegionError as error:
            raise InvalidRegionError(f"{region.name} {error}") from None
    return ChosenPoints((chosen + 0.5) / shrinking(width, height, view) - 0.5, chosen, body)


def shrinking(width: int, height: int, view: Bytes) -> Floats:
    """Return the columns and rows of a view per column and row of its image of width x height pixels, [2]."""
    return np.array([view.shape[1] / width, view.shape[0] / height])


def cut_out(view: Bytes, inside: Bytes) -> Bytes:
    """Return which pixels of a box show the body in its middle and not what is behind it, 1 or 0 [h,w].

    These are the ones whose colours are those of the middle of the box rather than those around it, in pieces as whole
    as can be (GrabCut, Rother et al. 2004). Where the two cannot be told apart, as in a box within a large body, it is
    the ellipse that fills the box.

    Args:
        view: uint8 [h,w,3] RGB.
        inside: uint8 [h,w], 1 in the box and 0 outside; not empty.
    """
    left, top, width, height = cv2.boundingRect(inside)
    around_x, around_y = int(SURROUNDINGS * width) + 1, int(SURROUNDINGS * height) + 1
    part = (
        slice(max(top - around_y, 0), min(top + height + around_y, inside.shape[0])),
        slice(max(left - around_x, 0), min(left + width + around_x, inside.shape[1])),
    )
    rows, columns = np.ogrid[part]
    # How far from the middle of the box, as a share of its half sides.
    far = np.hypot((columns - left - (width - 1) / 2) / (width / 2), (rows - top - (height - 1) / 2) / (height / 2))
    box = inside[part] > 0
    kinds = np.select([~box, far > 1, far > MIDDLE], [cv2.GC_BGD, cv2.GC_PR_BGD, cv2.GC_PR_FGD], cv2.GC_FGD).astype(
        np.uint8
    )
    scale = min(1.0, math.sqrt(CUT_OUT_PIXELS / (width * height)))
    size = max(1, round(far.shape[1] * scale)), max(1, round(far.shape[0] * scale))
    labels = np.array(cv2.resize(kinds, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    result = np.zeros_like(inside)
    # It describes the colours of each side by five clusters, which take as many pixels.
    if 5 <= int((labels & 1).sum()) <= labels.size - 5:
        cv2.setRNGSeed(0)  # its clusters begin at random places
        shrunk = cv2.resize(view[part], size, interpolation=cv2.INTER_AREA)
        cv2.grabCut(shrunk, labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
        result[part] = cv2.resize(labels & 1, far.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        result &= inside
    if int(result.sum()) < LEAST_BODY * int(inside.sum()):
        result[part] = box & (far <= 1)
    return result


def choose_points(grey: Bytes, inside: Bytes, count: int) -> Floats:
    """Choose up to `count` points in a region of a grey image, best first; returns pixels [N,2], N from 1 on.

    They are inside, where `texture` has a local maximum, `LEAST_APART` or more from each other and farther if there is
    room, and away from the border. Fewer than `count` come if there are not so many such places.

    Args:
        grey: uint8 [h,w].
        inside: uint8 [h,w], 1 inside the region and 0 outside; not empty. Outside the image is outside.
        count: from 1 on.

    Raises `InvalidRegionError` if the region is too small or has no texture, as the end of a sentence.
    """
    left, top, width, height = cv2.boundingRect(inside)
    cut = cv2.copyMakeBorder(inside[top : top + height, left : left + width], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(cut, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    thickness = float(depth.max())
    if thickness <= LEAST_THICKNESS:
        raise InvalidRegionError(
            f"is too small, at most {2 * thickness - 1:.0f} pixels wide; choose regions that are "
            f"{2 * LEAST_THICKNESS:.0f} pixels wide or more."
        )
    deep = depth > np.clip(MARGIN_SHARE * thickness, LEAST_MARGIN, MOST_MARGIN)
    # Pixels round the region count for the texture at its border.
    first = max(left - AROUND, 0), max(top - AROUND, 0)
    image = grey[first[1] : top + height + AROUND, first[0] : left + width + AROUND]
    free = np.zeros(image.shape, np.uint8)
    free[top - first[1] :, left - first[0] :][:height, :width][deep] = 1
    chosen = spread_places(image, free, count, SPACING_SHARE * math.sqrt(int(free.sum()) / count))
    if not len(chosen):
        raise InvalidRegionError(
            "has no texture away from its border by which a point could be recognised; choose another region, or "
            "points by hand."
        )
    return chosen + first


def spread_places(grey: Bytes, free: Bytes, count: int, spacing: float = LEAST_APART) -> Floats:
    """Return up to `count` local maxima of the texture of an image among the pixels that are `free`, [N,2] pixels.

    They are `spacing` apart, best first, those after them half as far and so on, down to `LEAST_APART`.

    Args:
        grey: uint8 [h,w].
        free: uint8 [h,w], 1 where places may be.
        count: from 1 on.
        spacing: in pixels.
    """
    smooth = smoothed(grey)
    free = free & (texture(smooth) >= LEAST_TEXTURE)
    chosen = np.empty((0, 2))
    while True:
        spacing = max(spacing, LEAST_APART)
        for x, y in chosen.astype(int).tolist():
            cv2.circle(free, (x, y), int(spacing) + 1, 0, cv2.FILLED)
        found = cv2.goodFeaturesToTrack(smooth, count - len(chosen), 1e-9, spacing, mask=free, blockSize=WINDOW)
        if found is not None:
            chosen = np.concatenate([chosen, found.reshape(-1, 2)])
        if len(chosen) >= count or spacing <= LEAST_APART:
            return chosen
        spacing /= 2


def smoothed(grey: Bytes) -> NDArray[np.float32]:
    """Return an image as `texture` takes it, float32 [h,w]."""
    return np.asarray(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), SMOOTHING), np.float32)


def texture(smooth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how well every place of an image can be told from its neighbours, in grey levels per pixel, [h,w].

    That is the root mean square of the gradient over a window, along the direction in which it is weakest: the corner
    measure of Shi and Tomasi (Good Features to Track, 1994).
    """
    weakest = cv2.cornerMinEigenVal(smooth, WINDOW, ksize=3)
    # OpenCV divides the sums of Sobel's 3x3 filter, 8 times the gradient, by 4 WINDOW, and adds up WINDOW^2 of them.
    return np.asarray(np.sqrt(np.maximum(weakest, 0.0)) / 2.0, np.float32)


def _fill_turned(result: Bytes, centre: Floats, half: Floats, angle: float, scale: Floats) -> None:
    """Set the pixels inside a turned rectangle; centre and half sizes count from the image's corner."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    cos, sin = math.cos(angle), math.sin(angle)
    # Counterclockwise as one sees it: y points down.
    turned = corners @ np.array([[cos, -sin], [sin, cos]]) + centre
    cv2.fillConvexPoly(result, np.rint(turned * scale - 0.5).astype(np.int32), 1)
