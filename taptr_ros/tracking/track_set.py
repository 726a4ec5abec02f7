"""A set of tracks and what one frame does to it: re-detection, new tracks, the decoder, memory, visibility."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from taptr_ros.runtime.backend import Array, Backend, Decoded, Features
from taptr_ros.tracking import context_renewal
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.history import EncodedFrame
from taptr_ros.tracking.search import Search
from taptr_ros.tracking.slot_table import Rows, SlotTable, blank_records, seen_probability
from taptr_ros.tracking.states import TrackState, is_visible, track_states
from taptr_ros.tracking.support import support_layout

START_VISIBILITY = 0.999
"""Visibility reported in a track's first frame: the probability at the clamp of the logit (spec section 6)."""

GONE = (TrackState.OUT_OF_VIEW, TrackState.LOST)
"""States of a point that is not known to be in the image."""

SMALLEST_WEIGHT = 1e-7
"""Visibility weight of a memory of a point that was not seen at all: 0 would mark an empty slot."""


@dataclasses.dataclass(frozen=True)
class NewTracks:
    """N tracks that start in a frame."""

    ids: NDArray[np.uint64]
    """[N] ids, not 0."""
    sequence: NDArray[np.int64]
    """[N] order in which the tracks were added."""
    xy: NDArray[np.float32]
    """[N,2] query points in unit coordinates."""
    group: NDArray[np.uint32]
    """[N] groups, 0 for none."""


