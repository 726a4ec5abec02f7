"""Tracks as messages, whoever made the message types: rclpy or rosbags."""

from __future__ import annotations

from typing import Any

import numpy as np

from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.tracking.states import Tracks, TrackState


def tracked_points(tracks: Tracks, header: Any, points_kind: Any, point_kind: Any) -> Any:
    """Return the tracks of one image as `points_kind`, a class TrackedPoints, with points of `point_kind`."""
    columns = (
        tracks.ids.tolist(),
        tracks.xy.tolist(),
        tracks.visibility.tolist(),
        tracks.state.tolist(),
        tracks.age.tolist(),
        tracks.frames_since_seen.tolist(),
    )
    points = [
        point_kind(id=id_, x=x, y=y, visibility=visibility, state=state, age=age, frames_since_seen=unseen)
        for id_, (x, y), visibility, state, age, unseen in zip(*columns, strict=True)
    ]
    return points_kind(header=header, width=tracks.width, height=tracks.height, points=points)


def tracks_of(message: Any) -> Tracks:
    """Return the tracks that a TrackedPoints message holds; `scene_cut` is not part of it and False."""
    points = message.points
    state = np.array([point.state for point in points], np.uint8)
    return Tracks(
        ids=np.array([point.id for point in points], np.uint64),
        xy=np.array([(point.x, point.y) for point in points], np.float32).reshape(-1, 2),
        visibility=np.array([point.visibility for point in points], np.float32),
        visible=state == TrackState.VISIBLE,
        state=state,
        age=np.array([point.age for point in points], np.uint32),
        frames_since_seen=np.array([point.frames_since_seen for point in points], np.uint32),
        stamp=nanoseconds(message.header.stamp),
        width=message.width,
        height=message.height,
        scene_cut=False,
    )
