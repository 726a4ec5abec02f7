"""The ROS node `tracker`: images and query points in, tracked points out."""

from __future__ import annotations

import argparse
import functools
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point, PointStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_srvs.srv import Trigger

from taptr_ros.errors import InvalidConfigError, TaptrError
from taptr_ros.messages.cv_bridge_images import cv_bridge
from taptr_ros.messages.images import compressed_image_to_rgb, image_to_rgb
from taptr_ros.messages.regions import RequestedRegions, detected_regions, detection_array_kind, requested_regions
from taptr_ros.messages.ros import point_cloud
from taptr_ros.messages.serialized import deserialized
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.messages.tracks import tracked_points
from taptr_ros.msg import AddedRegion, QueryPoints, QueryRegions, RemovePoints, TrackedPoint, TrackedPoints
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.annotations import AnnotationDrawer, image_annotations_kind
from taptr_ros.nodes.configs import NodeConfig
from taptr_ros.nodes.diagnostics import Latency, StreamStatistics
from taptr_ros.nodes.frame_worker import FrameWorker
from taptr_ros.nodes.image_subscription import ImageSubscription
from taptr_ros.nodes.painter import Drawer, Painter, PictureDrawer
from taptr_ros.nodes.parameters import ParameterNode, declare_parameters, read_config, structural_names
from taptr_ros.nodes.process import (
    STOP_TIME,
    end_process_with,
    own_arguments,
    run,
)
from taptr_ros.nodes.shared_tracker import SharedTracker
from taptr_ros.runtime.backend import BackendInfo
from taptr_ros.runtime.loading import LUCAS_KANADE, shared_backend
from taptr_ros.srv import AddPoints, AddRegions, GetTracks
from taptr_ros.srv import RemovePoints as RemovePointsService
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackStream
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.tracking.stream import too_many

DIAGNOSTICS_PERIOD = 1.0
"""Seconds between two messages on /diagnostics."""

LOG_PERIOD = 5.0
"""Shortest time in seconds between two log lines on the same kind of bad input."""

WARM_UP_SIZE = (640, 480)
"""Width and height of the first image of a backend that takes images of every size."""

CLICKED_IMAGES = ("image", "tracks/image")
"""Topics of images in which rqt_image_view can be clicked; both have the same pixels."""

OUTPUTS = ((TrackedPoints, "tracks"), (PointCloud2, "tracks/cloud"), (Image, "tracks/image"))

DRAWERS: dict[str, Callable[[], Drawer]] = {"tracks/image": PictureDrawer, "tracks/annotations": AnnotationDrawer}
"""What draws the tracks for each topic; annotations only where foxglove_msgs is installed."""

Transition = Callable[["TrackerNode", LifecycleState], TransitionCallbackReturn]


