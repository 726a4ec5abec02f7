"""The node's parameters, declared from the dataclasses that hold their values."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from taptr_ros.errors import InvalidConfigError
from taptr_ros.runtime.loading import LUCAS_KANADE
from taptr_ros.tracking import TrackerConfig
from taptr_ros.tracking.config import RANGES, STRUCTURAL_FIELDS

NODE_RANGES: dict[str, tuple[float, float]] = {
    "threads": (0, 1024),
    "input_height": (0, 65536),
    "input_width": (0, 65536),
    "waiting_frames": (1, 65536),
}

ConfigT = TypeVar("ConfigT", bound="NodeConfig | TrackerConfig")


@dataclasses.dataclass(frozen=True)
class NodeConfig:
    """What the node loads and how it takes images. Raises `InvalidConfigError` for values that cannot be."""

    model: str = LUCAS_KANADE
    """`lucas_kanade`, the only model that needs no weights, or the path of a model file (.safetensors) or of a folder
    written by `taptr export`."""
    backend: Literal["auto", "torch", "onnxruntime", "opencv"] = "auto"
    """What runs the model; `auto` is what fits it."""
    device: str = "cpu"
    """Where the model runs: `cpu`, `cuda`, `cuda:INDEX` or, with ONNX Runtime, `tensorrt`."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the model's numbers; `bfloat16` with PyTorch only."""
    threads: int = 0
    """Processor threads of the backend; 0 leaves the choice to its library."""
    input_height: int = 0
    """Height in pixels that images are stretched to for the model; 0 is the model's own."""
    input_width: int = 0
    """Width in pixels that images are stretched to for the model; 0 is the model's own."""

    compressed: bool = False
    """Topic `image` carries sensor_msgs/CompressedImage instead of sensor_msgs/Image."""
    every_frame: bool = False
    """Process every image in order, for replay, instead of the newest; the subscription is then reliable."""
    waiting_frames: int = 100
    """Most images that wait with `every_frame`; a further one supersedes the oldest."""
    autostart: bool = True
    """Configure and activate the node at its start; off, a lifecycle manager does."""

    def __post_init__(self) -> None:
        for name, choices in _choices(NodeConfig).items():
            if (value := getattr(self, name)) not in choices:
                raise InvalidConfigError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")
        if bool(self.input_height) != bool(self.input_width):
            raise InvalidConfigError(
                f"input_height is {self.input_height} and input_width {self.input_width}; give both, or 0 for both."
            )


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

    def descriptor(self) -> ParameterDescriptor:
        """Return it as ROS tools show and check it."""
        descriptor = ParameterDescriptor(name=self.name, description=self.description)
        if self.choices:
            descriptor.additional_constraints = f"One of {', '.join(self.choices)}."
        if self.limits and isinstance(self.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(self.limits[0]), to_value=int(self.limits[1]))]
        elif self.limits:
            descriptor.floating_point_range = [FloatingPointRange(from_value=self.limits[0], to_value=self.limits[1])]
        return descriptor


@functools.cache
def declarations() -> tuple[Declaration, ...]:
    """Return all parameters of the node: those of `NodeConfig`, then those of `TrackerConfig`."""
    return tuple(
        Declaration(
            name=field.name,
            default=field.default,
            description=_descriptions(config)[field.name],
            limits=(NODE_RANGES | RANGES).get(field.name),
            choices=_choices(config).get(field.name, ()),
            structural=config is NodeConfig or field.name in STRUCTURAL_FIELDS,
        )
        for config in (NodeConfig, TrackerConfig)
        for field in dataclasses.fields(config)
    )


def declare_parameters(node: Node) -> None:
    """Declare all parameters. Raises rclpy's parameter exceptions for given values of a wrong type or out of range."""
    for declaration in declarations():
        node.declare_parameter(declaration.name, declaration.default, declaration.descriptor())


def read_config(node: Node, kind: type[ConfigT], changes: dict[str, Any]) -> ConfigT:
    """Return the parameters' values, with `changes` applied, as a `NodeConfig` or `TrackerConfig`.

    Raises `InvalidConfigError` if they are not a valid one.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    values = {name: node.get_parameter(name).value for name in names}
    return kind(**{**values, **{name: value for name, value in changes.items() if name in names}})


def structural_names(names: Iterable[str]) -> list[str]:
    """Return those of the names whose parameters take effect only when the node is configured."""
    structural = {declaration.name for declaration in declarations() if declaration.structural}
    return [name for name in names if name in structural]


def parameter_table() -> str:
    """Return the table of parameters for the documentation, in Markdown."""
    lines = ["| parameter | default | range | live | meaning |", "|---|---|---|---|---|"]
    for declaration in declarations():
        default = str(declaration.default).lower() if isinstance(declaration.default, bool) else declaration.default
        limits = f"{declaration.limits[0]:g} to {declaration.limits[1]:g}" if declaration.limits else ""
        allowed = ", ".join(f"`{choice}`" for choice in declaration.choices) or limits
        live = "" if declaration.structural else "yes"
        lines.append(f"| `{declaration.name}` | `{default}` | {allowed} | {live} | {declaration.description} |")
    return "\n".join(lines)


@functools.cache
def _choices(config: type) -> dict[str, tuple[str, ...]]:
    return {name: get_args(hint) for name, hint in get_type_hints(config).items() if get_args(hint)}


@functools.cache
def _descriptions(config: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, as one line."""
    (definition,) = ast.parse(inspect.getsource(config)).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101
    return {
        field.target.id: " ".join(ast.literal_eval(docstring.value).split())
        for field, docstring in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(docstring, ast.Expr)
    }
