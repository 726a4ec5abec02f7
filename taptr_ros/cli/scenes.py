"""`taptr scenes`: look at the synthetic scenes that training uses."""

from __future__ import annotations

import argparse
import time
from typing import get_args

import cv2
from tqdm import tqdm

from taptr_ros.cli.arguments import count, output_file, size
from taptr_ros.cli.outputs import add_overwrite_argument, check_outputs
from taptr_ros.errors import InvalidConfigError
from taptr_ros.runtime.images import opencv_path
from taptr_ros.training.scenes import SceneConfig, generate
from taptr_ros.training.scenes.config import Kind
from taptr_ros.training.scenes.sheet import contact_sheet
from taptr_ros.training.scenes.statistics import clip_statistics

DESCRIPTION = """\
Generate synthetic clips and draw them on one picture: a row for each clip, with its tracks. A disc is a visible point,
a ring is a hidden one, and a line is the path of the point. docs/scenes.md describes the scenes.

  taptr scenes --out sheet.png --photos ~/photos --kind layered --seed 7
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("--out", type=output_file, required=True, metavar="SHEET.png", help="picture to write")
    add_overwrite_argument(parser)
    parser.add_argument("--photos", metavar="DIR", help="folder of photos to cut textures from (default: none)")
    parser.add_argument("--kind", choices=get_args(Kind), default=SceneConfig.kind, help="kind of scenes")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the first clip; others follow")
    parser.add_argument("--clips", type=count, default=6, metavar="N", help="number of clips")
    parser.add_argument("--frames", type=count, default=SceneConfig.frames, metavar="N", help="frames per clip")
    parser.add_argument("--columns", type=count, default=6, metavar="N", help="frames of each clip that are drawn")
    parser.add_argument("--points", type=count, default=80, metavar="N", help="tracks of each clip that are drawn")
    parser.add_argument(
        "--size", type=size, default=(256, 256), metavar="HxW", help="size of the frames (default: 256x256)"
    )
    parser.add_argument("--scale", type=count, default=2, metavar="N", help="enlargement of the frames in the picture")
    parser.add_argument("--cuts", action="store_true", help="with scene cuts in every clip")


def run(arguments: argparse.Namespace) -> None:
    """Generate the clips, write the sheet, and print how long the clips took."""
    check_outputs([arguments.out], [arguments.photos], overwrite=arguments.overwrite)
    if arguments.seed < 0:
        raise InvalidConfigError(f"--seed is {arguments.seed}; use 0 or more.")
    height, width = arguments.size
    config = SceneConfig(
        kind=arguments.kind,
        height=height,
        width=width,
        frames=arguments.frames,
        points=max(arguments.points, SceneConfig.points),
        photos=arguments.photos,
        cut_share=1.0 if arguments.cuts else 0.0,
    )
    # One thread, as training runs one process per core: the time printed is then that of a core.
    cv2.setNumThreads(1)
    started, busy = time.monotonic(), time.process_time()
    seeds = range(arguments.seed, arguments.seed + arguments.clips)
    clips = [generate(config, seed) for seed in tqdm(seeds, unit="clip", disable=None)]
    frames = arguments.clips * arguments.frames
    rate, rate_busy = frames / (time.monotonic() - started), frames / (time.process_time() - busy)
    sheet = contact_sheet(clips, arguments.columns, arguments.points, arguments.scale)
    if not cv2.imwrite(opencv_path(arguments.out), sheet[..., ::-1]):
        raise InvalidConfigError(f"{arguments.out} cannot be written as a picture; end its name in .png.")
    statistics = clip_statistics(clips)
    print(
        f"{arguments.clips} clips, {rate:.0f} frames per second, {rate_busy:.0f} per second of CPU time: "
        f"{arguments.out}"
    )
    print(
        f"Points are visible in {statistics.visible:.0%} of the frames and hidden inside the image in "
        f"{statistics.hidden:.0%}; {statistics.found_again:.0%} of them come back."
    )
    print(
        f"Visible points move by {statistics.motion_median:.1f} pixels per frame (median); 95 % of the motions are "
        f"below {statistics.motion_high:.1f}."
    )