def reported(transition: Transition) -> Transition:
    """Log why a transition fails; rclpy itself says nothing. Bad settings leave the node in the state it was in."""

    @functools.wraps(transition)
    def wrapper(node: TrackerNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except (TaptrError, OSError) as error:
            node.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:
            node.get_logger().error(traceback.format_exc())
            raise

    return wrapper


class TrackerNode(ParameterNode, LifecycleNode):
    """Tracks points through a stream of images.

    `configure` loads the model, `activate` warms it up and begins a stream, `deactivate` ends the stream and `cleanup`
    frees the model. The executor's thread takes messages and answers services; one worker thread runs the tracker on
    the newest image and publishes, another one draws. Topics, services and parameters are listed in docs/ros.md.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("tracker", **options)
        self._config = NodeConfig()
        self._tracker: SharedTracker | None = None
        self._backend_info: BackendInfo | None = None
        self._worker: FrameWorker[Any] | None = None
        self._painters: dict[str, Painter] = {}
        self._outputs: dict[str, LifecyclePublisher[Any]] = {}
        self._inputs: list[Any] = []
        self._images: ImageSubscription | None = None
        self._answers: list[Any] = []
        self._reported_publishers: set[str] = set()
        self._statistics = StreamStatistics()
        declare_parameters(self, NodeConfig, TrackerConfig)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady time: diagnostics go on while a simulation's clock stands still.
        self.create_timer(DIAGNOSTICS_PERIOD, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Lifecycle.

    def autostart(self) -> None:
        """Configure and activate, if the parameter `autostart` says so. What fails is logged and can be tried again."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        self._config = config = read_config(self, NodeConfig, {})
        cv_bridge()  # is tried now, so that no image has to wait for it
        # Trackers in one process share a model.
        backend = shared_backend(
            config.model,
            None if config.backend == "auto" else config.backend,
            device=config.device,
            size=config.input_size,
            threads=config.threads or None,
            precision=config.precision,
        )
        tracker = PointTracker(backend, read_config(self, TrackerConfig, {}))
        try:
            for kind, topic in (*OUTPUTS, (image_annotations_kind(), "tracks/annotations")):
                if kind is not None:
                    self._outputs[topic] = self._output(kind, topic)
        except Exception:
            self._release()
            raise
        self._tracker = SharedTracker(TrackStream(tracker))
        self._backend_info = info = backend.info
        self.get_logger().info(f"Loaded {info.model} with {info.backend} on {info.device}.")
        if info.model == LUCAS_KANADE:
            self.get_logger().info(
                "lucas_kanade is the baseline without weights: it does not find hidden points again. "
                "Set the parameter `model` to taptr_small for the network that comes with the package."
            )
        return super().on_configure(state)

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Warm up, begin a stream, and open topics and services."""
        assert self._backend_info is not None  # noqa: S101  # `configure` came before
        width, height = WARM_UP_SIZE
        self._live_tracker.warm_up(self._backend_info.width or width, self._backend_info.height or height)
        self._statistics.begin_stream()
        self._reported_publishers = set()
        waiting = self._config.waiting_frames if self._config.every_frame else 1
        fail = functools.partial(end_process_with, self)
        self._painters = {
            topic: Painter(drawer, self._outputs[topic].publish, fail)
            for topic, drawer in DRAWERS.items()
            if topic in self._outputs
        }
        self._worker = FrameWorker("tracker", self._process, waiting, len)
        result = super().on_activate(state)
        self._subscribe()
        self._offer_services()
        return result

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the image in work, then close topics and services."""
        self._end_stream()
        return super().on_deactivate(state)

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model, the tracks and the publishers."""
        self._release()
        return super().on_cleanup(state)

    @reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, in whatever state the node is."""
        self._release()
        return super().on_shutdown(state)

    @reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything after an unexpected error; the node can be configured again."""
        self._release()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Free everything and leave the graph."""
        self._release()
        super().destroy_node()

    def _end_stream(self) -> None:
        workers: list[FrameWorker[Any] | Painter] = [*self._painters.values()]
        if self._worker is not None:
            workers.insert(0, self._worker)
        for worker in workers:
            if not worker.stop(STOP_TIME):
                self.get_logger().warning(
                    f"An image is still in progress after {STOP_TIME:g} s; its result is dropped."
                )
        self._worker, self._painters = None, {}
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        if self._images is not None:
            self._images.close()
        for service in self._answers:
            self.destroy_service(service)
        self._inputs, self._images, self._answers = [], None, []

    def _release(self) -> None:
        self._end_stream()
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = {}
        self._tracker = None
        self._backend_info = None

    # Topics and services.

    def _output(self, kind: type, topic: str) -> LifecyclePublisher[Any]:
        return self.create_lifecycle_publisher(
            kind,
            topic,
            # With `every_frame`, results come as fast as images are processed: none may overwrite another.
            qos.reliable(self._config.waiting_frames) if self._config.every_frame else qos.reliable(),
            event_callbacks=qos.publisher_events(self.resolve_topic_name(topic), self.get_logger()),
            qos_overriding_options=qos.overrides(),
        )

    @property
    def _image_kind(self) -> type:
        kind: type = CompressedImage if self._config.compressed else Image
        return kind

    def _subscribe(self) -> None:
        self._inputs = [
            self._input(QueryPoints, "query_points", self._on_query_points, qos.reliable()),
            self._input(QueryRegions, "query_regions", self._on_query_regions, qos.reliable()),
            self._input(RemovePoints, "remove_points", self._on_remove_points, qos.reliable()),
            self._input(PointStamped, "clicked_point", self._on_clicked_point, qos.reliable()),
            *(
                self._input(Point, f"{self.resolve_topic_name(topic)}_mouse_left", self._on_mouse, qos.reliable())
                for topic in CLICKED_IMAGES
            ),
        ]
        if (kind := detection_array_kind()) is not None:
            self._inputs.append(self._input(kind, "detections", self._on_detections, qos.reliable()))
        profile = qos.reliable(self._config.waiting_frames) if self._config.every_frame else qos.newest_images()
        # The worker's thread reads images, and only those that it tracks.
        self._images = ImageSubscription(
            self, self._image_kind, "image", self._on_image, profile, self._statistics.lost
        )

    def _input(self, kind: type, topic: str, callback: Callable[[Any], None], profile: Any) -> Any:
        def read(data: bytes) -> None:
            try:
                callback(deserialized(data, kind))
            except TaptrError as error:
                self.get_logger().error(f"{topic}: {error}", throttle_duration_sec=LOG_PERIOD)

        return self.create_subscription(
            kind,
            topic,
            read,
            profile,
            event_callbacks=qos.subscription_events(self.resolve_topic_name(topic), self.get_logger()),
            qos_overriding_options=qos.overrides(),
            raw=True,
        )

    def _offer_services(self) -> None:
        self._answers = [
            self.create_service(kind, name, answer, qos_profile=qos.requests())
            for kind, name, answer in (
                (AddPoints, "add_points", self._on_add),
                (AddRegions, "add_regions", self._on_add_regions),
                (RemovePointsService, "remove_points", self._on_remove),
                (GetTracks, "get_tracks", self._on_get_tracks),
                (Trigger, "reset", self._on_reset),
            )
        ]

    def _on_image(self, data: bytes) -> None:
        if self._worker is not None:
            self._statistics.superseded(self._worker.put(data))

    def _on_query_points(self, message: QueryPoints) -> None:
        _, refusals = self._add(message)
        refused = [(index, reason) for index, reason in enumerate(refusals) if reason]
        if refused:
            index, reason = refused[0]
            self.get_logger().error(
                f"query_points: {len(refused)} of {len(refusals)} points were refused; points[{index}]: {reason}",
                throttle_duration_sec=LOG_PERIOD,
            )

    def _on_query_regions(self, message: QueryRegions) -> None:
        _, added = self._add_regions(message)
        self._report_refusals("query_regions", [region.refusal for region in added])

    def _on_detections(self, message: Any) -> None:
        requested = detected_regions(message)
        stamp = nanoseconds(message.header.stamp)
        added = self._live_tracker.add_regions(requested.regions, requested.groups, 0, stamp, known=True)
        self._report_refusals("detections", [region.refusal for region in added])

    def _report_refusals(self, topic: str, refusals: list[str]) -> None:
        refused = [(index, reason) for index, reason in enumerate(refusals) if reason]
        if refused:
            index, reason = refused[0]
            self.get_logger().error(
                f"{topic}: {len(refused)} of {len(refusals)} regions were refused; region {index}: {reason}",
                throttle_duration_sec=LOG_PERIOD,
            )

    def _on_remove_points(self, message: RemovePoints) -> None:
        unknown = self._live_tracker.remove(message.ids.tolist(), message.groups.tolist())
        for word, missing, given in zip(("id", "group"), unknown, (message.ids, message.groups), strict=True):
            if missing:
                self.get_logger().error(
                    f"remove_points: no point has the {word} {missing[0]} ({len(missing)} of {len(given)} {word}s are "
                    f"unknown); use {word}s of live tracks.",
                    throttle_duration_sec=LOG_PERIOD,
                )

    def _on_clicked_point(self, message: PointStamped) -> None:
        header = message.header
        self._live_tracker.click(message.point.x, message.point.y, nanoseconds(header.stamp), header.frame_id)

    def _on_mouse(self, message: Point) -> None:
        self._live_tracker.click(message.x, message.y)

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
        response.unknown_ids, response.unknown_groups = self._live_tracker.remove(
            request.ids.tolist(), request.groups.tolist()
        )
        return response

    def _on_get_tracks(self, request: Any, response: Any) -> Any:
        answer, header = self._live_tracker.newest(request.ids.tolist())
        response.waiting_ids, response.unknown_ids = answer.waiting_ids, answer.unknown_ids
        if answer.tracks is not None:
            response.tracks = tracked_points(answer.tracks, header, TrackedPoints, TrackedPoint)
        return response

    def _on_reset(self, request: Any, response: Any) -> Any:
        self._live_tracker.reset()
        self._statistics.begin_stream()
        response.success = True
        response.message = "All tracks are removed; the next image begins a new stream."
        return response

    @property
    def _live_tracker(self) -> SharedTracker:
        assert self._tracker is not None  # noqa: S101  # topics and services exist only while it does
        return self._tracker

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
        return self._live_tracker.add(xy, [point.id for point in points], stamp, groups, replace=replace)

    def _add_regions(self, message: QueryRegions) -> tuple[RequestedRegions, list[Any]]:
        """Choose points in the regions; return the regions and what became of each.

        Raises `TaptrError` for a message in which no region can be tried.
        """
        if message.mode not in (QueryRegions.ADD, QueryRegions.REPLACE):
            raise InvalidConfigError(_unknown_mode(message.mode))
        requested = requested_regions(message)
        added = self._live_tracker.add_regions(
            requested.regions,
            requested.groups,
            message.points_per_region,
            nanoseconds(message.header.stamp),
            replace=message.mode == QueryRegions.REPLACE,
        )
        return requested, added

    # The worker's thread.

    def _process(self, data: bytes) -> None:
        try:
            self._track(data)
        except TaptrError as error:
            self._statistics.refused(str(error))
            self.get_logger().error(f"image: {error}", throttle_duration_sec=LOG_PERIOD)
        except Exception as error:  # noqa: BLE001
            end_process_with(self, error)

    def _track(self, data: bytes) -> None:
        """Track into one image, a serialized message, and publish what came of it."""
        message = deserialized(data, self._image_kind)
        image = compressed_image_to_rgb(message) if self._config.compressed else image_to_rgb(message)
        header = message.header
        began = time.perf_counter()
        step = self._live_tracker.step(image, nanoseconds(header.stamp), header)
        seconds_in_tracker = time.perf_counter() - began
        if self._worker is None:  # the stream ended without waiting for this image any longer
            return
        for notice in step.notices:
            self.get_logger().warning(notice, throttle_duration_sec=LOG_PERIOD)
        if step.tracks is None:
            self._statistics.left_out(step.left_out)
            self.get_logger().warning(f"An image was left out. {step.left_out}", throttle_duration_sec=LOG_PERIOD)
            return
        self._outputs["tracks"].publish(tracked_points(step.tracks, header, TrackedPoints, TrackedPoint))
        since_stamp = (self.get_clock().now().nanoseconds - step.tracks.stamp) / NANOSECONDS
        self._statistics.processed(Latency(since_stamp, seconds_in_tracker), len(step.tracks.ids))
        if self._is_wanted("tracks/cloud"):
            self._outputs["tracks/cloud"].publish(point_cloud(step.tracks, header))
        for topic, painter in self._painters.items():
            painter.show(image, step.tracks, header, is_looked_at=self._is_wanted(topic))

    def _is_wanted(self, topic: str) -> bool:
        return self._outputs[topic].get_subscription_count() > 0

    # Parameters and diagnostics.

    def _check_parameters(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in parameters}
        if self._tracker is not None and (structural := structural_names(changes, NodeConfig, TrackerConfig)):
            reason = (
                f"{structural[0]} takes effect when the node is configured; deactivate and clean up the node, set it, "
                "and configure again."
            )
            return SetParametersResult(successful=False, reason=reason)
        try:
            read_config(self, NodeConfig, changes)
            read_config(self, TrackerConfig, changes)
        except InvalidConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, parameters: list[Parameter[Any]]) -> None:
        if self._tracker is not None:
            self._tracker.reconfigure(read_config(self, TrackerConfig, {}))

    def _report_publishers(self) -> None:
        """Say once of each what is wrong with those who publish images and clicks."""
        problems = qos.publisher_problems(self, self.resolve_topic_name("image"), self._image_kind)
        problems += qos.click_problems(self, self.resolve_topic_name("clicked_point"))
        for problem in problems:
            if problem not in self._reported_publishers:
                self._reported_publishers.add(problem)
                self.get_logger().warning(problem)

    def _publish_diagnostics(self) -> None:
        state = "unconfigured" if self._tracker is None else "inactive" if self._worker is None else "active"
        if state == "active":
            self._report_publishers()
            if self._images is not None:
                self._images.adapt()
        status = self._statistics.report(f"{self.get_fully_qualified_name()[1:]}: stream", state, self._backend_info)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _unknown_mode(mode: int) -> str:
    return f"mode is {mode}; use {QueryPoints.ADD} (ADD) or {QueryPoints.REPLACE} (REPLACE)."


def main() -> int:
    """Run the node until it is interrupted, or one node for each of several cameras; see `process.run`."""
    parser = argparse.ArgumentParser(prog="tracker", description="Track points through a stream of images.")
    parser.add_argument(
        "--cameras",
        nargs="+",
        default=[],
        metavar="NAMESPACE",
        help="run one tracker in each of these namespaces, all with one model",
    )
    namespaces = parser.parse_args(own_arguments()).cameras
    if not namespaces:
        return run(TrackerNode, TrackerNode.autostart)
    return run(lambda: [TrackerNode(namespace=namespace) for namespace in namespaces], TrackerNode.autostart)


if __name__ == "__main__":
    sys.exit(main())
