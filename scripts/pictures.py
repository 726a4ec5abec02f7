#!/usr/bin/env python3
"""Make the pictures of the documents with the package's network.

docs/tracking.webp: a clip of a robot, clicks on its first image, and the tracks that follow from them.
docs/view.webp: the page of `taptr view` with the same clip, in Chromium.
docs/bodies.webp: bodies in a simulated room, with their axes.
docs/failures.jpg: scenes that are hard to track, with what is right and what is wrong marked.
docs/lerobot.jpg: a clip as an episode of a LeRobot dataset, and the tracks that `taptr lerobot` adds to it.

    python scripts/pictures.py --clip bridge_0050.mp4
    python scripts/pictures.py --clip bridge_0050.mp4 --view
    python scripts/pictures.py --bodies
    python scripts/pictures.py
    .venv-lerobot/bin/python scripts/pictures.py --episode bridge_0050.mp4

The clip is one of BridgeData V2 (RAIL, UC Berkeley, CC BY 4.0): https://rail-berkeley.github.io/bridgedata
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from taptr_ros.cli import main as taptr
from taptr_ros.drawing import overlay as drawing
from taptr_ros.drawing.axes import draw_axes
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.loading import load_backend
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking import PointTracker, TrackerConfig
from taptr_ros.tracking.states import COLUMNS, Tracks
from taptr_ros.training.scenes import SceneConfig, generate

DOCS = Path(__file__).resolve().parent.parent / "docs"
CLICKS = (
    *((134, 138), (171, 150), (168, 104), (150, 65), (172, 74), (152, 8)),  # the robot's gripper and wrist
    *((131, 163), (153, 135)),  # what lies on the towel
    *(
        (37, 118),
        (60, 135),
        (105, 120),
        (60, 200),
        (100, 190),
        (160, 190),
        (220, 190),
        (225, 128),
        (252, 165),
        (291, 199),
    ),
    *((88, 60), (262, 92), (284, 98)),  # what lies beside it
)
"""Points (x, y) to click on in the first image of the clip, in its pixels."""
ENLARGED = 2
"""Factor from the clip's pixels to the picture's."""
RING = 5
"""Pictures for which a click's ring grows."""
SHOWN = 60
"""Milliseconds for which each picture of the clip is shown."""
REST = 1500
"""Milliseconds for which the last one is shown."""
QUALITY = 82
"""Of the lossy WebP, 0 to 100."""
CURSOR = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))
"""Outline of the arrow that clicks, from its tip on."""
PERIOD = 40_000_000
"""Nanoseconds between frames."""

EPISODE_GRID, EPISODE_MOMENTS, EPISODE_COLUMNS = 7, 6, 3
SEEN = 0.5
"""Visibility times confidence above which a point of an episode is drawn as seen."""

PAGE = {"width": 1280, "height": 760}
"""Size of the browser's window for docs/view.webp, in CSS pixels."""
CLIP = (320, 240)
"""Width and height of the clip."""
BOX = (56, 108, 112, 142)
"""Left, top, right and bottom of the box that is drawn on the clip's first image."""
MOMENT = 40
"""Number, from 1, of the frame in docs/view.webp."""
BODIES_SEED = 20
"""Of the simulated room whose bodies are drawn."""

