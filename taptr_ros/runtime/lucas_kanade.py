"""The classical baseline: pyramidal Lucas-Kanade optical flow (Bouguet 2001) behind the backend protocol.

It has no weights and no memory. A point that is hidden once is lost: the flow goes on from where it drifted to.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import InvalidConfigError
from taptr_ros.model.tuning import Tuning
from taptr_ros.runtime.backend import BackendInfo, Decoded, Features, NumpyArrays, QueryArrays, TrackArrays
from taptr_ros.runtime.coordinates import UnitCoordinates
from taptr_ros.runtime.images import fit_image

WINDOW = (21, 21)
"""Width and height, in pixels, of the window that is matched on every pyramid level."""

COARSEST_LEVEL = 3
"""Number of the coarsest pyramid level; level 0 is the image itself, so there are four."""

FORWARD_BACKWARD_LIMIT = 1.0
"""Forward-backward error in pixels at which the visibility probability crosses `VISIBLE_THRESHOLD`."""

VISIBLE_THRESHOLD = 0.5
"""Visibility probability above which a point counts as visible."""


class LucasKanadeBackend:
    """`Backend` that follows the optical flow from frame to frame.

    Features are the grey image, uint8 [height,width]; a track's state is its position, float32 (x, y) in pixels of that
    image with (0,0) at the centre of the top-left pixel.

    Args:
        size: (height, width) in pixels that images are stretched to; None leaves every image as it is, and `info`
            then gives 0 for both.

    Raises:
        InvalidConfigError: `size` is smaller than the matching window.
    """

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        if size is not None and (size[0] < WINDOW[1] or size[1] < WINDOW[0]):
            raise InvalidConfigError(
                f"Lucas-Kanade's input size is {size[0]}x{size[1]}, smaller than its {WINDOW[1]}x{WINDOW[0]} window; "
                "use a larger one."
            )
        self._size = size
        height, width = size or (0, 0)
        self._info = BackendInfo(
            model="lucas_kanade",
            backend="opencv",
            device="cpu",
            precision="float32",
            height=height,
            width=width,
            content_dim=0,
            context_dim=0,
            state_dim=2,
            visible_threshold=VISIBLE_THRESHOLD,
            context_renewal=0.0,
            tuning=Tuning(),
            corner_aligned_coordinates=False,
            self_attention=False,
            starting_queries_join_decoder=False,
        )

    @property
    def info(self) -> BackendInfo:
        """Constants of the method."""
        return self._info

    def allocate(self, capacity: int, slots: int) -> TrackArrays:
        """Return empty track arrays for `capacity` tracks; their memory has no channels."""
        return TrackArrays(NumpyArrays(), self._info, capacity, slots)

    def encode(self, image: NDArray[np.uint8]) -> Features:
        """Return the grey image, uint8 [height,width], of an image uint8 [H,W,3] RGB of any size.

        It is all that can be kept of a frame: OpenCV's Python interface takes images, not pyramids.
        """
        if self._size is not None:
            image = np.rint(fit_image(image, *self._size)).astype(np.uint8)
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

    def init_queries(self, features: Features, xy: NDArray[np.float32]) -> QueryArrays:
        """Begin tracks at unit coordinates `xy` [N,2]; content and context have no channels."""
        count = len(xy)
        return QueryArrays(
            content=np.zeros((count, 0), np.float32),
            context=np.zeros((count, 3, 3, 0), np.float32),
            state=_coordinates(features).to_pixels(xy),
        )

    def decode(
        self,
        features: Features,
        previous_features: Features | None,
        tracks: TrackArrays,
        rows: int,
        slots: int,
        updated: NDArray[np.bool_],
        frame: int,
    ) -> Decoded:
        """Follow the flow from `previous_features` to `features` for the tracks in rows 0..rows-1.

        Rows whose `updated` is False stay where they are, with visibility 1: there the position is given, not found.
        Without previous features the others stay too, with visibility 0. See `Backend.decode` for the arguments.
        """
        state = np.array(tracks.state[:rows], np.float32)
        visibility = np.where(updated, 0.0, 1.0).astype(np.float32)
        if previous_features is not None and updated.any():
            state[updated], visibility[updated] = _follow(previous_features, features, state[updated])
        return Decoded(
            xy=_coordinates(features).from_pixels(state),
            visibility=visibility,
            confidence=np.ones_like(visibility),
            state=state,
            content=np.zeros((rows, 0), np.float32),
        )


def visibility_from_error(forward_backward_error: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the visibility probability for forward-backward errors in pixels, both [N].

    1 / (1 + (error / limit)^2): 1 for a perfect return, 0.5 at `FORWARD_BACKWARD_LIMIT`, towards 0 beyond. It is a
    ranking that puts the usual threshold of the check at 0.5, not a calibrated probability.
    """
    return np.asarray(1.0 / (1.0 + (forward_backward_error / FORWARD_BACKWARD_LIMIT) ** 2), np.float32)


def _follow(
    source: NDArray[np.uint8], target: NDArray[np.uint8], start: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where pixels `start` [N,2] of `source` are in `target`, [N,2], and their visibility [N].

    A point that the flow did not find, forward or backward, or that left the image, has visibility 0.
    """
    end, found = _flow(source, target, start)
    back, found_back = _flow(target, source, end)
    visibility = visibility_from_error(np.linalg.norm(back.astype(np.float64) - start, axis=-1))
    height, width = target.shape
    inside = ((end >= -0.5) & (end <= (width - 0.5, height - 0.5))).all(axis=-1)
    return end, np.where(found & found_back & inside, visibility, np.float32(0.0))


def _flow(
    source: NDArray[np.uint8], target: NDArray[np.uint8], start: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Run OpenCV's pyramidal Lucas-Kanade on pixels `start` [N,2]; return the ends and whether they were found."""
    points = start[:, np.newaxis]
    end, status, _ = cv2.calcOpticalFlowPyrLK(
        source, target, points, np.empty_like(points), winSize=WINDOW, maxLevel=COARSEST_LEVEL
    )
    return np.asarray(end[:, 0], np.float32), status[:, 0] == 1


def _coordinates(grey: NDArray[np.uint8]) -> UnitCoordinates:
    """Return the conversion between unit coordinates and pixels of the grey image."""
    height, width = grey.shape
    return UnitCoordinates(width=width, height=height, corner_aligned=False)
