"""The search for tracks that are not seen: proposals of global matching, settled by what the decoder sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taptr_ros.runtime.backend import Array, Backend, Features, TrackArrays
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.global_matching import match_globally
from taptr_ros.tracking.history import EncodedFrame
from taptr_ros.tracking.slot_table import RECORD, Rows, SlotTable

Ids = NDArray[np.uint64]


class Search:
    """Moves tracks to where global matching finds them, for one decoder run on trial.

    `propose` comes before the decoder and `settle` after it, once in every frame. In between, tracks may be added and
    support points removed.
    """

    def __init__(self, backend: Backend, arrays: TrackArrays, table: SlotTable, config: TrackerConfig) -> None:
        self._backend, self._arrays, self._table = backend, arrays, table
        self._tuning = backend.info.tuning
        self._returned = np.empty(0, np.uint64)
        self._proposed = np.empty(0, RECORD)
        self._states: Array = arrays.state[:0]
        self.reconfigure(config)

    def reconfigure(self, config: TrackerConfig) -> None:
        """Take other thresholds; negative ones are the model's own."""
        self._config = config
        self._gate = self._tuning.match_gate if config.match_gate < 0 else config.match_gate
        self._margin = self._tuning.match_margin if config.match_margin < 0 else config.match_margin

    def propose(self, frame: EncodedFrame) -> Ids:
        """Search for all tracks after a scene cut, and now and then for those unseen; move those found.

        Return the ids of all tracks that are not where they were: those moved now, and those that the last `settle`
        put back.
        """
        live = self._table.live
        if frame.scene_cut:
            # Until they are found again, tracks stay where they are.
            live["frozen"] = live["id"] != 0
        rows = self._sought(frame)
        xy = np.empty((0, 2), np.float32)
        if len(rows):
            rows, xy = self._match(frame.features, rows)
        self._proposed, self._states = live[rows].copy(), self._arrays.state[rows]
        if len(rows):
            self._arrays.state[rows] = self._backend.init_queries(frame.features, xy).state
            live["xy"][rows] = xy
            live["frozen"][rows] = False
        return np.concatenate((self._proposed["id"], self._returned))

    def settle(self, is_seen: NDArray[np.bool_]) -> None:
        """Put those proposed tracks back that the decoder does not see where they matched; `is_seen` is per row."""
        live = self._table.live
        by_id = np.argsort(live["id"])
        rows = by_id[np.searchsorted(live["id"], self._proposed["id"], sorter=by_id)]
        back = np.flatnonzero(~is_seen[rows])
        for name in ("xy", "visibility", "confidence", "frozen"):
            live[name][rows[back]] = self._proposed[name][back]
        self._arrays.state[rows[back]] = self._states[back]
        self._returned = self._proposed["id"][back]

    def _sought(self, frame: EncodedFrame) -> Rows:
        """Return the rows of the tracks to search for."""
        live, interval = self._table.live, self._config.rematch_interval
        sought = live["id"] != 0
        if not frame.scene_cut:
            # All together: most of a search goes into the frame, not into the tracks.
            due = interval > 0 and frame.number % interval == 0
            sought &= (live["frames_since_seen"] >= interval) & due
        return np.flatnonzero(sought & (self._backend.info.content_dim > 0))

    def _match(self, features: Features, rows: Rows) -> tuple[Rows, NDArray[np.float32]]:
        """Search the frame for the contexts of `rows`; return those found and their unit coordinates."""
        to_numpy = self._arrays.factory.to_numpy

        def context_at(xy: NDArray[np.float32]) -> NDArray[np.float32]:
            return to_numpy(self._backend.init_queries(features, xy).context)

        contexts = to_numpy(self._arrays.context[rows])
        matches = match_globally(contexts, context_at, self._config.match_grid, self._gate, self._tuning)
        sure = (matches.score >= self._gate) & (matches.margin >= self._margin)
        return rows[sure], matches.xy[sure]
