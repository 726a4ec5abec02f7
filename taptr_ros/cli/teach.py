"""`taptr teach`: tracks of real recordings to train on, by a model that serves as the teacher."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from taptr_ros.cli.arguments import add_model_arguments, load_requested_backend, requires_torch
from taptr_ros.errors import SourceError, TaptrError
from taptr_ros.runtime.backend import Backend
from taptr_ros.sources.opening import open_source

DESCRIPTION = """\
Track points through recordings of your own, forwards and backwards, and keep the tracks on which both agree: clips for
`data.recordings` of a training recipe, as docs/training.md shows. `taptr train --videos` does this and then trains.

  taptr teach robot/*.mp4 --out recordings
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("sources", metavar="SOURCE", type=Path, nargs="+", help="videos, folders of images or bags")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for the clips; those in it stay"
    )
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Teach what the arguments say."""
    teach(load_requested_backend(arguments, None), arguments.sources, arguments.out)


def teach(teacher: Backend, sources: Sequence[Path], out: Path) -> None:
    """Write a clip for every piece of every recording; one that cannot be read is named and left out.

    Raises `SourceError` if no clip comes of any.
    """
    with requires_torch("Training"):
        from taptr_ros.training.clip_files import SUFFIX, pool_files, save_clip
        from taptr_ros.training.teaching import SHORTEST, pieces, taught
    out.mkdir(parents=True, exist_ok=True)
    # Clips that are there already stay: what is added makes one set with them.
    names = [path.name.removesuffix(SUFFIX) for path in pool_files(out)]
    first = max((int(name) for name in names if name.isdecimal()), default=-1) + 1
    kept = pieces_seen = points = 0
    refused: list[str] = []
    for path in tqdm(sources, unit="recording", disable=None, dynamic_ncols=True):
        with _noting(refused, path):
            for frames in pieces(frame.image for frame in open_source(path)):
                clip = taught(teacher, frames, seed=pieces_seen)
                pieces_seen += 1
                if clip is not None:
                    save_clip(out / f"{first + kept:012d}{SUFFIX}", clip)
                    kept += 1
                    points += len(clip.xy)
    for line in refused:
        print(line)
    if not kept:
        raise SourceError(
            f"No clip came of {pieces_seen} pieces of {len(sources)} recordings; use recordings of "
            f"{SHORTEST} frames or more with texture, or a better teacher."
        )
    print(f"{kept} of {pieces_seen} pieces with {points} points in {out}")


@contextlib.contextmanager
def _noting(refused: list[str], path: Path) -> Iterator[None]:
    """Note what is wrong with a recording, for the others to go on."""
    try:
        yield
    except TaptrError as error:
        refused.append(f"{path}: {error}")
