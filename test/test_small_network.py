"""The small network: its ONNX graphs, its batches and the tracker that runs it, each against another way to compute."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network is written in PyTorch")

import streams  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from tiny_network import tiny_small_config  # noqa: E402

from taptr_ros.errors import InvalidConfigError  # noqa: E402
from taptr_ros.model.architectures import config_from_json, config_to_json  # noqa: E402
from taptr_ros.model.files import load_model, save_model  # noqa: E402
from taptr_ros.model.small_config import SmallConfig  # noqa: E402
from taptr_ros.model.small_network import SmallNetwork  # noqa: E402
from taptr_ros.runtime.torch_backend import TorchBackend  # noqa: E402
from taptr_ros.tracking.config import TrackerConfig  # noqa: E402
from taptr_ros.tracking.tracker import PointTracker  # noqa: E402
from taptr_ros.training.batches import Batch  # noqa: E402
from taptr_ros.training.unroll import LOST, found_again, unroll  # noqa: E402

TINY = tiny_small_config()


def tiny_network(config: SmallConfig = TINY) -> SmallNetwork:
    """A network whose points move and whose norms have statistics of real images."""
    torch.manual_seed(3)
    network = SmallNetwork(config)
    network.train()
    with torch.no_grad():
        for frame in range(5):
            image = torch.from_numpy(streams.view(frame)).float()[None].permute(0, 3, 1, 2)
            network.encoder(torch.nn.functional.interpolate(image, (config.height, config.width)))
        for layer in network.decoder.layers:
            layer.position_head.layers[-1].weight.mul_(20.0)
    return network.eval()


def whole_batch(images: torch.Tensor, xy: torch.Tensor, visible: torch.Tensor) -> Batch:
    """A batch of which everything is known and no point is displaced."""
    return Batch(images, xy, visible, torch.ones_like(visible), torch.zeros(*visible.shape, 2))


def weights_of(network: SmallNetwork) -> dict[str, Any]:
    return {name: value.numpy(force=True) for name, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_dim": 30}, "multiple of heads"),
        ({"height": 100}, "multiple of 16"),
        ({"level_channels": (8, 8)}, "level_channels"),
        ({"fine_channels": 0}, "fine_channels"),
        ({"decoder_layers": 0}, "decoder_layers"),
        ({"temporal_layers": 9}, "temporal_layers"),
        ({"visible_threshold": 1.0}, "visible_threshold"),
        ({"visible_threshold": None}, "visible_threshold"),
        ({"context_renewal": float("nan")}, "context_renewal"),
        ({"level_channels": (8, 8, 10**9)}, "level_channels"),
        ({"level_channels": (8, 8, [8])}, "level_channels"),
        ({"hidden_dim": 2**62}, "hidden_dim"),
        ({"decoder_layers": 1000}, "decoder_layers"),
        ({"height": 65536, "width": 65536}, "pixels"),
        ({"name": 3}, "name"),
    ],
)
def test_impossible_configs_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        SmallConfig(**change)


def test_config_and_weights_survive_a_model_file(tmp_path: Path) -> None:
    assert config_from_json(config_to_json(TINY)) == TINY
    network = tiny_network()
    save_model(tmp_path / "tiny.safetensors", TINY, weights_of(network))
    config, weights = load_model(tmp_path / "tiny.safetensors")
    assert config == TINY
    np.testing.assert_array_equal(weights["decoder.motion.weight"], network.decoder.motion.weight.detach())


def test_onnx_equals_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="export needs onnx")
    from taptr_ros.runtime.export import export

    save_model(tmp_path / "tiny.safetensors", TINY, weights_of(tiny_network()))
    report = export(tmp_path / "tiny.safetensors", tmp_path / "onnx", [[streams.view(frame) for frame in range(6)]])
    assert report.float32.largest_pixel_difference < 1e-3
    assert report.float32.largest_visibility_difference < 1e-4


@pytest.mark.parametrize("lead", [0, 3])
def test_unrolled_batch_equals_the_tracker(lead: int) -> None:
    """Training sees what the tracker computes: the same positions and visibilities, for all clips of a batch."""
    size, frames = 64, 12
    config = dataclasses.replace(TINY, height=size, width=size)
    network = tiny_network(config)
    with torch.no_grad():
        # All are seen well enough for their contexts to be renewed.
        network.decoder.heads.layers[-1].bias += 4.0
    rng = np.random.default_rng(0)
    clips = [np.stack([streams.view(frame + 7 * clip)[:size, :size] for frame in range(frames)]) for clip in range(2)]
    images = np.stack(clips, axis=1)
    assert images.shape == (frames, 2, size, size, 3)
    pixels = rng.uniform(4, size - 5, (2, 5, 2))
    xy = np.full((frames, 2, 5, 2), np.nan, np.float32)
    xy[0] = (pixels + 0.5) / size
    batch = whole_batch(torch.from_numpy(images), torch.from_numpy(xy), torch.from_numpy(np.isfinite(xy).all(-1)))
    unrolled = unroll(network, batch, lead=lead, fused=False, bfloat16=False)
    assert unrolled.first == 1 + lead
    assert len(unrolled.positions) == len(unrolled.levels[0]) == frames - unrolled.first

    backend = TorchBackend(config, weights_of(network))
    for clip in range(2):
        tracker = PointTracker(backend, TrackerConfig(scene_cut_threshold=0.0, memory_slots=16))
        tracker.add(pixels[clip])
        tracker.step(clips[clip][0], 0)
        moved = 0.0
        for frame in range(1, frames):
            tracks = tracker.step(clips[clip][frame], frame * 10**8)
            if frame < unrolled.first:
                continue
            position = unrolled.positions[frame - unrolled.first, -1, clip].detach().numpy() * size - 0.5
            inside = ((position > -0.1 * size) & (position < 1.1 * size)).all(-1)
            np.testing.assert_allclose(tracks.xy[inside], position[inside], atol=2e-3)
            seen = unrolled.logits[frame - unrolled.first, -1, clip].sigmoid().detach().numpy()
            shown = ((position >= -0.5) & (position <= size - 0.5)).all(-1)
            np.testing.assert_allclose(tracks.visibility, seen[:, 0] * shown, atol=1e-4)
            np.testing.assert_allclose(tracks.confidence, seen[:, 1], atol=1e-4)
            moved = max(moved, float(np.abs(tracks.xy - pixels[clip]).max()))
        assert moved > 1.0

    network.config = dataclasses.replace(config, context_renewal=0.0)
    never_renewed = unroll(network, batch, lead=lead, fused=False, bfloat16=False)
    assert (never_renewed.positions - unrolled.positions).abs().max() * size > 0.01


def test_lost_points_go_on_from_their_true_places() -> None:
    """Of four points, one is lost, one nearly, one is lost and hidden, and of one nothing is known."""
    size = 100
    true = torch.tensor([[0.7, 0.5], [0.7, 0.5], [0.7, 0.5], [torch.nan, torch.nan]])
    off = torch.tensor([[LOST + 1.0, 0.0], [0.0, LOST - 1.0], [LOST + 1.0, 0.0], [0.0, 0.0]]) / size
    state = F.pad(torch.nan_to_num(true) - off, (0, 6), value=0.25)
    visible = torch.tensor([True, True, False, False])
    found = found_again(state, true.view(2, 2, 2), visible.view(2, 2), size)
    np.testing.assert_array_equal(found[0], F.pad(true[0], (0, 6)))
    np.testing.assert_array_equal(found[1:], state[1:])


@pytest.mark.parametrize("lead", [0, 1])
def test_compiled_and_gathered_batches_have_the_same_gradients(lead: int) -> None:
    pytest.importorskip("numba", reason="compiled loops need numba")
    rng = np.random.default_rng(1)
    batch = whole_batch(
        torch.from_numpy(rng.integers(0, 256, (3, 2, 64, 64, 3)).astype(np.uint8)),
        torch.from_numpy(rng.uniform(0.1, 0.9, (3, 2, 4, 2)).astype(np.float32)),
        torch.ones(3, 2, 4, dtype=torch.bool),
    )
    gradients = []
    for fused in (False, True):
        network = tiny_network()
        unrolled = unroll(network, batch, lead=lead, fused=fused, bfloat16=False)
        unrolled.backward(unrolled.positions.square().sum() + unrolled.logits.square().sum())
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gathered in gradients[0].items():
        if gathered is None:
            assert gradients[1][name] is None, name
        else:
            scale = gathered.abs().max().clamp(min=1e-3)
            np.testing.assert_allclose(gradients[1][name] / scale, gathered / scale, atol=2e-3, err_msg=name)


def test_tracks_are_independent_of_each_other() -> None:
    backend = TorchBackend(TINY, weights_of(tiny_network()))
    pixels = np.random.default_rng(2).uniform(2, 60, (6, 2))
    together = PointTracker(backend, TrackerConfig(scene_cut_threshold=0.0))
    alone = PointTracker(backend, TrackerConfig(scene_cut_threshold=0.0))
    together.add(pixels)
    alone.add(pixels[2:3])
    for frame in range(5):
        image = streams.view(frame)
        first, second = together.step(image, frame), alone.step(image, frame)
    np.testing.assert_allclose(first.xy[2], second.xy[0], atol=1e-3)
