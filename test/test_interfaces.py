"""The ROS interfaces as built: fields, constants, and the round trip through the middleware's serialization."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
msg = pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from sensor_msgs.msg import Image, RegionOfInterest  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from taptr_ros import srv  # noqa: E402
from taptr_ros.bodies.rigid_bodies import BodyState  # noqa: E402

LARGEST_ID = 2**64 - 1


def round_trip(message: Any) -> Any:
    return deserialize_message(serialize_message(message), type(message))


def header() -> Header:
    result = Header(frame_id="camera_optical_frame")
    result.stamp.sec, result.stamp.nanosec = 1_700_000_000, 999_999_999
    return result


def query_points() -> Any:
    points = [msg.QueryPoint(id=0, x=-0.5, y=479.5), msg.QueryPoint(id=LARGEST_ID, group=2**32 - 1, x=319.25, y=0.0)]
    return msg.QueryPoints(header=header(), mode=msg.QueryPoints.REPLACE, points=points)


def query_regions() -> Any:
    mask = Image(height=1, width=2, encoding="mono16", step=4, data=[0, 0, 255, 255])
    return msg.QueryRegions(
        header=header(),
        mode=msg.QueryRegions.REPLACE,
        boxes=[RegionOfInterest(x_offset=1, y_offset=2, width=2**32 - 1, height=4)],
        mask=mask,
        labels=[2**16 - 1],
        groups=[2**32 - 1],
        points_per_region=12,
    )


def tracked_points() -> Any:
    point = msg.TrackedPoint(
        id=LARGEST_ID,
        x=12.5,
        y=-3.25,
        visibility=0.125,
        confidence=0.75,
        state=msg.TrackedPoint.OUT_OF_VIEW,
        age=2**32 - 1,
        frames_since_seen=7,
    )
    return msg.TrackedPoints(header=header(), width=640, height=480, points=[point, msg.TrackedPoint(id=1)])


def rigid_bodies() -> Any:
    body = msg.RigidBody(group=2**32 - 1, state=msg.RigidBody.NOT_RIGID, points=9, inliers=4, residual_mm=2.5)
    body.pose.pose.position.x, body.motion.rotation.w, body.twist.angular.z = 0.5, 1.0, -0.25
    body.pose.covariance = np.arange(36, dtype=np.float64)
    return msg.RigidBodies(header=header(), stream=3, bodies=[body, msg.RigidBody()])


@pytest.mark.parametrize(
    "message",
    [
        rigid_bodies(),
        query_points(),
        tracked_points(),
        query_regions(),
        srv.AddRegions.Request(query=query_regions()),
        srv.AddRegions.Response(
            regions=[
                msg.AddedRegion(label=2**16 - 1, group=2**32 - 1, ids=[LARGEST_ID]),
                msg.AddedRegion(refusal="boxes[1] is too small."),
            ],
            refusal="",
        ),
        msg.RemovePoints(ids=[1, LARGEST_ID], groups=[2**32 - 1]),
        srv.AddPoints.Request(query=query_points()),
        srv.AddPoints.Response(ids=[7, 0], refusals=["", "Point 1 is outside the image."]),
        srv.RemovePoints.Request(ids=[1, LARGEST_ID], groups=[3]),
        srv.RemovePoints.Response(unknown_ids=[LARGEST_ID], unknown_groups=[3]),
        srv.GetTracks.Request(ids=[]),
        srv.GetTracks.Response(tracks=tracked_points(), unknown_ids=[3]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_survive_serialization(message: Any) -> None:
    # Compared as text: == of a field with a numpy array, a covariance, has no truth value.
    assert repr(round_trip(message)) == repr(message)


def test_stamp_is_kept_to_the_nanosecond() -> None:
    stamp = round_trip(tracked_points()).header.stamp
    assert (stamp.sec, stamp.nanosec) == (1_700_000_000, 999_999_999)


def test_constants_have_their_documented_values() -> None:
    point = msg.TrackedPoint
    assert (point.VISIBLE, point.OCCLUDED, point.OUT_OF_VIEW, point.LOST) == (0, 1, 2, 3)
    assert (msg.QueryPoints.ADD, msg.QueryPoints.REPLACE) == (0, 1)
    assert {state.name: state.value for state in BodyState} == {
        name: getattr(msg.RigidBody, name)
        for name in ("TRACKED", "WAITING", "HIDDEN", "TOO_FEW_POINTS", "ON_A_LINE", "NOT_RIGID")
    }
    assert (msg.QueryRegions.ADD, msg.QueryRegions.REPLACE) == (0, 1)


def test_field_types() -> None:
    assert msg.QueryPoint.get_fields_and_field_types() == {
        "id": "uint64",
        "group": "uint32",
        "x": "float",
        "y": "float",
    }
    assert msg.TrackedPoint.get_fields_and_field_types() == {
        "id": "uint64",
        "group": "uint32",
        "x": "float",
        "y": "float",
        "visibility": "float",
        "confidence": "float",
        "state": "uint8",
        "age": "uint32",
        "frames_since_seen": "uint32",
    }


def test_ids_take_numpy_arrays() -> None:
    ids = np.array([1, LARGEST_ID], np.uint64)
    assert list(round_trip(msg.RemovePoints(ids=ids)).ids) == [1, LARGEST_ID]
