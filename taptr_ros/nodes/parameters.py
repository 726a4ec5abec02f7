"""ROS parameters declared from the dataclasses that hold their values."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from taptr_ros.errors import InvalidConfigError


class ParameterConfig(Protocol):
    """A dataclass whose fields are parameters: their names, types, defaults and, in the docstring below each, meaning.

    `Literal` fields have a choice of values. Raises `InvalidConfigError` for values that cannot be.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]]
    """Lowest and highest value of every number."""


ConfigT = TypeVar("ConfigT")


@dataclasses.dataclass(frozen=True)
class Declaration:
    """One parameter."""

    name: str
    default: Any
    description: str
    limits: tuple[float, float] | None
    """Lowest and highest value."""
    choices: tuple[str, ...]
    """The values allowed; empty if they are not a list."""
    structural: bool
    """Whether it takes effect only when the node is configured."""

    def descriptor(self, *, read_only: bool = False) -> ParameterDescriptor:
        """Return it as ROS tools show and check it."""
        descriptor = ParameterDescriptor(name=self.name, description=self.description, read_only=read_only)
        if self.choices:
            descriptor.additional_constraints = f"One of {', '.join(self.choices)}."
        if self.limits and isinstance(self.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(self.limits[0]), to_value=int(self.limits[1]))]
        elif self.limits:
            descriptor.floating_point_range = [FloatingPointRange(from_value=self.limits[0], to_value=self.limits[1])]
        return descriptor


@functools.cache
def declarations(*kinds: type[ParameterConfig]) -> tuple[Declaration, ...]:
    """Return the parameters of the dataclasses, in the order of their fields.

    A dataclass that says which fields are `STRUCTURAL` lets the others change at any time.
    """
    return tuple(
        Declaration(
            name=field.name,
            default=field.default,
            description=_descriptions(kind)[field.name],
            limits=kind.RANGES.get(field.name),
            choices=choices(kind).get(field.name, ()),
            structural=field.name in getattr(kind, "STRUCTURAL", (field.name,)),
        )
        for kind in kinds
        for field in dataclasses.fields(cast(Any, kind))
    )


def declare_parameters(node: Node, *kinds: type[ParameterConfig], read_only: bool = False) -> None:
    """Declare all parameters of the dataclasses.

    Raises rclpy's parameter exceptions for given values of a wrong type or out of range.
    """
    for declaration in declarations(*kinds):
        node.declare_parameter(declaration.name, declaration.default, declaration.descriptor(read_only=read_only))


def read_config(node: Node, kind: type[ConfigT], changes: dict[str, Any]) -> ConfigT:
    """Return the parameters' values, with `changes` applied, as the dataclass `kind`.

    Raises `InvalidConfigError` if they are not a valid one.
    """
    names = [field.name for field in dataclasses.fields(cast(Any, kind))]
    values = {name: node.get_parameter(name).value for name in names}
    return kind(**{**values, **{name: value for name, value in changes.items() if name in names}})


def check_choices(config: Any) -> None:
    """Raise `InvalidConfigError` if a `Literal` field of a dataclass has none of its values."""
    for name, allowed in choices(config.__class__).items():
        if (value := getattr(config, name)) not in allowed:
            raise InvalidConfigError(f"{name} is {value!r}; choose one of {', '.join(allowed)}.")


def structural_names(names: Iterable[str], *kinds: type[ParameterConfig]) -> list[str]:
    """Return those of the names whose parameters take effect only when the node is configured."""
    structural = {declaration.name for declaration in declarations(*kinds) if declaration.structural}
    return [name for name in names if name in structural]


@functools.cache
def choices(kind: Any) -> dict[str, tuple[str, ...]]:
    """Return the values of every `Literal` field of a dataclass."""
    return {
        name: get_args(hint)
        for name, hint in get_type_hints(kind).items()
        if get_args(hint) and get_origin(hint) is not ClassVar
    }


@functools.cache
def _descriptions(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, as one line."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101
    return {
        field.target.id: " ".join(ast.literal_eval(docstring.value).split())
        for field, docstring in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(docstring, ast.Expr)
    }
