#!/usr/bin/env python3
"""Measure points in metres and bodies: in simulated rooms, on real RGB-D frames with camera poses, and their time.

    python scripts/bodies.py simulation --json simulation.json
    python scripts/bodies.py rgbd FILE.npz --json rgbd.json
    python scripts/bodies.py time

Prints a table in Markdown. Simulated rooms with even seeds were used to choose constants with; those with odd ones are
measured unless --even is set. FILE.npz holds RGB-D frames of a scene that stands still, with the camera's poses:
color_jpeg and depth_png (bytes of all files, uint8) with color_offsets and depth_offsets [T+1], camera_in_world [T,4,4]
(metres, optical frame), intrinsics [3,3] and period_ns; depths are uint16 millimetres.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from taptr_ros.bodies.camera import CameraModel, Floats
from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.bodies.depth_image import DepthImage, depth_at
from taptr_ros.bodies.points import LiftedTracks, lift
from taptr_ros.bodies.rigid import Pose, fit_motion, rotation_vector
from taptr_ros.bodies.rigid_bodies import BodyState, RigidBodies, RigidBody
from taptr_ros.messages.encoded import decode_image
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.loading import LUCAS_KANADE, TAPTR_SMALL, load_backend
from taptr_ros.tracking import PointTracker, TrackerConfig, Tracks
from taptr_ros.tracking.states import TrackState
from taptr_ros.training.scenes import SceneConfig
from taptr_ros.training.scenes.offscreen import load_mujoco
from taptr_ros.training.scenes.simulated import SimulatedWorld, simulated_world

SIZE = 480, 640
"""(height, width) of simulated images."""

FRAMES = 100
PERIOD = 33_333_333
"""Nanoseconds between two frames."""

FIRST_SEED = 7_000_000
"""Of the simulated rooms; training draws none of these."""

NEAREST, FARTHEST = 0.4, 1.6
"""Metres from the camera within which a body is followed."""

POINTS_PER_BODY, FEWEST_POINTS, APART = 24, 8, 6
"""Points that are chosen on a body, fewest with which it is followed, and pixels between two of them."""

LANDED = 30
"""Frames after which what was thrown has mostly come to rest, and the camera moves on."""

HIDDEN = range(40, 70)
"""Frames in which a board covers a body: one second."""

SETTLING = 3
"""Frames after which a body that is seen again counts."""

WRONG_POSITION, WRONG_ROTATION = 0.02, 8.0
"""Metres and degrees beyond which a pose is wrong, so that it must not be trusted."""

CONFIG = BodiesConfig()


@dataclasses.dataclass
class Room:
    """A simulated room as a depth camera sees it, and what is true in it."""

    images: list[NDArray[np.uint8]]
    depths: list[NDArray[np.float32]]
    """[H,W] metres along the optical axis, without faults."""
    camera: CameraModel
    xy: Floats
    """[n,2] points to follow, in pixels of the first image."""
    group: NDArray[np.uint32]
    """[n] the group of each point."""
    body: NDArray[np.int64]
    """[n] the body of each point in MuJoCo."""
    poses: dict[int, list[Pose]]
    """Of each body, where MuJoCo has it in the camera's frame in every frame."""
    points: Floats
    """[T,n,3] where the points are in the camera's frame."""
    visible: NDArray[np.bool_]
    """[T,n] whether they can be seen."""
    rigid: dict[int, bool]
    """Whether each group is one body."""


