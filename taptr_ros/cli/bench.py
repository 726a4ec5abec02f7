"""`taptr bench`: time the model's stages on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import platform
from pathlib import Path
from typing import Any

from tqdm import tqdm

from taptr_ros.cli.arguments import (
    add_model_arguments,
    count_list,
    load_requested_backend,
    output_file,
    positive,
    requires_torch,
    size_list,
)
from taptr_ros.cli.outputs import add_overwrite_argument, check_outputs, is_json_with
from taptr_ros.cli.table import format_table
from taptr_ros.errors import InvalidConfigError
from taptr_ros.evaluation.benchmark import BenchmarkEntry, Peak, benchmark, measure_peaks
from taptr_ros.model.config import ModelConfig
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.loading import LUCAS_KANADE

DESCRIPTION = """\
Time the stages of a model on this machine, after warm-up, with memories that hold real content:

  encode  features of one image
  init    content and context of new points
  decode  all points moved by one frame
  frame   all of the tracker's work for one image of a camera: resizing, encode, decode, memory, states

  taptr bench --threads 2 --json bench.json

The names taptrv3_r18 and taptrv3_r50 time these architectures with random weights: the time does not depend on them.
"""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "taptrv3_r18": {"backbone": "resnet18"},
    "taptrv3_r50": {"backbone": "resnet50"},
}
"""Released architectures that can be timed without their weights."""

ANY_SIZES = [(256, 256), (384, 512)]
"""Input sizes (height, width) to time where the model has none of its own."""

OUTPUT = """\
The JSON file is a list of {"stage", "model", "backend", "precision", "threads", "height", "width", "image_height",
"image_width", "points", "memory", "median_s", "cpu_s"}: median seconds per call, on the wall clock and summed over CPU
threads. The fastest that a plain matrix product (and, with PyTorch, a convolution) runs on this machine is printed
below the table, for comparison.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description, parser.epilog = DESCRIPTION, OUTPUT
    parser.add_argument("--points", type=count_list, default="1,32,256", metavar="N,...", help="numbers of points")
    parser.add_argument(
        "--memory", type=count_list, default="1,64,512", metavar="M,...", help="numbers of filled memory slots"
    )
    parser.add_argument(
        "--sizes",
        type=size_list,
        metavar="HxW,...",
        help="input sizes of the model (default: its own; 256x256,384x512 for one that takes any)",
    )
    parser.add_argument(
        "--images",
        type=size_list,
        default="480x640,1080x1920",
        metavar="HxW,...",
        help="sizes of the camera's images in a frame",
    )
    parser.add_argument("--seconds", type=positive, default=2.0, help="time for each measurement")
    parser.add_argument("--json", type=output_file, required=True, metavar="FILE", help="file for the results")
    add_overwrite_argument(parser)
    add_model_arguments(parser, threads=2)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table, and write the JSON file."""
    is_ours = is_json_with("stage", "median_s", "cpu_s")
    check_outputs([arguments.json], [arguments.model], overwrite=arguments.overwrite, is_ours=is_ours)
    load = functools.partial(_load, arguments)
    takes_any = arguments.model == LUCAS_KANADE or arguments.model in ARCHITECTURES
    sizes = arguments.sizes or (ANY_SIZES if takes_any else [None])
    measurements = benchmark(
        load,
        threads=arguments.threads,
        sizes=sizes,
        images=arguments.images,
        points=arguments.points,
        memories=arguments.memory,
        seconds=arguments.seconds,
    )
    pairs = len(arguments.points) * len(arguments.memory)
    total = len(sizes) * (1 + len(arguments.points) + (1 + len(arguments.images)) * pairs)
    entries = list(tqdm(measurements, total=total, unit="measurement", disable=None, dynamic_ncols=True))
    arguments.json.write_text(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=1) + "\n")
    info = load(sizes[0]).info
    print(
        f"{info.model} with {info.backend} on {info.device}, {info.precision}, {arguments.threads} threads; "
        f"{machine_name()}\n"
    )
    print(_table(entries))
    print()
    for peak in measure_peaks(info, arguments.seconds):
        print(_peak_line(peak))


def _load(arguments: argparse.Namespace, size: tuple[int, int] | None) -> Backend:
    """Load the requested model, or build the named architecture with random weights."""
    if arguments.model not in ARCHITECTURES:
        return load_requested_backend(arguments, size)
    if arguments.backend not in (None, "torch"):
        raise InvalidConfigError(
            f"{arguments.model} without weights runs on torch; export a model to time {arguments.backend}."
        )
    with requires_torch("Timing an architecture"):
        import torch

        from taptr_ros.runtime.torch_backend import TorchBackend
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    shape = ARCHITECTURES[arguments.model]
    height, width = size or ANY_SIZES[0]
    config = ModelConfig.released(name=arguments.model, height=height, width=width, **shape)
    return TorchBackend(config, device=arguments.device, precision=arguments.precision)


def machine_name() -> str:
    """Return the processor's name as the operating system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} logical cores" if names else platform.processor() or platform.machine()


def _table(entries: list[BenchmarkEntry]) -> str:
    header = ("stage", "size", "image", "points", "memory", "median ms", "cpu ms")
    rows = [
        (
            entry.stage,
            f"{entry.height}x{entry.width}",
            f"{entry.image_height}x{entry.image_width}" if entry.image_height else "-",
            str(entry.points or "-"),
            str(entry.memory or "-"),
            f"{1e3 * entry.median_s:.2f}",
            f"{1e3 * entry.cpu_s:.2f}",
        )
        for entry in entries
    ]
    return format_table(header, rows)


def _peak_line(peak: Peak) -> str:
    speed = f"{peak.gigaflops:.0f} GFLOP/s float32"
    return f"{peak.operation} peak: {speed} ({peak.library}, {peak.threads:.1f} threads busy)"
