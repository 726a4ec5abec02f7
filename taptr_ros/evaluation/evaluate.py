"""Runs the streaming tracker over a dataset and measures it by TAP-Vid's metrics."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import DatasetError
from taptr_ros.evaluation.datasets import AnnotatedSequence, Queries, resize_frame, sample_queries
from taptr_ros.evaluation.metrics import Metrics, QueryMode, evaluated_frames, mean_metrics, tapvid_metrics
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.coordinates import RASTER_OFFSET
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.tracker import PointTracker

FRAME_INTERVAL = 33_333_333
"""Nanoseconds between the stamps given to the frames, which carry none of their own: 30 per second."""

Progress = Callable[[str, int, int], None]
"""Called after every tracked frame with the sequence's name, its frames tracked so far, and how many there will be."""


@dataclasses.dataclass(frozen=True)
class SequenceResult:
    """What was measured on one sequence."""

    metrics: Metrics
    """Metrics in percent."""
    frames: int
    """Frames of the video."""
    points: int
    """Query points that were tracked."""
    seconds: float
    """Time spent in the tracker: not in decoding and resizing frames, nor in the metrics."""


def evaluate(
    backend: Backend,
    dataset: Iterable[AnnotatedSequence],
    *,
    tracker_config: TrackerConfig,
    query_mode: QueryMode = "first",
    raster: tuple[int, int] | None = (256, 256),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Track the query points of every sequence and return the metrics in percent, ready to be written as JSON.

    Visibility is decided by the model's own threshold without hysteresis, whatever `tracker_config` says.

    Args:
        backend: the loaded model.
        dataset: sequences, read one at a time.
        tracker_config: how to track. At most `capacity` query points are tracked together; more take further passes.
        query_mode: "first" tracks every point from where it is first visible to the end; "strided" from every fifth
            frame where it is visible, forwards to the end and backwards to the beginning.
        raster: (height, width) that frames are resized to before the tracker sees them, 256x256 in the benchmark; None
            leaves them as they are.
        progress: told after every frame.

    Returns:
        {"mean": {"AJ", "delta_avg", "OA", "n"},
        "sequences": {NAME: {"AJ", "delta_avg", "OA", "frames", "points", "seconds"}}}.
        A metric is None where a sequence has nothing to take it from; the mean is over the `n` sequences that have all.

    Raises:
        DatasetError: no sequence, two of the same name, or a file that cannot be read.
    """
    config = dataclasses.replace(tracker_config, visible_threshold=0.0, visibility_hysteresis=0.0)
    results: dict[str, SequenceResult] = {}
    for sequence in dataset:
        if sequence.name in results:
            raise DatasetError(f"The dataset holds two sequences named {sequence.name}; evaluate its files one by one.")
        results[sequence.name] = _evaluate_sequence(
            backend, sequence, config, query_mode=query_mode, raster=raster, progress=progress
        )
    if not results:
        raise DatasetError("The dataset holds no sequence; pass one that does.")
    mean = mean_metrics(result.metrics for result in results.values())
    return {
        "mean": {
            "AJ": mean.average_jaccard,
            "delta_avg": mean.average_within,
            "OA": mean.occlusion_accuracy,
            "n": mean.sequences,
        },
        "sequences": {
            name: {
                "AJ": result.metrics.average_jaccard,
                "delta_avg": result.metrics.average_within,
                "OA": result.metrics.occlusion_accuracy,
                "frames": result.frames,
                "points": result.points,
                "seconds": result.seconds,
            }
            for name, result in results.items()
        },
    }


def _evaluate_sequence(
    backend: Backend,
    sequence: AnnotatedSequence,
    config: TrackerConfig,
    *,
    query_mode: QueryMode,
    raster: tuple[int, int] | None,
    progress: Progress | None,
) -> SequenceResult:
    """Track the query points of one sequence as `config` says and measure them; see `evaluate` for the arguments."""
    queries = sample_queries(sequence, query_mode)
    size = raster or sequence.size
    scale = np.array([size[1] / sequence.size[1], size[0] / sequence.size[0]], np.float32)
    points = (sequence.points * scale)[queries.tracks]
    tracks = QueryTracks(points, queries, size)
    # Room for more than the sequence can fill would change nothing but the memory taken.
    config = dataclasses.replace(
        config,
        capacity=min(config.capacity, max(len(queries.frames), 1)),
        memory_slots=min(config.memory_slots, len(sequence.frames)),
    )

    passes = list(_passes(queries, len(sequence.frames), query_mode, config.capacity))
    total = sum(len(frames) for _, frames in passes)
    done = 0
    for selected, frames in passes:
        for _ in tracks.follow(PointTracker(backend, config), sequence, selected, frames):
            done += 1
            if progress is not None:
                progress(sequence.name, done, total)

    evaluated = evaluated_frames(queries.frames, len(sequence.frames), query_mode)
    metrics = tapvid_metrics(
        points=points,
        occluded=sequence.occluded[queries.tracks],
        evaluated=evaluated & sequence.valid[queries.tracks],
        predicted_points=tracks.points,
        predicted_visible=tracks.visible,
        size=size,
    )
    return SequenceResult(metrics, len(sequence.frames), len(queries.tracks), tracks.seconds)


def _passes(
    queries: Queries, frames: int, query_mode: QueryMode, capacity: int
) -> Iterator[tuple[NDArray[np.int64], range]]:
    """Yield the passes over the video: which queries [n <= capacity] to track together, and the frames in order."""
    for start in range(0, len(queries.frames), capacity):
        selected = np.arange(start, min(start + capacity, len(queries.frames)))
        yield selected, range(queries.frames[selected].min(), frames)
        if query_mode == "strided":
            yield selected, range(queries.frames[selected].max(), -1, -1)


class QueryTracks:
    """The predicted tracks of Q queries over T frames, filled in pass by pass.

    Args:
        true_points: [Q,T,2] positions in the raster convention of frames of `size`; only those of the queries are used.
        queries: the Q queries.
        size: (height, width) that frames are resized to.
    """

    def __init__(self, true_points: NDArray[np.float32], queries: Queries, size: tuple[int, int]) -> None:
        self.points = np.zeros_like(true_points)
        """[Q,T,2] predicted positions, raster convention."""
        self.visible = np.zeros(true_points.shape[:2], np.bool_)
        """[Q,T] predicted visibility."""
        self.seconds = 0.0
        """Time spent in the tracker."""
        self._query_frames = queries.frames
        # An annotation may lie a hair outside the image, where no point can be added.
        start = true_points[np.arange(len(queries.frames)), queries.frames]
        self._query_pixels = np.clip(start, 0.0, (size[1], size[0])).astype(np.float32) - np.float32(RASTER_OFFSET)
        self._size = size

    def follow(
        self, tracker: PointTracker, sequence: AnnotatedSequence, selected: NDArray[np.int64], frames: range
    ) -> Iterator[None]:
        """Track the queries `selected` through `frames`, in that order, yielding after every frame."""
        for step, frame in enumerate(frames):
            image = resize_frame(sequence.frames[frame], self._size)
            starting = selected[self._query_frames[selected] == frame]

            began = time.perf_counter()
            if len(starting):
                tracker.add(self._query_pixels[starting], ids=(starting + 1).astype(np.uint64))
            tracks = tracker.step(image, step * FRAME_INTERVAL)
            self.seconds += time.perf_counter() - began

            rows = tracks.ids.astype(np.int64) - 1
            self.points[rows, frame] = tracks.xy + np.float32(RASTER_OFFSET)
            self.visible[rows, frame] = tracks.visible
            yield
