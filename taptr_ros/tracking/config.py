"""The tracker's configuration: one documented dataclass, whose fields are also the ROS parameters' names."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal, get_args

from taptr_ros.errors import InvalidConfigError

Support = Literal["auto", "none", "grid", "local_and_grid"]


@dataclasses.dataclass(frozen=True)
class TrackerConfig:
    """How `PointTracker` keeps its tracks. `config/tracker.yaml` holds the same words and values.

    Raises `InvalidConfigError` if a value is of the wrong type or out of range.
    """

    capacity: int = 256
    """Most points that can be tracked at once, those waiting for their first frame included."""
    memory_slots: int = 512
    """Past frames that each track remembers. Memory: 8 * memory_slots * channels bytes per track."""
    pin_query_frame: bool = True
    """Keep the query frame in the memory for ever and let only the other slots forget, oldest first. Off, every
    slot forgets; the released code with a limit of S frames equals memory_slots = S - 1 with this off."""

    visible_threshold: float = 0.0
    """Visibility probability above which a point counts as visible; 0 takes the model's own threshold."""
    visibility_hysteresis: float = 0.05
    """A track becomes visible above threshold + this and stops being visible below threshold - this. 0 is plain
    thresholding, as in evaluation."""
    border_margin: float = 0.002
    """A track that is not visible within this fraction of the image size from the border, or past it, is out of
    view. Networks clamp positions to 0.001..0.999 of the image."""
    lost_after: int = 150
    """A track not seen for this many frames counts as lost; 0 never."""

    support: Support = "auto"
    """Hidden points tracked beside the given ones, because points that attend to each other expect company (spec
    section 7): `none`, `grid` (6x6 over the image), `local_and_grid` (also 63 round every point, as published
    results used: needs the memory and time of 64 times the points), or `auto`: `grid` for models with
    self-attention between points, `none` for others, which take no notice of them."""

    history_seconds: float = 1.0
    """How long the features of past frames are kept, so that points may start in a past frame."""
    history_frames: int = 30
    """Most past frames whose features are kept; the last frame always is."""
    stamp_tolerance: float = 0.05
    """A point chosen in an image that the tracker never saw starts in the nearest frame at most this many seconds
    away; 0 asks for the exact stamp."""

    scene_cut_threshold: float = 27.0
    """Mean change of hue, saturation and brightness (0..255) that counts as a scene cut in a still picture; fast
    motion raises it. 0 turns the detector off."""
    gap_seconds: float = 2.0
    """A longer gap between the stamps of two frames is answered like a scene cut; 0 never."""
    match_grid: int = 24
    """Candidate places per image side in global matching; round the best of them it looks three times as closely."""
    match_gate: float = 0.65
    """Patch similarity (cosine, -1..1) that a global match must reach, else the track stays lost."""
    match_margin: float = 0.1
    """How far a global match must stand out from the next best place, and twice as far from where a visible track is,
    else the track stays what it was."""
    rematch_interval: int = 3
    """Frames between two searches by global matching for the tracks that were not seen since the last one, and for
    those of which the network is not sure; 0 searches after scene cuts only."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "capacity": (1, 65536),
        "memory_slots": (1, 65536),
        "visible_threshold": (0.0, 1.0),
        "visibility_hysteresis": (0.0, 0.5),
        "border_margin": (0.0, 0.5),
        "lost_after": (0, 1_000_000_000),
        "history_frames": (1, 65536),
        "history_seconds": (0.0, 3600.0),
        "stamp_tolerance": (0.0, 3600.0),
        "scene_cut_threshold": (0.0, 255.0),
        "gap_seconds": (0.0, 1_000_000_000.0),
        "match_grid": (2, 256),
        "match_gate": (-1.0, 1.0),
        "match_margin": (0.0, 2.0),
        "rematch_interval": (0, 1_000_000_000),
    }
    """Lowest and highest value of every number."""

    STRUCTURAL: ClassVar[tuple[str, ...]] = (
        "capacity",
        "memory_slots",
        "pin_query_frame",
        "support",
        "history_frames",
    )
    """Fields that decide on the layout of the tracks' memory. All others may change while points are tracked."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), str(field.type))
        for name, (lowest, highest) in self.RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and lowest <= value <= highest):
                raise InvalidConfigError(f"{name} is {value!r}; give a value from {lowest:g} to {highest:g}.")
        if self.support not in get_args(Support):
            raise InvalidConfigError(f"support is {self.support!r}; choose one of {', '.join(get_args(Support))}.")


def _check_type(name: str, value: object, type_name: str) -> None:
    if type_name == "bool" and not isinstance(value, bool):
        raise InvalidConfigError(f"{name} is {value!r}; give true or false.")
    if type_name == "int" and (isinstance(value, bool) or not isinstance(value, int)):
        raise InvalidConfigError(f"{name} is {value!r}; give a whole number.")
    if type_name == "float" and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise InvalidConfigError(f"{name} is {value!r}; give a number.")
