"""The network against its own outputs as they were when it agreed with the released code.

`data/regression.npz` was written by this file: `python test/test_regression.py` writes it again, which is right only
after a deliberate change of the method, with the golden tests passing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the network is written in PyTorch")

import streams  # noqa: E402
import tiny_network  # noqa: E402

from taptr_ros.model.config import ModelConfig  # noqa: E402
from taptr_ros.runtime.images import fit_image  # noqa: E402
from taptr_ros.runtime.torch_backend import TorchBackend  # noqa: E402
from taptr_ros.tracking.config import TrackerConfig  # noqa: E402
from taptr_ros.tracking.tracker import PointTracker  # noqa: E402

FILE = Path(__file__).parent / "data" / "regression.npz"
FRAMES = 7
QUIRKS_OFF = {
    "corner_aligned_coordinates": False,
    "position_update_divides_by_swapped_size": False,
    "corner_aligned_key_patch": False,
    "current_frame_in_memory": False,
    "starting_queries_join_decoder": False,
    "box_clamped_twice": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "released": {},
    "released_r50": {"backbone": "resnet50"},
    "quirks_off": QUIRKS_OFF,
}


def outputs(changes: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Track points that start in different frames and return everything that comes out."""
    config: ModelConfig = tiny_network.tiny_config(**changes)
    backend = TorchBackend(config, tiny_network.tiny_weights(config))
    # The network alone: no points are sought.
    alone = TrackerConfig(capacity=8, memory_slots=3, support="none", scene_cut_threshold=0.0, rematch_interval=0)
    tracker = PointTracker(backend, alone)
    tracker.add([(30.0, 40.0), (101.25, 60.5), (3.0, 2.0)])
    xy = np.full((FRAMES, 5, 2), np.nan, np.float32)
    visibility = np.full((FRAMES, 5), np.nan, np.float32)
    for frame in range(FRAMES):
        if frame == 2:
            tracker.add([(80.0, 110.0), (150.0, 20.0)])
        tracks = tracker.step(streams.view(frame), streams.stamp(frame))
        rows = tracks.ids.astype(np.int64) - 1
        xy[frame, rows], visibility[frame, rows] = tracks.xy, tracks.visibility
    fitted = torch.from_numpy(fit_image(streams.view(0), config.height, config.width))
    (tokens,) = (part.numpy() for part in backend.network.encode(fitted))
    return {"xy": xy, "visibility": visibility, "tokens": tokens[:: len(tokens) // 20]}


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_are_what_they_were(name: str) -> None:
    with np.load(FILE) as expected:
        for key, value in outputs(CONFIGS[name]).items():
            tolerance = 1e-2 if key == "xy" else 1e-4
            np.testing.assert_allclose(value, expected[f"{name}/{key}"], atol=tolerance, err_msg=key)


def test_every_quirk_changes_the_outputs() -> None:
    """A quirk whose flag does nothing would go unnoticed in the comparison above."""
    released = outputs({})
    for quirk in QUIRKS_OFF:
        other = outputs({quirk: False})
        difference = max(float(np.nanmax(np.abs(other[key] - released[key]))) for key in ("xy", "visibility"))
        assert difference > (1e-6 if quirk == "box_clamped_twice" else 1e-4), quirk


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    arrays = {f"{name}/{key}": value for name, changes in CONFIGS.items() for key, value in outputs(changes).items()}
    np.savez_compressed(FILE, **arrays)
