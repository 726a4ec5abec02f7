"""Seeded mutations: bytes that are nearly a good file, and values at the edges of what a field can hold."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

Generator = np.random.Generator

_SIZES = (0, 1, 2, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
"""Numbers that programs stumble over where a file says how long something is."""

_FLOATS = (0.0, -0.0, -0.5, -0.5000001, 1e-45, 1e9, 3e38, -3e38, float("nan"), float("inf"), float("-inf"))

_TEXTS = (
    "",
    " ",
    "\n",
    "\0",
    "rgb8\0",
    "RGB8",
    "rgb",
    "..",
    "../../../../tmp/x",
    "/dev/zero",
    "%s%n",
    "é中\U0001f600",
    "'",
)


def mutated(data: bytes, rng: Generator) -> bytes:
    """Return data with one to eight mutations, half of them in its first 256 bytes, where formats have headers."""
    result = bytearray(data)
    for _ in range(1 + int(rng.integers(8)) * int(rng.random() < 0.5)):
        kind = rng.integers(8)
        if not result:
            result += rng.bytes(int(rng.integers(1, 64)))
        place = int(rng.integers(min(len(result), 256) if rng.random() < 0.5 else len(result)))
        if kind == 0:
            result[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            result[place] = int(rng.choice((0, 1, 127, 128, 255)))
        elif kind == 2:
            del result[place:]
        elif kind == 3:
            del result[place : place + int(rng.integers(1, 32))]
        elif kind == 4:
            result[place:place] = rng.bytes(int(rng.integers(1, 32)))
        elif kind == 5:
            other = int(rng.integers(len(result)))
            result[place : place + 16] = result[other : other + 16]
        elif kind == 6:
            order = "<" if rng.random() < 0.5 else ">"
            result[place : place + 4] = struct.pack(f"{order}I", _SIZES[int(rng.integers(len(_SIZES)))])
        else:
            result[place : place + 8] = bytes(8)
    return bytes(result)


def odd_integer(rng: Generator, low: int, high: int) -> int:
    """Return a whole number from low to high, often one of the edges."""
    near = (low, low + 1, high - 1, high, 0, 1, 2, (low + high) // 2)
    value = near[int(rng.integers(len(near)))] if rng.random() < 0.6 else low + int(rng.random() * (high - low))
    return min(max(value, low), high)


def odd_float(rng: Generator, usual: float) -> float:
    """Return a decimal number that is usual, far off, or none at all."""
    if rng.random() < 0.5:
        return usual * float(rng.normal(1, 1))
    return _FLOATS[int(rng.integers(len(_FLOATS)))]


def odd_text(rng: Generator, usual: str) -> str:
    """Return a text: the usual one damaged, a strange one, or a very long one."""
    kind = rng.integers(4)
    if kind == 0:
        return mutated(usual.encode(), rng).decode("latin1")
    if kind == 1:
        return usual * int(rng.integers(2, 2000))
    return _TEXTS[int(rng.integers(len(_TEXTS)))]


def odd_json(value: Any, rng: Generator) -> Any:
    """Return what JSON can hold with one part of it replaced by a value of any kind, left out, or repeated."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[int(rng.integers(len(value)))]
        if rng.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: odd_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = int(rng.integers(len(value)))
        return [*value[:place], odd_json(value[place], rng), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return odd_integer(rng, -(2**63), 2**64)
    others: tuple[Any, ...] = (
        *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), "", [], {}),
        *([value], {"": value}, str(value), "a" * 70_000, [0] * 1000),
    )
    return others[int(rng.integers(len(others)))]
