"""Shared similarities and the compiled loops against the direct form: values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network is written in PyTorch")
import torch.nn.functional as F  # noqa: E402

from taptr_ros.model.grid_cca import GridCrossAttention, grid_offsets, window_indices  # noqa: E402
from taptr_ros.model.patches import FeatureLevels, GatheredPatches, interpolate, spread_weights  # noqa: E402
from taptr_ros.model.small_config import LEVEL_STRIDES, SmallConfig  # noqa: E402

SIZES = [(16, 24), (4, 6), (2, 3)]
CHANNELS = (8, 16, 16)
IMAGES, POINTS, RADIUS = 2, 7, 3


def random(*shape: int, seed: int, dtype: Any = torch.float32) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def make_features(dtype: Any = torch.float32) -> tuple[FeatureLevels, list[Any]]:
    levels = [
        random(IMAGES * height * width, channels, seed=index, dtype=dtype).requires_grad_()
        for index, ((height, width), channels) in enumerate(zip(SIZES, CHANNELS, strict=True))
    ]
    return FeatureLevels(levels, SIZES, torch.arange(POINTS) % IMAGES), levels


def places(dtype: Any = torch.float32) -> Any:
    """Unit coordinates inside the image, at its border and far outside it."""
    return torch.tensor(
        [[0.5, 0.5], [0.0, 1.0], [0.31, 0.77], [-0.1, 1.1], [0.999, 0.02], [5.0, -4.0], [0.5 / 24, 0.5 / 16]],
        dtype=dtype,
    )


def sample(features: FeatureLevels, level: int, point: int, x: Any, y: Any) -> Any:
    """Sample one level at one place in its pixels, zeros outside, by PyTorch's own means."""
    height, width = features.sizes[level]
    image = int(features.image[point])  # type: ignore[index]
    maps = features.levels[level].view(IMAGES, height, width, -1)[image].permute(2, 0, 1)[None]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1).view(1, 1, 1, 2)
    return F.grid_sample(maps, grid, "bilinear", "zeros", align_corners=False).flatten()


def direct_similarity(features: FeatureLevels, centres: Any, cells: list[Any], radius: int) -> Any:
    side = range(-radius, radius + 1)
    maps = []
    for point in range(POINTS):
        for level, centre in enumerate(centres[point]):
            around = [sample(features, level, point, centre[0] + dx, centre[1] + dy) for dy in side for dx in side]
            maps.append(cells[level][point] @ torch.stack(around).t())
    by_point = torch.stack(maps).view(POINTS, len(SIZES), -1, len(side), len(side))
    return by_point.permute(2, 3, 4, 1, 0)


def test_shared_similarities_equal_the_direct_form_with_gradients() -> None:
    """Every similarity of every sampling place's patch, computed on its own, against windows of the nine maps."""
    features, levels = make_features(torch.float64)
    centres = features.centres(places(torch.float64))
    cells = [
        random(POINTS, 9, channels, seed=9 + index, dtype=torch.float64).requires_grad_()
        for index, channels in enumerate(CHANNELS)
    ]
    shared = GatheredPatches(features, centres, RADIUS).similarity(cells)
    direct = direct_similarity(features, centres, cells, RADIUS)
    np.testing.assert_allclose(shared.detach(), direct.detach(), atol=1e-12)

    # The 81 similarities of the sampling place (dx, dy): key cell (i, j) is the map's cell (dx + i, dy + j).
    grid = 2 * RADIUS - 1
    windows = shared.flatten(0, 2)[window_indices(grid)].view(9, 3, 3, grid, grid, len(SIZES), POINTS)
    np.testing.assert_array_equal(windows[:, :, :, 1, 2].detach(), shared[:, 1:4, 2:5].detach())

    weight = random(*shared.shape, seed=20, dtype=torch.float64)
    gradients = [torch.autograd.grad((maps * weight).sum(), [*levels, *cells]) for maps in (shared, direct)]
    for own, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-11)


