"""`taptr train`: train the small network."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from taptr_ros.cli.arguments import requires_torch
from taptr_ros.cli.teach import teach
from taptr_ros.errors import InvalidConfigError
from taptr_ros.runtime.loading import TAPTR_SMALL, load_backend

DESCRIPTION = """\
Train the small network with a recipe, on synthetic scenes and, if you like, on sequences of your own. A run that is
started again continues from its last checkpoint. docs/training.md describes the recipe.

  taptr train config/training/small.yaml --run runs/small
  taptr train --smoke --run runs/smoke
  taptr train --videos robot/*.mp4 --run runs/robot
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
    parser.add_argument(
        "--videos",
        nargs="+",
        type=Path,
        metavar="SOURCE",
        help="in place of a recipe: go on from the package's model with recordings of your own, as `taptr teach` reads "
        "them, whose tracks it makes itself",
    )


def run(arguments: argparse.Namespace) -> None:
    """Train; with `processes` above 1 in as many processes, which run this same command."""
    with requires_torch("Training"):
        from taptr_ros.training import processes
        from taptr_ros.training.config import load_training_config
        from taptr_ros.training.loop import train
        from taptr_ros.training.recipes import recordings_recipe, smoke_recipe
        from taptr_ros.training.scenes.textures import photo_files
    if [arguments.smoke, arguments.config is not None, arguments.videos is not None].count(True) != 1:
        raise InvalidConfigError("Pass one of a recipe, --smoke and --videos; see `taptr train --help`.")
    if arguments.smoke:
        config = smoke_recipe()
    elif arguments.videos:
        config = recordings_recipe(arguments.folder, taught_recordings(arguments.videos, arguments.folder))
    else:
        config = load_training_config(arguments.config)
    for scenes in (*config.data.scenes, config.evaluation.scenes):
        if scenes.photos is not None:
            photo_files(scenes.photos)  # said here, and not by the many processes that make scenes
    if config.processes > 1 and not processes.is_started():
        processes.start(config.processes, processes.command_line(sys.argv[1:]))
        return
    state = train(config, arguments.folder, minutes=arguments.minutes)
    if processes.rank() == 0:
        print(f"{state.step} steps; best AJ on generated scenes {state.best_score:.1f}; models in {arguments.folder}")


def taught_recordings(videos: Sequence[Path], folder: Path) -> Path:
    """Return the folder of recordings in a run's folder; if it is not there, let the package's model make it."""
    recordings = folder / "recordings"
    if not recordings.exists():
        # A run that was ended before all videos were read reads them again.
        unfinished = folder / "recordings.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        teach(load_backend(TAPTR_SMALL), videos, unfinished)
        unfinished.rename(recordings)
    return recordings
