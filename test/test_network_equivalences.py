"""The network's fast forms against the plain ones, and streaming against tracking alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the network is written in PyTorch")

import streams  # noqa: E402
import tiny_network  # noqa: E402

from taptr_ros.model.gather import GatherSampler  # noqa: E402
from taptr_ros.model.network import TaptrNetwork  # noqa: E402
from taptr_ros.model.rotary import rotary_frequencies, rotary_phase  # noqa: E402
from taptr_ros.model.sampling import Levels, sampler  # noqa: E402
from taptr_ros.model.vlta import CURRENT_FRAME_WEIGHT, VisibilityAwareLongTemporalAttention  # noqa: E402
from taptr_ros.runtime.torch_backend import TorchBackend  # noqa: E402
from taptr_ros.tracking.config import TrackerConfig  # noqa: E402
from taptr_ros.tracking.tracker import PointTracker  # noqa: E402

LEVELS = Levels(((9, 13), (5, 7), (3, 4), (2, 2)))


def random(*shape: int, seed: int = 0, dtype: Any = torch.float32) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def tiny_tokens(network: TaptrNetwork, dtype: Any = torch.float32) -> Any:
    image = np.random.default_rng(1).integers(0, 256, (*tiny_network.SIZE, 3))
    (tokens,) = network.encode(torch.from_numpy(image).to(dtype))
    return tokens


def tiny_net(**changes: Any) -> TaptrNetwork:
    config = tiny_network.tiny_config(**changes)
    network = TaptrNetwork(config)
    weights = tiny_network.tiny_weights(config)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return network.requires_grad_(False).eval()


def direct_attention(
    module: VisibilityAwareLongTemporalAttention,
    x: Any,
    current: Any,
    memory: Any,
    weights: Any,
    slot_frames: NDArray[np.int64],
    frame: int,
    updated: Any,
) -> Any:
    """VLTA as the method states it: rotate every slot by its distance, project keys and values of every slot, attend.

    The keys get a bias, which our module leaves out because it cannot matter.
    """
    count, _, dim = memory.shape
    heads, depth = module.heads, dim // module.heads
    frequencies = torch.from_numpy(rotary_frequencies(dim)).to(x.dtype)
    angle = torch.from_numpy(frame - slot_frames).to(x.dtype)[:, None] * frequencies
    even, odd = memory[..., 0::2], memory[..., 1::2]
    rotated = torch.stack((even * angle.cos() - odd * angle.sin(), odd * angle.cos() + even * angle.sin()), -1).flatten(
        -2
    )
    alpha = weights
    if module.current_frame_in_memory:
        rotated = torch.cat((rotated, current[:, None]), 1)
        memory = torch.cat((memory, current[:, None]), 1)
        alpha = torch.cat((weights, torch.where(updated, CURRENT_FRAME_WEIGHT, 1.0).to(x.dtype)[:, None]), 1)
    key_bias = random(dim, seed=5, dtype=x.dtype)
    query = module.query_projection(x).view(count, heads, 1, depth)
    keys = (module.key_projection(rotated) + key_bias).view(count, -1, heads, depth).transpose(1, 2)
    values = module.value_projection(memory).view(count, -1, heads, depth).transpose(1, 2)
    scores = (query @ keys.transpose(-1, -2)) / math.sqrt(depth)
    scores = scores.masked_fill((alpha == 0)[:, None, None], -torch.inf)
    attention = scores.softmax(-1) * alpha[:, None, None]
    attention = attention / (attention.sum(-1, keepdim=True) + 1e-7)
    return module.output_projection((attention @ values).reshape(count, dim))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("current_frame_in_memory", [True, False])
def test_absorbed_vlta_equals_the_direct_form(dtype: Any, tolerance: float, current_frame_in_memory: bool) -> None:
    config = tiny_network.tiny_config(current_frame_in_memory=current_frame_in_memory, hidden_dim=64)
    torch.manual_seed(0)
    module = (
        VisibilityAwareLongTemporalAttention(
            config.hidden_dim, config.heads, current_frame_in_memory=config.current_frame_in_memory
        )
        .to(dtype)
        .requires_grad_(False)
    )
    points, slots, frame = 6, 40, 20_057
    slot_frames = np.concatenate(([20_000], np.arange(frame - slots + 1, frame)))
    memory, x, current = (
        random(*shape, seed=seed, dtype=dtype)
        for seed, shape in ((1, (points, slots, 64)), (2, (points, 64)), (3, (points, 64)))
    )
    weights = torch.from_numpy(np.random.default_rng(4).uniform(1e-4, 1.0, (points, slots))).to(dtype)
    for point in range(points):
        weights[point, slots - 5 * point :] = 0.0
    updated = torch.arange(points) % 3 != 0

    phase = torch.from_numpy(np.stack([rotary_phase(int(slot), 64) for slot in slot_frames])).to(dtype)
    even, odd = memory[..., 0::2], memory[..., 1::2]
    keys = torch.cat((even * phase[:, 0] + odd * phase[:, 1], odd * phase[:, 0] - even * phase[:, 1]), -1)
    garbage = weights[..., None] == 0.0
    absorbed = module(
        x,
        current,
        torch.where(garbage, 7.0, keys),
        torch.where(garbage, -3.0, memory),
        weights,
        torch.from_numpy(rotary_phase(frame, 64)).to(dtype),
        updated,
    )
    expected = direct_attention(module, x, current, memory, weights, slot_frames, frame, updated)
    np.testing.assert_allclose(absorbed, expected, atol=tolerance, rtol=0)
    assert expected.abs().max() > 0.1


def test_vlta_without_any_slot_returns_its_bias() -> None:
    module = VisibilityAwareLongTemporalAttention(dim=32, heads=8)
    module.requires_grad_(False)
    empty = torch.zeros(2, 3, 32)
    output = module(
        random(2, 32), random(2, 32), empty, empty, torch.zeros(2, 3), torch.zeros(2, 16), torch.ones(2) > 0
    )
    np.testing.assert_allclose(output, module.output_projection.bias.expand(2, -1), atol=1e-7)


def border_positions(count: int, groups: int, patch: bool) -> tuple[Any, Any]:
    """Positions from far outside to far inside every level, exact borders and pixel centres among them."""
    generator = np.random.default_rng(7)
    shape = (count, groups, 4, 4)
    x, y = generator.uniform(-4.0, 17.0, shape), generator.uniform(-4.0, 13.0, shape)
    x[0], y[0] = -1.0, 0.0
    x[1, :, 0], y[1, :, 0] = 12.0, 8.0
    x[2, :, 0], y[2, :, 0] = 13.0, 9.0
    x[3], y[3] = 1e9, -1e9
    x[4] = np.round(x[4])
    both = (torch.from_numpy(x), torch.from_numpy(y))
    if patch:
        steps = torch.tensor([-1.02, 0.0, 1.02], dtype=torch.float64).view(3, 1, 1, 1, 1)
        return both[0] + steps, both[1] + steps
    return both


def test_gather_equals_grid_sampling() -> None:
    tokens = random(sum(LEVELS.counts), 8, dtype=torch.float64)
    projection = torch.nn.Linear(8, 16, dtype=torch.float64).requires_grad_(False)
    grid, gather = (sampler(tokens, LEVELS, form).projected(projection, 4) for form in ("grid", "gather"))
    x, y = border_positions(6, 4, patch=False)
    weight = random(*x.shape, seed=2, dtype=torch.float64)
    expected = grid.weighted_sum(x, y, weight)
    np.testing.assert_allclose(gather.weighted_sum(x, y, weight), expected, atol=1e-6, rtol=1e-6)
    assert expected.abs().max() > 0.1
    cells = random(6, 4, 9, 4, seed=3, dtype=torch.float64)
    x, y = border_positions(6, 4, patch=True)
    np.testing.assert_allclose(gather.patches(x, y), grid.patches(x, y), atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(gather.similarity(x, y, cells), grid.similarity(x, y, cells), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("late_keys_up_to", [0, 1000])
def test_late_projection_equals_dense_at_the_borders_too(late_keys_up_to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gather form projects values late, and keys if there are few points; the grid form projects all tokens."""
    monkeypatch.setattr(GatherSampler, "late_keys_up_to", late_keys_up_to)
    network = tiny_net()
    tokens = tiny_tokens(network)
    attention = network.decoder.layers[0].cross_attention
    edges = torch.tensor([0.001, 0.02, 0.3, 0.5, 0.98, 0.999])
    reference = torch.stack(torch.meshgrid(edges, edges, indexing="ij"), -1).view(-1, 2)
    query, context = random(36, 32, seed=1), random(36, 3, 3, 32, seed=2)
    dense, late = (
        attention(query, reference, context, sampler(tokens, network.levels, form)) for form in ("grid", "gather")
    )
    for expected, value in zip(dense, late, strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)
    for projection in (attention.key_projection, attention.value_projection):
        assert projection.bias.abs().max() > 0.01, "a bias of zero would not show errors at the border"


