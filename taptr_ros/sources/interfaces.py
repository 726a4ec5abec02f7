"""This package's and ROS's messages for bags: read and written without ROS."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from taptr_ros.errors import SourceError
from taptr_ros.messages.tracks import tracked_points
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.tracking.states import Tracks

TRACKED_POINTS = "taptr_ros/msg/TrackedPoints"
"""Message type of all tracks in one image."""

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
    store = typestore()
    stamp = store.types["builtin_interfaces/msg/Time"](*divmod(tracks.stamp, NANOSECONDS))
    header: Any = store.types["std_msgs/msg/Header"](stamp, frame_id)
    kinds = store.types[TRACKED_POINTS], store.types["taptr_ros/msg/TrackedPoint"]
    return bytes(store.serialize_cdr(tracked_points(tracks, header, *kinds), TRACKED_POINTS))


def _message_folder() -> Path:
    """Return where this installation keeps its .msg files: in share/, or at the root of the source tree."""
    for parent in Path(__file__).parents:
        for folder in (parent / "share" / "taptr_ros" / "msg", parent / "msg"):
            if (folder / f"{_MESSAGES[0]}.msg").is_file():
                return folder
    raise SourceError("The package's .msg files are missing; install taptr_ros again.")
