"""Memories keep what they hold while their rows grow."""

from __future__ import annotations

import numpy as np
import pytest
from reference_backend import ReferenceBackend

from taptr_ros.runtime.backend import FEWEST_SLOTS, NumpyArrays, TrackArrays
from taptr_ros.runtime.loading import load_backend


def factories() -> list[object]:
    try:
        import torch

        from taptr_ros.runtime.torch_backend import TorchArrays
    except ImportError:
        return [NumpyArrays()]
    return [NumpyArrays(), TorchArrays(torch.device("cpu"))]


@pytest.mark.parametrize("factory", factories(), ids=lambda factory: type(factory).__name__)
@pytest.mark.parametrize("slots", [1, 7, 33, 100])
def test_rows_grow_and_keep_their_memories(factory, slots):
    arrays = TrackArrays(factory, ReferenceBackend().info, 3, slots, fewest_slots=4)
    rows = np.arange(3)
    rng = np.random.default_rng(0)
    contents = rng.standard_normal((slots, 3, arrays.values.shape[-1])).astype(np.float32)
    widths = []
    for slot in range(slots):
        weight = np.array([0.1, 0.2, 0.3], np.float32) * (1 + slot)
        arrays.remember(rows, np.full(3, slot), factory.from_numpy(contents[slot]), weight, frame=slot)
        widths.append(arrays.width)
        np.testing.assert_array_equal(
            factory.to_numpy(arrays.values)[:, : slot + 1], contents[: slot + 1].swapaxes(0, 1)
        )
        weights = factory.to_numpy(arrays.weights)
        np.testing.assert_allclose(weights[2, : slot + 1], 0.3 * np.arange(1, slot + 2), rtol=1e-6)
        assert not weights[:, slot + 1 :].any()
    # Never much more than twice what is used, and all of it in the end.
    assert all(width <= max(2 * used + 1, 7) for used, width in enumerate(widths, start=1))
    assert widths[-1] == slots
    assert arrays.keys.shape == arrays.values.shape
    # Rotation by a frame number keeps lengths, so every key is in the place of its value.
    lengths = np.linalg.norm(factory.to_numpy(arrays.keys), axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(factory.to_numpy(arrays.values), axis=-1), rtol=1e-5)


def test_a_copied_row_makes_room_for_what_it_brings():
    info = ReferenceBackend().info
    large, small = (TrackArrays(NumpyArrays(), info, 2, slots, fewest_slots=2) for slots in (32, 16))
    content = np.ones((1, small.values.shape[-1]), np.float32)
    for slot in range(9):
        small.remember(np.array([1]), np.array([slot]), content * slot, np.ones(1, np.float32), frame=slot)
    large.copy_row(0, small, 1)
    assert large.width == 16
    np.testing.assert_array_equal(large.values[0, :9], small.values[1, :9])
    assert np.count_nonzero(large.weights[0]) == 9


def test_shares_of_the_rows_are_decoded_like_all_of_them():
    """As many threads as there are shares of points change nothing, nor does the room for more slots than are used."""
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(2)]
    xy = rng.uniform(0.0, 1.0, (50, 2)).astype(np.float32)
    results = []
    for threads, slots in ((1, 4), (3, 4), (3, 4 * FEWEST_SLOTS)):
        backend = load_backend("taptr_small", threads=threads)
        tracks = backend.allocate(64, slots)
        rows = np.arange(50)
        query = backend.init_queries(backend.encode(images[0]), xy)
        tracks.start(rows, query)
        tracks.remember(rows, np.zeros_like(rows), query.content, np.ones(50, np.float32), frame=0)
        results.append(backend.decode(backend.encode(images[1]), None, tracks, 50, 1, np.ones(50, bool), 1))
    for result in results[1:]:
        for name in ("xy", "visibility", "state", "content"):
            np.testing.assert_allclose(getattr(result, name), getattr(results[0], name), atol=1e-4)