def test_folding_the_norms_changes_nothing() -> None:
    network = tiny_net()
    plain = tiny_tokens(network)
    folded = tiny_tokens(network.prepare_for_inference())
    np.testing.assert_allclose(folded, plain, atol=1e-4)
    assert network.backbone.stem.conv.bias is not None


# Streaming. Self-attention and the released code's start-frame quirk are the two places where the method lets tracks
# influence each other; without them every track must be what it would have been alone.


def lone_backend() -> TorchBackend:
    config = tiny_network.tiny_config(self_attention=False, starting_queries_join_decoder=False)
    return TorchBackend(config, tiny_network.tiny_weights(config))


TRACKER = TrackerConfig(capacity=16, memory_slots=6, scene_cut_threshold=0.0, lost_after=0)
FRAMES = 14
STARTS = {
    1: (0, (30.0, 40.0)),
    2: (0, (100.5, 60.25)),
    3: (3, (5.0, 5.0)),
    4: (5, (80.0, 100.0)),
    5: (9, (140.0, 30.0)),
}


def run_alone(backend: TorchBackend, id_: int) -> dict[int, NDArray[np.float64]]:
    """Track one point of `STARTS` alone; returns x, y and visibility by frame."""
    start, xy = STARTS[id_]
    tracker = PointTracker(backend, TRACKER)
    results = {}
    for frame in range(FRAMES):
        if frame == start:
            tracker.add([xy], ids=[id_])
        tracks = tracker.step(streams.view(frame), streams.stamp(frame))
        if len(tracks.ids):
            results[frame] = np.append(tracks.xy[0], tracks.visibility[0]).astype(np.float64)
    return results


