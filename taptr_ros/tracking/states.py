"""What the tracker reports: the tracks of one frame and the state of each."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class TrackState(enum.IntEnum):
    """What is known of a track in one frame."""

    VISIBLE = 0
    """The point is seen."""
    OCCLUDED = 1
    """The point is hidden by something, inside the image."""
    OUT_OF_VIEW = 2
    """The point is not seen and its position is at the image's border."""
    LOST = 3
    """The point was not found again after a scene cut, or has not been seen for too long. Its position is its last
    one after a cut, otherwise the model's guess."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One array of `Tracks`, and where else its values go."""

    name: str
    """Of the attribute of `Tracks`, and in the slot table if it is kept there."""
    dtype: np.dtype[Any]
    message: Mapping[str, str]
    """Fields of taptr_ros/msg/TrackedPoint that hold it, each with its meaning: one for every number of an entry."""
    in_table: bool
    """Whether the slot table keeps it, 0 at first; the others follow from what the table keeps."""
    in_cloud: bool
    """Whether the point cloud has it, under the names of `message`."""
    absent: float | None
    """Value in the file of `taptr track` for a frame in which the track does not exist; None if that file has none."""


def column(
    dtype: DTypeLike,
    message: Mapping[str, str] | None = None,
    *,
    in_table: bool = True,
    in_cloud: bool = False,
    absent: float | None = None,
) -> dict[str, Any]:
    """Return the metadata of a field of `Tracks` that has one entry per track; the arguments are those of `Column`."""
    return {
        "dtype": np.dtype(dtype),
        "message": message or {},
        "in_table": in_table,
        "in_cloud": in_cloud,
        "absent": absent,
    }


@dataclasses.dataclass(frozen=True)
class RefusedPoint:
    """A point that waited for an image and cannot be tracked; it is gone."""

    id: int
    """Id that the track would have had."""
    reason: str
    """What is wrong with the point, as one sentence."""


@dataclasses.dataclass(frozen=True)
class RefusedRegion:
    """A region that waited for an image and in which no points can be chosen; it is gone."""

    group: int
    """Group that its points would have had."""
    reason: str
    """What is wrong with the region, as one sentence."""


@dataclasses.dataclass(frozen=True)
class Tracks:
    """All tracks in one frame, in the order in which they were added; n tracks.

    Points that still wait for their first frame are not among them. A further field made with `column` is kept for
    every track, reported, published, put into the cloud and saved by this one line; `scripts/track_message.py` then
    writes it into TrackedPoint.msg.
    """

    ids: NDArray[np.uint64] = dataclasses.field(
        metadata=column(
            np.uint64,
            {"id": "Identifier of the track, as given or assigned when the point was added; never 0"},
            in_table=False,
            in_cloud=True,
        )
    )
    """[n] ids."""
    group: NDArray[np.uint32] = dataclasses.field(
        metadata=column(np.uint32, {"group": "Points of one body have the same group; 0 = none"}, in_cloud=True)
    )
    """[n] groups of points that belong to one body each; 0 is none."""
    xy: NDArray[np.float32] = dataclasses.field(
        metadata=column(
            np.float32, {"x": "Column in pixels", "y": "Row in pixels"}, in_table=False, in_cloud=True, absent=np.nan
        )
    )
    """[n,2] positions in pixels of the incoming image, (0, 0) the centre of the top-left pixel."""
    visibility: NDArray[np.float32] = dataclasses.field(
        metadata=column(
            np.float32,
            {"visibility": "Probability that the point is visible in this image, 0 to 1"},
            in_cloud=True,
            absent=0.0,
        )
    )
    """[n] probability that the point is visible."""
    confidence: NDArray[np.float32] = dataclasses.field(
        metadata=column(
            np.float32,
            {"confidence": "Probability that a visible point is within 8 pixels of x and y, in the model's input"},
            in_cloud=True,
            absent=0.0,
        )
    )
    """[n] probability that the point, if it is visible, is within 8 pixels, of the model's input, of `xy`."""
    visible: NDArray[np.bool_] = dataclasses.field(metadata=column(np.bool_, absent=False))
    """[n] whether it is seen where it is reported, by the product of both, with hysteresis; in messages, the
    state VISIBLE."""
    state: NDArray[np.uint8] = dataclasses.field(
        metadata=column(
            np.uint8, {"state": "VISIBLE, OCCLUDED, OUT_OF_VIEW or LOST"}, in_cloud=True, absent=TrackState.LOST
        )
    )
    """[n] values of `TrackState`."""
    age: NDArray[np.uint32] = dataclasses.field(
        metadata=column(
            np.uint32,
            {"age": "Frames since the frame in which the point was chosen; 0 in that frame"},
            in_table=False,
        )
    )
    """[n] frames since the track's first."""
    frames_since_seen: NDArray[np.uint32] = dataclasses.field(
        metadata=column(np.uint32, {"frames_since_seen": "Frames since the state was last VISIBLE; 0 while it is"})
    )
    """[n] frames since the point was last visible; 0 while it is."""
    stamp: int
    """Stamp of the frame in nanoseconds."""
    width: int
    """Width of the frame in pixels."""
    height: int
    """Height of the frame in pixels."""
    scene_cut: bool
    """Whether a scene cut, or a gap in the stamps, lies between the previous frame and this one."""
    stream: int = 0
    """Streams begun so far, this one included: tracks of another number have nothing to do with these."""
    refused: tuple[RefusedPoint, ...] = ()
    """Points that were to start now, or in a frame that has passed, and cannot."""
    refused_regions: tuple[RefusedRegion, ...] = ()
    """Regions likewise."""

    def select(self, chosen: NDArray[np.bool_]) -> Tracks:
        """Return the tracks for which `chosen` [n] holds."""
        arrays: dict[str, Any] = {entry.name: getattr(self, entry.name)[chosen] for entry in COLUMNS}
        return dataclasses.replace(self, **arrays)


COLUMNS: tuple[Column, ...] = tuple(
    Column(field.name, **field.metadata) for field in dataclasses.fields(Tracks) if field.metadata
)
"""All that is told of every track."""


def is_visible(
    seen: NDArray[np.float32], was_visible: NDArray[np.bool_], threshold: float, hysteresis: float
) -> NDArray[np.bool_]:
    """Decide on the probabilities `seen` [n] of being visible and close to where the tracks are reported.

    Visible tracks stay so above threshold - hysteresis, others become so above threshold + hysteresis.
    """
    return seen > np.where(was_visible, threshold - hysteresis, threshold + hysteresis)


def track_states(
    visible: NDArray[np.bool_],
    lost: NDArray[np.bool_],
    xy: NDArray[np.float32],
    border_margin: float,
) -> NDArray[np.uint8]:
    """Return the `TrackState` [n] of tracks at unit coordinates `xy` [n,2]."""
    outside = ((xy <= border_margin) | (xy >= 1.0 - border_margin)).any(axis=1)
    states = np.where(outside, TrackState.OUT_OF_VIEW, TrackState.OCCLUDED)
    states = np.where(lost, TrackState.LOST, states)
    return np.where(visible, TrackState.VISIBLE, states).astype(np.uint8)
