#!/usr/bin/env python3
"""Writes the tables of parameters into the documents, from the declarations in the code.

scripts/parameter_tables.py            # brings docs/ros.md and docs/view.md up to date
scripts/parameter_tables.py --check    # changes nothing; status 1 if a table is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.nodes.configs import (
    DepthConfig,
    GridConfig,
    NodeConfig,
    RecorderConfig,
    VideoSourceConfig,
    ViewConfig,
)
from taptr_ros.nodes.parameters import parameters_of
from taptr_ros.settings import Setting
from taptr_ros.tracking import TrackerConfig

ROOT = Path(__file__).resolve().parent.parent

NODES: dict[str, tuple[type, ...]] = {
    "tracker": (NodeConfig, TrackerConfig),
    "video_source": (VideoSourceConfig,),
    "recorder": (RecorderConfig,),
    "grid": (GridConfig,),
    "depth": (DepthConfig, BodiesConfig),
    "view": (ViewConfig,),
}
"""The dataclasses with the parameters of each node."""

PLACES = {"docs/ros.md": ["tracker", "video_source", "recorder", "grid", "depth"], "docs/view.md": ["view"]}
"""The nodes whose tables each document has."""


def main() -> int:
    check = "--check" in sys.argv[1:]
    outdated = [name for name, nodes in PLACES.items() if not update(ROOT / name, nodes, check=check)]
    for name in outdated:
        print(f"{name}: the table of parameters is out of date; run scripts/parameter_tables.py.", file=sys.stderr)
    return int(bool(outdated))


def update(document: Path, nodes: list[str], *, check: bool) -> bool:
    """Put the tables into a document, or only look; return whether it is up to date then."""
    old = new = document.read_text()
    for node in nodes:
        start, end = f"<!-- parameters of {node}: scripts/parameter_tables.py -->\n", "<!-- end of parameters -->"
        if start not in new:
            raise SystemExit(f"{document} has no place for the parameters of {node}.")
        before, _, rest = new.partition(start)
        new = before + start + table(node) + end + rest.partition(end)[2]
    if check:
        return new == old
    document.write_text(new)
    return True


def table(node: str) -> str:
    """Return a node's table in Markdown."""
    entries = parameters_of(*NODES[node])
    live = any(entry.live for entry in entries)
    lines = ["| parameter | default | range |" + (" live |" if live else "") + " meaning |"]
    lines.append("|---" * (5 if live else 4) + "|")
    for entry in entries:
        cells = [f"`{entry.name}`", default(entry), limits(entry)]
        if live:
            cells.append("yes" if entry.live else "")
        lines.append(f"| {' | '.join([*cells, entry.description])} |")
    return "\n".join(lines) + "\n"


def default(entry: Setting) -> str:
    value = str(entry.default).lower() if isinstance(entry.default, bool) else str(entry.default)
    return f"`{value}`" if value else "empty"


def limits(entry: Setting) -> str:
    if entry.choices:
        return ", ".join(f"`{choice}`" for choice in entry.choices)
    return f"{entry.limits[0]:g} to {entry.limits[1]:g}" if entry.limits else ""


if __name__ == "__main__":
    sys.exit(main())
