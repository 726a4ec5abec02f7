"""A subscription to images that gets them through Fast DDS's shared memory, however small it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from taptr_ros.nodes import quality_of_service as qos
from taptr_ros.nodes.process import LOG_PERIOD, lost_images_advice, stays_on_this_machine


class ImageSubscription:
    """A subscription that becomes reliable where best effort loses most images and every publisher offers that.

    Images that are sent with best effort get lost where the sender's shared memory is smaller than one of them, which
    is Fast DDS's default. Best effort comes first, because it is better on a link that loses packets; without links,
    reliable does. A profile that is reliable from the start stays as it is, and so does one whose reliability a
    parameter sets.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        take: Callable[[bytes], None],
        profile: QoSProfile,
        count_lost: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Subscribe.

        Args:
            node: the node that the subscription belongs to.
            kind: type of the messages.
            topic: name as the node knows it, before remapping.
            take: is given every message, serialized.
            profile: QoS to begin with, which parameters may override.
            count_lost: is told how many more images the transport has lost.
        """
        self._node, self._kind, self._topic = node, kind, topic
        self._take, self._count_lost = take, count_lost
        self._name = node.resolve_topic_name(topic)
        self._arrived = self._lost = self._lost_in_all = 0
        fixed = profile.reliability == ReliabilityPolicy.RELIABLE
        self._adapts = not (fixed or qos.is_overridden(node, self._name, "reliability"))
        self._subscription = self._subscribe(profile, qos.overrides())

    def adapt(self) -> None:
        """Choose the reliability by what came since the last call; to be called every second or so."""
        arrived, lost = self._arrived, self._lost
        self._arrived = self._lost = 0
        if not self._adapts:
            return
        offers = self._node.get_publishers_info_by_topic(self._name)
        profile = self._subscription.qos_profile
        if profile.reliability == ReliabilityPolicy.RELIABLE:
            if not qos.all_reliable(offers):
                self._subscribe_anew(qos.with_reliability(profile, ReliabilityPolicy.BEST_EFFORT))
        elif offers and qos.all_reliable(offers) and (stays_on_this_machine() or lost > arrived):
            self._node.get_logger().info(
                f"Images of {self._name} are taken as reliable from now on, as they are offered."
            )
            self._subscribe_anew(qos.with_reliability(profile, ReliabilityPolicy.RELIABLE))

    def close(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self, profile: QoSProfile, overrides: QoSOverridingOptions | None = None) -> Any:
        return self._node.create_subscription(
            self._kind,
            self._topic,
            self._on_image,
            profile,
            event_callbacks=qos.subscription_events(self._name, self._node.get_logger(), message_lost=self._on_lost),
            qos_overriding_options=overrides,
            raw=True,
        )

    def _subscribe_anew(self, profile: QoSProfile) -> None:
        self.close()
        self._subscription = self._subscribe(profile)

    def _on_image(self, data: bytes) -> None:
        self._arrived += 1
        self._take(data)

    def _on_lost(self, event: Any) -> None:
        self._lost += event.total_count_change
        self._lost_in_all += event.total_count_change
        self._count_lost(event.total_count_change)
        self._node.get_logger().warning(
            f"The transport has lost {self._lost_in_all} images of {self._name} so far; {lost_images_advice()}.",
            throttle_duration_sec=LOG_PERIOD,
        )
