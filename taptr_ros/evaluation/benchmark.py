"""How long a backend takes for each of its functions, and how fast the machine multiplies matrices."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.runtime.backend import Backend, BackendInfo, Decoded, Features, QueryArrays, TrackArrays
from taptr_ros.runtime.coordinates import UnitCoordinates
from taptr_ros.sources.panning import panning_images
from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.tracker import PointTracker

WARM_UP_CALLS = 2
WARM_UP_SECONDS = 0.5
"""What comes before the measured calls, at least: the first calls of a size allocate, compile or pick algorithms."""

MIN_CALLS = 3
MAX_CALLS = 200
"""Bounds on the measured calls, whatever the time budget."""

SCENE_FRAMES = 6
"""Frames of the scene that the benchmark shows again and again, forwards and backwards."""

NO_IMAGE = (0, 0)
"""Size of the camera's image in a stage that has none."""

PEAK_MATRIX = 2048
"""Side of the square matrices of the peak measurement."""

PEAK_CONVOLUTION = (256, 64)
"""Channels and image side of the 3x3 convolution of the peak measurement."""

FRAME_PERIOD = 33_333_333
"""Nanoseconds between the frames shown to the tracker."""


@dataclasses.dataclass(frozen=True)
class BenchmarkEntry:
    """One measurement; the fields are the keys of the JSON file."""

    stage: str
    """`encode`, `init`, `decode`, or `frame`: a whole `PointTracker.step` from a camera's image on."""
    model: str
    backend: str
    precision: str
    """Numbers that images are encoded in."""
    threads: int
    height: int
    width: int
    """Input size of the model in pixels."""
    image_height: int
    image_width: int
    """Size in pixels of the camera's image in a frame; 0 for the other stages, which have none."""
    points: int
    """Points in the call; 0 for encode, which sees none."""
    memory: int
    """Filled memory slots per point; 0 for encode and init, which read none."""
    median_s: float
    """Median wall-clock seconds per call."""
    cpu_s: float
    """Median processor seconds per call, over all threads."""


@dataclasses.dataclass(frozen=True)
class Peak:
    """The fastest a library ran one dense operation on this machine."""

    operation: str
    """`matmul` or `convolution`."""
    library: str
    gigaflops: float
    """Billion floating-point operations (2 per multiply-add) per second, float32."""
    threads: float
    """Threads it kept busy: processor seconds per second."""


def benchmark(
    load: Callable[[tuple[int, int] | None], Backend],
    *,
    threads: int,
    sizes: Sequence[tuple[int, int] | None],
    images: Sequence[tuple[int, int]],
    points: Sequence[int],
    memories: Sequence[int],
    seconds: float,
) -> Iterator[BenchmarkEntry]:
    """Measure every stage at every size, number of points and number of memory slots, and yield each result.

    Args:
        load: returns the backend for an input size (height, width), set up for `threads` threads; None is its own size.
        threads: threads to report.
        sizes: input sizes (height, width) in pixels; None is the model's own.
        images: sizes (height, width) in pixels of a camera's images, from which whole frames are measured.
        points: numbers of points.
        memories: numbers of filled memory slots per point.
        seconds: time budget of one measurement, exceeded only by calls so slow that a few of them take longer.
    """
    for size in sizes:
        backend = load(size)
        info = backend.info
        height, width = size or (info.height, info.width)
        for stage, camera, count, slots, call in _calls(backend, (height, width), images, points, memories):
            median, processor = _measure(_synchronised(call, info), seconds)
            runs = info.model, info.backend, info.precision, threads
            yield BenchmarkEntry(stage, *runs, height, width, *camera, count, slots, median, processor)


