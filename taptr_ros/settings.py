"""Settings: dataclass fields that carry their description and limits, and the one check of them all."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar, cast, get_args, get_type_hints

from taptr_ros.errors import InvalidConfigError

T = TypeVar("T")

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one field of a dataclass of settings."""

    name: str
    default: Any
    description: str
    limits: tuple[float, float] | None
    """Lowest and highest value of a number."""
    choices: tuple[str, ...]
    """The values of a `Literal` field; empty for all others."""
    live: bool
    """Whether it may change while it is in use."""


def setting(default: T, description: str, *, limits: tuple[float, float] | None = None, live: bool = False) -> T:
    """Return a dataclass field with its default, its meaning, the limits of a number, and whether it may change."""
    metadata = {"description": description, "limits": limits, "live": live}
    # Typed as what the field holds, as `dataclasses.field` is.
    field: Any = dataclasses.field(default=default, metadata=metadata)
    result: T = field
    return result


def settings_of(kind: type) -> tuple[Setting, ...]:
    """Return the settings of a dataclass, in the order of its fields; fields made without `setting` are left out."""
    hints = get_type_hints(kind)
    return tuple(
        Setting(field.name, field.default, choices=_choices(hints[field.name]), **field.metadata)
        for field in dataclasses.fields(cast(Any, kind))
        if field.metadata
    )


def check_settings(config: object) -> None:
    """Raise `InvalidConfigError` if a setting has another type than its default, or a value that it cannot have."""
    for entry in settings_of(type(config)):
        value = getattr(config, entry.name)
        if problem := _problem(entry, value):
            raise InvalidConfigError(f"{entry.name} is {value!r}; {problem}.")


def _problem(entry: Setting, value: Any) -> str | None:
    """Return what to use instead of a value that cannot be."""
    if entry.choices:
        is_choice = isinstance(value, str) and value in entry.choices
        return None if is_choice else f"choose one of {', '.join(entry.choices)}"
    if isinstance(entry.default, tuple):
        part = dataclasses.replace(entry, default=entry.default[0])
        if isinstance(value, tuple) and len(value) == len(entry.default) and not any(_problem(part, x) for x in value):
            return None
        limits = f" from {entry.limits[0]:g} to {entry.limits[1]:g}" if entry.limits else ""
        return f"use {len(entry.default)} numbers{limits}, each as {entry.default[0]}"
    # A whole number serves as a decimal one; True and False are numbers to Python, not here.
    kinds = (int, float) if isinstance(entry.default, float) else type(entry.default)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(entry.default, bool):
        return f"use {_WORDS[type(entry.default)]}"
    if entry.limits and not (math.isfinite(value) and entry.limits[0] <= value <= entry.limits[1]):
        return f"use a value from {entry.limits[0]:g} to {entry.limits[1]:g}"
    return None


def _choices(hint: Any) -> tuple[str, ...]:
    return tuple(choice for choice in get_args(hint) if isinstance(choice, str))
