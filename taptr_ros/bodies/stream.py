"""From a stream of tracks, depth images and CameraInfo to points in metres and bodies, for files and nodes alike."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from taptr_ros.bodies.camera import CameraInfoMessage, CameraModel, camera_model
from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.bodies.depth_image import DepthImage
from taptr_ros.bodies.pairing import Pair, StampPairs
from taptr_ros.bodies.points import REGISTER, LiftedTracks, lift
from taptr_ros.bodies.rigid_bodies import RigidBodies, RigidBody
from taptr_ros.errors import InvalidCameraError, InvalidDepthError
from taptr_ros.tracking.history import NANOSECONDS
from taptr_ros.tracking.states import Tracks

_REMEMBERED_CAMERAS = 8
"""Changes of a CameraInfo that are remembered for tracks that come late."""


class StampedDepth(NamedTuple):
    """A depth image that is read when it has found its tracks."""

    stamp: int
    """Nanoseconds."""
    frame_id: str
    read: Callable[[], DepthImage]
    """Returns the image; raises `InvalidDepthError` if it cannot be read."""


class StampedTracks(NamedTuple):
    """The tracks of one image, and the coordinate frame of its camera."""

    tracks: Tracks
    frame_id: str


@dataclasses.dataclass(frozen=True)
class PlacedTracks:
    """What is known in metres of one tracked image."""

    lifted: LiftedTracks
    bodies: list[RigidBody]
    frame_id: str


@dataclasses.dataclass
class Counts:
    """What became of the tracked images so far."""

    placed: int = 0
    unpaired: int = 0
    """Without a depth image at their stamp."""
    refused: int = 0
    """With a depth image or a CameraInfo that does not fit."""
    reason: str = ""
    """Why the last one that was not placed was not."""


class BodyStream:
    """Takes three topics in, in any order, and gives the tracked images in metres, in theirs.

    An image that finds no depth, or whose depth or CameraInfo does not fit, is counted and reported, and the stream
    goes on. Bodies begin anew when the number of the tracks' stream changes, and when the tracks show that another
    tracker has begun to send them.
    """

    def __init__(self, config: BodiesConfig, report: Callable[[str], None]) -> None:
        """`report` takes a sentence on every image that cannot be placed, and on every change of the camera."""
        self._config, self._report = config, report
        kept = round(config.cache_seconds * NANOSECONDS)
        self._pairs: StampPairs[StampedTracks, StampedDepth] = StampPairs(
            round(config.depth_tolerance * NANOSECONDS), kept
        )
        self._cameras: collections.deque[_Camera] = collections.deque(maxlen=_REMEMBERED_CAMERAS)
        self._bodies = RigidBodies(config)
        self._last: Tracks | None = None
        self.counts = Counts()

    def add_tracks(self, tracks: Tracks, frame_id: str) -> list[PlacedTracks]:
        """Take the tracks of one image in; return those that are placed now."""
        placed = []
        if self._last is not None and not _goes_on(self._last, tracks):
            placed = self.finish()
            self._bodies.reset()
        self._last = tracks
        return placed + self._placed(self._pairs.add_tracks(tracks.stamp, StampedTracks(tracks, frame_id)))

    def add_depth(self, depth: StampedDepth) -> list[PlacedTracks]:
        """Take a depth image in; return the tracks that are placed now."""
        return self._placed(self._pairs.add_depth(depth.stamp, depth))

    def add_camera_info(self, info: CameraInfoMessage, stamp: int, frame_id: str) -> None:
        """Take a CameraInfo in. Most repeat the one before; one that differs counts from its stamp on."""
        contents = _contents(info)
        last = self._cameras[-1] if self._cameras else None
        if last is not None and last.contents == contents and last.frame_id == frame_id:
            return
        try:
            model: CameraModel | InvalidCameraError = camera_model(info, rectified=self._config.rectified)
        except InvalidCameraError as error:
            model = error
        if last is not None:
            self._report("camera_info has changed in mid-stream; the new one counts from its stamp on.")
        if last is not None and stamp < last.stamp:
            self._cameras.clear()  # its clock has jumped back
        self._cameras.append(_Camera(stamp, frame_id, contents, model))

    def finish(self) -> list[PlacedTracks]:
        """Place what still waits: no more will come, because a file or a stream has ended."""
        return self._placed(self._pairs.finish())

    def _placed(self, pairs: list[Pair[StampedTracks, StampedDepth]]) -> list[PlacedTracks]:
        return [placed for pair in pairs if (placed := self._place_or_report(pair)) is not None]

    def _place_or_report(self, pair: Pair[StampedTracks, StampedDepth]) -> PlacedTracks | None:
        if pair.depth is None:
            self.counts.unpaired += 1
            self._leave_out(_unpaired(pair, self._config.depth_tolerance))
            return None
        try:
            placed = self._place(*pair.tracks, pair.depth)
        except (InvalidDepthError, InvalidCameraError) as error:
            self.counts.refused += 1
            self._leave_out(str(error))
            return None
        self.counts.placed += 1
        return placed

    def _leave_out(self, reason: str) -> None:
        self.counts.reason = reason
        self._report(reason)

    def _place(self, tracks: Tracks, frame_id: str, depth: StampedDepth) -> PlacedTracks:
        camera = self._camera_at(tracks.stamp)
        if isinstance(camera.model, InvalidCameraError):
            raise camera.model
        if depth.frame_id and frame_id and depth.frame_id != frame_id:
            raise InvalidDepthError(
                f"The depth image's frame_id is {depth.frame_id!r}, but the tracked image's is {frame_id!r}: it is not "
                f"registered; {REGISTER}."
            )
        if camera.frame_id and frame_id and camera.frame_id != frame_id:
            raise InvalidCameraError(
                f"camera_info's frame_id is {camera.frame_id!r}, but the tracked image's is {frame_id!r}; use the "
                "CameraInfo of the tracked camera."
            )
        lifted = lift(tracks, depth.read(), camera.model, self._config)
        return PlacedTracks(lifted, self._bodies.step(lifted, camera.model.focal), frame_id)

    def _camera_at(self, stamp: int) -> _Camera:
        """Return the camera of a moment: the last one that had come by then, or the first one."""
        if not self._cameras:
            raise InvalidCameraError(
                "No camera_info has come yet; publish the tracked camera's sensor_msgs/CameraInfo, or remap "
                "`camera_info` to it."
            )
        earlier = [camera for camera in self._cameras if camera.stamp <= stamp]
        return earlier[-1] if earlier else self._cameras[0]


class _Camera(NamedTuple):
    """A CameraInfo, from its stamp on."""

    stamp: int
    frame_id: str
    contents: tuple[object, ...]
    model: CameraModel | InvalidCameraError


def _goes_on(before: Tracks, tracks: Tracks) -> bool:
    """Return whether tracks are of the same stream as those before them.

    A tracker that was started again counts its streams, groups and ids from 1, as the one before it did; but no track
    gets younger, and no stamp goes back.
    """
    if tracks.stream != before.stream or tracks.stamp < before.stamp:
        return False
    if np.array_equal(tracks.ids, before.ids):
        return bool((tracks.age >= before.age).all())
    _, rows, rows_before = np.intersect1d(tracks.ids, before.ids, return_indices=True)
    return bool((tracks.age[rows] >= before.age[rows_before]).all())


def _unpaired(pair: Pair[StampedTracks, StampedDepth], tolerance: float) -> str:
    if pair.apart is None:
        return "No depth image has come; publish one for every tracked image, or remap `depth` to where they are."
    seconds = pair.apart / NANOSECONDS
    order = "later" if seconds > 0 else "earlier"
    return (
        f"The nearest depth image is {abs(seconds):.3f} s {order} than the tracked image, more than depth_tolerance "
        f"({tolerance:g} s); synchronise the cameras and stamp both with one clock, or raise depth_tolerance, or "
        "cache_seconds if the tracker is slow."
    )


def _contents(info: CameraInfoMessage) -> tuple[object, ...]:
    """Return what tells one camera from another."""
    numbers = (np.asarray(part, np.float64).tobytes() for part in (info.d, info.k, info.p))
    roi = info.roi
    sizes = (info.width, info.height, info.binning_x, info.binning_y)
    return (info.distortion_model, *numbers, *sizes, roi.x_offset, roi.y_offset, roi.width, roi.height)
