"""Contexts that follow what points look like."""

from __future__ import annotations

import numpy as np
import pytest

from taptr_ros.model.tuning import TAPTR_SMALL_TUNING as TUNING
from taptr_ros.tracking.context_renewal import due, renewed

CHANGED, INTERVAL = TUNING.renewal_similarity, TUNING.renewal_interval


def patches(*directions: float) -> np.ndarray:
    """Contexts whose nine cells all have the same unit vector, at these angles in degrees from the first channel."""
    angles = np.deg2rad(directions)
    cells = np.stack([np.cos(angles), np.sin(angles)], axis=-1)[:, np.newaxis, np.newaxis]
    return np.broadcast_to(cells, (len(angles), 3, 3, 2)).copy()


def test_tracks_have_their_turn_every_few_frames() -> None:
    assert np.flatnonzero(due(np.arange(3 * INTERVAL + 1), TUNING)).tolist() == [INTERVAL, 2 * INTERVAL, 3 * INTERVAL]
    assert due(INTERVAL, TUNING)
    assert not due(0, TUNING)


def test_contexts_follow_what_changes_and_go_back_to_what_does_not() -> None:
    """Points that look as in the query frame, half and wholly different: similarities 1, CHANGED to 1, and less."""
    between = np.rad2deg(np.arccos((1.0 + CHANGED) / 2.0))
    query, around = patches(0.0, 0.0, 0.0), patches(0.0, between, 90.0)
    context = patches(180.0, 180.0, 180.0)
    result = renewed(context, query, around, 0.2, TUNING)
    targets = np.stack([query[0], (query[1] + around[1]) / 2, around[2]])
    np.testing.assert_allclose(result, 0.8 * context + 0.2 * targets, atol=1e-6)
    # What is not seen is given a share of 0 and stays.
    share = np.array([0.0, 0.2, 0.0]).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(renewed(context, query, around, share, TUNING)[[0, 2]], context[[0, 2]])


def test_numpy_and_torch_agree() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    rng = np.random.default_rng(0)
    context, query, around = rng.standard_normal((3, 5, 3, 3, 8)).astype(np.float32)
    around = (query + 0.3 * around).astype(np.float32)
    expected = renewed(context, query, around, 0.2, TUNING)
    result = renewed(*(torch.from_numpy(array) for array in (context, query, around)), 0.2, TUNING)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)
