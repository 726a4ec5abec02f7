"""Tracks of one image in metres."""

from __future__ import annotations

import dataclasses

import numpy as np

from taptr_ros.bodies.camera import CameraModel, Floats
from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.bodies.depth_image import DepthImage, depth_at
from taptr_ros.errors import InvalidDepthError
from taptr_ros.tracking.states import Tracks, TrackState

REGISTER = (
    "register it to the tracked image, with the register node of depth_image_proc or by the camera's driver, and use "
    "the registered topic"
)
"""What to do with a depth image of another camera."""


@dataclasses.dataclass(frozen=True)
class LiftedTracks:
    """Tracks of one image with their places in space; n tracks."""

    tracks: Tracks
    rays: Floats
    """[n,2] directions x / z and y / z from the camera; NaN where the lens model has none."""
    xyz: Floats
    """[n,3] metres in the camera's optical frame: x right, y down, z forward. NaN for points that are not visible, and
    where the depth image has no depth for them."""


def lift(tracks: Tracks, depth: DepthImage, camera: CameraModel, config: BodiesConfig) -> LiftedTracks:
    """Return the tracks of one image with the places that a depth image of the same size gives them.

    Only visible points have a place: what hides a point has a depth of its own. Raises `InvalidDepthError` if depth
    image, CameraInfo and tracked image differ in size.
    """
    tracked = (tracks.width, tracks.height)
    if depth.size != tracked:
        raise InvalidDepthError(
            f"The depth image has {depth.size[0]}x{depth.size[1]} pixels, but the tracked image {tracked[0]}x"
            f"{tracked[1]}: it is not registered; {REGISTER}."
        )
    if (camera.width, camera.height) != tracked:
        raise InvalidDepthError(
            f"camera_info describes images of {camera.width}x{camera.height} pixels (after binning and roi), but the "
            f"tracked image has {tracked[0]}x{tracked[1]}; use the CameraInfo of the tracked camera."
        )
    xy = tracks.xy.astype(np.float64)
    visible = tracks.state == TrackState.VISIBLE
    rays, depths = camera.rays(xy), np.full(len(xy), np.nan)
    depths[visible] = depth_at(depth, xy[visible], config.window_radius, config.depth_noise)
    xyz = np.concatenate([rays, np.ones((len(xy), 1))], axis=1) * depths[:, np.newaxis]
    xyz[~np.isfinite(xyz).all(axis=1)] = np.nan
    return LiftedTracks(tracks, rays, xyz)
