"""`taptr convert`: turn an official TAPTRv3 checkpoint into a model file."""

from __future__ import annotations

import argparse
from pathlib import Path

from taptr_ros.cli.arguments import output_file, requires_torch
from taptr_ros.cli.outputs import add_overwrite_argument, check_outputs

DESCRIPTION = """\
Turn an official TAPTRv3 checkpoint into a model file of this package. No code in the checkpoint is run, and every
tensor must find its place: missing and unexpected names are listed.

  taptr convert taptrv3_r18.pth taptrv3_r18.safetensors

Official checkpoints have a licence of their own, which allows non-commercial use only.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="official checkpoint (.pth)")
    parser.add_argument("out", metavar="OUT", type=output_file, help="model file to write (.safetensors)")
    add_overwrite_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    """Convert, and print what was found."""
    check_outputs([arguments.out], [arguments.checkpoint], overwrite=arguments.overwrite)
    with requires_torch("Converting a checkpoint"):
        from taptr_ros.model.conversion import convert
    report = convert(arguments.checkpoint, arguments.out)
    config = report.config
    print(
        f"{config.name}: {config.backbone}, {config.hidden_dim} channels, {config.encoder_layers} encoder and "
        f"{config.decoder_layers} decoder layers, input {config.height}x{config.width}"
    )
    print(f"{report.tensors} tensors, {report.parameters:,} numbers: {arguments.out}")
    if report.unused:
        print(f"Not needed: {', '.join(report.unused)}")