HARD_SCENES = (
    (SceneConfig(kind="layered", points=48, slowest=6.0), 5),
    (SceneConfig(kind="spatial", points=48, slowest=4.0), 3),
)
"""Scenes, with their seeds, in which much goes wrong."""
HARD_MOMENTS = (0, 8, 16, 23)
RIGHT, WRONG = (70, 220, 90), (235, 60, 60)
"""RGB of points within `RIGHT_WITHIN` pixels of the truth, and of others."""
RIGHT_WITHIN = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="taptr_small", help="model to track with")
    parser.add_argument("--clip", type=Path, help="video: make docs/tracking.webp from it, not docs/failures.jpg")
    parser.add_argument("--episode", type=Path, help="video: make docs/lerobot.jpg from it, where LeRobot is installed")
    parser.add_argument("--view", action="store_true", help="make docs/view.webp from the clip instead")
    parser.add_argument("--bodies", action="store_true", help="make docs/bodies.webp instead")
    arguments = parser.parse_args()
    if arguments.episode:
        cv2.imwrite(str(DOCS / "lerobot.jpg"), episode(arguments)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        return
    if arguments.view:
        view(arguments.clip, arguments.model)
        return
    backend = load_backend(arguments.model)
    if arguments.bodies:
        write_moving("bodies.webp", bodies_with_axes(backend))
        return
    if arguments.clip:
        write_moving("tracking.webp", tracking(backend, arguments.clip))
        return
    picture = np.vstack([failures(backend, config, seed) for config, seed in HARD_SCENES])
    cv2.imwrite(str(DOCS / "failures.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def write_moving(name: str, pictures: list[NDArray[np.uint8]]) -> None:
    """Write pictures [H,W,3] RGB as an animation that runs for ever. Needs OpenCV 4.11."""
    animation = cv2.Animation()
    animation.frames = [np.ascontiguousarray(picture[..., ::-1]) for picture in pictures]
    animation.durations = [*[SHOWN] * (len(pictures) - 1), REST]
    cv2.imwriteanimation(str(DOCS / name), animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])


def tracking(backend: Backend, clip: Path) -> list[NDArray[np.uint8]]:
    """Return pictures of clicks on the clip's first image, one after the other, and of all images with the tracks."""
    drawing.LABELLED_POINTS = 0  # ids would hide much of so small a picture
    tracker, overlay = PointTracker(backend, TrackerConfig(capacity=len(CLICKS))), drawing.TrackOverlay()
    tracker.add(CLICKS)
    pictures: list[NDArray[np.uint8]] = []
    for index, frame in enumerate(open_source(clip)):
        tracks = tracker.step(frame.image, frame.stamp)
        large = np.asarray(cv2.resize(frame.image, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC))
        moved = dataclasses.replace(tracks, xy=ENLARGED * tracks.xy + (ENLARGED - 1) / 2)
        if not index:
            pictures += [clicking(large, moved, step) for step in range(len(CLICKS) + RING)]
        pictures.append(overlay.draw(large, moved))
    return pictures


def episode(arguments: argparse.Namespace) -> NDArray[np.uint8]:
    """Return moments of an episode with the tracks that its dataset has, after LeRobot has written and read both."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    frames = list(open_source(arguments.episode))
    shape, camera, feature = frames[0].image.shape, "observation.images.front", "observation.tracks.front"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features = {camera: {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"]}}
        features["action"] = {"dtype": "float32", "shape": (1,), "names": ["none"]}
        dataset = LeRobotDataset.create("local/clip", fps=10, features=features, root=folder / "clip")
        for frame in frames:
            dataset.add_frame({camera: frame.image, "action": np.zeros(1, np.float32), "task": "move the towel"})
        dataset.save_episode()
        dataset.finalize()
        words = ["lerobot", str(folder / "clip"), "--out", str(folder / "tracks"), "--grid", str(EPISODE_GRID)]
        assert taptr([*words, "--model", arguments.model]) == 0
        dataset = LeRobotDataset("local/clip", root=folder / "tracks")
        overlay, moments = drawing.TrackOverlay(), []
        drawing.LABELLED_POINTS = 0
        shown = np.linspace(0, len(dataset) - 1, EPISODE_MOMENTS).round().astype(int).tolist()
        for number in range(len(dataset)):
            item = dataset[number]
            image = np.rint(255 * item[camera].permute(1, 2, 0).numpy()).astype(np.uint8)
            large = np.asarray(cv2.resize(image, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC))
            picture = overlay.draw(large, tracks_of_item(item[feature].numpy(), large, number))
            if number in shown:
                moments.append(picture)
    rows = [np.hstack(moments[first : first + EPISODE_COLUMNS]) for first in range(0, len(moments), EPISODE_COLUMNS)]
    return np.asarray(cv2.resize(np.vstack(rows), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA), np.uint8)


def tracks_of_item(values: NDArray[np.float32], image: NDArray[np.uint8], number: int) -> Tracks:
    """Return the feature's values [N,4] of a frame as tracks in an image of any size."""
    height, width = image.shape[:2]
    seen = values[:, 2] * values[:, 3] > SEEN
    count = len(values)
    columns = {entry.name: np.zeros(count, entry.dtype) for entry in COLUMNS}
    columns |= {"ids": np.arange(1, count + 1, dtype=np.uint64), "visible": seen, "visibility": values[:, 2]}
    columns |= {"xy": values[:, :2] * (width, height) - 0.5, "state": np.where(seen, 0, 1).astype(np.uint8)}
    return Tracks(**columns, stamp=number * PERIOD, width=width, height=height, scene_cut=False)


def clicking(image: NDArray[np.uint8], tracks: Tracks, step: int) -> NDArray[np.uint8]:
    """Return the image with the points that are clicked on by this step, the arrow, and rings that grow."""
    clicked = np.arange(len(tracks.ids)) <= step
    picture = drawing.TrackOverlay().draw(image, tracks.select(clicked))
    for age in range(RING):
        if 0 <= step - age < len(tracks.ids):
            centre = np.rint(tracks.xy[step - age]).astype(int).tolist()
            cv2.circle(picture, centre, 8 + 5 * age, (255, 255, 255), 2, cv2.LINE_AA)
    if step < len(tracks.ids):
        arrow = np.rint(np.array(CURSOR) * 1.5 + tracks.xy[step]).astype(np.int32)
        cv2.fillPoly(picture, [arrow], (255, 255, 255), cv2.LINE_AA)
        cv2.polylines(picture, [arrow], True, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def view(clip: Path, model: str) -> None:
    """Write a picture of the page after a box, some clicks and a good part of the clip."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "taptr_ros", "view", clip.name, "--model", model, "--port", "0"]
    with contextlib.ExitStack() as opened:
        process = opened.enter_context(
            subprocess.Popen(command, cwd=clip.parent, stdout=subprocess.PIPE, text=True)  # noqa: S603
        )
        opened.callback(process.terminate)
        assert process.stdout is not None
        address = process.stdout.readline().split()[1]
        playwright = opened.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=PAGE, color_scheme="dark", device_scale_factor=1.25)
        page.goto(address)
        page.wait_for_selector("#picture[data-stamp]")
        canvas = page.locator("#picture").bounding_box()
        assert canvas is not None
        scale = min(canvas["width"] / CLIP[0], canvas["height"] / CLIP[1])
        left, top = (
            canvas[start] + (canvas[side] - scale * size) / 2
            for start, side, size in zip("xy", ("width", "height"), CLIP, strict=True)
        )

        def place(x: float, y: float) -> tuple[float, float]:
            return left + scale * (x + 0.5), top + scale * (y + 0.5)

        page.mouse.move(*place(*BOX[:2]))
        page.mouse.down()
        page.mouse.move(*place(*BOX[2:]), steps=3)
        page.mouse.up()
        page.check("#groups")
        for click in CLICKS:
            page.mouse.click(*place(*click))
            page.wait_for_timeout(60)
        page.click("#list summary")
        page.click("#play")
        while int(page.inner_text("#number").split()[0]) < MOMENT:
            page.wait_for_timeout(20)
        page.click("#play")
        page.locator("#place").fill(str(MOMENT - 1))
        page.mouse.move(2, 2)
        page.wait_for_timeout(800)
        picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        cv2.imwrite(str(DOCS / "view.webp"), picture, [cv2.IMWRITE_WEBP_QUALITY, 80])
        browser.close()


def bodies_with_axes(backend: Backend) -> list[NDArray[np.uint8]]:
    """Return pictures of a simulated room, every second frame, with tracks in the colours of their groups and axes."""
    import bodies  # the script beside this one

    room = bodies.simulated_room(bodies.FIRST_SEED + BODIES_SEED, bodies.LANDED)
    assert room is not None
    single = {group for group, is_rigid in room.rigid.items() if is_rigid}
    pictures = []
    for frame, _, lifted, found in bodies.follow(backend, room, bodies.CONFIG):
        if frame % 2:
            continue
        kept = lifted.tracks.select(np.isin(lifted.tracks.group, [*single]))
        # Ids choose the colours: one for each group.
        tracks = dataclasses.replace(kept, ids=kept.group.astype(np.uint64))
        picture = room.images[frame].copy()
        for xy, identifier, seen in zip(tracks.xy, tracks.ids.tolist(), tracks.visible, strict=True):
            colour = drawing.track_colour(identifier)
            place = np.rint(xy).astype(int).tolist()
            cv2.circle(picture, place, 4, (16, 16, 16), -1, cv2.LINE_AA)
            cv2.circle(picture, place, 3, colour, -1 if seen else 1, cv2.LINE_AA)
        rigid = [body for body in found if body.group in single]
        pictures.append(draw_axes(picture, rigid, room.camera))
    return pictures


def failures(backend: Backend, config: SceneConfig, seed: int) -> NDArray[np.uint8]:
    """Return moments of a scene, side by side: points as they are tracked, and lines to where those far off belong."""
    clip = generate(config, seed)
    chosen = clip.visible[:, 0]
    tracker = PointTracker(backend, TrackerConfig(scene_cut_threshold=0.0))
    tracker.add(clip.xy[chosen, 0])
    moments = []
    for number, image in enumerate(clip.frames):
        tracks = tracker.step(image, number * PERIOD)
        if number not in HARD_MOMENTS:
            continue
        picture = image.copy()
        for found, true, shown, seen in zip(
            tracks.xy, clip.xy[chosen, number], clip.visible[chosen, number], tracks.visible, strict=True
        ):
            if not shown:
                continue
            right = np.linalg.norm(found - true) < RIGHT_WITHIN
            place, aim = (tuple(np.rint(xy).astype(int).tolist()) for xy in (found, true))
            if not right:
                cv2.line(picture, place, aim, WRONG, 1, cv2.LINE_AA)
            cv2.circle(picture, place, 3, RIGHT if right else WRONG, -1 if seen else 1, cv2.LINE_AA)
        moments.append(picture)
    return np.hstack(moments)


if __name__ == "__main__":
    main()