def measure_peaks(info: BackendInfo, seconds: float) -> Iterator[Peak]:
    """Measure dense float32 operations in the library and on the device that the backend computes with.

    PyTorch backends are held against PyTorch's matrix product and convolution; the others against numpy's matrix
    product, because numpy has no convolution and PyTorch may not be installed.
    """
    if info.backend == "torch":
        import torch

        multiplicand = torch.ones(PEAK_MATRIX, PEAK_MATRIX, device=info.device)
        channels, side = PEAK_CONVOLUTION
        image = torch.ones(1, channels, side, side, device=info.device)
        kernel = torch.ones(channels, channels, 3, 3, device=info.device)
        convolve, operations = torch.nn.functional.conv2d, 2 * 9 * (channels * side) ** 2
        yield _peak("matmul", info, lambda: multiplicand @ multiplicand, 2 * PEAK_MATRIX**3, seconds)
        yield _peak("convolution", info, lambda: convolve(image, kernel, padding=1), operations, seconds)
    else:
        matrix = np.ones((PEAK_MATRIX, PEAK_MATRIX), np.float32)
        numpy_info = dataclasses.replace(info, backend="numpy", device="cpu")
        yield _peak("matmul", numpy_info, lambda: matrix @ matrix, 2 * PEAK_MATRIX**3, seconds)


class _Scene:
    """A textured scene that a camera pans over, as images and as features."""

    def __init__(self, backend: Backend, size: tuple[int, int]) -> None:
        self.images = panning_images(*size, SCENE_FRAMES)
        self.features = [backend.encode(image) for image in self.images]

    def at(self, frame: int) -> int:
        """Return which of the images frame number `frame` shows: 0, 1, ..., last, ..., 1, 0, 1 and so on."""
        position = frame % (2 * SCENE_FRAMES - 2)
        return min(position, 2 * SCENE_FRAMES - 2 - position)


def _calls(
    backend: Backend,
    size: tuple[int, int],
    images: Sequence[tuple[int, int]],
    points: Sequence[int],
    memories: Sequence[int],
) -> Iterator[tuple[str, tuple[int, int], int, int, Callable[[], object]]]:
    """Yield stage, size of a camera's image, points, memory slots and the call to measure, one input size's all."""
    scene = _Scene(backend, size)
    yield "encode", NO_IMAGE, 0, 0, lambda: backend.encode(scene.images[0])
    for count in points:
        xy = _query_points(count)
        yield "init", NO_IMAGE, count, 0, functools.partial(backend.init_queries, scene.features[0], xy)
    for count in points:
        recording = _record(backend, scene, count)
        for slots in memories:
            yield "decode", NO_IMAGE, count, slots, _decode_call(backend, scene, recording, slots)
    for camera in images:
        seen = _Scene(backend, camera)
        for count in points:
            recording = _record(backend, seen, count)
            for slots in memories:
                yield "frame", camera, count, slots, _frame_call(backend, seen, recording, slots)


