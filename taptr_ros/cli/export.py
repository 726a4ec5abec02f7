"""`taptr export`: write a model as ONNX graphs and check them against the original."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taptr_ros.cli.arguments import add_size_argument, requires_extra
from taptr_ros.cli.outputs import add_overwrite_argument, check_outputs
from taptr_ros.sources.opening import open_source
from taptr_ros.sources.panning import panning_images

FRAMES_PER_SOURCE = 12
"""Frames of each source that both sides are compared on."""

GENERATED_SIZE = (240, 320)
"""Height and width of the frames that are generated where no source is given."""

DESCRIPTION = """\
Write the functions of a model as ONNX graphs, which run without PyTorch. Then track the same points with both and
report how far apart they are. A difference of 0.01 pixels or more is an error. For a small network there is one more
graph, which encodes images in 8-bit integers; it is left out if half of the points differ by more than a pixel.

  taptr export taptrv3_r18.safetensors taptrv3_r18_256 --size 256x256 --frames street.mp4
  taptr track street.mp4 --grid 8 --model taptrv3_r18_256 --out tracks.npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("model", metavar="MODEL", type=Path, help="model file (.safetensors)")
    parser.add_argument("out", metavar="OUT_DIR", type=Path, help="folder to write; it becomes a --model")
    add_overwrite_argument(parser)
    parser.add_argument(
        "--frames",
        nargs="+",
        metavar="SOURCE",
        help=f"videos, folders of images or bags whose first {FRAMES_PER_SOURCE} frames are compared on, and give the "
        "ranges of the integers (default: a generated texture that moves)",
    )
    add_size_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    """Export, compare, and print the report."""
    check_outputs(
        [arguments.out],
        [arguments.model, *(arguments.frames or [])],
        overwrite=arguments.overwrite,
        is_ours=lambda folder: (folder / "encode.onnx").exists(),
    )
    with requires_extra("Exporting a model", "cpu,torch"):
        from taptr_ros.runtime.export import export
    report = export(arguments.model, arguments.out, _clips(arguments.frames), size=arguments.size)
    compared = report.float32
    print(f"{compared.points} points in {compared.frames} frames, PyTorch against ONNX Runtime, largest differences:")
    print(f"  position    {compared.largest_pixel_difference:.6f} px of the model's input")
    print(f"  visibility  {compared.largest_visibility_difference:.6f}")
    if report.int8 is not None:
        outcome = "" if report.has_int8 else ". That is too much: images are encoded in float32 only"
        difference = f"{report.int8.median_pixel_difference:.2f} px in the median"
        print(f"With images encoded in 8-bit integers: {difference}{outcome}.")
    print(f"Exported: {report.folder}")


def _clips(sources: list[str] | None) -> list[list[NDArray[np.uint8]]]:
    """Return the frames to compare on, by source."""
    if sources is None:
        return [panning_images(*GENERATED_SIZE, FRAMES_PER_SOURCE)]
    return [[frame.image for frame in itertools.islice(open_source(source), FRAMES_PER_SOURCE)] for source in sources]
