"""What each node can be told by parameters, beside the tracker's own configuration."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from taptr_ros.errors import InvalidConfigError
from taptr_ros.nodes.parameters import check_choices
from taptr_ros.runtime.loading import TAPTR_SMALL


@dataclasses.dataclass(frozen=True)
class NodeConfig:
    """What the node `tracker` loads and how it takes images. Raises `InvalidConfigError` for values that cannot be."""

    model: str = TAPTR_SMALL
    """`taptr_small`, the network that comes with the package, `lucas_kanade`, which needs no weights, or the path of a
    model file (.safetensors) or of a folder written by `taptr export`."""
    backend: Literal["auto", "torch", "onnxruntime", "opencv"] = "auto"
    """What runs the model; `auto` is what fits it."""
    device: str = "cpu"
    """Where the model runs: `cpu`, `cuda`, `cuda:INDEX` or, with ONNX Runtime, `tensorrt`."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the model's numbers; `bfloat16` with PyTorch only."""
    threads: int = 0
    """Processor threads of the backend; 0 leaves the choice to its library."""
    input_height: int = 0
    """Height in pixels that images are stretched to for the model; 0 is the model's own."""
    input_width: int = 0
    """Width in pixels that images are stretched to for the model; 0 is the model's own."""

    compressed: bool = False
    """Topic `image` carries sensor_msgs/CompressedImage instead of sensor_msgs/Image."""
    every_frame: bool = False
    """Process every image in order, for replay, instead of the newest; the subscription is then reliable."""
    waiting_frames: int = 100
    """Most images that wait with `every_frame`; a further one supersedes the oldest."""
    autostart: bool = True
    """Configure and activate the node at its start; off, a lifecycle manager does."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "threads": (0, 1024),
        "input_height": (0, 65536),
        "input_width": (0, 65536),
        "waiting_frames": (1, 65536),
    }

    def __post_init__(self) -> None:
        check_choices(self)
        if bool(self.input_height) != bool(self.input_width):
            raise InvalidConfigError(
                f"input_height is {self.input_height} and input_width {self.input_width}; give both, or 0 for both."
            )


@dataclasses.dataclass(frozen=True)
class VideoSourceConfig:
    """What the node `video_source` publishes, and when."""

    source: str = ""
    """A video file, a folder of images or a rosbag2; empty takes the camera with the number `camera`."""
    camera: int = 0
    """Number of the camera, as in /dev/video0."""
    image_topic: str = ""
    """Topic of the images in a rosbag2; empty if it has only one."""
    rate: float = 0.0
    """Images per second; 0 keeps the times of the source."""
    speed: float = 1.0
    """Factor on the times of a file or rosbag2: 2 plays it in half the time. Without effect if `rate` is given."""
    loop: bool = False
    """Begin again at the end of a file or rosbag2."""
    subscribers: int = 1
    """Begin when this many subscriptions to `image` are there; 0 begins at once."""
    frame_id: str = "camera_optical_frame"
    """frame_id of the headers; a rosbag2 keeps its own."""
    camera_width: int = 0
    """Width in pixels to ask a camera for; 0 leaves what it is set to."""
    camera_height: int = 0
    """Height in pixels to ask a camera for; 0 leaves what it is set to."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "camera": (0, 63),
        "rate": (0.0, 1000.0),
        "speed": (0.001, 1000.0),
        "subscribers": (0, 1000),
        "camera_width": (0, 65536),
        "camera_height": (0, 65536),
    }


@dataclasses.dataclass(frozen=True)
class RecorderConfig:
    """What the node `recorder` writes."""

    directory: str = "tracks_bag"
    """Folder of the rosbag2 to write; it must not exist yet."""
    storage: Literal["mcap", "sqlite3"] = "mcap"
    """Storage format of the rosbag2."""
    images: bool = True
    """Record topic `image` too, beside `tracks`."""
    compressed: bool = False
    """Topic `image` carries sensor_msgs/CompressedImage instead of sensor_msgs/Image."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {}

    def __post_init__(self) -> None:
        check_choices(self)
