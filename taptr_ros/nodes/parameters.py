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
    """A node whose parameters can always be set to the values that they have, so that its own dump can be loaded.

    A whole number serves as a decimal one, and a value of another type, or for no parameter, is refused in words.
    """

    def set_parameters_atomically(self, parameter_list: list[Parameter[Any]]) -> SetParametersResult:
        """Set those parameters that change, all or none; read-only ones, and others that may not change now, refuse."""
        given = [self._as_declared(parameter) for parameter in parameter_list]
        for parameter in given:
            if refusal := self._wrong_kind(parameter):
                return SetParametersResult(successful=False, reason=refusal)
        changed = [parameter for parameter in given if not self._has(parameter)]
        if given and not changed:
            return SetParametersResult(successful=True)
        return super().set_parameters_atomically(changed)

    def _as_declared(self, parameter: Parameter[Any]) -> Parameter[Any]:
        """Return a parameter with a decimal number if it has a whole one where a decimal one is declared."""
        if not self.has_parameter(parameter.name):
            return parameter
        return _as_decimal(parameter, self.get_parameter(parameter.name).type_)

    def _wrong_kind(self, parameter: Parameter[Any]) -> str | None:
        """Return why a parameter cannot have a value of this type, None if it can."""
        if not self.has_parameter(parameter.name):
            similar = get_close_matches(parameter.name, self.list_parameters([], 0).names, 1)
            advice = f"did you mean {similar[0]}?" if similar else "`ros2 param list` shows those that there are."
            return f"There is no parameter {parameter.name}; {advice}"
        declared = self.get_parameter(parameter.name).type_
        if parameter.type_ in (declared, Parameter.Type.NOT_SET):
            return None
        return f"{parameter.name} is {parameter.value!r}; use a value of type {declared.name.lower()}."

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
        elif entry.name in given and isinstance(entry.default, float):
            given[entry.name] = _as_decimal(given[entry.name], Parameter.Type.DOUBLE)
        node.declare_parameter(entry.name, entry.default, descriptor(entry, read_only=read_only))
    for name in given:
        if not (node.has_parameter(name) or name.startswith(QOS_OVERRIDES)):
            similar = get_close_matches(name, [entry.name for entry in entries], 1)
            advice = f"did you mean {similar[0]}?" if similar else "its name may be misspelt, or of another node."
            node.get_logger().warning(f"The parameter {name} does not exist and has no effect; {advice}")


def _as_decimal(parameter: Parameter[Any], kind: Parameter.Type) -> Parameter[Any]:
    """Return a parameter as a decimal number, if it is a whole one and of that kind; else as it is."""
    if (parameter.type_, kind) != (Parameter.Type.INTEGER, Parameter.Type.DOUBLE):
        return parameter
    return Parameter(parameter.name, kind, float(parameter.value))


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
