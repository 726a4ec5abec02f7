#!/usr/bin/env python3
"""Draw how the time per frame grows with the number of points, from files of `taptr bench --json`, as an SVG.

    taptr bench --threads 2 --images 480x640 --points 1,64,128,256 --memory 512 --json times_384.json
    python scripts/plot_bench.py docs/performance.svg times_*.json

A line stands for each input size; of several image sizes and memories, the smallest image and the fullest memory count.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 96, 20, 44
"""Room for the labels, in pixels."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
"""Told apart by everyone, on white and on black."""
GREY = "#808080"
CAMERA = 1e3 / 30
"""Milliseconds between two images of a camera at 30 Hz."""

Line = list[tuple[int, float]]
"""Points, and milliseconds per frame."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="SVG to write")
    parser.add_argument("times", type=Path, nargs="+", help="files of taptr bench")
    arguments = parser.parse_args()
    arguments.out.write_text(picture(frames(arguments.times)))


def frames(paths: Iterable[Path]) -> dict[str, Line]:
    """Return a line for each input size, smallest first."""
    entries = [entry for path in paths for entry in json.loads(path.read_text()) if entry["stage"] == "frame"]
    if not entries:
        raise SystemExit("These files hold no times of whole frames.")
    image = min((entry["image_height"], entry["image_width"]) for entry in entries)
    memory = max(entry["memory"] for entry in entries)
    lines: dict[tuple[int, int], Line] = {}
    for entry in entries:
        if ((entry["image_height"], entry["image_width"]), entry["memory"]) == (image, memory):
            size = entry["height"], entry["width"]
            lines.setdefault(size, []).append((entry["points"], 1e3 * entry["median_s"]))
    return {f"{height}x{width}": sorted(line) for (height, width), line in sorted(lines.items())}


def picture(lines: dict[str, Line]) -> str:
    """Return the SVG."""
    most_points = max(points for line in lines.values() for points, _ in line)
    step = next((step for step in (5, 10, 20, 50, 100, 200) if slowest(lines) <= 6 * step), 500)
    top = step * (int(slowest(lines) // step) + 1)

    def place(points: float, time: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * points / most_points
        return round(x, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * time / top, 1)

    def text(x: float, y: float, words: str, anchor: str = "start", colour: str = GREY) -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{words}</text>'

    def level(time: float, dashes: str = "") -> str:
        (left, y), (right, _) = place(0, time), place(most_points, time)
        style = f' stroke-dasharray="{dashes}"' if dashes else ' stroke-opacity="0.3"'
        return f'<path d="M{left} {y}H{right}" stroke="{GREY}"{style}/>'

    parts = [level(time) for time in range(0, top + 1, step)]
    parts += [text(LEFT - 8, place(0, time)[1] + 4, str(time), "end") for time in range(0, top + 1, step)]
    for points in sorted({points for line in lines.values() for points, _ in line}):
        parts.append(text(place(points, 0)[0], HEIGHT - BOTTOM + 18, str(points), "middle"))
    parts.append(text(place(most_points / 2, 0)[0], HEIGHT - 8, "points", "middle"))
    parts.append(text(4, 14, "ms per frame"))
    if top > CAMERA:
        x, y = place(most_points, CAMERA)
        parts += [level(CAMERA, "5 4"), text(x + 8, y + 4, "30 Hz")]
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        places = [place(*entry) for entry in line]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in places]
        parts.append(text(places[-1][0] + 8, places[-1][1] + 4, name, colour=colour))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return "\n".join([f'{head} font-family="sans-serif" font-size="12">', *parts, "</svg>", ""])


def slowest(lines: dict[str, Line]) -> float:
    """Return the longest time of all."""
    return max(time for line in lines.values() for _, time in line)


if __name__ == "__main__":
    main()