class TrackSet:
    """Tracks, their hidden support points and their memories, moved on one frame at a time.

    Works in unit coordinates. Room for `config.capacity` tracks and their support points is taken once, with `slots`
    memory slots each; the caller keeps to the capacity.
    """

    def __init__(self, backend: Backend, config: TrackerConfig, slots: int) -> None:
        self._backend = backend
        self._info = backend.info
        self._layout = support_layout(config.support, backend.info)
        self._has_memory = backend.info.content_dim > 0
        rows = self._layout.row_count(config.capacity)
        self._arrays = backend.allocate(rows, slots)
        self._table = SlotTable(rows, slots, config.pin_query_frame)
        self._search = Search(backend, self._arrays, self._table, config)
        self.reconfigure(config)

    @property
    def tracks(self) -> NDArray[np.void]:
        """A copy of the tracks' records (dtype `slot_table.RECORD`), in the order in which they were added."""
        live = self._table.live
        rows = np.flatnonzero(live["id"])
        records: NDArray[np.void] = live[rows[np.argsort(live["sequence"][rows])]]
        return records

    def reconfigure(self, config: TrackerConfig) -> None:
        """Take other thresholds; those fields that decide on the layout must stay as they are."""
        self._config = config
        self._threshold = config.visible_threshold or self._info.visible_threshold
        self._search.reconfigure(config)

    def remove(self, ids: NDArray[np.uint64]) -> None:
        """Remove the tracks with these ids, and their support points with them."""
        live = self._table.live
        self._remove_rows(np.isin(live["id"], ids) & (live["id"] != 0) | self._local_support_of(ids))
        if not self._table.live["id"].any():
            self.clear()

    def clear(self) -> None:
        """Remove everything."""
        self._table.clear()
        self._arrays.free(0)

    def adopt(self, other: TrackSet, first_sequence: int = 0) -> None:
        """Take over the tracks of another set, and their local support points, as they are; `other` is emptied.

        `first_sequence` is added to their numbers in the order in which tracks were added.
        """
        moving = np.flatnonzero(other._table.live["place"] < 0)
        other._table.live["sequence"] += first_sequence
        rows = self._table.append(other._table.live[moving])
        for row, source_row in zip(rows.tolist(), moving.tolist(), strict=True):
            self._arrays.copy_row(row, other._arrays, source_row)
        other.clear()

    def advance(self, frame: EncodedFrame, previous_features: Features | None, new: NewTracks) -> bool:
        """Move all tracks from the previous frame to `frame` and start the `new` ones in it.

        `frame.decoded` says whether the decoder runs even if no track of this set needs it. Return whether it ran.
        """
        self._remove_stale_support(frame.scene_cut)
        moved = self._search.propose(frame)
        self._remove_rows(self._local_support_of(moved))
        settled = self._table.size
        self._start(frame, new, moved)
        decoded = self._decode(frame, previous_features, settled)
        self._update(decoded, settled, frame.number)
        self._search.settle(self._sees(self._table.live))
        self._judge(self._table.live[:settled])
        self._renew_contexts(frame)
        self._remove_long_unseen()
        return decoded is not None

    def start(self, frame: EncodedFrame, new: NewTracks) -> None:
        """Start tracks in the frame that all others have been moved to."""
        settled = self._table.size
        self._start(frame, new, moved=np.empty(0, np.uint64))
        self._update(None, settled, frame.number)

    def _sees(self, records: NDArray[np.void]) -> NDArray[np.bool_]:
        hysteresis = self._config.visibility_hysteresis
        return is_visible(seen_probability(records), records["visible"], self._threshold, hysteresis)

    def _start(self, frame: EncodedFrame, new: NewTracks, moved: NDArray[np.uint64]) -> None:
        """Append the new tracks and the support points that are missing: round new and moved tracks, and the grid."""
        tracks = blank_records(len(new.ids))
        tracks["id"], tracks["sequence"], tracks["xy"] = new.ids, new.sequence, new.xy
        tracks["group"] = new.group
        returned = self._table.live[np.isin(self._table.live["id"], moved)]
        parts = [
            tracks,
            self._local_support(returned),
            self._local_support(tracks),
            self._missing_grid(bool(len(tracks))),
        ]
        starting = np.concatenate([part for part in parts if len(part)] or [tracks])
        if not len(starting):
            return
        starting["start"] = frame.number
        starting["visibility"], starting["confidence"] = START_VISIBILITY, 1.0
        starting["visible"] = True
        query = self._backend.init_queries(frame.features, starting["xy"].copy())
        self._arrays.start(self._table.append(starting), query)

    def _local_support(self, tracks: NDArray[np.void]) -> NDArray[np.void]:
        """Return records of the support points round `tracks`."""
        local = blank_records(len(tracks) * len(self._layout.local))
        local["owner"] = np.repeat(tracks["id"], len(self._layout.local))
        local["xy"] = self._layout.around(tracks["xy"]).reshape(-1, 2)
        return local

    def _missing_grid(self, tracks_start: bool) -> NDArray[np.void]:
        """Return records of the grid points that are not there, if there are tracks to accompany."""
        places = np.flatnonzero(~np.isin(np.arange(len(self._layout.grid)), self._table.live["place"]))
        if not (tracks_start or self._table.size):
            places = places[:0]
        grid = blank_records(len(places))
        grid["place"] = places
        grid["xy"] = self._layout.grid[places]
        return grid

    def _decode(self, frame: EncodedFrame, previous_features: Features | None, settled: int) -> Decoded | None:
        """Run the decoder if a track needs it. Rows from `settled` on start in this frame."""
        live = self._table.live
        updated = ~live["frozen"] & (np.arange(len(live)) < settled)
        joins = self._info.starting_queries_join_decoder
        rows = len(live) if joins else settled
        if not (updated.any() or (joins and frame.decoded and settled < len(live))):
            return None
        slots = self._table.filled_slots
        return self._backend.decode(
            frame.features, previous_features, self._arrays, rows, slots, updated[:rows], frame.number
        )

    def _update(self, decoded: Decoded | None, settled: int, frame_number: int) -> None:
        """Take over what the decoder made of the rows below `settled`; the rows from there on start."""
        live = self._table.live
        started = np.arange(settled, len(live))
        start_content = self._arrays.content
        if decoded is not None:
            moved = np.flatnonzero(~live["frozen"][:settled])
            self._arrays.state[moved] = decoded.state[moved]
            live["xy"][moved] = decoded.xy[moved]
            live["visibility"][moved] = decoded.visibility[moved]
            live["confidence"][moved] = decoded.confidence[moved]
            self._remember(moved, decoded.content[moved], seen_probability(live[moved]), frame_number)
            if self._info.starting_queries_join_decoder:
                start_content = decoded.content
        self._remember(started, start_content[started], np.ones(len(started), np.float32), frame_number)

    def _remember(self, rows: Rows, content: Array, weight: NDArray[np.float32], frame_number: int) -> None:
        if self._has_memory and len(rows):
            slots = self._table.take_slots(rows)
            kept = np.flatnonzero(slots >= 0)
            weight = np.maximum(weight[kept], SMALLEST_WEIGHT)
            self._arrays.remember(rows[kept], slots[kept], content[kept], weight, frame_number)

    def _renew_contexts(self, frame: EncodedFrame) -> None:
        """Every few frames, let the contexts of visible tracks follow what the points look like."""
        share = self._info.context_renewal
        if not share:
            return
        live, arrays, tuning = self._table.live, self._arrays, self._info.tuning
        seen = live["visible"] & (seen_probability(live) >= tuning.renewal_visibility)
        rows = np.flatnonzero(seen & context_renewal.due(frame.number - live["start"], tuning))
        if len(rows):
            around = self._backend.init_queries(frame.features, live["xy"][rows]).context
            arrays.context[rows] = context_renewal.renewed(
                arrays.context[rows], arrays.query_context[rows], around, share, tuning
            )

    def _judge(self, settled: NDArray[np.void]) -> None:
        """Decide on visibility and state of the tracks that did not just start."""
        config = self._config
        settled["visibility"][settled["frozen"]] = 0.0
        settled["visible"] = self._sees(settled) & ~settled["frozen"]
        settled["frames_since_seen"] = np.where(settled["visible"], 0, settled["frames_since_seen"] + 1)
        overdue = (settled["frames_since_seen"] >= config.lost_after) & (config.lost_after > 0)
        settled["state"] = track_states(
            settled["visible"], settled["frozen"] | overdue, settled["xy"], config.border_margin
        )

    def _remove_stale_support(self, scene_cut: bool) -> None:
        """Drop support points that wandered off or were lost, for new ones to start; after a scene cut, all."""
        live = self._table.live
        gone = np.isin(live["state"], GONE) & (live["place"] >= 0)
        self._remove_rows((live["id"] == 0) if scene_cut else gone)

    def _remove_long_unseen(self) -> None:
        """End tracks that have been gone for as long as the configuration says."""
        live, limit = self._table.live, self._config.removed_after
        ended = np.isin(live["state"], GONE) & (live["id"] != 0) & (live["frames_since_seen"] >= limit)
        if limit and ended.any():
            self.remove(live["id"][ended])

    def _local_support_of(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        owners = self._table.live["owner"]
        chosen: NDArray[np.bool_] = np.isin(owners, ids) & (owners != 0)
        return chosen

    def _remove_rows(self, chosen: NDArray[np.bool_]) -> None:
        for row, source_row in self._table.remove(np.flatnonzero(chosen)):
            self._arrays.copy_row(row, self._arrays, source_row)
        self._arrays.free(self._table.size)
