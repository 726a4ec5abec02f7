"""ROS parameters declared from the dataclasses of settings that hold their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar, cast

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from taptr_ros.settings import Setting, settings_of

ConfigT = TypeVar("ConfigT")


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


def declare_parameters(node: Node, *kinds: type, read_only: bool = False) -> None:
    """Declare all parameters of the dataclasses.

    Raises rclpy's parameter exceptions for given values of a wrong type or out of range.
    """
    for entry in parameters_of(*kinds):
        node.declare_parameter(entry.name, entry.default, descriptor(entry, read_only=read_only))


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
