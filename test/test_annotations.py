"""Tracks as annotations for Foxglove; foxglove_msgs is not among the ROS packages on PyPI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
messages: Any = pytest.importorskip("foxglove_msgs.msg", reason="foxglove_msgs is not installed")
pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

from ros_graph import Client, Inbox, header, new_namespace, ros_context, until_timeout  # noqa: E402
from streams import stamp, true_position, view  # noqa: E402

from taptr_ros.cli.live_run import NodeProcesses  # noqa: E402
from taptr_ros.nodes.annotations import AnnotationDrawer  # noqa: E402
from taptr_ros.runtime.loading import load_backend  # noqa: E402
from taptr_ros.tracking import PointTracker, TrackerConfig  # noqa: E402
from taptr_ros.tracking.states import TrackState  # noqa: E402


def test_points_trails_and_ids_are_where_the_tracks_are() -> None:
    tracker = PointTracker(load_backend("lucas_kanade"), TrackerConfig(capacity=4))
    tracker.add([[100.0, 90.0], [60.25, 50.0], [30.0, 30.0]])
    drawer = AnnotationDrawer()
    for frame in range(5):
        tracks = tracker.step(view(frame), stamp(frame))
        tracks.state[2] = TrackState.LOST
        tracks.state[1], tracks.visible[1] = TrackState.OCCLUDED, False
        drawn = drawer.draw(view(frame), tracks, header(stamp(frame)))
    assert nanoseconds_of(drawn.timestamp) == stamp(4)
    # The origin is the corner of the first pixel.
    for circle, text, trail, (x, y) in zip(
        drawn.circles, drawn.texts, drawn.points, tracks.xy[:2].tolist(), strict=True
    ):
        assert (circle.position.x, circle.position.y) == pytest.approx((x + 0.5, y + 0.5))
        assert (trail.points[-1].x, trail.points[-1].y) == (circle.position.x, circle.position.y)
        assert np.hypot(text.position.x - circle.position.x, text.position.y - circle.position.y) < 10.0
        assert (len(trail.points), trail.type) == (5, messages.PointsAnnotation.LINE_STRIP)
    assert [text.text for text in drawn.texts] == ["1", "2"]  # the third one is lost
    assert [circle.fill_color.a for circle in drawn.circles] == [1.0, 0.0]  # the second one is hidden, so hollow


def test_they_are_published_while_somebody_subscribes(tmp_path: Path) -> None:
    namespace = new_namespace()
    with ros_context() as context, NodeProcesses(namespace, tmp_path) as processes:
        processes.start("tracker", {"model": "lucas_kanade"})
        client = Client(context, namespace)
        try:
            client.connect()
            client.frame(0)
            client.add([(100.0, 90.0)], ids=[5])
            inbox = Inbox(client.node, messages.ImageAnnotations, "tracks/annotations")
            for frame in until_timeout():
                client.frame(frame + 1)
                if inbox.has_one_within(0.2):
                    break
            client.frame(frame + 2)
            drawn = inbox.next(lambda message: nanoseconds_of(message.timestamp) == stamp(frame + 2))
            expected = true_position(np.array([[100.0, 90.0]]), frame + 2)[0] + 0.5
            place = drawn.circles[0].position
            assert (place.x, place.y) == pytest.approx(tuple(expected), abs=0.3)
            assert drawn.texts[0].text == "5"
        finally:
            client.close()


def nanoseconds_of(time: Any) -> int:
    return int(time.sec) * 10**9 + int(time.nanosec)
