"""What points in metres and bodies are made with."""

from __future__ import annotations

import dataclasses

from taptr_ros.settings import check_settings, setting


@dataclasses.dataclass(frozen=True)
class BodiesConfig:
    """How depth is read, and when the pose of a group can be trusted. Raises `InvalidConfigError` for other values."""

    depth_tolerance: float = setting(
        0.02,
        "Most seconds between the stamps of a tracked image and of its depth image. An equal stamp is preferred; 0 "
        "takes nothing else.",
        limits=(0.0, 10.0),
    )
    cache_seconds: float = setting(
        1.0,
        "How many seconds tracks and depth images wait for each other; what has found no partner then is counted and "
        "left out.",
        limits=(0.01, 60.0),
    )
    rectified: bool = setting(
        False,
        "Whether the tracked images are rectified (`image_rect`): then matrix `p` of the CameraInfo is used, without "
        "distortion.",
    )
    window_radius: int = setting(
        2,
        "The depth of a point comes from a square window of 2 * window_radius + 1 pixels around it.",
        limits=(1, 10),
    )
    depth_noise: float = setting(
        0.003,
        "Standard deviation in metres of the depth at one metre; it grows with the square of the distance.",
        limits=(0.00001, 1.0),
    )
    pixel_noise: float = setting(
        1.0,
        "Standard deviation in pixels of a tracked position.",
        limits=(0.01, 100.0),
    )
    inlier_share: float = setting(
        0.62,
        "A body is not rigid if less than this share of its visible points moves with it.",
        limits=(0.0, 1.0),
    )
    position_error: float = setting(
        0.02,
        "Largest standard deviation in metres of a trusted position, as the points' spread and noise let expect it.",
        limits=(0.0001, 10.0),
    )
    rotation_error: float = setting(
        6.0,
        "Largest standard deviation in degrees of a trusted rotation. Points on a line leave one axis open.",
        limits=(0.01, 180.0),
    )

    def __post_init__(self) -> None:
        check_settings(self)
