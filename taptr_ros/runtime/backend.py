"""What every backend offers the tracker: three functions on arrays, and the arrays of the tracks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from taptr_ros.model.architectures import Config
from taptr_ros.model.rotary import rotary_phase, rotated_back
from taptr_ros.model.tuning import Tuning

Array = Any
"""An array of the backend's own kind: numpy, or a torch tensor on the backend's device. Both index alike."""

Features = Any
"""What `Backend.encode` made of one image. Opaque to the tracker."""


@dataclasses.dataclass(frozen=True)
class BackendInfo:
    """What the tracker has to know of a loaded model. Constant for the life of a backend."""

    model: str
    """Name of the model, for instance `taptrv3_r18` or `lucas_kanade`."""
    backend: str
    """Name of the backend, for instance `torch` or `onnxruntime`."""
    device: str
    """Device the backend computes on, for instance `cpu` or `cuda:0`."""
    precision: str
    """Numbers it computes with: float32, bfloat16, or int8, in which images are encoded and the rest is float32."""
    height: int
    """Input height in pixels that images are stretched to; 0 if every image keeps its own size."""
    width: int
    """Input width in pixels that images are stretched to; 0 if every image keeps its own size."""
    content_dim: int
    """Channels D of content features and memory slots; 0 for a backend without memory."""
    context_dim: int
    """Channels of a context cell; 0 for a backend without contexts."""
    state_dim: int
    """Numbers that a track carries from frame to frame, for instance 4 box logits."""
    visible_threshold: float
    """Product of visibility and confidence above which a point counts as visible."""
    context_renewal: float
    """How much of a visible track's context is replaced by what surrounds it now, whenever contexts are renewed."""
    tuning: Tuning
    """How the tracker searches with the model and renews its contexts."""
    corner_aligned_coordinates: bool
    """Convention of unit coordinates, see `taptr_ros.runtime.coordinates`."""
    self_attention: bool
    """Whether points influence each other, so that support points help."""
    starting_queries_join_decoder: bool
    """Whether `decode` also takes tracks in their start frame (spec section 5), position frozen."""
    feature_bytes: int = 0
    """Bytes of one image's features; 0 if they are a byte for every pixel of the image."""

    def bytes_per_track(self, slots: int) -> int:
        """Return the bytes of one row of `TrackArrays` with `slots` memory slots."""
        numbers = self.content_dim + 2 * 9 * self.context_dim + self.state_dim + slots * (2 * self.content_dim + 1)
        return 4 * numbers

    @classmethod
    def of_network(cls, config: Config, backend: str, device: str, precision: str) -> BackendInfo:
        """Describe a TAPTRv3 network that `backend` runs on `device`."""
        return cls(
            model=config.name,
            backend=backend,
            device=device,
            precision=precision,
            height=config.height,
            width=config.width,
            content_dim=config.hidden_dim,
            context_dim=config.context_dim,
            state_dim=config.state_dim,
            visible_threshold=config.visible_threshold,
            context_renewal=config.context_renewal,
            tuning=config.tuning,
            corner_aligned_coordinates=config.corner_aligned_coordinates,
            self_attention=config.self_attention,
            starting_queries_join_decoder=config.starting_queries_join_decoder,
            feature_bytes=4 * sum(math.prod(shape) for shape in config.feature_shapes),
        )


