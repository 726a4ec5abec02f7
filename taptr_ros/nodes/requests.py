"""What clients ask of the tracker: points, regions, clicks and questions, on topics and by services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, PointStamped
from rclpy.node import Node
from std_srvs.srv import Trigger

from taptr_ros.errors import InvalidConfigError, TaptrError
from taptr_ros.messages.regions import RequestedRegions, detected_regions, detection_array_kind, requested_regions
from taptr_ros.messages.serialized import deserialized
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.messages.tracks import tracked_points
from taptr_ros.msg import AddedRegion, QueryPoints, QueryRegions, RemovePoints, TrackedPoint, TrackedPoints
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.process import LOG_PERIOD
from taptr_ros.nodes.shared_tracker import SharedTracker
from taptr_ros.srv import AddPoints, AddRegions, GetTracks
from taptr_ros.srv import RemovePoints as RemovePointsService
from taptr_ros.tracking.stream import too_many

CLICKED_IMAGES = ("image", "tracks/image")
"""Topics of images in which rqt_image_view can be clicked; both have the same pixels."""


class Requests:
    """The topics and services of one stream; what is asked goes to the tracker, and what is wrong to who asked.

    Requests on topics have no answer: what is wrong with them is logged.
    """

    def __init__(self, node: Node, tracker: SharedTracker, begin_stream: Callable[[], None]) -> None:
        """Open topics and services of `node`; `begin_stream` is called when a client resets the tracker."""
        self._node, self._tracker, self._begin_stream = node, tracker, begin_stream
        self._inputs = [
            self._input(QueryPoints, "query_points", self._on_query_points),
            self._input(QueryRegions, "query_regions", self._on_query_regions),
            self._input(RemovePoints, "remove_points", self._on_remove_points),
            self._input(PointStamped, "clicked_point", self._on_clicked_point),
            *(
                self._input(Point, f"{node.resolve_topic_name(topic)}_mouse_left", self._on_mouse)
                for topic in CLICKED_IMAGES
            ),
        ]
        if (kind := detection_array_kind()) is not None:
            self._inputs.append(self._input(kind, "detections", self._on_detections))
        self._answers = self._offer_services()

    def close(self) -> None:
        """Close them."""
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)
        for service in self._answers:
            self._node.destroy_service(service)

    def _input(self, kind: type, topic: str, callback: Callable[[Any], None]) -> Any:
        def read(data: bytes) -> None:
            try:
                callback(deserialized(data, kind))
            except TaptrError as error:
                self._node.get_logger().error(f"{topic}: {error}", throttle_duration_sec=LOG_PERIOD)

        return self._node.create_subscription(
            kind,
            topic,
            read,
            qos.reliable(),
            event_callbacks=qos.subscription_events(self._node.resolve_topic_name(topic), self._node.get_logger()),
            qos_overriding_options=qos.overrides(),
            raw=True,
        )

    def _offer_services(self) -> list[Any]:
        return [
            self._node.create_service(kind, name, answer, qos_profile=qos.requests())
            for kind, name, answer in (
                (AddPoints, "add_points", self._on_add),
                (AddRegions, "add_regions", self._on_add_regions),
                (RemovePointsService, "remove_points", self._on_remove),
                (GetTracks, "get_tracks", self._on_get_tracks),
                (Trigger, "reset", self._on_reset),
            )
        ]

    def _on_query_points(self, message: QueryPoints) -> None:
        _, refusals = self._add(message)
        self._report_refusals("query_points", "point", refusals)

    def _on_query_regions(self, message: QueryRegions) -> None:
        _, added = self._add_regions(message)
        self._report_refusals("query_regions", "region", [region.refusal for region in added])

    def _on_detections(self, message: Any) -> None:
        requested = detected_regions(message)
        stamp = nanoseconds(message.header.stamp)
        added = self._tracker.add_regions(requested.regions, requested.groups, 0, stamp, known=True)
        self._report_refusals("detections", "detection", [region.refusal for region in added])

    def _report_refusals(self, topic: str, word: str, refusals: list[str]) -> None:
        refused = [(index, reason) for index, reason in enumerate(refusals) if reason]
        if refused:
            index, reason = refused[0]
            self._node.get_logger().error(
                f"{topic}: {len(refused)} of {len(refusals)} {word}s were refused; {word}s[{index}]: {reason}",
                throttle_duration_sec=LOG_PERIOD,
            )

    def _on_remove_points(self, message: RemovePoints) -> None:
        unknown = self._tracker.remove(message.ids.tolist(), message.groups.tolist())
        for word, missing, given in zip(("id", "group"), unknown, (message.ids, message.groups), strict=True):
            if missing:
                self._node.get_logger().error(
                    f"remove_points: no point has the {word} {missing[0]} ({len(missing)} of {len(given)} {word}s are "
                    f"unknown); use {word}s of live tracks.",
                    throttle_duration_sec=LOG_PERIOD,
                )

    def _on_clicked_point(self, message: PointStamped) -> None:
        header = message.header
        self._tracker.click(message.point.x, message.point.y, nanoseconds(header.stamp), header.frame_id)

    def _on_mouse(self, message: Point) -> None:
        self._tracker.click(message.x, message.y)

    def _on_add(self, request: Any, response: Any) -> Any:
        response.ids, response.refusals = self._add(request.query)
        return response

    def _on_add_regions(self, request: Any, response: Any) -> Any:
        try:
            requested, added = self._add_regions(request.query)
        except TaptrError as error:
            response.refusal = str(error)
            return response
        response.regions = [
            AddedRegion(label=label, group=region.group, ids=region.ids, refusal=region.refusal)
            for label, region in zip(requested.labels, added, strict=True)
        ]
        return response

    def _on_remove(self, request: Any, response: Any) -> Any:
        response.unknown_ids, response.unknown_groups = self._tracker.remove(
            request.ids.tolist(), request.groups.tolist()
        )
        return response

    def _on_get_tracks(self, request: Any, response: Any) -> Any:
        answer, header = self._tracker.newest(request.ids.tolist())
        response.waiting_ids, response.unknown_ids = answer.waiting_ids, answer.unknown_ids
        if answer.tracks is not None:
            response.tracks = tracked_points(answer.tracks, header, TrackedPoints, TrackedPoint)
        return response

    def _on_reset(self, request: Any, response: Any) -> Any:
        self._tracker.reset()
        self._begin_stream()
        response.success = True
        response.message = "All tracks are removed; the next image begins a new stream."
        return response

    def _add(self, message: QueryPoints) -> tuple[list[int], list[str]]:
        """Add the points; return their ids, 0 for those refused, and why they were refused."""
        points = message.points
        if refusal := too_many(len(points)):
            return [0] * len(points), [refusal] * len(points)
        if message.mode not in (QueryPoints.ADD, QueryPoints.REPLACE):
            return [0] * len(points), [_unknown_mode(message.mode)] * len(points)
        xy = np.array([(point.x, point.y) for point in points], np.float64).reshape(-1, 2)
        replace = message.mode == QueryPoints.REPLACE
        stamp = nanoseconds(message.header.stamp)
        groups = [point.group for point in points]
        return self._tracker.add(xy, [point.id for point in points], stamp, groups, replace=replace)

    def _add_regions(self, message: QueryRegions) -> tuple[RequestedRegions, list[Any]]:
        """Choose points in the regions; return the regions and what became of each.

        Raises `TaptrError` for a message in which no region can be tried.
        """
        if message.mode not in (QueryRegions.ADD, QueryRegions.REPLACE):
            raise InvalidConfigError(_unknown_mode(message.mode))
        requested = requested_regions(message)
        added = self._tracker.add_regions(
            requested.regions,
            requested.groups,
            message.points_per_region,
            nanoseconds(message.header.stamp),
            replace=message.mode == QueryRegions.REPLACE,
        )
        return requested, added


def _unknown_mode(mode: int) -> str:
    return f"mode is {mode}; use {QueryPoints.ADD} (ADD) or {QueryPoints.REPLACE} (REPLACE)."
