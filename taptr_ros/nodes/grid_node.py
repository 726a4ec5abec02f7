"""The ROS node `grid`: asks a tracker for a grid of points, and for a new one when few of them can be followed."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from taptr_ros.errors import InvalidMessageError
from taptr_ros.messages.serialized import deserialized
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.msg import QueryPoint, QueryPoints, TrackedPoint, TrackedPoints
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.configs import GridConfig
from taptr_ros.nodes.parameters import ParameterNode, declare_parameters, read_config
from taptr_ros.nodes.process import LOG_PERIOD, parse_arguments, run
from taptr_ros.sources.grid import grid_points
from taptr_ros.tracking.history import NANOSECONDS

ANSWER_TIME = NANOSECONDS // 2
"""Nanoseconds, on the clock of the images, within which a tracker answers a request; it is not asked again before."""


class GridNode(ParameterNode):
    """Publishes `query_points` that replace all tracks: for the first image, and when too few points are located.

    Its topics are those of the tracker: it looks at `tracks`, which come for every image, also without any points.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("grid", **options)
        declare_parameters(self, GridConfig, read_only=True)
        self._config = read_config(self, GridConfig, {})
        self._asked: int | None = None
        self._publisher = self.create_publisher(QueryPoints, "query_points", qos.reliable())
        self.create_subscription(TrackedPoints, "tracks", self._look_at, qos.reliable(), raw=True)

    def _look_at(self, data: bytes) -> None:
        try:
            tracks = deserialized(data, TrackedPoints)
        except InvalidMessageError as error:
            self.get_logger().error(f"tracks: {error}", throttle_duration_sec=LOG_PERIOD)
            return
        states = (TrackedPoint.VISIBLE, TrackedPoint.OCCLUDED)
        located = sum(point.state in states for point in tracks.points)
        stamp = nanoseconds(tracks.header.stamp)
        enough = self._config.renew_below * self._config.side**2
        if self._asked is None:
            enough = max(enough, 1.0)
        elif abs(stamp - self._asked) < ANSWER_TIME:  # a stream that begins anew may go back in time
            return
        if located >= enough:
            return
        self._asked = stamp
        points = [QueryPoint(x=x, y=y) for x, y in grid_points(self._config.side, tracks.width, tracks.height).tolist()]
        self._publisher.publish(QueryPoints(header=tracks.header, mode=QueryPoints.REPLACE, points=points))
        self.get_logger().info(
            f"Asked for {self._config.side}x{self._config.side} points, because only {located} were located."
        )


def main() -> int:
    """Run the node until it is interrupted; see `process.run`."""
    parse_arguments(argparse.ArgumentParser(prog="grid", description=__doc__))
    return run(GridNode)


if __name__ == "__main__":
    sys.exit(main())
