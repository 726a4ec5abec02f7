#!/usr/bin/env python3
"""Writes the tables of parameters in the documents, and config/tracker.yaml, from the declarations in the code.

scripts/parameter_tables.py            # brings all of them up to date
scripts/parameter_tables.py --check    # changes nothing; status 1 if one is out of date
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import yaml

from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.nodes.configs import DepthConfig, GridConfig, NodeConfig, RecorderConfig, VideoSourceConfig, ViewConfig
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


PARAMETER_FILE = "config/tracker.yaml"
"""The tracker's parameters and their defaults, to be copied and changed."""


def main() -> int:
    wanted = {name: with_tables(name, nodes) for name, nodes in PLACES.items()} | {PARAMETER_FILE: parameter_file()}
    outdated = {name: text for name, text in wanted.items() if (ROOT / name).read_text() != text}
    if "--check" not in sys.argv[1:]:
        for name, text in outdated.items():
            (ROOT / name).write_text(text)
        return 0
    for name in outdated:
        print(f"{name}: the parameters are out of date; run scripts/parameter_tables.py.", file=sys.stderr)
    return int(bool(outdated))


def with_tables(document: str, nodes: list[str]) -> str:
    """Return the text of a document with the tables of these nodes as they are to be."""
    text = (ROOT / document).read_text()
    for node in nodes:
        start, end = f"<!-- parameters of {node}: scripts/parameter_tables.py -->\n", "<!-- end of parameters -->"
        if start not in text:
            raise SystemExit(f"{document} has no place for the parameters of {node}.")
        before, _, rest = text.partition(start)
        text = before + start + table(node) + end + rest.partition(end)[2]
    return text


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


def parameter_file() -> str:
    """Return the tracker's parameter file."""
    lines = ["# The parameters of the node `tracker` and their defaults, by scripts/parameter_tables.py.", "/**:"]
    lines.append("  ros__parameters:")
    for entry in parameters_of(*NODES["tracker"]):
        lines += textwrap.wrap(entry.description, 116, initial_indent="    # ", subsequent_indent="    # ")
        if allowed := limits(entry):
            lines.append(f"    # {'One of' if entry.choices else 'Range:'} {allowed}.")
        lines += [f"    {entry.name}: {yaml.safe_dump(entry.default).split()[0]}", ""]
    return "\n".join(lines[:-1]) + "\n"


def default(entry: Setting) -> str:
    value = str(entry.default).lower() if isinstance(entry.default, bool) else str(entry.default)
    return f"`{value}`" if value else "empty"


def limits(entry: Setting) -> str:
    if entry.choices:
        return ", ".join(f"`{choice}`" for choice in entry.choices)
    return f"{entry.limits[0]:g} to {entry.limits[1]:g}" if entry.limits else ""


if __name__ == "__main__":
    sys.exit(main())
