"""`taptr lerobot`: add tracks to a LeRobot dataset, as a feature of its frames."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import logging
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any

from tqdm import tqdm

from taptr_ros.cli.arguments import (
    add_model_arguments,
    add_size_argument,
    add_tracker_arguments,
    new_folder,
    requires_extra,
    tracker_config,
)
from taptr_ros.cli.batch.files import content_key
from taptr_ros.cli.batch.inputs import content_checksum
from taptr_ros.cli.batch.model import Model, add_cluster_arguments, prepare_ray, requested_model, requested_share
from taptr_ros.cli.interrupts import held_interrupt
from taptr_ros.cli.offline import add_points_arguments, point_files
from taptr_ros.cli.outputs import check_outputs
from taptr_ros.errors import InvalidConfigError

DESCRIPTION = """\
Track points through the episodes of a LeRobot dataset (v3), and make a new dataset that has them too.

  taptr lerobot datasets/pusht --grid 8 --out datasets/pusht_tracks
  taptr lerobot datasets/pusht --camera front --boxes "60,40,80,80" --out datasets/pusht_tracks

The frames get the feature observation.tracks.KEY, float32 [N,4], for the camera observation.images.KEY: x and y in
units of the image (0 and 1 are its edges), visibility and confidence. A run that was ended goes on where it was.
"""

EXIT_SOME_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("dataset", metavar="DATASET", type=Path, help="folder of a LeRobot dataset")
    parser.add_argument("--out", type=new_folder, required=True, metavar="NEW", help="folder for the new dataset")
    parser.add_argument(
        "--camera", metavar="KEY", action="append", help="camera to track in (default: all); repeatable"
    )
    add_points_arguments(parser, required=True)
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary; failures are named")
    add_cluster_arguments(parser)
    add_model_arguments(parser)
    add_size_argument(parser)
    add_tracker_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Track the episodes that are not tracked yet, and make the new dataset of all."""
    check_outputs([arguments.out], [arguments.dataset, *point_files(arguments), arguments.model], overwrite=False)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the dataset is on this disk; nothing is asked of a hub
    logging.getLogger("lerobot").setLevel(logging.ERROR)  # it warns, in pages, of a decoder that it does without
    prepare_ray(arguments.address)
    with requires_extra("taptr lerobot", "lerobot"):
        import datasets

        from taptr_ros.cli.batch.crew import Crew, connected
        from taptr_ros.cli.lerobot.episodes import EpisodeWorker, opened_dataset
        from taptr_ros.cli.lerobot.result import Unfinished
    datasets.disable_progress_bars()
    dataset = opened_dataset(arguments.dataset)
    cameras = _cameras(arguments.camera, dataset)
    share = requested_share(arguments)
    model = requested_model(arguments, share)
    points = _absolute_files(arguments)
    episodes = {camera: _episodes(dataset, camera, points, model, arguments) for camera in cameras}
    worker = functools.partial(EpisodeWorker, arguments.dataset.absolute(), points, model, tracker_config(arguments))
    with connected(arguments.address), Unfinished(arguments.out) as unfinished:
        crew = Crew(worker, share, most=arguments.workers, is_alone=arguments.address is None)
        everything = [episode for of_camera in episodes.values() for episode in of_camera]
        failed = _track(everything, crew, unfinished, quiet=arguments.quiet)
        if not failed:
            with contextlib.redirect_stderr(io.StringIO()):  # bars of LeRobot's own
                shapes = unfinished.finish(dataset, episodes)
    for line in failed:
        print(f"taptr: {line}", file=sys.stderr)
    if failed:
        print(
            f"taptr: {len(failed)} of {len(everything)} episodes failed, so there is no new dataset; the tracks of the "
            "others are kept for the next run.",
            file=sys.stderr,
        )
        sys.exit(EXIT_SOME_FAILED)
    if not arguments.quiet:
        named = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        print(f"{dataset.num_frames} frames in {dataset.num_episodes} episodes with {named}: {arguments.out}")


def _track(everything: list[Any], crew: Any, unfinished: Any, *, quiet: bool) -> list[str]:
    """Track the episodes that are missing; return a line for each that failed."""
    from taptr_ros.cli.lerobot.episodes import TrackedEpisode

    tasks = deque(episode for episode in everything if not unfinished.has(episode))
    failed = []
    with (
        tqdm(total=len(everything), initial=len(everything) - len(tasks), unit="episode", disable=quiet or None) as bar,
        held_interrupt() as interrupt,
    ):
        for result in crew.results(tasks):
            if interrupt.came:
                break
            if result is None:
                continue
            episode, outcome = result
            if isinstance(outcome, TrackedEpisode):
                unfinished.add(episode, outcome.values)
            else:
                failed.append(f"episode {episode.index}, {episode.camera}: {outcome.sentence}")
            bar.update()
    return failed


def _cameras(asked: list[str] | None, dataset: Any) -> list[str]:
    """Return the keys of the cameras to track in; a camera can be named by the last part of its key."""
    from taptr_ros.cli.lerobot.result import feature_name

    known = [key for key in dataset.meta.camera_keys if key not in dataset.meta.depth_keys]
    by_name = {name: key for key in known for name in (key, feature_name(key).rsplit("tracks.", 1)[-1])}
    unknown = [name for name in asked or () if name not in by_name]
    if unknown or not known:
        what = f"has no camera {unknown[0]}" if unknown else "has no camera"
        raise InvalidConfigError(f"The dataset {what}; it has {', '.join(known) or 'no images at all'}.")
    cameras = list(dict.fromkeys(by_name[name] for name in asked)) if asked else known
    for camera in cameras:
        if feature_name(camera) in dataset.meta.features:
            raise InvalidConfigError(
                f"The dataset has {feature_name(camera)} already; choose another --camera, or a dataset without it."
            )
    return cameras


def _absolute_files(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments on points alone, with files by absolute paths: workers may be in another folder."""

    def absolute(text: str | None) -> str | None:
        return str(Path(text).absolute()) if text and ";" not in text and Path(text).is_file() else text

    return argparse.Namespace(
        grid=arguments.grid,
        points=absolute(arguments.points),
        boxes=absolute(arguments.boxes),
        mask=arguments.mask and arguments.mask.absolute(),
        points_per_region=arguments.points_per_region,
    )


def _episodes(
    dataset: Any, camera: str, points: argparse.Namespace, model: Model, arguments: argparse.Namespace
) -> list[Any]:
    """Return the episodes, each with a key of what its tracks follow from: its images, points, model and options."""
    from taptr_ros.cli.lerobot.episodes import Episode

    files = [path for path in (points.points, points.boxes, points.mask) if path and os.path.isfile(path)]  # noqa: PTH113
    options = [
        points.grid,
        [content_checksum(Path(path)) for path in files] or [points.points, points.boxes],
        points.points_per_region,
        arguments.memory,
        arguments.support,
        arguments.lost_after,
        model.identity,
    ]
    checksum = functools.cache(content_checksum)
    episodes = []
    for index in range(dataset.num_episodes):
        row = dataset.meta.episodes[index]
        is_video = camera in dataset.meta.video_keys
        file = dataset.meta.get_video_file_path(index, camera) if is_video else dataset.meta.get_data_file_path(index)
        place = [checksum(dataset.root / file), row["dataset_from_index"], row["dataset_to_index"]]
        if is_video:
            place.append(row[f"videos/{camera}/from_timestamp"])
        episodes.append(Episode(index, camera, content_key([place, camera, options])))
    return episodes
