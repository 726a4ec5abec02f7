"""The ROS node `tracker`: images and query points in, tracked points out."""

from __future__ import annotations

import argparse
import functools
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from taptr_ros.errors import InvalidConfigError, TaptrError
from taptr_ros.messages.cv_bridge_images import cv_bridge
from taptr_ros.messages.images import compressed_image_to_rgb, image_to_rgb
from taptr_ros.messages.ros import point_cloud
from taptr_ros.messages.serialized import deserialized
from taptr_ros.messages.stamps import nanoseconds
from taptr_ros.messages.tracks import tracked_points
from taptr_ros.msg import TrackedPoint, TrackedPoints
from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.annotations import AnnotationDrawer, image_annotations_kind
from taptr_ros.nodes.configs import NodeConfig
from taptr_ros.nodes.diagnostics import Latency, StreamStatistics
from taptr_ros.nodes.frame_worker import FrameWorker
from taptr_ros.nodes.image_subscription import ImageSubscription
from taptr_ros.nodes.painter import Drawer, Painter, PictureDrawer
from taptr_ros.nodes.parameters import ParameterNode, declare_parameters, read_config, structural_names
from taptr_ros.nodes.process import LOG_PERIOD, STOP_TIME, end_process_with, parse_arguments, run
from taptr_ros.nodes.requests import Requests
from taptr_ros.nodes.shared_tracker import SharedTracker
from taptr_ros.runtime.backend import BackendInfo
from taptr_ros.runtime.loading import LUCAS_KANADE, shared_backend
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackStream
from taptr_ros.tracking.history import NANOSECONDS

DIAGNOSTICS_PERIOD = 1.0
"""Seconds between two messages on /diagnostics."""

WARM_UP_SIZE = (640, 480)
"""Width and height of the first image of a backend that takes images of every size."""

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
        self._images: ImageSubscription | None = None
        self._requests: Requests | None = None
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
        self.get_logger().info(f"Loaded {info.model} with {info.backend} on {info.device}, in {info.precision}.")
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
        profile = qos.reliable(self._config.waiting_frames) if self._config.every_frame else qos.newest_images()
        # The worker's thread reads images, and only those that it tracks.
        self._images = ImageSubscription(
            self, self._image_kind, "image", self._on_image, profile, self._statistics.lost
        )
        self._requests = Requests(self, self._live_tracker, self._statistics.begin_stream)
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
        for opened in (self._images, self._requests):
            if opened is not None:
                opened.close()
        self._images = self._requests = None

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

    def _on_image(self, data: bytes) -> None:
        if self._worker is not None:
            self._statistics.superseded(self._worker.put(data))

    @property
    def _live_tracker(self) -> SharedTracker:
        assert self._tracker is not None  # noqa: S101  # topics and services exist only while it does
        return self._tracker

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
        """Say once of each what is wrong with those who publish images and requests."""
        problems = qos.publisher_problems(self, self.resolve_topic_name("image"), self._image_kind)
        problems += self._requests.publisher_problems() if self._requests is not None else []
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
    namespaces = parse_arguments(parser).cameras
    if not namespaces:
        return run(TrackerNode, TrackerNode.autostart)
    return run(lambda: [TrackerNode(namespace=namespace) for namespace in namespaces], TrackerNode.autostart)


if __name__ == "__main__":
    sys.exit(main())
