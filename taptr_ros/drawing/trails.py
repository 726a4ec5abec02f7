"""Where tracks have been in the last frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taptr_ros.tracking.states import Tracks, TrackState

TRAIL_FRAMES = 24
"""Frames that a trail reaches back."""


def located(tracks: Tracks) -> NDArray[np.bool_]:
    """Return of which tracks [n] the position means something: those that are visible or occluded."""
    chosen: NDArray[np.bool_] = np.isin(tracks.state, (TrackState.VISIBLE, TrackState.OCCLUDED))
    return chosen


class Trails:
    """The last positions of one stream's tracks, oldest first; a track that is not located has none in that frame."""

    def __init__(self) -> None:
        self.ids = np.zeros(0, np.uint64)
        """[n]."""
        self.xy = np.zeros((0, TRAIL_FRAMES + 1, 2), np.float32)
        """[n,F,2] ROS pixels; the last one is that of the newest frame."""
        self.known = np.zeros((0, TRAIL_FRAMES + 1), np.bool_)
        """[n,F] whether the track was located."""

    def extend(self, tracks: Tracks) -> None:
        """Take one more position per track; new tracks begin a trail, and those that are gone take theirs with them."""
        ids = tracks.ids
        if not np.array_equal(ids, self.ids):
            old_row = {identifier: row for row, identifier in enumerate(self.ids.tolist())}
            rows = np.array([old_row.get(identifier, -1) for identifier in ids.tolist()], np.int64)
            xy = np.zeros((len(ids), *self.xy.shape[1:]), np.float32)
            known = np.zeros((len(ids), self.known.shape[1]), np.bool_)
            xy[rows >= 0], known[rows >= 0] = self.xy[rows[rows >= 0]], self.known[rows[rows >= 0]]
            self.ids, self.xy, self.known = ids.copy(), xy, known
        self.xy[:, :-1], self.known[:, :-1] = self.xy[:, 1:].copy(), self.known[:, 1:].copy()
        self.xy[:, -1], self.known[:, -1] = tracks.xy, located(tracks)

    def pieces(self, row: int) -> list[NDArray[np.float32]]:
        """Return the trail of a track as pieces [k,2], k from 1 on, between the frames in which it was not located."""
        first, *others = np.split(self.xy[row], np.flatnonzero(~self.known[row]))
        return [piece for piece in (first, *(other[1:] for other in others)) if len(piece)]
