"""Checks of what callers pass in, before anything is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taptr_ros.errors import DuplicateIdError, InvalidImageError, InvalidPointsError, InvalidStampError
from taptr_ros.runtime.coordinates import UnitCoordinates


def image_size(image: Any) -> tuple[int, int]:
    """Return (width, height) of an image; raises `InvalidImageError` unless it is uint8 [H,W,3] and not empty."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidImageError(f"The image is of {kind}; give a numpy array of uint8.")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InvalidImageError(f"The image has shape {list(image.shape)}; give [H,W,3] in RGB.")
    height, width = image.shape[:2]
    if not (height and width):
        raise InvalidImageError(f"The image has {width}x{height} pixels; give one that is not empty.")
    return width, height


def as_stamp(stamp: Any) -> int:
    """Return a stamp as int; raises `InvalidStampError` if it is not a whole number."""
    if isinstance(stamp, bool) or not isinstance(stamp, (int, np.integer)):
        raise InvalidStampError(f"The stamp is {stamp!r}; give whole nanoseconds.")
    return int(stamp)


def as_ids(ids: ArrayLike) -> NDArray[np.uint64]:
    """Return one id or a sequence of ids as uint64 [N]; raises `InvalidPointsError` if they are not whole numbers."""
    # As objects: numpy would turn a list of small and very large whole numbers into rounded floats.
    array = np.atleast_1d(np.asarray(ids, object))
    if array.ndim != 1 or not all(isinstance(id_, (int, np.integer)) and 0 <= id_ < 2**64 for id_ in array):
        raise InvalidPointsError(f"The ids {ids!r} are not whole numbers from 0 to 2^64 - 1 in one row; give such ids.")
    return array.astype(np.uint64)


def refuse_repeated(ids: list[int]) -> None:
    """Raise `DuplicateIdError` if an id is in the list twice."""
    if len(set(ids)) < len(ids):
        repeated = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise DuplicateIdError(f"Id {repeated} is given twice in one call; give every id once.")


def as_points(xy: ArrayLike) -> NDArray[np.float64]:
    """Return points as float64 [N,2].

    Raises `InvalidPointsError` if they are not finite numbers in that shape, or left of or above every image.
    """
    try:
        points = np.asarray(xy, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidPointsError(f"The points are not numbers ({error}); give an array of shape [N,2].") from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise InvalidPointsError(f"The points have shape {list(points.shape)}; give [N,2], x and y in pixels.")
    for x, y in points[~(np.isfinite(points) & (points >= -0.5)).all(axis=1)]:
        raise InvalidPointsError(
            f"The point ({x:g}, {y:g}) is in no image; give finite pixel coordinates, which start at -0.5."
        )
    return points


def outside(points: NDArray[np.float64], image: UnitCoordinates) -> NDArray[np.bool_]:
    """Return which of the points [N,2] in pixels lie outside the image, [N]."""
    last = np.array([image.width, image.height]) - 0.5
    is_outside: NDArray[np.bool_] = np.any((points < -0.5) | (points > last), axis=1)
    return is_outside


def outside_error(x: float, y: float, image: UnitCoordinates) -> InvalidPointsError:
    """Return the exception for a point that lies outside the image."""
    return InvalidPointsError(
        f"The point ({x:g}, {y:g}) is outside the image of {image.width}x{image.height} pixels; "
        f"give x from -0.5 to {image.width - 0.5} and y from -0.5 to {image.height - 0.5}."
    )
