"""What the tracker reports: the tracks of one frame and the state of each."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
from numpy.typing import NDArray


class TrackState(enum.IntEnum):
    """What is known of a track in one frame."""

    VISIBLE = 0
    """The point is seen."""
    OCCLUDED = 1
    """The point is hidden by something, inside the image."""
    OUT_OF_VIEW = 2
    """The point is not seen and its position is at the image's border."""
    LOST = 3
    """The point was not found again after a scene cut, or has not been seen for too long. Its position is its last
    one after a cut, otherwise the model's guess."""


@dataclasses.dataclass(frozen=True)
class Tracks:
    """All tracks in one frame, in the order in which they were added; n tracks.

    Points that still wait for their first frame are not among them.
    """

    ids: NDArray[np.uint64]
    """[n] ids."""
    xy: NDArray[np.float32]
    """[n,2] positions in pixels of the incoming image, (0, 0) the centre of the top-left pixel."""
    visibility: NDArray[np.float32]
    """[n] probability that the point is visible."""
    visible: NDArray[np.bool_]
    """[n] the decision on it, with hysteresis."""
    state: NDArray[np.uint8]
    """[n] values of `TrackState`."""
    age: NDArray[np.uint32]
    """[n] frames since the track's first."""
    frames_since_seen: NDArray[np.uint32]
    """[n] frames since the point was last visible; 0 while it is."""
    stamp: int
    """Stamp of the frame in nanoseconds."""
    width: int
    """Width of the frame in pixels."""
    height: int
    """Height of the frame in pixels."""
    scene_cut: bool
    """Whether a scene cut, or a gap in the stamps, lies between the previous frame and this one."""


def is_visible(
    visibility: NDArray[np.float32], was_visible: NDArray[np.bool_], threshold: float, hysteresis: float
) -> NDArray[np.bool_]:
    """Decide on the probabilities `visibility` [n].

    Visible tracks stay so above threshold - hysteresis, others become so above threshold + hysteresis.
    """
    return visibility > np.where(was_visible, threshold - hysteresis, threshold + hysteresis)


def track_states(
    visible: NDArray[np.bool_],
    lost: NDArray[np.bool_],
    xy: NDArray[np.float32],
    border_margin: float,
) -> NDArray[np.uint8]:
    """Return the `TrackState` [n] of tracks at unit coordinates `xy` [n,2]."""
    outside = ((xy <= border_margin) | (xy >= 1.0 - border_margin)).any(axis=1)
    states = np.where(outside, TrackState.OUT_OF_VIEW, TrackState.OCCLUDED)
    states = np.where(lost, TrackState.LOST, states)
    return np.where(visible, TrackState.VISIBLE, states).astype(np.uint8)
