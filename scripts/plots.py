#!/usr/bin/env python3
"""Draw the plots in docs/ as SVG.

    taptr bench --threads 2 --images 480x640 --points 1,64,128,256 --memory 512 --json times_512.json
    python scripts/plots.py bench docs/performance.svg times_*.json     # a line for each input size
    python scripts/plots.py training docs/training.svg runs/gpu runs/gpu_refine    # in their order
    python scripts/plots.py endurance docs/endurance.svg results/endurance.json

Of several image sizes and memories in the files of `taptr bench`, the smallest image that all input sizes were measured
with counts, and the fullest memory.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("svg")
GREY = "#808080"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "taptr_ros",
    "savefig.transparent": True,
    # Read as well on a white page as on a dark one.
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
    "axes.prop_cycle": matplotlib.cycler(color=["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
}
CAMERA = 1e3 / 30
"""Milliseconds between two images of a camera at 30 Hz."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plot", choices=PLOTS)
    parser.add_argument("out", type=Path, help="SVG to write")
    parser.add_argument("results", type=Path, nargs="+", help="files of taptr bench or endurance, or folders of runs")
    arguments = parser.parse_args()
    with matplotlib.rc_context(STYLE):
        PLOTS[arguments.plot](arguments.results).savefig(arguments.out, metadata={"Date": None})


def bench(paths: Iterable[Path]) -> Figure:
    """Draw the time per frame over the number of points, a line for each input size."""
    entries = [entry for path in paths for entry in json.loads(path.read_text()) if entry["stage"] == "frame"]
    if not entries:
        raise SystemExit("These files hold no times of whole frames; make them with taptr bench --json.")
    memory = max(entry["memory"] for entry in entries)
    lines: dict[tuple[int, int], dict[tuple[int, int], list[tuple[int, float]]]] = {}
    for entry in entries:
        if entry["memory"] == memory:
            images = lines.setdefault((entry["height"], entry["width"]), {})
            line = images.setdefault((entry["image_height"], entry["image_width"]), [])
            line.append((entry["points"], 1e3 * entry["median_s"]))
    common = set.intersection(*(set(images) for images in lines.values()))
    if not common:
        raise SystemExit("The input sizes were measured with different images; give all the same --images.")
    image = min(common)
    figure, axes = _figure(1)
    for (height, width), images in sorted(lines.items()):
        points, times = zip(*sorted(images[image]), strict=True)
        axes[0].plot(points, times, marker="o", label=f"{height}x{width}")
        axes[0].set_xticks(points)
    axes[0].axhline(CAMERA, color=GREY, linestyle="--", linewidth=1, label="30 Hz")
    axes[0].set(xlabel="points", ylabel="ms per frame", ylim=(0, None))
    handles, names = axes[0].get_legend_handles_labels()
    # From the highest line down, as they lie in the picture.
    axes[0].legend(handles[::-1], names[::-1], frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def training(runs: Iterable[Path]) -> Figure:
    """Draw how many visible points of training clips were within 4 pixels, over the frames learnt from.

    Stages of one image size and length share a colour: their clips are equally hard.
    """
    figure, axes = _figure(1)
    begun, colours = 0.0, dict[str, str]()
    for run in runs:
        found = re.findall(r"step (\d+) .*?within_4_pixels (\S+)", (run / "log.txt").read_text())
        if not found:
            raise SystemExit(f"{run}/log.txt has no steps; name the folder of a run of taptr train.")
        steps, shares = np.array(found, float).T
        first = 0
        for stage in yaml.safe_load((run / "recipe.yaml").read_text())["stages"]:
            inside = (steps > first) & (steps <= first + stage["steps"])
            frames = begun + (steps[inside] - first) * stage["frames"] * stage["clips"] / 1e3
            name = f"{stage['size']} pixels, {stage['frames']} frames"
            label = None if name in colours else name
            (drawn,) = axes[0].plot(frames, 100 * shares[inside], ".-", label=label, color=colours.get(name))
            colours[name] = drawn.get_color()
            # A run may have been stopped before its last stage.
            begun += float(np.clip(steps[-1] - first, 0, stage["steps"])) * stage["frames"] * stage["clips"] / 1e3
            first += stage["steps"]
    axes[0].set(xlabel="thousand frames learnt from", ylabel="% within 4 pixels, training clips", ylim=(None, 100))
    axes[0].legend(frameon=False, loc="upper left", ncols=2)
    return figure


def endurance(paths: Iterable[Path]) -> Figure:
    """Draw memory, open files, threads and processor time per frame over the frames of one long run."""
    (path,) = paths
    result = json.loads(path.read_text())
    names = {
        "memory": "memory [MiB]",
        "files": "open files",
        "threads": "threads",
        "milliseconds": "CPU time\n[ms per frame]",
    }
    figure, axes = _figure(len(names))
    for each, (name, title) in zip(axes, names.items(), strict=True):
        each.plot([row["frame"] for row in result["rows"]], [row[name] for row in result["rows"]])
        each.set(ylabel=title, ylim=(0, None))
        each.margins(y=0.25)
    axes[-1].set_xlabel(f"frames ({result['model']})")
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    return figure


def _figure(rows: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7.2, 3.6 if rows == 1 else 1.3 * rows), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, sharex=True)))


PLOTS = {"bench": bench, "training": training, "endurance": endurance}


if __name__ == "__main__":
    main()
