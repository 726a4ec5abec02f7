"""Losses against cases worked by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from taptr_ros.model.small_config import LEVEL_STRIDES  # noqa: E402
from taptr_ros.training.batches import Batch  # noqa: E402
from taptr_ros.training.config import LossConfig  # noqa: E402
from taptr_ros.training.losses import (  # noqa: E402
    CLOSE,
    LEAP,
    POSITION_UNIT,
    SATURATION,
    TEMPERATURE,
    confidence_loss,
    contrastive_loss,
    estimate_weights,
    losses,
    position_loss,
    visibility_loss,
)
from taptr_ros.training.unroll import Unrolled  # noqa: E402


def cost(pixels: float) -> float:
    return SATURATION * math.log(1.0 + pixels / SATURATION) / POSITION_UNIT


def known(visible: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(visible)


def test_position_loss_of_one_point() -> None:
    """One frame, three estimates, 3-4-5 triangles: the first is out of reach, the others 5 and 10 px off."""
    true = torch.tensor([20.0, 30.0]).view(1, 1, 1, 2)
    positions = torch.tensor([[20.0 + LEAP + 1.0, 30.0], [23.0, 34.0], [26.0, 38.0]]).view(1, 3, 1, 1, 2)
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    weights = estimate_weights(3, 0.5, true)
    assert weights.flatten().tolist() == [0.5, 0.5, 1.0]
    loss = position_loss(positions, true, visible, known(visible), 64, 0.2, weights)
    assert loss.item() == pytest.approx(0.5 * cost(5.0) + cost(10.0), abs=1e-3)


def test_position_loss_weighs_hidden_points_and_leaves_out_distant_ones() -> None:
    true = torch.tensor([[8.0, 8.0], [9.0, 9.0], [500.0, 8.0]]).view(1, 1, 3, 2)
    positions = (true + torch.tensor([[4.0, 0.0], [0.0, 8.0], [100.0, 0.0]]).view(1, 1, 3, 2)).unsqueeze(1)
    visible = torch.tensor([True, False, False]).view(1, 1, 3)
    weights = torch.ones(1, 1, 1)
    loss = position_loss(positions, true, visible, known(visible), 64, 0.25, weights)
    assert loss.item() == pytest.approx((1.0 * cost(4.0) + 0.25 * cost(8.0)) / 1.25, abs=1e-3)
    perfect = position_loss(true.unsqueeze(1), true, visible, known(visible), 64, 0.25, weights)
    assert perfect.item() < 0.01
    first_unknown = torch.tensor([False, True, True]).view(1, 1, 3)
    loss = position_loss(positions, true, visible, first_unknown, 64, 0.25, weights)
    assert loss.item() == pytest.approx(0.25 * cost(8.0), abs=1e-3)


def test_visibility_loss() -> None:
    """Logits 0 cost log 2; a logit of 2 costs log(1 + e^-2) where visible and log(1 + e^2) where not.

    The first point is hidden, the second one visible, and of the third one nothing is known.
    """
    logits = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]).view(1, 2, 1, 3)
    visible = torch.tensor([False, True, True]).view(1, 1, 3)
    told = torch.tensor([True, True, False]).view(1, 1, 3)
    loss = visibility_loss(logits, visible, told, 3.0, torch.tensor([0.5, 1.0]).view(2, 1, 1))
    seen, unseen = math.log1p(math.exp(-2.0)), math.log1p(math.exp(2.0))
    assert loss.item() == pytest.approx(0.5 * math.log(2.0) + (3.0 * unseen + seen) / 4, abs=1e-5)


def test_confidence_is_that_of_visible_points_to_be_close() -> None:
    """Three points: close, a bit too far, and hidden, of which confidence says nothing."""
    logits = torch.full((1, 1, 1, 3), 2.0)
    error = torch.tensor([CLOSE - 0.1, CLOSE + 0.1, 0.0]).view(1, 1, 1, 3)
    visible = torch.tensor([True, True, False]).view(1, 1, 3)
    loss = confidence_loss(logits, error, visible, torch.ones(1, 1, 1))
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2.0)) + math.log1p(math.exp(2.0))) / 2, abs=1e-5)


def test_losses_of_perfect_tracks_are_small() -> None:
    size = 64
    xy = torch.tensor([[0.5, 0.5], [0.25, 0.25], [float("nan")] * 2]).view(1, 1, 3, 2)
    visible = torch.tensor([[True, True, False]]).expand(2, 1, 3)
    batch = Batch(
        torch.zeros(2, 1, size, size, 3, dtype=torch.uint8),
        xy.expand(2, 1, 3, 2),
        visible,
        known(visible),
        torch.zeros(2, 1, 3, 2),
    )
    sizes = [(size // stride, size // stride) for stride in LEVEL_STRIDES]
    logits = torch.tensor([[5.0, 5.0], [5.0, 5.0], [-5.0, 0.0]]).view(1, 1, 1, 3, 2)
    unrolled = Unrolled(
        first=1,
        positions=torch.nan_to_num(xy, nan=0.5).unsqueeze(1).expand(1, 2, 1, 3, 2),
        logits=logits.expand(1, 2, 1, 3, 2),
        levels=[torch.zeros(1, 1, height * width, 4) for height, width in sizes],
        queries=[torch.zeros(1, 3, 4) for _ in sizes],
        sizes=sizes,
        heat=torch.zeros(1, 1, 3, sizes[1][0] * sizes[1][1]),
        backward=lambda _: None,
    )
    found = losses(unrolled, batch, LossConfig())
    assert found.visibility.item() == pytest.approx(2 * math.log1p(math.exp(-5.0)), abs=1e-5)
    assert found.confidence.item() == pytest.approx(2 * math.log1p(math.exp(-5.0)), abs=1e-5)
    assert found.position.item() < 0.05


def test_contrastive_loss_of_a_place_on_a_pixel() -> None:
    """A level of 2x2 pixels, one of which equals the query and the others are orthogonal to it."""
    level = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).view(1, 1, 4, 2)
    query = torch.tensor([1.0, 0.0]).view(1, 1, 2)
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    logit = 1.0 / TEMPERATURE
    everywhere = math.log(math.exp(logit) + 3.0)
    upper_right = torch.tensor([0.7495, 0.25]).view(1, 1, 1, 2)
    loss = contrastive_loss(query, level, upper_right, visible, (2, 2))
    assert loss.item() == pytest.approx(everywhere - 0.999 * logit, abs=1e-3)
    centre = torch.tensor([0.5, 0.5]).view(1, 1, 1, 2)
    loss = contrastive_loss(query, level, centre, visible, (2, 2))
    assert loss.item() == pytest.approx(everywhere - 0.25 * logit, abs=1e-3)
    assert contrastive_loss(query, level, centre, ~visible, (2, 2)).item() == 0.0
