"""`taptr eval`: measure a model's accuracy on sequences with ground truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from taptr_ros.cli.arguments import (
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    load_requested_backend,
    output_file,
    size,
    tracker_config,
)
from taptr_ros.cli.outputs import add_overwrite_argument, check_outputs, is_json_with
from taptr_ros.cli.table import format_table
from taptr_ros.evaluation.datasets import load_dataset
from taptr_ros.evaluation.evaluate import evaluate
from taptr_ros.evaluation.metrics import QueryMode

DESCRIPTION = """\
Measure how well a model tracks, with TAP-Vid's metrics in per cent: AJ (average Jaccard), delta_avg (points within
1, 2, 4, 8 and 16 pixels of a 256x256 raster) and OA (occlusion accuracy). Scene cuts are not looked for.

  taptr eval sequences/ --json result.json
  taptr eval tapvid_davis.pkl --model taptrv3_r18.safetensors --query-mode strided --json result.json
"""

METRICS = ("AJ", "delta_avg", "OA")

OUTPUT = """\
The JSON file: {"mean": {"AJ", "delta_avg", "OA", "n"}, "sequences": {NAME: {"AJ", "delta_avg", "OA", "frames",
"points", "seconds"}}}, null where a sequence has nothing to measure.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description, parser.epilog = DESCRIPTION, OUTPUT
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        type=Path,
        help="a folder of npz files, or a TAP-Vid pickle (DAVIS, RGB-Stacking, RoboTAP) or folder of them (Kinetics)",
    )
    parser.add_argument("--json", type=output_file, required=True, metavar="FILE", help="file for the results")
    add_overwrite_argument(parser)
    parser.add_argument(
        "--query-mode",
        choices=get_args(QueryMode),
        default="first",
        help="start every track where it is first visible, or every 5 frames wherever it is visible",
    )
    parser.add_argument(
        "--raster",
        type=_raster,
        default="256x256",
        metavar="HxW",
        help="size that frames are resized to first, as the benchmark asks, or `native` to leave them",
    )
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, print a table, and write the JSON file."""
    check_outputs(
        [arguments.json],
        [arguments.dataset, arguments.model],
        overwrite=arguments.overwrite,
        is_ours=is_json_with("mean", "sequences"),
    )
    sequences = load_dataset(arguments.dataset)
    backend = load_requested_backend(arguments, arguments.size)
    with tqdm(unit="frame", disable=None, dynamic_ncols=True) as bar:

        def show(sequence: str, done: int, total: int) -> None:
            bar.set_description(sequence, refresh=False)
            bar.total, bar.n = total, done
            bar.update(0)

        result = evaluate(
            backend,
            sequences,
            tracker_config=tracker_config(arguments),
            query_mode=arguments.query_mode,
            raster=arguments.raster,
            progress=show,
        )
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(_table(result))


def _raster(text: str) -> tuple[int, int] | None:
    return None if text == "native" else size(text)


def _table(result: dict[str, Any]) -> str:
    rows = [
        [name, *_percentages(scores), str(scores["frames"]), str(scores["points"])]
        for name, scores in result["sequences"].items()
    ]
    rows.append([f"mean of {result['mean']['n']}", *_percentages(result["mean"]), "", ""])
    return format_table(["sequence", *METRICS, "frames", "points"], rows)


def _percentages(scores: dict[str, float | None]) -> list[str]:
    values = [scores[metric] for metric in METRICS]
    return ["-" if value is None else f"{value:.1f}" for value in values]
