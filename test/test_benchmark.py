"""The benchmark measures what it says: the right calls, full memories, and times that a clock confirms."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import numpy as np
import pytest
from reference_backend import ReferenceBackend

from taptr_ros.evaluation.benchmark import BenchmarkEntry, benchmark, measure_peaks
from taptr_ros.runtime.backend import Backend, Decoded, Features
from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend
from taptr_ros.sources.panning import panning_images

POINTS, MEMORIES = (1, 3), (1, 7)


class ObservedBackend(ReferenceBackend):
    """Notes the images it encodes and, of every decode, what the memory held."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()
        self.decodes: set[tuple[int, int, int, int, bool]] = set()

    def encode(self, image: np.ndarray) -> Features:
        self.shapes.add(image.shape)
        return super().encode(image)

    def decode(self, features, previous_features, tracks, rows, slots, updated, frame) -> Decoded:
        filled = int((tracks.weights[:rows, :slots] > 0).sum(axis=1).min(initial=slots))
        different = len({values.tobytes() for values in tracks.values[0, :slots]})
        self.decodes.add((rows, slots, filled, different, bool(updated.all())))
        return super().decode(features, previous_features, tracks, rows, slots, updated, frame)


def run(backend: Backend, **changes: object) -> Iterator[BenchmarkEntry]:
    options = {"threads": 2, "sizes": [(48, 64)], "images": [(60, 90)], "points": POINTS, "memories": MEMORIES}
    options |= {"seconds": 1e-3, **changes}
    return benchmark(lambda _: backend, **options)


def test_every_stage_is_measured_at_every_setting() -> None:
    cameras = [(60, 90), (120, 160)]
    entries = list(run(LucasKanadeBackend(), sizes=[(48, 64), (64, 48)], images=cameras))
    expected = []
    for size in ((48, 64), (64, 48)):
        expected.append(("encode", *size, 0, 0, 0, 0))
        expected += [("init", *size, 0, 0, points, 0) for points in POINTS]
        expected += [("decode", *size, 0, 0, points, memory) for points in POINTS for memory in MEMORIES]
        expected += [
            ("frame", *size, *camera, points, memory) for camera in cameras for points in POINTS for memory in MEMORIES
        ]
    found = [(e.stage, e.height, e.width, e.image_height, e.image_width, e.points, e.memory) for e in entries]
    assert found == expected
    assert {(e.model, e.backend, e.threads) for e in entries} == {("lucas_kanade", "opencv", 2)}
    assert all(entry.median_s > 0 and entry.cpu_s >= 0 for entry in entries)


@pytest.mark.parametrize("stage", ["decode", "frame"])
def test_memories_are_full_of_different_contents(stage: str) -> None:
    backend = ObservedBackend()
    for entry in run(backend, points=(3,), memories=(7,)):
        measured = backend.decodes.copy()
        backend.decodes.clear()
        if entry.stage == stage:
            # Filling a tracker's memory takes decodes of the recording, which never reach the backend.
            full = [decode for decode in measured if decode[1] == 7]
            assert full
            for rows, _, filled, different, all_updated in full:
                assert (rows, filled) == (3, 7)
                assert different >= 3
                assert all_updated
    assert backend.shapes == {(48, 64, 3), (60, 90, 3)}  # the stages alone, and a frame from a camera's image on


def test_wall_and_processor_time_are_told_apart() -> None:
    class Sleeping(ReferenceBackend):
        def encode(self, image: np.ndarray) -> Features:
            time.sleep(0.02)
            return super().encode(image)

        def init_queries(self, features, xy):
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
            return super().init_queries(features, xy)

    encode, init = (entry for entry in run(Sleeping(), points=(1,), memories=(1,)) if entry.stage in ("encode", "init"))
    assert encode.median_s >= 0.02
    assert encode.cpu_s < 0.01
    assert init.cpu_s >= 0.02


def test_scene_moves_as_stated_and_has_texture() -> None:
    first, second, *_ = panning_images(48, 64, 3)
    assert first.shape == (48, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first[2:, 3:], second[:-2, :-3])
    assert first.std() > 20


def test_peak_of_numpy_is_a_matrix_product() -> None:
    (peak,) = measure_peaks(ReferenceBackend().info, 1e-3)
    assert (peak.operation, peak.library) == ("matmul", "numpy")
    assert peak.gigaflops > 1
    assert peak.threads > 0.2


def test_peak_of_torch_has_a_convolution_too() -> None:
    pytest.importorskip("torch")
    info = dataclasses.replace(ReferenceBackend().info, backend="torch")
    peaks = list(measure_peaks(info, 1e-3))
    assert [(peak.operation, peak.library) for peak in peaks] == [("matmul", "torch"), ("convolution", "torch")]
    assert all(peak.gigaflops > 1 for peak in peaks)
