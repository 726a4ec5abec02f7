"""The launch file under launch_testing: the installed nodes track through a video.

`colcon test` runs it, and `launch_test test/tracker_launch.test.py`; pytest does not.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

import launch
import launch_testing
import launch_testing.asserts
import rclpy
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from launch_testing.actions import ReadyToTest

sys.path.insert(0, str(Path(__file__).parent))

from media_files import moving_scene, write_video
from taptr_ros.msg import QueryPoint, QueryPoints, TrackedPoints

NAMESPACE = f"/launched_{os.getpid()}"
TIMEOUT = 60.0
FRAMES = 200


def generate_test_description() -> launch.LaunchDescription:
    folder = Path(tempfile.mkdtemp())
    write_video(folder / "scene.avi", moving_scene(FRAMES))
    arguments = {
        "namespace": NAMESPACE,
        "image": "camera/image_raw",
        "source": str(folder / "scene.avi"),
        "record": str(folder / "bag"),
    }
    file = PathJoinSubstitution([FindPackageShare("taptr_ros"), "launch", "tracker.launch.py"])
    included = launch.actions.IncludeLaunchDescription(
        PythonLaunchDescriptionSource(file), launch_arguments=arguments.items()
    )
    return launch.LaunchDescription([included, ReadyToTest()])


class TestRunning(unittest.TestCase):
    def test_a_point_is_tracked(self) -> None:
        rclpy.init()
        node = rclpy.create_node("client", namespace=NAMESPACE)
        received: list[TrackedPoints] = []
        node.create_subscription(TrackedPoints, "tracks", received.append, 10)
        publisher = node.create_publisher(QueryPoints, "query_points", 10)
        end = time.monotonic() + TIMEOUT
        asked = False
        while time.monotonic() < end and not (received and received[-1].points):
            rclpy.spin_once(node, timeout_sec=0.1)
            if received and not asked:
                asked = True
                points = [QueryPoint(id=7, x=60.0, y=50.0)]
                publisher.publish(QueryPoints(header=received[-1].header, points=points))
        node.destroy_node()
        rclpy.try_shutdown()
        assert [point.id for point in received[-1].points] == [7]
        assert received[-1].header.frame_id == "camera_optical_frame"


@launch_testing.post_shutdown_test()
class TestEnded(unittest.TestCase):
    def test_every_process_ended_with_status_0(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
