"""Bodies as messages, whoever made the message types: rclpy or rosbags."""

from __future__ import annotations

from typing import Any

import numpy as np

from taptr_ros.bodies.camera import Floats
from taptr_ros.bodies.rigid import Pose, quaternion
from taptr_ros.bodies.rigid_bodies import BodyState, RigidBody
from taptr_ros.bodies.stream import PlacedTracks
from taptr_ros.messages.kinds import MessageKinds

RIGID_BODIES = "taptr_ros/msg/RigidBodies"
"""Message type of all bodies in one image."""

_AXIS_LENGTH, _AXIS_WIDTH, _TEXT_HEIGHT = 0.08, 0.004, 0.03
"""Metres, of markers."""

_LINE_LIST, _TEXT, _DELETE_ALL = 5, 9, 3
"""Numbers of visualization_msgs/Marker."""


def rigid_bodies(placed: PlacedTracks, header: Any, kinds: MessageKinds) -> Any:
    """Return the bodies of one image as taptr_ros/RigidBodies."""
    bodies = [_rigid_body(body, kinds) for body in placed.bodies]
    return kinds(RIGID_BODIES)(header=header, stream=placed.lifted.tracks.stream, bodies=bodies)


def pose_array(placed: PlacedTracks, header: Any, kinds: MessageKinds) -> Any:
    """Return the poses of the bodies that can be relied on, by group, as geometry_msgs/PoseArray."""
    poses = [_pose(body.pose, kinds) for body in _tracked(placed)]
    return kinds("geometry_msgs/msg/PoseArray")(header=header, poses=poses)


def transforms(placed: PlacedTracks, header: Any, kinds: MessageKinds, prefix: str) -> Any:
    """Return those poses as tf2_msgs/TFMessage: frames that are named by the prefix and the group."""
    stamped = kinds("geometry_msgs/msg/TransformStamped")
    frames = [
        stamped(header=header, child_frame_id=f"{prefix}{body.group}", transform=_transform(body.pose, kinds))
        for body in _tracked(placed)
    ]
    return kinds("tf2_msgs/msg/TFMessage")(transforms=frames)


def markers(placed: PlacedTracks, header: Any, kinds: MessageKinds) -> Any:
    """Return the bodies as visualization_msgs/MarkerArray: the axes of those that can be relied on, and their groups.

    The markers of the image before go away.
    """
    marker, point = kinds("visualization_msgs/msg/Marker"), kinds("geometry_msgs/msg/Point")
    colour = kinds("std_msgs/msg/ColorRGBA")
    found = [marker(header=header, ns="bodies", action=_DELETE_ALL)]
    for body in _tracked(placed):
        axes = marker(header=header, ns="axes", id=body.group % 2**31, type=_LINE_LIST, pose=_pose(body.pose, kinds))
        axes.scale.x = _AXIS_WIDTH
        for axis in np.eye(3).tolist():
            axes.points += [
                point(x=0.0, y=0.0, z=0.0),
                point(**dict(zip("xyz", np.multiply(axis, _AXIS_LENGTH).tolist(), strict=True))),
            ]
            axes.colors += [colour(r=axis[0], g=axis[1], b=axis[2], a=1.0)] * 2
        name = marker(header=header, ns="groups", id=body.group % 2**31, type=_TEXT, pose=_pose(body.pose, kinds))
        name.text, name.scale.z, name.color = str(body.group), _TEXT_HEIGHT, colour(r=1.0, g=1.0, b=1.0, a=1.0)
        found += [axes, name]
    return kinds("visualization_msgs/msg/MarkerArray")(markers=found)


def _tracked(placed: PlacedTracks) -> list[RigidBody]:
    return [body for body in placed.bodies if body.state == BodyState.TRACKED]


def _rigid_body(body: RigidBody, kinds: MessageKinds) -> Any:
    covariance = np.where(np.isfinite(body.covariance), body.covariance, np.nan).ravel()
    pose = kinds("geometry_msgs/msg/PoseWithCovariance")(pose=_pose(body.pose, kinds), covariance=covariance)
    twist = kinds("geometry_msgs/msg/Twist")(
        linear=_vector(body.twist[:3], kinds), angular=_vector(body.twist[3:], kinds)
    )
    return kinds("taptr_ros/msg/RigidBody")(
        group=body.group,
        state=int(body.state),
        pose=pose,
        twist=twist,
        motion=_transform(body.motion, kinds),
        points=body.points,
        inliers=body.inliers,
        residual_mm=1000.0 * body.residual,
    )


def _pose(pose: Pose, kinds: MessageKinds) -> Any:
    x, y, z = pose.translation.tolist()
    position = kinds("geometry_msgs/msg/Point")(x=x, y=y, z=z)
    return kinds("geometry_msgs/msg/Pose")(position=position, orientation=_quaternion(pose.rotation, kinds))


def _transform(pose: Pose, kinds: MessageKinds) -> Any:
    return kinds("geometry_msgs/msg/Transform")(
        translation=_vector(pose.translation, kinds), rotation=_quaternion(pose.rotation, kinds)
    )


def _quaternion(rotation: Floats, kinds: MessageKinds) -> Any:
    x, y, z, w = quaternion(rotation).tolist()
    return kinds("geometry_msgs/msg/Quaternion")(x=x, y=y, z=z, w=w)


def _vector(numbers: Floats, kinds: MessageKinds) -> Any:
    x, y, z = numbers.tolist()
    return kinds("geometry_msgs/msg/Vector3")(x=x, y=y, z=z)
