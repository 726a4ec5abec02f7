"""Checks of what callers pass in, before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptr_ros.errors import InvalidImageError, InvalidPointsError, InvalidStampError
from taptr_ros.runtime.coordinates import UnitCoordinates


def image_size(image: Any) -> tuple[int, int]:
    """Return (width, height) of an image; raises `InvalidImageError` unless it is uint8 [H,W,3] and not empty."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidImageError(f"The image is of {kind}; pass a numpy array of uint8.")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InvalidImageError(f"The image has shape {list(image.shape)}; pass [H,W,3] in RGB.")
    height, width = image.shape[:2]
    if not (height and width):
        raise InvalidImageError(f"The image has {width}x{height} pixels; pass one that is not empty.")
    return width, height


def as_stamp(stamp: Any) -> int:
    """Return a stamp as int; raises `InvalidStampError` if it is not a whole number."""
    if isinstance(stamp, bool) or not isinstance(stamp, (int, np.integer)):
        raise InvalidStampError(f"The stamp is {stamp!r}; pass whole nanoseconds.")
    return int(stamp)


def as_ids(ids: ArrayLike) -> NDArray[np.uint64]:
    """Return one id or a sequence of ids as uint64 [N]; raises `InvalidPointsError` if they are not whole numbers."""
    return _whole_numbers(ids, "ids", 64).astype(np.uint64)


def as_groups(groups: ArrayLike) -> NDArray[np.uint32]:
    """Return groups as uint32 [N], as `as_ids` does; raises `InvalidPointsError` likewise."""
    return _whole_numbers(groups, "groups", 32).astype(np.uint32)


def repeated(ids: Iterable[int]) -> int | None:
    """Return the first id that comes a second time, None if every one is there once."""
    seen: set[int] = set()
    for id_ in ids:
        if id_ in seen:
            return id_
        seen.add(id_)
    return None


def _whole_numbers(values: ArrayLike, name: str, bits: int) -> NDArray[np.object_]:
    # As objects: numpy would turn a list of small and very large whole numbers into rounded floats.
    array = np.atleast_1d(np.asarray(values, object))
    if array.ndim != 1 or not all(isinstance(value, (int, np.integer)) and 0 <= value < 2**bits for value in array):
        raise InvalidPointsError(
            f"The {name} {values!r} are not whole numbers from 0 to 2^{bits} - 1 in one row; pass such {name}."
        )
    return array


def as_points(xy: ArrayLike) -> NDArray[np.float64]:
    """Return points as float64 [N,2]; raises `InvalidPointsError` if they are not numbers in that shape."""
    try:
        points = np.asarray(xy, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidPointsError(f"The points are not numbers ({error}); pass an array of shape [N,2].") from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise InvalidPointsError(f"The points have shape {list(points.shape)}; pass [N,2], x and y in pixels.")
    return points


def outside(points: NDArray[np.float64], image: UnitCoordinates | None) -> NDArray[np.bool_]:
    """Return which of the points [N,2] in pixels are not finite or outside the image, [N]; None is every image."""
    last = np.array([image.width, image.height]) - 0.5 if image else np.inf
    is_inside: NDArray[np.bool_] = np.all(np.isfinite(points) & (points >= -0.5) & (points <= last), axis=1)
    return ~is_inside


def outside_error(x: float, y: float, image: UnitCoordinates | None) -> InvalidPointsError:
    """Return the exception for a point that `outside` found."""
    if image is None or not (math.isfinite(x) and math.isfinite(y)):
        return InvalidPointsError(
            f"The point ({x:g}, {y:g}) is in no image; use finite pixel coordinates, which start at -0.5."
        )
    return InvalidPointsError(
        f"The point ({x:g}, {y:g}) is outside the image of {image.width}x{image.height} pixels; "
        f"use x from -0.5 to {image.width - 0.5} and y from -0.5 to {image.height - 0.5}."
    )