@dataclasses.dataclass(frozen=True)
class QueryArrays:
    """What `Backend.init_queries` computes for N new points. While they are tracked, the content stays as it is."""

    content: Array
    """[N,D] float32 content feature at the query location."""
    context: Array
    """[N,3,3,E] float32 features around it, x offset first (paper's context C)."""
    state: Array
    """[N,S] float32 initial state."""


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What `Backend.decode` computes for N tracks in one frame."""

    xy: NDArray[np.float32]
    """[N,2] unit coordinates of the points."""
    visibility: NDArray[np.float32]
    """[N] probability, in 0..1, that the point is visible."""
    confidence: NDArray[np.float32]
    """[N] probability, in 0..1, that the point, if it is visible, is within 8 input pixels of `xy`; 1 from models that
    do not estimate it."""
    state: Array
    """[N,S] state to carry to the next frame."""
    content: Array
    """[N,D] refined content feature, to be remembered."""


FEWEST_SLOTS = 16
"""Memory slots that rows have at least, if there are as many."""


class TrackArrays:
    """Per-track arrays of a backend, preallocated; row i belongs to one track.

    Every track has its initial content, its context now (`taptr_ros.tracking.context_renewal`) and in the query frame,
    its state, and one memory of past content features that all decoder layers share. A memory slot holds the content
    feature twice: as it is (`values`) and rotated by minus its frame index (`keys`). VLTA's rotary embedding depends on
    the distance t - j only, so rotating the query by minus t then gives every score without touching the memory again:
    <q, R(t - j) m> = <R(-t) q, R(-j) m>.

    Attributes (capacity C, slots M, channels D, context channels E, state size S), float32 of the backend's kind:
        content [C,D], context and query_context [C,3,3,E], state [C,S], keys [C,W,D], values [C,W,D],
        weights [C,W]: visibility weight of each slot (VLTA's alpha); exactly 0 marks an empty slot.
    Channels of `keys` are de-interleaved: first all even channels, then all odd ones.

    Rows show W <= M slots, as many as are in use and at most about as many again: a backend that takes whole arrays
    only then reads nothing that it need not, and copies nothing. The room for M is taken at the start; whenever more
    slots are shown, the rows in use move in it.
    """

    def __init__(
        self, arrays: ArrayFactory, info: BackendInfo, capacity: int, slots: int, *, fewest_slots: int = FEWEST_SLOTS
    ) -> None:
        """Take the room for `capacity` tracks with `slots` memory slots; rows begin with `fewest_slots` or more."""
        depth = info.content_dim
        self.factory = arrays
        self._half = depth // 2
        self.capacity = capacity
        self.slots = slots
        self.content = arrays.zeros((capacity, depth))
        self.context, self.query_context = (arrays.zeros((capacity, 3, 3, info.context_dim)) for _ in range(2))
        self.state = arrays.zeros((capacity, info.state_dim))
        self._used = 0
        self._fewest_slots = fewest_slots
        self._room = [arrays.zeros((capacity * slots * channels,)) for channels in (depth, depth, 1)]
        self._show(0)

    def start(self, rows: NDArray[np.int64], query: QueryArrays) -> None:
        """Begin tracks in `rows` [N]: take over the query and empty the memory."""
        self._used = max(self._used, int(rows.max(initial=-1)) + 1)
        self.content[rows] = query.content
        self.context[rows] = self.query_context[rows] = query.context
        self.state[rows] = query.state
        self.weights[rows] = 0.0

    def remember(
        self,
        rows: NDArray[np.int64],
        slots: NDArray[np.int64],
        content: Array,
        weight: NDArray[np.float32],
        frame: int,
    ) -> None:
        """Write one memory slot per track: `content` [N,D] as seen in frame number `frame`.

        `rows` [N] and `slots` [N] say where; `weight` [N] is the visibility weight, which must be above 0.
        """
        self._used = max(self._used, int(rows.max(initial=-1)) + 1)
        self._widen(int(slots.max(initial=-1)) + 1)
        cos, sin = self.factory.from_numpy(rotary_phase(frame, 2 * self._half))
        first, second = rotated_back(content, cos, sin)
        self.keys[rows, slots, : self._half] = first
        self.keys[rows, slots, self._half :] = second
        self.values[rows, slots] = content
        self.weights[rows, slots] = self.factory.from_numpy(weight)

    def copy_row(self, row: int, source: TrackArrays, source_row: int) -> None:
        """Copy everything of one track from a row of `source` (which may be self) to `row`.

        `source` may have fewer slots than self; the slots beyond are emptied.
        """
        self._used = max(self._used, row + 1)
        self._widen(source.width)
        self.content[row] = source.content[source_row]
        self.context[row] = source.context[source_row]
        self.query_context[row] = source.query_context[source_row]
        self.state[row] = source.state[source_row]
        self.keys[row, : source.width] = source.keys[source_row]
        self.values[row, : source.width] = source.values[source_row]
        self.weights[row] = 0.0
        self.weights[row, : source.width] = source.weights[source_row]

    def free(self, rows: int) -> None:
        """Say that only rows 0..rows-1 are in use."""
        self._used = rows

    def _show(self, slots: int) -> None:
        """Let rows have `slots` slots or the next larger number of a sequence of which each is twice the one before."""
        self.width = self.slots
        while self.width // 2 >= max(slots, self._fewest_slots):
            self.width //= 2
        self.keys, self.values, weights = (
            room[: len(room) // max(self.slots, 1) * self.width].reshape(self.capacity, self.width, -1)
            for room in self._room
        )
        self.weights = weights[..., 0]

    def _widen(self, slots: int) -> None:
        """Let rows have `slots` slots at least; what those in use hold stays."""
        if slots <= self.width:
            return
        narrow, width = (self.keys, self.values, self.weights), self.width
        self._show(slots)
        # From the last row on, none is moved to where one lies that has not been moved.
        for row in reversed(range(self._used)):
            for old, new in zip(narrow, (self.keys, self.values, self.weights), strict=True):
                new[row, :width] = old[row]
        self.weights[: self._used, width:] = 0.0


class ArrayFactory(Protocol):
    """How a backend makes float32 arrays of its own kind."""

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """Return a float32 array of zeros whose memory is taken here and now."""

    def from_numpy(self, array: NDArray[Any]) -> Array:
        """Return `array` as float32 of the backend's kind."""

    def to_numpy(self, array: Array) -> NDArray[np.float32]:
        """Return an array of the backend's kind as numpy float32, on the host."""


class NumpyArrays:
    """`ArrayFactory` of the backends whose arrays are plain numpy."""

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """Return a float32 array of zeros."""
        # Written: what `np.zeros` returns is taken from the system page by page as it is used, while tracking.
        return np.full(shape, 0.0, np.float32)

    def from_numpy(self, array: NDArray[Any]) -> Array:
        """Return `array` as float32."""
        return np.asarray(array, np.float32)

    def to_numpy(self, array: Array) -> NDArray[np.float32]:
        """Return `array`, which is numpy already."""
        return np.asarray(array, np.float32)


class Backend(Protocol):
    """A loaded model. The three functions are pure: they change neither their arguments nor the backend.

    Unit coordinates are defined in `taptr_ros.runtime.coordinates`.
    """

    @property
    def info(self) -> BackendInfo:
        """Constants of the loaded model."""

    def allocate(self, capacity: int, slots: int) -> TrackArrays:
        """Return empty track arrays for `capacity` tracks with `slots` memory slots each."""

    def encode(self, image: NDArray[np.uint8]) -> Features:
        """Compute the features of an image, uint8 [H,W,3] RGB of any size."""

    def init_queries(self, features: Features, xy: NDArray[np.float32]) -> QueryArrays:
        """Sample content and context of new points at unit coordinates `xy` [N,2] (spec section 4)."""

    def decode(
        self,
        features: Features,
        previous_features: Features | None,
        tracks: TrackArrays,
        rows: int,
        slots: int,
        updated: NDArray[np.bool_],
        frame: int,
    ) -> Decoded:
        """Move the tracks in rows 0..rows-1 from the previous frame to this one (spec section 5).

        `previous_features` are those of the frame that the states stem from; None if there is no such frame.
        Memory slots 0..slots-1 are read, empty ones ignored. `updated` [rows] is False for tracks whose position is
        frozen (their start frame). `frame` is the frame's number, on the count that `TrackArrays.remember` was told.
        A backend whose shapes are fixed pads to the capacity by itself: rows from `rows` on never influence others.
        """