def simulated_room(seed: int, skipped: int) -> Room | None:
    """Return the room of a seed after so many frames; None if no body can be followed."""
    count = skipped + FRAMES
    config = SceneConfig(
        kind="simulated", height=SIZE[0], width=SIZE[1], frames=count, slowest=0.4, fastest=2.0, motion_blur_share=0.0
    )
    rng = np.random.default_rng(seed)
    world = simulated_world(rng, config, np.arange(count, dtype=np.float64), 0.0)
    height, width = SIZE
    focal = 0.5 * height / np.tan(0.5 * np.radians(float(world.model.cam_fovy[0])))
    matrix = np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
    camera = CameraModel(matrix, np.empty(0), False, width, height)
    images = [world.paint(skipped)]
    xy, group, rigid = chosen_points(world, images[0], skipped)
    if not len(xy):
        return None
    images += [world.paint(frame) for frame in range(skipped + 1, count)]
    starts = np.full(len(xy), skipped)
    part, local = world.attach(xy, starts)
    body_of = world.model.geom_bodyid[part]
    points = np.empty((FRAMES, len(xy), 3))
    poses: dict[int, list[Pose]] = {name: [] for name in rigid}
    for frame in range(FRAMES):
        world.restore_frame(skipped + frame)
        axes = world.data.cam_xmat[0].reshape(3, 3) * [1.0, -1.0, -1.0]  # right, down, forward
        eye = world.data.cam_xpos[0]
        points[frame] = (world.place(part, local) - eye) @ axes
        for name in rigid:
            body = int(body_of[group == name][0])
            turn = world.data.xmat[body].reshape(3, 3)
            poses[name].append(Pose(axes.T @ turn, (world.data.xpos[body] - eye) @ axes))
    _, visible = world.track(xy, starts)
    depths = true_depths(world, range(skipped, count))
    return Room(images, depths, camera, xy, group, body_of, poses, points, visible.T[skipped:].copy(), rigid)


