"""Quality of service: overrides by parameter, and mismatches reported in words that say what to change."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

_OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)


def newest_images(depth: int = 5) -> QoSProfile:
    """Return the profile for live images: the same as ROS's for sensor data."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


def images(is_reliable: bool) -> QoSProfile:
    """Return the profile for images of somebody who takes them like another one does: all, or the newest ones."""
    return with_reliability(newest_images(), ReliabilityPolicy.RELIABLE) if is_reliable else newest_images()


def reliable(depth: int = 10) -> QoSProfile:
    """Return the profile for everything of which no message may be missing."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def requests() -> QoSProfile:
    """Return the profile for services: requests that come together, and their answers, must not push each other out.

    ROS's own keeps 10, and a client whose request or answer is lost waits for ever.
    """
    return reliable(1000)


def with_reliability(profile: QoSProfile, reliability: ReliabilityPolicy) -> QoSProfile:
    """Return a copy of `profile` with another reliability."""
    copied = copy.copy(profile)
    copied.reliability = reliability
    return copied


def all_reliable(offers: Iterable[TopicEndpointInfo]) -> bool:
    """Return whether a reliable subscription hears all publishers with these offers."""
    return all(offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE for offer in offers)


def overrides() -> QoSOverridingOptions:
    """Return the policies that parameters `qos_overrides.TOPIC.subscription.POLICY` (or `publisher`) may change."""
    return QoSOverridingOptions(_OVERRIDABLE)


def is_overridden(node: Node, topic: str, policy: str) -> bool:
    """Return whether a parameter of `node` sets this policy of its subscription to `topic` (full name)."""
    return f"qos_overrides.{topic}.subscription.{policy}" in node._parameter_overrides


def subscription_events(topic: str, logger: RcutilsLogger, **callbacks: Any) -> SubscriptionEventCallbacks:
    """Return `callbacks` with a report of publishers on `topic` (full name) that cannot be heard."""

    def report(event: Any) -> None:
        logger.warning(
            f"A publisher on {topic} offers a different {_policy(event)} from what this subscription asks for, so none "
            f"of its messages arrive; {_advice(event, topic, 'subscription')} or change the publisher's QoS."
        )

    return SubscriptionEventCallbacks(incompatible_qos=report, **callbacks)


def publisher_events(topic: str, logger: RcutilsLogger) -> PublisherEventCallbacks:
    """Return a report of subscriptions to `topic` (full name) that cannot hear this publisher."""

    def report(event: Any) -> None:
        logger.warning(
            f"A subscription to {topic} asks for a different {_policy(event)} from what is offered, so it receives "
            f"nothing; {_advice(event, topic, 'publisher')} or change the subscription's QoS."
        )

    return PublisherEventCallbacks(incompatible_qos=report)


def type_name(kind: type) -> str:
    """Return the name of the type of a message or service as the graph has it."""
    package, folder, _ = kind.__module__.split(".", 2)
    return f"{package}/{folder}/{kind.__name__}"


def publisher_problems(node: Node, topic: str, kind: type, name: str = "image") -> list[str]:
    """Return what is wrong with those who publish images on `topic` (full name), for a subscription of type `kind`.

    name: of the topic before it was remapped.
    """
    wanted = type_name(kind)
    types = _published_types(node, topic)
    raw_and_compressed = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
    problems = _other_types(
        topic,
        [found for found in types if found in raw_and_compressed],
        wanted,
        f"set the parameter `compressed` or remap `{name}`",
    )
    problems += _other_types(
        topic, [found for found in types if found not in raw_and_compressed], wanted, f"remap `{name}` to images"
    )
    if types.count(wanted) > 1:
        problems.append(f"Several publishers share {topic}; give each camera its own topic, and its own tracker.")
    return problems


def click_problems(node: Node, topic: str) -> list[str]:
    """Return what is wrong with those who publish clicks on `topic` (full name), which takes PointStamped."""
    advice = (
        "clicks of rqt_image_view, which are geometry_msgs/msg/Point, are read from the images' topic with _mouse_left "
        "added"
    )
    return _other_types(topic, _published_types(node, topic), "geometry_msgs/msg/PointStamped", advice)


def request_problems(node: Node, topic: str, kind: type) -> list[str]:
    """Return what is wrong with those who publish requests on `topic` (full name), which takes messages `kind`."""
    return _other_types(topic, _published_types(node, topic), type_name(kind), "publish that type")


def _published_types(node: Node, topic: str) -> list[str]:
    return [publisher.topic_type for publisher in node.get_publishers_info_by_topic(topic)]


def _other_types(topic: str, types: list[str], wanted: str, advice: str) -> list[str]:
    """Return a sentence for each type that is published on `topic` but not read there."""
    return [
        f"{topic} is published as {found}, but this node reads {wanted}, so none of it arrives; {advice}."
        for found in sorted({*types} - {wanted})
    ]


def _policy(event: Any) -> str:
    return qos_policy_name_from_kind(event.last_policy_kind).lower()


def _advice(event: Any, topic: str, entity: str) -> str:
    if event.last_policy_kind in _OVERRIDABLE:
        return f"set the parameter qos_overrides.{topic}.{entity}.{_policy(event)} when this node starts,"
    return "use a common one here"
