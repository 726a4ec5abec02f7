"""This package's and ROS's messages for bags: read and written without ROS."""

from __future__ import annotations

import functools
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from taptr_ros.bodies.stream import PlacedTracks
from taptr_ros.errors import SourceError
from taptr_ros.messages.bodies import RIGID_BODIES, pose_array, rigid_bodies
from taptr_ros.messages.clouds import metric_cloud
from taptr_ros.messages.kinds import BagKinds, header
from taptr_ros.messages.tracks import tracked_points
from taptr_ros.tracking.states import Tracks

TRACKED_POINTS = "taptr_ros/msg/TrackedPoints"
"""Message type of all tracks in one image."""

PLACES = ("sensor_msgs/msg/PointCloud2", RIGID_BODIES, "geometry_msgs/msg/PoseArray")
"""Message types of all tracks of one image in metres, of the bodies, and of the poses of those that are tracked."""

_MESSAGES = ("TrackedPoint", "TrackedPoints", "RigidBody", "RigidBodies")


@functools.cache
def typestore() -> Typestore:
    """Return the types that bags are written and read with: ROS's common ones and ours, from their .msg files."""
    # The types used here are the same in every distribution, and so are their hashes.
    store = get_typestore(Stores.ROS2_JAZZY)
    folder = _message_folder()
    for name in _MESSAGES:
        store.register(get_types_from_msg((folder / f"{name}.msg").read_text(), f"taptr_ros/msg/{name}"))
    return store


def serialized_tracks(tracks: Tracks, frame_id: str) -> bytes:
    """Return tracks as a TrackedPoints message (CDR) with their image's stamp."""
    kinds = BagKinds(typestore().types)
    message = tracked_points(
        tracks,
        header(kinds, tracks.stamp, frame_id),
        kinds(TRACKED_POINTS),
        kinds("taptr_ros/msg/TrackedPoint"),
    )
    return bytes(typestore().serialize_cdr(message, TRACKED_POINTS))


def serialized_places(placed: PlacedTracks) -> tuple[bytes, bytes, bytes]:
    """Return what is known in metres of one image as messages of the types `PLACES` (CDR), with the image's stamp."""
    kinds = BagKinds(typestore().types)
    head = header(kinds, placed.lifted.tracks.stamp, placed.frame_id)
    cloud, bodies, poses = PLACES
    return (
        bytes(typestore().serialize_cdr(metric_cloud(placed.lifted, head, kinds), cloud)),
        bytes(typestore().serialize_cdr(rigid_bodies(placed, head, kinds), bodies)),
        bytes(typestore().serialize_cdr(pose_array(placed, head, kinds), poses)),
    )


def _message_folder() -> Path:
    """Return where this installation keeps its .msg files: in share/, or at the root of the source tree."""
    for parent in Path(__file__).parents:
        for folder in (parent / "share" / "taptr_ros" / "msg", parent / "msg"):
            if (folder / f"{_MESSAGES[0]}.msg").is_file():
                return folder
    raise SourceError("The package's .msg files are missing; install taptr_ros again.")
