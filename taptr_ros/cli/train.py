"""`taptr train`: train the small network."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from taptr_ros.cli.arguments import requires_torch
from taptr_ros.errors import InvalidConfigError

DESCRIPTION = """\
Train the small network with a recipe, on synthetic scenes and, if you like, on sequences of your own. A run that is
started again continues from its last checkpoint. docs/training.md describes the recipe.

  taptr train config/training/small.yaml --run runs/small
  taptr train --smoke --run runs/smoke
  torchrun --nproc-per-node 8 -m taptr_ros train recipe.yaml --run runs/large
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, nargs="?", help="the recipe")
    parser.add_argument(
        "--run",
        dest="folder",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for checkpoints, models, log and TensorBoard",
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after this time, at a checkpoint to go on from"
    )
    parser.add_argument("--smoke", action="store_true", help="a run of about a minute that shows whether all works")


def run(arguments: argparse.Namespace) -> None:
    """Train; with `processes` above 1 in as many processes, which run this same command."""
    with requires_torch("Training"):
        from taptr_ros.training import processes
        from taptr_ros.training.config import load_training_config
        from taptr_ros.training.loop import train
        from taptr_ros.training.recipes import smoke_recipe
        from taptr_ros.training.scenes.textures import photo_files
    if arguments.smoke == (arguments.config is not None):
        raise InvalidConfigError("Pass either a recipe or --smoke; see `taptr train --help`.")
    config = smoke_recipe() if arguments.smoke else load_training_config(arguments.config)
    for scenes in (*config.data.scenes, config.evaluation.scenes):
        if scenes.photos is not None:
            photo_files(scenes.photos)  # said here, and not by the many processes that make scenes
    if config.processes > 1 and not processes.is_started():
        processes.start(config.processes, processes.command_line(sys.argv[1:]))
        return
    state = train(config, arguments.folder, minutes=arguments.minutes)
    if processes.rank() == 0:
        print(f"{state.step} steps; best AJ on generated scenes {state.best_score:.1f}; models in {arguments.folder}")
