"""The programs in docs/manipulation.md, run as they stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taptr_ros.bodies.rigid import Pose, pose_of, quaternion, rotation_matrix

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "manipulation.md"

if not DOCUMENT.exists():
    pytest.skip("not in the source tree", allow_module_level=True)

ROS_PROGRAM, PYTHON_PROGRAM = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_goal_moves_with_the_object(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    msg: Any = pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")
    from geometry_msgs.msg import PoseStamped
    from rclpy.node import Node
    from ros_graph import Inbox, Spinner, header, nanoseconds, new_namespace, ros_context, wait_until

    assert 30 <= len(ROS_PROGRAM.splitlines()) <= 46
    program = tmp_path / "grasp_follower.py"
    program.write_text(ROS_PROGRAM)
    with ros_context() as context:
        node = Node("arm", context=context, namespace=new_namespace())
        goals, publisher = Inbox(node, PoseStamped, "goal"), node.create_publisher(msg.RigidBodies, "bodies", 10)
        spinner = Spinner(node, context)
        command = [sys.executable, str(program), "--ros-args", "-r", f"__ns:={node.get_namespace()}"]
        follower = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE)
        try:
            wait_until(lambda: publisher.get_subscription_count() == 1 and bool(node.count_publishers("goal")))
            first = Pose(np.eye(3), np.array([0.1, 0.0, 0.7]))
            turned = Pose(rotation_matrix(np.array([0.0, np.pi / 2, 0.0])), np.array([0.2, 0.1, 0.7]))
            frames = [(first, 0, 1), (turned, 5, 1), (first, 0, 2), (turned, 0, 1)]  # pose, state, stream
            for number, (pose, state, stream) in enumerate(frames):
                body = msg.RigidBody(group=1, state=state)
                body.pose.pose.position.x, body.pose.pose.position.y, body.pose.pose.position.z = pose.translation
                (
                    body.pose.pose.orientation.x,
                    body.pose.pose.orientation.y,
                    body.pose.pose.orientation.z,
                    body.pose.pose.orientation.w,
                ) = quaternion(pose.rotation).tolist()
                others = msg.RigidBody(group=2)
                publisher.publish(msg.RigidBodies(header=header(number + 1), stream=stream, bodies=[others, body]))
                if (state, stream) == (0, 1):
                    goal = goals.next()
                    assert nanoseconds(goal) == number + 1
                    grasp = np.array([0.0, 0.0, 0.6])
                    true = pose.apply(first.inverse().apply(grasp))
                    found = pose_of(goal.pose)
                    np.testing.assert_allclose(found.translation, true, atol=1e-9)
                    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-9)
        finally:
            follower.send_signal(signal.SIGINT)
            follower.communicate(timeout=30)
            spinner.stop()
            node.destroy_node()


def test_the_program_without_ros_prints_where_the_body_is(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
    depth = np.full((480, 640), 900, np.uint16)
    exec(PYTHON_PROGRAM, {"frames": [(index + 1, picture, depth) for index in range(2)]})  # noqa: S102
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("1 ")]
    assert len(lines) == 2
    for line in lines:
        middle = [float(number) for number in line.partition("[")[2].partition("]")[0].split()]
        np.testing.assert_allclose(middle, [0.9 * (320 - 319.5) / 600, 0.9 * (240 - 239.5) / 600, 0.9], atol=0.01)
