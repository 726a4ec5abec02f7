"""Tracks as messages, whoever made the message types: rclpy or rosbags."""

from __future__ import annotations

from typing import Any

from taptr_ros.tracking.states import Tracks


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
