"""ROS parameters declared from the dataclasses of settings that hold their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from taptr_ros.settings import Setting, settings_of

ConfigT = TypeVar("ConfigT")

QOS_OVERRIDES = "qos_overrides."
"""How the names of parameters begin that exist once their topic does."""

NULLS = ("~", "null", "Null", "NULL")
"""YAML's words for no value."""


def parameters_of(*kinds: type) -> list[Setting]:
    """Return the parameters that dataclasses of settings declare, in the order of their fields."""
    return [entry for kind in kinds for entry in settings_of(kind)]


def descriptor(entry: Setting, *, read_only: bool = False) -> ParameterDescriptor:
    """Return a setting as ROS tools show and check it."""
    result = ParameterDescriptor(name=entry.name, description=entry.description, read_only=read_only)
    if entry.choices:
        result.additional_constraints = f"One of {', '.join(entry.choices)}."
    if entry.limits and isinstance(entry.default, int):
        result.integer_range = [IntegerRange(from_value=int(entry.limits[0]), to_value=int(entry.limits[1]))]
    elif entry.limits:
        result.floating_point_range = [FloatingPointRange(from_value=entry.limits[0], to_value=entry.limits[1])]
    return result


class ParameterNode(Node):
    """A node whose parameters can always be set to the values that they have, so that its own dump can be loaded."""

    def set_parameters_atomically(self, parameter_list: list[Parameter[Any]]) -> SetParametersResult:
        """Set those parameters that change, all or none; read-only ones, and others that may not change now, refuse."""
        changed = [parameter for parameter in parameter_list if not self._has(parameter)]
        if parameter_list and not changed:
            return SetParametersResult(successful=True)
        return super().set_parameters_atomically(changed)

    def _has(self, parameter: Parameter[Any]) -> bool:
        if not self.has_parameter(parameter.name):
            return False
        current = self.get_parameter(parameter.name)
        return bool(current.type_ == parameter.type_ and current.value == parameter.value)


def declare_parameters(node: Node, *kinds: type, read_only: bool = False) -> None:
    """Declare all parameters of the dataclasses, and warn of given ones that have no value or do not exist.

    Raises rclpy's parameter exceptions for given values of a wrong type or out of range.
    """
    entries = parameters_of(*kinds)
    # rclpy has no other way to look at what was given.
    given: dict[str, Parameter[Any]] = node._parameter_overrides
    for entry in entries:
        if entry.name in given and _is_null(given[entry.name]):
            del given[entry.name]
            node.get_logger().warning(
                f"The parameter {entry.name} is given without a value (null), so its default {entry.default!r} is "
                "used; give it a value or leave it out."
            )
        node.declare_parameter(entry.name, entry.default, descriptor(entry, read_only=read_only))
    for name in given:
        if not (node.has_parameter(name) or name.startswith(QOS_OVERRIDES)):
            similar = get_close_matches(name, [entry.name for entry in entries], 1)
            advice = f"did you mean {similar[0]}?" if similar else "its name may be misspelt, or of another node."
            node.get_logger().warning(f"The parameter {name} does not exist and has no effect; {advice}")


def _is_null(parameter: Parameter[Any]) -> bool:
    """Return whether a parameter was given without a value, which ROS reads as the word that stands there."""
    return parameter.type_ == Parameter.Type.NOT_SET or parameter.value in NULLS


def read_config(node: Node, kind: type[ConfigT], changes: dict[str, Any]) -> ConfigT:
    """Return the parameters' values, with `changes` applied, as the dataclass `kind`.

    Raises `InvalidConfigError` if they are not a valid one.
    """
    names = [field.name for field in dataclasses.fields(cast(Any, kind))]
    values = {name: node.get_parameter(name).value for name in names}
    return kind(**{**values, **{name: value for name, value in changes.items() if name in names}})


def structural_names(names: Iterable[str], *kinds: type) -> list[str]:
    """Return those of the names whose parameters take effect only when the node is configured."""
    structural = {entry.name for entry in parameters_of(*kinds) if not entry.live}
    return [name for name in names if name in structural]
