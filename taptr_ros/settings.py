"""Settings: dataclass fields that carry their description and limits, and the one check of them all."""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from taptr_ros.errors import InvalidConfigError

T = TypeVar("T")

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one field of a dataclass of settings."""

    name: str
    kind: Any
    """The field's type: bool, int, float, str, a `Literal`, a tuple of a fixed length, or one of them or None."""
    default: Any
    """`dataclasses.MISSING` for a field that must be given."""
    description: str
    limits: tuple[float, float] | None
    """Lowest and highest value of a number."""
    excluded: tuple[float, ...]
    """Limits that are no values themselves."""
    live: bool
    """Whether it may change while it is in use."""

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a `Literal` field; empty for all others."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()


def setting(
    default: T,
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    excluded: tuple[float, ...] = (),
    live: bool = False,
) -> T:
    """Return a dataclass field with its default, its meaning, the limits of a number, and whether it may change."""
    metadata = described(description, limits=limits, excluded=excluded, live=live)
    # Typed as what the field holds, as `dataclasses.field` is.
    field: Any = dataclasses.field(default=default, metadata=metadata)
    result: T = field
    return result


def described(
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    excluded: tuple[float, ...] = (),
    live: bool = False,
) -> dict[str, Any]:
    """Return the metadata that makes a setting of a field without default: `dataclasses.field(metadata=...)`.

    A function that returned the field would hide from type checkers that a value must be given.
    """
    return {"description": description, "limits": limits, "excluded": excluded, "live": live}


def settings_of(kind: type) -> tuple[Setting, ...]:
    """Return the settings of a dataclass, in the order of its fields; fields without metadata are left out."""
    hints = get_type_hints(kind)
    return tuple(
        Setting(field.name, hints[field.name], field.default, **field.metadata)
        for field in dataclasses.fields(cast(Any, kind))
        if field.metadata
    )


def check_settings(config: object) -> None:
    """Raise `InvalidConfigError` if a setting has a value of another type, or one that it cannot have."""
    for entry in settings_of(type(config)):
        value = getattr(config, entry.name)
        if not _fits(value, entry.kind, entry):
            advice = f"{'choose' if entry.choices else 'use'} {_values(entry.kind, entry)}"
            raise InvalidConfigError(f"{entry.name} is {value!r}; {advice}.")


def _fits(value: Any, kind: Any, entry: Setting) -> bool:
    """Return whether a setting, or a part of one that is of type `kind`, can have the value."""
    parts = get_args(kind)
    if _is_optional(kind):
        return value is None or _fits(value, parts[0], entry)
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in parts
    if get_origin(kind) is tuple:
        same_length = isinstance(value, tuple) and len(value) == len(parts)
        return same_length and all(_fits(item, part, entry) for item, part in zip(value, parts, strict=True))
    # A whole number serves as a decimal one; True and False are numbers to Python, not here.
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or isinstance(value, bool) != (kind is bool):
        return False
    # NaN is within no limits.
    return entry.limits is None or (entry.limits[0] <= value <= entry.limits[1] and value not in entry.excluded)


def _values(kind: Any, entry: Setting) -> str:
    """Return in words which values fit."""
    parts = get_args(kind)
    if _is_optional(kind):
        return f"{_values(parts[0], entry)}, or none at all"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(parts)}"
    if get_origin(kind) is tuple:
        return f"{len(parts)} values, each {_values(parts[0], entry)}"
    if entry.limits is None:
        return _WORDS[kind]
    low, high = entry.limits
    lowest = f"above {low:g}" if low in entry.excluded else f"from {low:g}"
    if high == math.inf:
        highest = "" if low in entry.excluded else " on"
    else:
        highest = f" to below {high:g}" if high in entry.excluded else f" to {high:g}"
    return f"{_WORDS[kind]} {lowest}{highest}"


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in (types.UnionType, Union)