def test_weighted_sum_equals_the_direct_form() -> None:
    features, _ = make_features(torch.float64)
    centres = features.centres(places(torch.float64))
    weights = random(5, 5, 3, POINTS, seed=3, dtype=torch.float64)
    sums = GatheredPatches(features, centres, RADIUS).weighted_sum(weights)
    side = range(-2, 3)
    for point in range(POINTS):
        parts = [
            sum(
                weights[dy + 2, dx + 2, level, point] * sample(features, level, point, centre[0] + dx, centre[1] + dy)
                for dy in side
                for dx in side
            )
            for level, centre in enumerate(centres[point])
        ]
        np.testing.assert_allclose(sums[point].detach(), torch.cat(parts).detach(), atol=1e-12)


def test_spreading_is_interpolation_transposed() -> None:
    fraction = torch.rand(2, 3, 4, dtype=torch.float64)
    maps, weights = (random(side, side, 3, 4, seed=side, dtype=torch.float64) for side in (6, 5))
    along = (interpolate(maps[None], fraction)[0] * weights).sum()
    np.testing.assert_allclose(along, (maps * spread_weights(weights, fraction)).sum())


def test_compiled_loops_equal_the_gathered_form_with_gradients() -> None:
    pytest.importorskip("numba", reason="compiled loops need numba")
    from taptr_ros.training.fused_patches import FusedPatches

    features, levels = make_features()
    gradients = [torch.zeros_like(level) for level in levels]
    fused_features = FeatureLevels(features.levels, features.sizes, features.image, gradients)
    centres = features.centres(places())
    results = []
    for kind, own in ((GatheredPatches, features), (FusedPatches, fused_features)):
        cells = [random(POINTS, 9, channels, seed=4, dtype=torch.float32).requires_grad_() for channels in CHANNELS]
        weights = random(5, 5, 3, POINTS, seed=6).requires_grad_()
        patches = kind(own, centres, RADIUS)
        maps, sums = patches.similarity(cells), patches.weighted_sum(weights)
        loss = (maps * random(*maps.shape, seed=7)).sum() + (sums * random(*sums.shape, seed=8)).sum()
        loss.backward()
        results.append([maps, sums, weights.grad, *(part.grad for part in cells)])
    for gathered, fused in zip(*results, strict=True):
        np.testing.assert_allclose(fused.detach(), gathered.detach(), atol=2e-4)
    for level, gradient in zip(levels, gradients, strict=True):
        np.testing.assert_allclose(gradient, level.grad, atol=2e-4)


def test_a_point_moves_to_the_place_that_looks_like_its_context() -> None:
    """With the starting weights, a sharp context pulls the position towards the sampling place that equals it."""
    torch.manual_seed(0)
    config = SmallConfig(level_channels=CHANNELS)
    attention = GridCrossAttention(config).requires_grad_(False)
    for parameter in attention.logit_mixer.parameters():
        parameter.zero_()
    # Of the coarser levels here, a grid covers more than the whole image.
    attention.place_logit.view(25, 3)[:, 1:] = -1e4
    features, _ = make_features()
    levels = [F.normalize(level.detach(), dim=-1) for level in features.levels]
    features = FeatureLevels(levels, SIZES, torch.zeros(1, dtype=torch.int64))
    query, shift = torch.tensor([[0.5, 0.5]]), torch.tensor([[4.0, -2.0]])
    patches = GatheredPatches(features, features.centres(query + shift / torch.tensor([48.0, 32.0])), radius=1)
    cells = [20.0 * part.transpose(1, 2).flatten(1, 2) for part in patches.interpolated()]
    around = GatheredPatches(features, features.centres(query), RADIUS)
    _, movement = attention(torch.zeros(1, config.hidden_dim), cells, around)
    assert (movement - shift).norm() < 0.4 * shift.norm()


def test_grid_offsets() -> None:
    offsets = grid_offsets(1)
    assert offsets.shape == (9 * len(LEVEL_STRIDES), 2)
    assert offsets[:4].tolist() == [[-2, -2], [-8, -8], [-16, -16], [0, -2]]
    assert offsets[-1].tolist() == [16, 16]