def _query_points(count: int) -> NDArray[np.float32]:
    """Return unit coordinates [count,2] spread at random over the inner four fifths of the image."""
    return np.random.default_rng(11).uniform(0.1, 0.9, (count, 2)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Recording:
    """What a backend answered for points in the scene's first frames: real content to fill memories with."""

    query: QueryArrays
    decoded: list[Decoded]

    @property
    def count(self) -> int:
        """Number of points."""
        return len(self.decoded[0].xy)


def _record(backend: Backend, scene: _Scene, count: int) -> _Recording:
    query = backend.init_queries(scene.features[0], _query_points(count))
    rows, updated = np.arange(count), np.ones(count, bool)
    tracks = backend.allocate(count, SCENE_FRAMES)
    tracks.start(rows, query)
    tracks.remember(rows, np.zeros(count, np.int64), query.content, np.ones(count, np.float32), 0)
    decoded = []
    for frame in range(1, SCENE_FRAMES):
        features, previous = scene.features[frame], scene.features[frame - 1]
        decoded.append(backend.decode(features, previous, tracks, count, frame, updated, frame))
        tracks.state[rows] = decoded[-1].state
        _remember(tracks, frame, decoded[-1], frame)
    return _Recording(query, decoded)


def _remember(tracks: TrackArrays, slot: int, decoded: Decoded, frame: int) -> None:
    count = len(decoded.xy)
    weight = np.maximum(decoded.visibility * decoded.confidence, np.float32(1e-6))
    tracks.remember(np.arange(count), np.full(count, slot), decoded.content, weight, frame)


def _decode_call(backend: Backend, scene: _Scene, recording: _Recording, slots: int) -> Callable[[], object]:
    """Return a decode of the scene's second frame with all memory slots filled."""
    count = recording.count
    tracks = backend.allocate(count, slots)
    tracks.start(np.arange(count), recording.query)
    for slot in range(slots):
        _remember(tracks, slot, recording.decoded[slot % len(recording.decoded)], slot)
    features, previous, updated = scene.features[1], scene.features[0], np.ones(count, bool)
    return lambda: backend.decode(features, previous, tracks, count, slots, updated, slots)


class _ReplayingBackend:
    """A backend that answers from a recording until told otherwise, so that a tracker's memory fills at once."""

    def __init__(self, backend: Backend, scene: _Scene, recording: _Recording) -> None:
        self.replaying = True
        self.info = backend.info
        self.allocate = backend.allocate
        self.init_queries = backend.init_queries
        self._backend, self._scene, self._recording = backend, scene, recording

    def encode(self, image: NDArray[np.uint8]) -> Features:
        """Return the features of the scene's first image, or of `image` when not replaying."""
        return self._scene.features[0] if self.replaying else self._backend.encode(image)

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
        """Return one recorded answer after the other, or the backend's when not replaying."""
        if self.replaying:
            return self._recording.decoded[frame % len(self._recording.decoded)]
        return self._backend.decode(features, previous_features, tracks, rows, slots, updated, frame)


def _frame_call(backend: Backend, scene: _Scene, recording: _Recording, slots: int) -> Callable[[], object]:
    """Return a step of a tracker whose tracks have filled all their memory slots."""
    count = recording.count
    replaying = _ReplayingBackend(backend, scene, recording)
    config = TrackerConfig(capacity=count, memory_slots=slots, support="none", history_frames=1)
    tracker = PointTracker(replaying, config)
    height, width = scene.images[0].shape[:2]
    unit = UnitCoordinates(width, height, backend.info.corner_aligned_coordinates)
    tracker.add(unit.to_pixels(_query_points(count)))
    frames = itertools.count()

    def step() -> object:
        frame = next(frames)
        return tracker.step(scene.images[scene.at(frame)], frame * FRAME_PERIOD)

    for _ in range(slots + 1):
        step()
    replaying.replaying = False
    return step


def _synchronised(call: Callable[[], object], info: BackendInfo) -> Callable[[], object]:
    """Return the call, waiting for the device to finish if its work goes on after the call returns."""
    if info.backend != "torch" or not info.device.startswith("cuda"):
        return call
    import torch

    def call_and_wait() -> None:
        call()
        torch.cuda.synchronize(info.device)

    return call_and_wait


def _measure(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Return the median wall-clock and processor seconds of calls repeated for about `seconds`, after warm-up."""
    warm_up_end = time.perf_counter() + min(WARM_UP_SECONDS, seconds)
    for done in itertools.count(1):
        call()
        if done >= WARM_UP_CALLS and time.perf_counter() >= warm_up_end:
            break
    wall: list[float] = []
    processor: list[float] = []
    while len(wall) < MIN_CALLS or (len(wall) < MAX_CALLS and sum(wall) < seconds):
        wall_start, processor_start = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - wall_start)
        processor.append(time.process_time() - processor_start)
    return statistics.median(wall), statistics.median(processor)


def _peak(operation: str, info: BackendInfo, call: Callable[[], Any], operations: int, seconds: float) -> Peak:
    wall, processor = _measure(_synchronised(call, info), seconds)
    return Peak(operation, info.backend, operations / wall / 1e9, processor / wall)