def check_all(
    results: dict[tuple[int, int], NDArray[np.float64]], alone: dict[int, dict[int, NDArray[np.float64]]]
) -> None:
    scale = np.array([streams.WIDTH, streams.HEIGHT, 1.0])
    for (id_, frame), value in results.items():
        np.testing.assert_allclose(
            value / scale, alone[id_][frame] / scale, atol=1e-5, err_msg=f"id {id_}, frame {frame}"
        )


def collect(results: dict[tuple[int, int], NDArray[np.float64]], tracks: Any, frame: int) -> None:
    for id_, xy, visibility in zip(tracks.ids.tolist(), tracks.xy, tracks.visibility, strict=True):
        results[id_, frame] = np.append(xy, visibility).astype(np.float64)


@pytest.fixture(scope="module")
def alone() -> dict[int, dict[int, NDArray[np.float64]]]:
    backend = lone_backend()
    return {id_: run_alone(backend, id_) for id_ in STARTS}


def test_points_added_late_are_tracked_as_if_alone(alone: Any) -> None:
    tracker = PointTracker(lone_backend(), TRACKER)
    results: dict[tuple[int, int], NDArray[np.float64]] = {}
    for frame in range(FRAMES):
        for id_, (start, xy) in STARTS.items():
            if start == frame:
                tracker.add([xy], ids=[id_])
        collect(results, tracker.step(streams.view(frame), streams.stamp(frame)), frame)
    check_all(results, alone)
    assert len(results) == sum(FRAMES - start for start, _ in STARTS.values())
    moved = [np.abs(alone[id_][FRAMES - 1][:2] - alone[id_][start][:2]).max() for id_, (start, _) in STARTS.items()]
    assert max(moved) > 1.0, "points that never move would prove nothing"


def test_removing_and_adding_again_disturbs_nobody(alone: Any) -> None:
    tracker = PointTracker(lone_backend(), TRACKER)
    results: dict[tuple[int, int], NDArray[np.float64]] = {}
    for frame in range(FRAMES):
        if frame == 2:
            tracker.add([(60.0, 60.0), (20.0, 90.0)], ids=[50, 51])
        if frame == 4:
            tracker.remove([1, 50])
        if frame == 5:
            tracker.add([(61.0, 60.0)], ids=[50])
        if frame == 8:
            tracker.remove([51])
        for id_, (start, xy) in STARTS.items():
            if start == frame:
                tracker.add([xy], ids=[id_])
        collect(results, tracker.step(streams.view(frame), streams.stamp(frame)), frame)
    check_all({key: value for key, value in results.items() if key[0] < 50}, alone)
    assert (1, 3) in results
    assert (1, 4) not in results


def test_a_point_chosen_in_a_past_frame_catches_up(alone: Any) -> None:
    tracker = PointTracker(lone_backend(), TRACKER)
    results: dict[tuple[int, int], NDArray[np.float64]] = {}
    for frame in range(FRAMES):
        for id_, (start, xy) in STARTS.items():
            if start + 2 == frame:
                tracker.add([xy], ids=[id_], stamp=streams.stamp(start))
        collect(results, tracker.step(streams.view(frame), streams.stamp(frame)), frame)
    check_all(results, alone)
    assert (4, 7) in results
    assert (4, 6) not in results


def test_support_points_change_company_but_not_the_output_format() -> None:
    """With self-attention on, hidden support points must influence the result and never appear in it."""
    config = tiny_network.tiny_config()
    backend = TorchBackend(config, tiny_network.tiny_weights(config))
    outputs = []
    for support in ("none", "grid"):
        tracker = PointTracker(
            backend, TrackerConfig(capacity=4, memory_slots=4, support=support, scene_cut_threshold=0.0)
        )
        tracker.add([(50.0, 50.0)])
        for frame in range(4):
            tracks = tracker.step(streams.view(frame), streams.stamp(frame))
        assert tracks.ids.tolist() == [1]
        outputs.append(tracks.xy[0])
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-4
