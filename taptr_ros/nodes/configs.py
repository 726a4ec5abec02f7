"""What each node can be told by parameters, beside the tracker's own configuration."""

from __future__ import annotations

import dataclasses
from typing import Literal

from taptr_ros.errors import InvalidConfigError
from taptr_ros.runtime.loading import TAPTR_SMALL, Precision
from taptr_ros.settings import check_settings, setting
from taptr_ros.sources.camera import MOST_CAMERAS


@dataclasses.dataclass(frozen=True)
class NodeConfig:
    """What the node `tracker` loads and how it takes images. Raises `InvalidConfigError` for values that cannot be."""

    model: str = setting(
        TAPTR_SMALL,
        "`taptr_small`, the network that comes with the package, `lucas_kanade`, which needs no weights, or the path "
        "of a model file (.safetensors) or of a folder written by `taptr export`.",
    )
    backend: Literal["auto", "torch", "onnxruntime", "opencv"] = setting(
        "auto",
        "What runs the model; `auto` chooses what fits it.",
    )
    device: str = setting(
        "cpu",
        "Where the model runs: `cpu`, `cuda`, `cuda:INDEX` or, with ONNX Runtime, `tensorrt`.",
    )
    precision: Precision = setting(
        "auto",
        "Numbers that the model computes with: `int8` encodes images in 8-bit integers, with exported models on a "
        "processor, `bfloat16` is for PyTorch. `auto` is `int8` on a processor for models that have it, else "
        "`float32`.",
    )
    threads: int = setting(
        0,
        "CPU threads of the backend; 0 leaves the choice to its library.",
        limits=(0, 1024),
    )
    input_height: int = setting(
        0,
        "Height in pixels to which images are resized for the model; 0 is the model's own, and exported models have no "
        "other.",
        limits=(0, 65536),
    )
    input_width: int = setting(
        0,
        "Width in pixels to which images are resized for the model; 0 is the model's own, and exported models have no "
        "other.",
        limits=(0, 65536),
    )

    compressed: bool = setting(
        False,
        "Whether topic `image` carries sensor_msgs/CompressedImage instead of sensor_msgs/Image.",
    )
    every_frame: bool = setting(
        False,
        "Process every image in order instead of the newest one, for replay; the subscription is then reliable.",
    )
    waiting_frames: int = setting(
        100,
        "Most images that may wait with `every_frame`, 1 GiB at most; when one more arrives, the oldest is skipped.",
        limits=(1, 65536),
    )
    autostart: bool = setting(
        True,
        "Configure and activate the node at startup; when off, leave that to a lifecycle manager.",
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Input (height, width) of the model, None for its own.

        Raises `InvalidConfigError` if only one of the two is given: both can be set one after the other.
        """
        if bool(self.input_height) != bool(self.input_width):
            raise InvalidConfigError(
                f"input_height is {self.input_height} and input_width {self.input_width}; set both, or 0 for both."
            )
        return (self.input_height, self.input_width) if self.input_height else None


@dataclasses.dataclass(frozen=True)
class VideoSourceConfig:
    """What the node `video_source` publishes, and when."""

    source: str = setting(
        "",
        "A video file, a folder of images or a rosbag2; empty takes the camera with the number `camera`.",
    )
    camera: int = setting(
        0,
        "Number of the camera, as in /dev/video0.",
        limits=(0, MOST_CAMERAS - 1),
    )
    image_topic: str = setting(
        "",
        "Topic of the images in a rosbag2; empty if it has only one.",
    )
    rate: float = setting(
        0.0,
        "Images per second; 0 keeps the timing of the source.",
        limits=(0.0, 1000.0),
    )
    speed: float = setting(
        1.0,
        "Playback speed of a file or rosbag2: 2 plays it in half the time. Has no effect if `rate` is set.",
        limits=(0.001, 1000.0),
    )
    loop: bool = setting(
        False,
        "Start again at the end of a file or rosbag2.",
    )
    subscribers: int = setting(
        1,
        "Playback starts once this many subscribers of `image` are connected; 0 starts at once.",
        limits=(0, 1000),
    )
    frame_id: str = setting(
        "camera_optical_frame",
        "frame_id of the headers; messages of a rosbag2 keep their own.",
    )
    camera_width: int = setting(
        0,
        "Width in pixels to ask a camera for; 0 keeps its setting.",
        limits=(0, 65536),
    )
    camera_height: int = setting(
        0,
        "Height in pixels to ask a camera for; 0 keeps its setting.",
        limits=(0, 65536),
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """What the node `grid` asks a tracker for."""

    side: int = setting(
        8,
        "Points per side of the grid; the tracker's `capacity` must be their square or more.",
        limits=(1, 256),
    )
    renew_below: float = setting(
        0.3,
        "Share of the points that must be visible or occluded. With fewer, as after a cut, a new grid replaces them. 0 "
        "asks for one grid only.",
        limits=(0.0, 1.0),
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class RecorderConfig:
    """What the node `recorder` writes."""

    directory: str = setting(
        "tracks_bag",
        "Folder of the rosbag2 to write; it must not exist yet.",
    )
    images: bool = setting(
        True,
        "Record topic `image` as well as `tracks`.",
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class DepthConfig:
    """What the node `depth` reads and publishes, beside `BodiesConfig`."""

    compressed: bool = setting(
        False,
        "Whether topic `depth` carries sensor_msgs/CompressedImage of the transport compressedDepth (PNG) instead of "
        "sensor_msgs/Image.",
    )
    transforms: bool = setting(
        False,
        "Publish the tracked bodies as frames on /tf; needs tf2_msgs.",
    )
    frame_prefix: str = setting(
        "body_",
        "The frame of a body on /tf is named by this and the number of its group.",
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """Where the node `view` serves its page, and how it sends images."""

    address: str = setting(
        "127.0.0.1",
        "Address to listen on. On any other than this machine's own, the page asks for a token.",
    )
    port: int = setting(
        8765,
        "Port to listen on; 0 takes any that is free.",
        limits=(0, 65535),
    )
    token_file: str = setting(
        "",
        "File whose first line is the token; empty makes a new one at every start, if one is needed, and prints it.",
    )
    host_names: str = setting(
        "",
        "Further names of this machine, separated by commas, under which browsers may ask for the page.",
    )
    quality: int = setting(
        80,
        "Quality of the images in the browser, as of JPEG.",
        limits=(1, 100),
    )
    largest_side: int = setting(
        1280,
        "Most pixels per side of the images in the browser; larger ones are shrunk.",
        limits=(64, 65500),
    )

    def __post_init__(self) -> None:
        check_settings(self)
