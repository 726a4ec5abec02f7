"""The names of a batch's results: each tells the recording, the part, and what the result follows from.

A result that is there under its name is complete, and right for this recording, model and options.
"""

from __future__ import annotations

import enum
import hashlib
import json
from typing import Any, NamedTuple
from urllib.parse import quote

_LONGEST_STEM = 120
"""Characters; a file's name can have 255 bytes."""


class Kind(enum.Enum):
    """A kind of result: the folder that has them all, and the ending of their names.

    Readers of Parquet pass over names that begin with an underscore, so that they read the dataset's own folder.
    """

    ROWS = ("tracks", ".parquet")
    NPZ = ("_npz", ".npz")
    BAG = ("_bags", "")
    OVERLAY = ("_overlays", ".mp4")
    RRD = ("_rrd", ".rrd")

    @property
    def folder(self) -> str:
        """Name of the folder."""
        return self.value[0]

    @property
    def suffix(self) -> str:
        """Ending of the names, with its dot; a bag is a folder without one."""
        return self.value[1]


class Result(NamedTuple):
    """What the name of a result tells."""

    stem: str
    part: int
    key: str


def stem(recording: str) -> str:
    """Return what the names of a recording's results begin with: its name, with what a file name cannot have quoted."""
    quoted = quote(recording, safe=" ()+,=@")
    if len(quoted) <= _LONGEST_STEM:
        return quoted
    return f"{quoted[: _LONGEST_STEM - 17]}~{hashlib.sha256(recording.encode()).hexdigest()[:16]}"


def result_name(kind: Kind, recording_stem: str, part: int, key: str) -> str:
    """Return the path of a result in the dataset's folder."""
    return f"{kind.folder}/{recording_stem}.{part:05d}.{key}{kind.suffix}"


def parsed_name(kind: Kind, name: str) -> Result | None:
    """Return what the name of a file in the folder of a kind tells; None if it is no result's."""
    parts = name.removesuffix(kind.suffix).rsplit(".", 2)
    if not name.endswith(kind.suffix) or len(parts) != 3 or not parts[1].isdigit():
        return None
    return Result(parts[0], int(parts[1]), parts[2])


def content_key(facts: Any) -> str:
    """Return a number, as 20 hexadecimal digits, that stands for these facts: what JSON can write."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
