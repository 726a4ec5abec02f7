"""Global matching against places that are known."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from taptr_ros.model import global_matching
from taptr_ros.model.global_matching import candidate_places, match_globally

SIDE, DEPTH = 12, 8


@pytest.fixture
def contexts():
    """Contexts [SIDE*SIDE,3,3,DEPTH] cut from one random feature map, with a large common part."""
    padded = np.random.default_rng(0).normal(size=(SIDE + 2, SIDE + 2, DEPTH)) + 5.0
    patches = [padded[y : y + 3, x : x + 3].swapaxes(0, 1) for y in range(SIDE) for x in range(SIDE)]
    return np.array(patches, np.float32)


def test_places_are_the_cell_centres_row_by_row():
    places = candidate_places(4)
    np.testing.assert_allclose(
        places[:5], [[0.125, 0.125], [0.375, 0.125], [0.625, 0.125], [0.875, 0.125], [0.125, 0.375]]
    )


def test_every_patch_finds_its_own_place(contexts):
    matches = match_globally(contexts, contexts, SIDE)
    np.testing.assert_allclose(matches.score, 1.0, atol=1e-5)
    np.testing.assert_allclose(matches.xy, candidate_places(SIDE), atol=1e-3)
    assert (matches.margin > 0.2).all()


def test_brightness_common_to_the_frame_does_not_count(contexts):
    foreign = np.random.default_rng(1).normal(size=(5, 3, 3, DEPTH)).astype(np.float32) + 5.0
    matches = match_globally(foreign, contexts, SIDE)
    assert (matches.score < 0.6).all()


def test_a_query_between_two_places_is_found_between_them(contexts):
    left, right = contexts[5 * SIDE + 3], contexts[5 * SIDE + 4]
    xy = match_globally((0.5 * (left + right))[None], contexts, SIDE).xy[0] * SIDE - 0.5
    assert 3.2 < xy[0] < 3.8
    assert abs(xy[1] - 5.0) < 0.2


def test_repeated_texture_has_no_margin(contexts):
    contexts[100] = contexts[10]
    matches = match_globally(contexts[10:11], contexts, SIDE)
    assert matches.margin[0] < 1e-5
    assert matches.score[0] > 0.999


def test_a_featureless_frame_matches_nothing(contexts):
    blank = np.ones_like(contexts)
    assert (match_globally(contexts[:3], blank, SIDE).score < 0.1).all()


def test_the_corner_is_refined_inwards_only(contexts):
    mixed = 0.6 * contexts[0] + 0.4 * contexts[1]
    xy = match_globally(mixed[None], contexts, SIDE).xy[0] * SIDE - 0.5
    assert 0.0 < xy[0] < 0.7
    assert 0.0 <= xy[1] < 0.2


def test_one_thread_of_linear_algebra_is_used(monkeypatch):
    """More of them would go on spinning after the product. What was set before is set again."""

    def threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    inside = []
    heat = global_matching._heat

    def observed(*contexts):
        inside.extend(threads())
        return heat(*contexts)

    monkeypatch.setattr(global_matching, "_heat", observed)
    contexts = np.random.default_rng(0).standard_normal((16, 3, 3, 4)).astype(np.float32)
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        match_globally(contexts[:2], contexts, 4)
        assert threads() == before
    assert set(inside) == {1}
    assert 2 in before
