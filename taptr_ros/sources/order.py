"""The order of files: numbers in their names count as numbers, so that frame2 comes before frame10."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def in_natural_order(paths: Iterable[Path]) -> list[Path]:
    """Return the paths sorted by name without its ending, every run of digits in it by its value."""
    return sorted(paths, key=lambda path: (_parts(path.stem), path.name))


def _parts(name: str) -> list[str | int]:
    """Split a name into texts and numbers; they take turns, so that like is compared with like."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]
