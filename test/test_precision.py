"""The bfloat16 option of the PyTorch backend."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network is written in PyTorch")

import streams  # noqa: E402
import tiny_network  # noqa: E402

from taptr_ros.errors import BackendUnavailableError, InvalidConfigError  # noqa: E402
from taptr_ros.runtime.torch_backend import TorchBackend  # noqa: E402
from taptr_ros.tracking.config import TrackerConfig  # noqa: E402
from taptr_ros.tracking.tracker import PointTracker  # noqa: E402


def backend(precision: str) -> TorchBackend:
    config = tiny_network.tiny_config()
    return TorchBackend(config, tiny_network.tiny_weights(config), precision=precision)


def test_bfloat16_rounds_but_tracks_the_same_points() -> None:
    results = []
    for precision in ("float32", "bfloat16"):
        tracker = PointTracker(backend(precision), TrackerConfig(capacity=4, memory_slots=4, support="none"))
        tracker.add([(40.0, 50.0), (100.0, 80.0)])
        for frame in range(3):
            tracks = tracker.step(streams.view(frame), streams.stamp(frame))
        results.append(tracks)
    exact, rounded = results
    assert rounded.xy.dtype == np.float32
    difference = np.linalg.norm(rounded.xy - exact.xy, axis=1)
    assert 0.0 < difference.max() < 0.05 * streams.WIDTH
    np.testing.assert_allclose(rounded.visibility, exact.visibility, atol=0.1)


def test_features_are_computed_in_bfloat16() -> None:
    xy = np.array([[0.3, 0.4], [0.8, 0.1]], np.float32)
    exact, rounded = (
        loaded.init_queries(loaded.encode(streams.view(0)), xy).content
        for loaded in (backend("float32"), backend("bfloat16"))
    )
    assert rounded.dtype == torch.float32
    error = (rounded - exact).abs().max() / exact.abs().max()
    assert 1e-4 < error < 0.1


def test_what_this_machine_lacks_is_refused() -> None:
    config = tiny_network.tiny_config()
    with pytest.raises(InvalidConfigError, match="compute in float8"):
        TorchBackend(config, precision="float8")
    with pytest.raises(InvalidConfigError, match="device"):
        TorchBackend(config, device="toaster")
    with pytest.raises(BackendUnavailableError, match="CUDA devices"):
        TorchBackend(config, device=f"cuda:{torch.cuda.device_count()}")