def chosen_points(
    world: SimulatedWorld, image: NDArray[np.uint8], frame: int
) -> tuple[Floats, NDArray[np.uint32], dict[int, bool]]:
    """Return points on textures of bodies, the group of each, and whether each group is one rigid body.

    One of the groups is none: it has points of two bodies.
    """
    step = 4
    columns, rows = np.meshgrid(np.arange(0, SIZE[1], step), np.arange(0, SIZE[0], step))
    grid = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
    parts = world.surfaces(grid, frame)
    model = world.model
    bodies = np.where(parts > 0, model.geom_bodyid[np.maximum(parts, 0)], 0).reshape(columns.shape)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    world.restore_frame(frame)
    away = -((world.data.xpos - world.data.cam_xpos[0]) @ world.data.cam_xmat[0].reshape(3, 3)[:, 2])
    free = {int(model.jnt_bodyid[joint]) for joint in range(model.njnt) if model.jnt_type[joint] == 0}
    jointed = {int(parent) for parent in model.body_parentid}
    on_body: dict[int, Floats] = {}
    for body in np.unique(bodies[bodies > 0]).tolist():
        if not NEAREST < away[body] < FARTHEST:
            continue
        mask = cv2.resize((bodies == body).astype(np.uint8), SIZE[::-1], interpolation=cv2.INTER_NEAREST)
        mask = cv2.erode(mask, np.ones((9, 9), np.uint8))
        corners = cv2.goodFeaturesToTrack(grey, POINTS_PER_BODY, 0.02, APART, mask=mask)
        if corners is not None and len(corners) >= FEWEST_POINTS:
            on_body[body] = corners[:, 0].astype(np.float64)
    single = [body for body in on_body if body in free and body not in jointed]
    xy, group, rigid = [], [], {}
    for body in single[:6]:
        rigid[body] = True
        xy.append(on_body[body])
        group.append(np.full(len(on_body[body]), body))
    if len(single) >= 2:
        mixture = 10_000
        first, second = on_body[single[0]], on_body[single[1]]
        half = min(len(first), len(second), POINTS_PER_BODY // 2)
        xy.append(np.concatenate([first[:half], second[:half]]) + 0.4)
        group.append(np.full(2 * half, mixture))
        rigid[mixture] = False
    if not xy:
        return np.empty((0, 2)), np.empty(0, np.uint32), {}
    return np.concatenate(xy), np.concatenate(group).astype(np.uint32), rigid


def true_depths(world: SimulatedWorld, frames: Sequence[int]) -> list[NDArray[np.float32]]:
    """Return depth images [H,W] in metres, along the optical axis, without faults."""
    depths = []
    with load_mujoco().Renderer(world.model, *SIZE) as renderer:
        renderer.enable_depth_rendering()
        for frame in frames:
            world.restore_frame(frame)
            renderer.update_scene(world.data, camera=0)
            depths.append(renderer.render().astype(np.float32))
    return depths


def as_measured(rng: np.random.Generator, depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return a depth image in millimetres as a stereo camera measures it.

    Noise of 2.5 mm at one metre that neighbours share, and that grows with the square of the distance; steps of an
    eighth of a pixel of disparity at 50 mm between the lenses; at edges, mixtures of both sides, and holes beside them;
    and a hundredth of all pixels missing.
    """
    noise = cv2.GaussianBlur(rng.standard_normal(depth.shape).astype(np.float32), (0, 0), 1.2)
    noise *= 0.0025 / noise.std()
    rim = cv2.morphologyEx(depth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0.02 * depth
    mixed = np.where(rim, cv2.blur(depth, (3, 3)), depth)
    inverse = 1.0 / np.maximum(mixed, 0.05) + noise
    step = 1.0 / (8.0 * 600.0 * 0.05)
    measured = 1.0 / np.maximum(np.rint(inverse / step) * step, 1e-3)
    near_rim = cv2.dilate(rim.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    holes = (near_rim & (rng.random(depth.shape) < 0.5)) | (rng.random(depth.shape) < 0.01)
    return np.where(holes | (measured > 10.0), 0.0, np.rint(1000.0 * measured)).astype(np.uint16)


def covered(room: Room, rng: np.random.Generator) -> Room:
    """Return a room in which a board close to the camera slides in, covers the first body for a second, and leaves."""
    small = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    texture = cv2.resize(small, (960, 960), interpolation=cv2.INTER_CUBIC)
    target = room.group == room.group[0]
    images, depths, visible = [image.copy() for image in room.images], [*room.depths], room.visible.copy()
    half = 50.0 + max(np.ptp(room.camera.project(points[target]), axis=0).max() for points in room.points) / 2
    for frame in range(FRAMES):
        late = max(HIDDEN.start - frame, frame - HIDDEN.stop + 1, 0)  # frames until it covers all, or since
        middle = room.camera.project(room.points[frame, target]).mean(axis=0)
        middle[0] += 40.0 * late * (1 if frame >= HIDDEN.stop else -1)
        low, high = np.rint(np.maximum([middle - half, middle + half], 0.0)).astype(int)
        rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
        depth = depths[frame].copy()
        depth[rows, columns] = 0.3
        shown = images[frame][rows, columns].shape
        images[frame][rows, columns] = texture[: shown[0], : shown[1]]
        depths[frame] = depth
        xy = room.camera.project(room.points[frame])
        visible[frame] &= ~((xy >= low - 0.5) & (xy < high - 0.5)).all(axis=1)
    return dataclasses.replace(room, images=images, depths=depths, visible=visible)


def follow(
    backend: Backend, room: Room, config: BodiesConfig
) -> Iterator[tuple[int, DepthImage, LiftedTracks, list[RigidBody]]]:
    """Yield the frames of a room with their points in metres and bodies."""
    tracker = PointTracker(backend, TrackerConfig(capacity=len(room.xy), scene_cut_threshold=0.0))
    tracker.add(room.xy, groups=room.group)
    bodies = RigidBodies(config)
    rng = np.random.default_rng(0)
    for frame, (image, depth) in enumerate(zip(room.images, room.depths, strict=True)):
        measured = DepthImage(as_measured(rng, depth), 0.001)
        tracks = tracker.step(image, frame * PERIOD)
        lifted = lift(tracks, measured, room.camera, config)
        yield frame, measured, lifted, bodies.step(lifted, room.camera.focal)


def simulation(backend: Backend, seeds: Sequence[int], config: BodiesConfig) -> dict[str, Any]:
    """Follow bodies through simulated rooms; return all errors."""
    found: dict[str, list[Any]] = {}

    def note(name: str, *values: Any) -> None:
        found.setdefault(name, []).extend(values)

    for seed in tqdm(seeds, disable=None):
        if (thrown := simulated_room(FIRST_SEED + seed, 0)) is not None:
            measure_room(backend, thrown, config, "thrown", note)
        if (room := simulated_room(FIRST_SEED + seed, LANDED)) is not None:
            measure_room(backend, room, config, "open", note)
            measure_room(backend, covered(room, np.random.default_rng(seed)), config, "covered", note)
    return found


def is_apart(room: Room, frame: int, rows: NDArray[np.int64]) -> bool:
    """Return whether seen points of two bodies have moved against each other by more than a wrong position.

    Where fewer than a quarter are of one of the two bodies, the others are the body.
    """
    first, now = room.points[0, rows], room.points[frame, rows]
    shares = np.bincount(room.body[rows]) / max(len(rows), 1)
    if np.sort(shares)[-2:].min(initial=1.0) < 0.25 or len(shares[shares > 0]) < 2:
        return False
    left = fit_motion(first, now).apply(first) - now
    return bool(np.sqrt((left**2).sum(axis=1).mean()) > WRONG_POSITION)


def measure_room(backend: Backend, room: Room, config: BodiesConfig, kind: str, note: Any) -> None:
    begun: dict[int, tuple[Pose, Pose]] = {}
    target = int(room.group[0])
    for frame, measured, lifted, bodies in follow(backend, room, config):
        rows = lifted.tracks.ids.astype(np.int64) - 1
        true = room.points[frame, rows]
        visible = (lifted.tracks.state == TrackState.VISIBLE) & room.visible[frame, rows]
        if kind == "open":
            errors = np.linalg.norm(lifted.xyz - true, axis=1)
            with_depth = visible & np.isfinite(errors)
            note("point error", *errors[with_depth])
            note("visible with depth", *with_depth[visible])
            true_xy = room.camera.project(true[visible])
            depth = depth_at(measured, true_xy, config.window_radius, config.depth_noise)
            alone = np.abs(depth - true[visible, 2])
            note("point error, depth alone", *alone[np.isfinite(alone)])
        for body in bodies:
            if body.state == BodyState.WAITING:
                continue
            mine = room.group[rows] == body.group
            if body.group not in begun:
                begun[body.group] = (body.pose, room.poses[body.group][frame])
            start, true_start = begun[body.group]
            if not room.rigid[body.group]:
                if is_apart(room, frame, rows[mine & visible]):
                    note("not rigid, flagged", body.state != BodyState.TRACKED)
                continue
            moved = true_start.inverse().then(room.poses[body.group][frame])
            should = start.then(moved)
            position = float(np.linalg.norm(body.pose.translation - should.translation))
            rotation = float(np.degrees(np.linalg.norm(rotation_vector(body.pose.rotation @ should.rotation.T))))
            trusted = body.state == BodyState.TRACKED
            in_sight = int(room.visible[frame, rows][mine].sum())
            hidden = kind == "covered" and body.group == target and frame in HIDDEN
            after = kind == "covered" and body.group == target and frame >= HIDDEN.stop + SETTLING
            name = f"{kind}, after" if after else "" if kind == "covered" else kind
            if name and in_sight >= 4:
                note(f"{name}: trusted", trusted)
                note(f"{name}: state", int(body.state))
                note(f"{name}: seen", body.points)
                if trusted:
                    note(f"{name}: position", position)
                    note(f"{name}: rotation", rotation)
                    note(f"{name}: distance", float(should.translation[2]))
                    note(f"{name}: rotation std", float(np.degrees(np.sqrt(np.trace(body.covariance[3:, 3:])))))
                    note(f"{name}: position std", float(np.sqrt(np.trace(body.covariance[:3, :3]))))
            if hidden:
                note("hidden, flagged", not trusted)
            if position > WRONG_POSITION or rotation > WRONG_ROTATION:
                note("wrong, flagged", not trusted)


def simulation_table(found: dict[str, list[Any]]) -> list[tuple[str, str]]:
    """Return rows of what was measured in simulated rooms, and their values in words."""
    rows = [
        ("3-D error of visible points, median / 90th percentile, mm", quantiles(found, "point error", 1000)),
        ("of that from depth alone, at the true pixel", quantiles(found, "point error, depth alone", 1000)),
        ("visible points that have depth, per cent", share(found, "visible with depth")),
    ]
    for kind, name in (
        ("open", "the camera moves, bodies roll and rest"),
        ("covered, after", f"after {len(HIDDEN)} frames behind a board"),
        ("thrown", "bodies fall and are thrown"),
    ):
        rows += [
            (f"{name}: position, median / 90th percentile, mm", quantiles(found, f"{kind}: position", 1000)),
            (f"{name}: rotation, median / 90th percentile, degrees", quantiles(found, f"{kind}: rotation", 1)),
            (f"{name}: distance, median / 90th percentile, m", quantiles(found, f"{kind}: distance", 1)),
            (f"{name}: frames in which the pose is trusted, per cent", share(found, f"{kind}: trusted")),
        ]
    limits = f"by more than {1000 * WRONG_POSITION:.0f} mm or {WRONG_ROTATION:.0f} degrees"
    return [
        *rows,
        (f"frames whose pose is wrong {limits}: flagged, per cent", share(found, "wrong, flagged")),
        ("points of two bodies that have moved apart: flagged, per cent", share(found, "not rigid, flagged")),
    ]


def quantiles(found: dict[str, list[Any]], name: str, scale: float) -> str:
    values = scale * np.array(found.get(name, [np.nan]))
    return f"{np.median(values):.2f} / {np.percentile(values, 90):.2f} ({len(values)})"


def share(found: dict[str, list[Any]], name: str) -> str:
    values = np.array(found.get(name, [np.nan]), np.float64)
    return f"{100 * values.mean():.1f} ({len(values)})"


@dataclasses.dataclass(frozen=True)
class Recording:
    """RGB-D frames of a scene that stands still."""

    images: list[NDArray[np.uint8]]
    depths: list[DepthImage]
    poses: list[Pose]
    """The camera in the world."""
    camera: CameraModel
    period: int


def recording(path: Path) -> Recording:
    """Read a file as the description of this script has it."""
    with np.load(path) as file:
        data = {name: file[name] for name in file.files}
    images = [decode_image(part, "A frame") for part in split(data["color_jpeg"], data["color_offsets"])]
    depths = [
        DepthImage(np.asarray(cv2.imdecode(part, cv2.IMREAD_UNCHANGED)), 0.001)
        for part in split(data["depth_png"], data["depth_offsets"])
    ]
    poses = [Pose(matrix[:3, :3], matrix[:3, 3]) for matrix in data["camera_in_world"].astype(np.float64)]
    height, width = images[0].shape[:2]
    camera = CameraModel(data["intrinsics"].astype(np.float64), np.empty(0), False, width, height)
    return Recording(images, depths, poses, camera, int(data["period_ns"]))


def split(data: NDArray[np.uint8], offsets: NDArray[Any]) -> list[NDArray[np.uint8]]:
    return [data[start:end] for start, end in itertools.pairwise(offsets.tolist())]


REAL_POINTS, REAL_FRAMES = 200, (10, 20, 40, 79)
"""Points that are followed through real frames, and frames that are looked at."""


def real(backend: Backend, path: Path, config: BodiesConfig) -> dict[str, Any]:
    """Return how far points of a scene that stands still move in the world, and how well their body gives the camera.

    For depth alone the points are moved by the true poses instead of being tracked: what is left is what the depths,
    the poses and the registration of the two cameras leave.
    """
    seen = recording(path)
    grey = cv2.cvtColor(seen.images[0], cv2.COLOR_RGB2GRAY)
    xy = np.asarray(cv2.goodFeaturesToTrack(grey, REAL_POINTS, 0.01, 12), np.float64)[:, 0]
    tracker = PointTracker(backend, TrackerConfig(capacity=len(xy), scene_cut_threshold=0.0))
    tracker.add(xy, groups=np.ones(len(xy), np.int64))
    bodies = RigidBodies(config)
    result: dict[str, Any] = {"frame": [], "moved": [], "depth alone": [], "position": [], "rotation": [], "state": []}
    start = np.empty((0, 3))
    last: tuple[Pose, Pose] | None = None
    steps: list[tuple[float, float]] = []
    for frame, (image, depth) in enumerate(zip(seen.images, seen.depths, strict=True)):
        lifted = lift(tracker.step(image, frame * seen.period), depth, seen.camera, config)
        (body,) = bodies.step(lifted, seen.camera.focal)
        world = seen.poses[frame].apply(lifted.xyz)
        if not frame:
            start = world
        moved = np.linalg.norm(world - start, axis=1)
        truly = seen.poses[frame].inverse().apply(start)
        alone = depth_at(depth, seen.camera.project(truly), config.window_radius, config.depth_noise) - truly[:, 2]
        # Where something else lies in front of the place, or it is outside the image, there is nothing to compare.
        alone = alone[np.isfinite(alone) & (np.abs(alone) < 0.1)]
        # The scene moves against the camera as the camera does against the scene.
        true_motion = seen.poses[0].then(seen.poses[frame].inverse())
        position, rotation = camera_error(body.motion, true_motion)
        result["frame"].append(frame)
        result["moved"].append(moved[np.isfinite(moved)].tolist())
        result["depth alone"].append(np.abs(alone).tolist())
        result["position"].append(position)
        result["rotation"].append(rotation)
        result["state"].append(int(body.state))
        if last is not None and body.state == BodyState.TRACKED:
            step, true_step = last[0].inverse().then(body.motion), last[1].inverse().then(true_motion)
            steps.append(camera_error(step, true_step))
        last = (body.motion, true_motion) if body.state == BodyState.TRACKED else None
    result["step position"], result["step rotation"] = (list(part) for part in zip(*steps, strict=True))
    return result


def camera_error(motion: Pose, true: Pose) -> tuple[float, float]:
    """Return by how many metres and degrees a motion of the scene puts the camera wrongly."""
    place, true_place = motion.inverse(), true.inverse()
    turned = rotation_vector(place.rotation @ true_place.rotation.T)
    return float(np.linalg.norm(place.translation - true_place.translation)), float(np.degrees(np.linalg.norm(turned)))


def real_table(results: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return rows of what was measured on real frames: for each frame, and for each tracker."""
    rows: list[tuple[str, ...]] = []
    for frame in REAL_FRAMES:
        cells = [in_millimetres(result["moved"][frame]) for result in results.values()]
        rows.append((f"points after {frame} frames, moved in the world, mm", *cells))
        cells = [in_millimetres(result["depth alone"][frame]) for result in results.values()]
        rows.append((f"depth alone after {frame} frames, mm", *cells))
        cells = [
            f"{1000 * result['position'][frame]:.1f} mm, {result['rotation'][frame]:.2f} degrees, "
            f"{BodyState(result['state'][frame]).name}"
            for result in results.values()
        ]
        rows.append((f"the camera after {frame} frames", *cells))
    cells = [
        f"{1000 * np.median(result['step position']):.1f} mm, {np.median(result['step rotation']):.2f} degrees"
        for result in results.values()
    ]
    return [*rows, ("the camera from frame to frame, median", *cells)]


def in_millimetres(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{1000 * np.median(values):.1f} / {1000 * np.percentile(values, 90):.1f} ({len(values)})"


TIMED_POINTS, TIMED_GROUPS, TIMED_FRAMES = 256, 4, 300


def node_times() -> list[tuple[str, str]]:
    """Return the processor time of one frame in the parts of the node, called as the node calls them."""
    import rclpy.serialization as cdr
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header
    from taptr_ros.msg import TrackedPoint, TrackedPoints

    from taptr_ros.bodies.stream import BodyStream, StampedDepth
    from taptr_ros.messages.bodies import rigid_bodies
    from taptr_ros.messages.clouds import metric_cloud
    from taptr_ros.messages.depth import depth_image
    from taptr_ros.messages.ros import ROS_KINDS, time_message
    from taptr_ros.messages.serialized import deserialized
    from taptr_ros.messages.tracks import tracked_points, tracks_of_serialized

    rng = np.random.default_rng(0)
    height, width = SIZE
    focal = 600.0
    centres = np.stack([np.tile([-0.2, 0.2], 2), np.repeat([-0.15, 0.15], 2), np.full(4, 1.0)], axis=1)
    shape = rng.uniform(-0.08, 0.08, (TIMED_POINTS, 3))
    shape[:, 2] = 0.3 * shape[:, 0] + shape[:, 1] ** 2 / 0.2  # so that what is near in the image is near in space
    group = np.repeat(np.arange(1, TIMED_GROUPS + 1), TIMED_POINTS // TIMED_GROUPS)
    stream = BodyStream(CONFIG, print)
    k = [focal, 0.0, 319.5, 0.0, focal, 239.5, 0.0, 0.0, 1.0]
    info = CameraInfo(width=width, height=height, k=k, distortion_model="plumb_bob", d=[0.1, -0.2, 0.001, 0.001, 0.05])
    stream.add_camera_info(info, 0, "")
    camera = CameraModel(np.array(k).reshape(3, 3), np.array(info.d), False, width, height)
    parts: dict[str, list[float]] = {name: [] for name in ("read", "place and fit", "write")}
    states = []
    for frame in range(TIMED_FRAMES):
        turn = Pose(cv2.Rodrigues(np.array([0.0, 0.005 * frame, 0.0]))[0], np.array([0.0005 * frame, 0.0, 0.0]))
        places = turn.apply(shape) + centres[group - 1]
        xy = camera.project(places) + rng.normal(0.0, 0.5, (TIMED_POINTS, 2))
        # A depth image that is right at the points: each is the middle of a small flat patch.
        depth = np.full(SIZE, 1500.0)
        for (x, y), z in zip(np.rint(xy).astype(int), places[:, 2], strict=True):
            depth[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = 1000 * z
        measured = (depth + rng.normal(0.0, 2.0, SIZE)).astype(np.uint16)
        visible = np.ones(TIMED_POINTS, np.bool_)
        ones = np.ones(TIMED_POINTS, np.float32)
        tracks = Tracks(
            ids=np.arange(1, TIMED_POINTS + 1).astype(np.uint64),
            group=group.astype(np.uint32),
            xy=xy.astype(np.float32),
            visibility=ones,
            confidence=ones,
            visible=visible,
            state=np.zeros(TIMED_POINTS, np.uint8),
            age=np.zeros(TIMED_POINTS, np.uint32),
            frames_since_seen=np.zeros(TIMED_POINTS, np.uint32),
            stamp=frame * PERIOD,
            width=width,
            height=height,
            scene_cut=False,
            stream=1,
        )
        head = Header(stamp=time_message(frame * PERIOD))
        sent_tracks = cdr.serialize_message(tracked_points(tracks, head, TrackedPoints, TrackedPoint))
        sent_depth = cdr.serialize_message(
            Image(
                header=head, height=height, width=width, encoding="16UC1", step=2 * width,
                data=ROS_KINDS.octets(measured),
            )
        )  # fmt: skip
        began = time.process_time()
        message = deserialized(sent_depth, Image)
        read_tracks = tracks_of_serialized(sent_tracks).tracks
        read = time.process_time()
        stream.add_depth(StampedDepth(frame * PERIOD, "", functools.partial(depth_image, message)))
        (placed,) = stream.add_tracks(read_tracks, "")
        fitted = time.process_time()
        cdr.serialize_message(metric_cloud(placed.lifted, head, ROS_KINDS))
        cdr.serialize_message(rigid_bodies(placed, head, ROS_KINDS))
        for name, seconds in zip(parts, (read - began, fitted - read, time.process_time() - fitted), strict=True):
            parts[name].append(seconds)
        states += [body.state == BodyState.TRACKED for body in placed.bodies]
    whole = np.sum(list(parts.values()), axis=0)
    return [
        *((name, milliseconds(np.array(values))) for name, values in parts.items()),
        ("whole frame", milliseconds(whole)),
        ("bodies tracked, per cent", f"{100 * np.mean(states):.1f}"),
    ]


def milliseconds(seconds: Floats) -> str:
    return f"{1000 * np.median(seconds):.2f} / {1000 * np.percentile(seconds, 95):.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    simulated = commands.add_parser("simulation", help="in simulated rooms, which know the truth")
    simulated.add_argument("--scenes", type=int, default=12, help="number of rooms")
    simulated.add_argument("--even", action="store_true", help="the rooms that constants were chosen with")
    frames = commands.add_parser("rgbd", help="on real frames with camera poses")
    frames.add_argument("file", type=Path, help="see above")
    commands.add_parser("time", help=f"of the node with {TIMED_POINTS} points and {TIMED_GROUPS} groups")
    for command in (simulated, frames):
        command.add_argument("--model", default=TAPTR_SMALL, help="name, model file or exported folder")
        command.add_argument("--threads", type=int, help="CPU threads")
        command.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    if arguments.command == "time":
        print("| processor time, median / 95th percentile | ms |\n|---|---|")
        table: Sequence[tuple[str, ...]] = node_times()
    elif arguments.command == "simulation":
        backend = load_backend(arguments.model, threads=arguments.threads)
        seeds = range(0 if arguments.even else 1, 2 * arguments.scenes, 2)
        results = simulation(backend, seeds, CONFIG)
        print(f"| rooms {seeds.start}, {seeds.start + 2}, ..., {seeds[-1]} | {backend.info.model} |\n|---|---|")
        table = simulation_table(results)
    else:
        backends = [load_backend(name, threads=arguments.threads) for name in (arguments.model, LUCAS_KANADE)]
        results = {backend.info.model: real(backend, arguments.file, CONFIG) for backend in backends}
        print(f"| | {' | '.join(results)} |\n|---{'|---' * len(results)}|")
        table = real_table(results)
    for row in table:
        print(f"| {' | '.join(row)} |")
    if arguments.command != "time" and arguments.json:
        arguments.json.write_text(json.dumps(results, default=float) + "\n")


if __name__ == "__main__":
    main()
