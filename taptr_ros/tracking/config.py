"""The tracker's configuration: one documented dataclass, whose fields are also the ROS parameters' names."""

from __future__ import annotations

import dataclasses
from typing import Literal

from taptr_ros.settings import check_settings, setting

Support = Literal["auto", "none", "grid", "local_and_grid"]

FOREVER = 1_000_000_000
"""Most frames, or seconds, that a setting can ask for."""


@dataclasses.dataclass(frozen=True)
class TrackerConfig:
    """How `PointTracker` keeps its tracks. `config/tracker.yaml` holds the same words and values.

    Settings that are not live decide on the layout of the tracks' memory. Raises `InvalidConfigError` if a value is of
    the wrong type or out of range.
    """

    capacity: int = setting(
        256,
        "Most points that can be tracked at once, including those that wait for their first image.",
        limits=(1, 65536),
    )
    memory_slots: int = setting(
        512,
        "Past frames that each track remembers. It takes 8 * memory_slots * channels bytes per track.",
        limits=(1, 65536),
    )
    pin_query_frame: bool = setting(
        True,
        "Keep the frame in which the point was chosen in its memory forever; only the other slots are overwritten, "
        "oldest first. When off, every slot is: memory_slots = S - 1 then equals the released code with S frames.",
    )

    visible_threshold: float = setting(
        0.0,
        "A point counts as visible when visibility times confidence exceeds this; 0 uses the model's own threshold.",
        limits=(0.0, 1.0),
        live=True,
    )
    visibility_hysteresis: float = setting(
        0.05,
        "A track becomes visible above the threshold plus this, and stops being visible below it minus this. 0 is "
        "plain thresholding, as in evaluation.",
        limits=(0.0, 0.5),
        live=True,
    )
    border_margin: float = setting(
        0.002,
        "A track that is not visible is out of view when it is past the border, or within this fraction of the image "
        "size from it. The paper's networks clamp positions to 0.001..0.999 of the image.",
        limits=(0.0, 0.5),
        live=True,
    )
    lost_after: int = setting(
        150,
        "A track that was not seen for this many frames counts as lost; 0 means never.",
        limits=(0, FOREVER),
        live=True,
    )
    removed_after: int = setting(
        0,
        "A track that is lost or out of view is removed when it was not seen for this many frames; 0 means never.",
        limits=(0, FOREVER),
        live=True,
    )

    points_per_region: int = setting(
        16,
        "Points that are chosen in a region whose request does not say how many.",
        limits=(1, 65536),
        live=True,
    )

    replenish: bool = setting(
        False,
        "Keep every group that began as a region at its number of points while its body is in view: a lost one is "
        "replaced on the body. Lower `lost_after` to replace points sooner.",
        live=True,
    )

    support: Support = setting(
        "auto",
        "Hidden points that are tracked too, for models whose points attend to each other (spec section 7): `none`, "
        "`grid` (6x6 over the image), `local_and_grid` (also 63 around each point, as in published results; takes 64 "
        "times the memory and time), or `auto`: `grid` for models with attention between points, `none` for others.",
    )

    history_seconds: float = setting(
        1.0,
        "How many seconds the features of past frames are kept, so points can be added in past frames.",
        limits=(0.0, 3600.0),
        live=True,
    )
    history_frames: int = setting(
        30, "Most past frames whose features are kept; the last frame is always kept.", limits=(1, 65536)
    )
    stamp_tolerance: float = setting(
        0.05,
        "A point chosen in an image that the tracker never saw starts in the nearest frame within this many seconds; 0 "
        "requires the exact stamp.",
        limits=(0.0, 3600.0),
        live=True,
    )

    late_tolerance: float = setting(
        1.0,
        "An image that is older than the newest one by at most this many seconds is late and left out; an older one "
        "begins a new stream.",
        limits=(0.0, 3600.0),
        live=True,
    )
    scene_cut_threshold: float = setting(
        27.0,
        "Mean change of hue, saturation and brightness (0..255) between two frames that counts as a scene cut; during "
        "fast motion it must be larger. 0 turns the detector off.",
        limits=(0.0, 255.0),
        live=True,
    )
    gap_seconds: float = setting(
        2.0,
        "A longer gap in seconds between the stamps of two frames is treated like a scene cut; 0 means never.",
        limits=(0.0, float(FOREVER)),
        live=True,
    )
    match_grid: int = setting(
        24,
        "Candidate places per image side in global matching; around the best of them it looks three times as closely.",
        limits=(2, 64),
        live=True,
    )
    match_gate: float = setting(
        -1.0,
        "Patch similarity (cosine) that a global match must reach, otherwise the track stays lost; a negative value "
        "uses the model's own.",
        limits=(-1.0, 1.0),
        live=True,
    )
    match_margin: float = setting(
        -1.0,
        "How far a global match must stand out from the next best place, else the track stays lost; a negative value "
        "takes the model's own.",
        limits=(-1.0, 2.0),
        live=True,
    )
    rematch_interval: int = setting(
        3,
        "Frames between two searches by global matching for tracks that were not seen since the last search; 0 searches "
        "after scene cuts only.",
        limits=(0, FOREVER),
        live=True,
    )

    def __post_init__(self) -> None:
        check_settings(self)
