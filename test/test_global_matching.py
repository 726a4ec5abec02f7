"""Global matching against places that are known."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from taptr_ros.model.tuning import TAPTR_SMALL_TUNING
from taptr_ros.tracking import global_matching
from taptr_ros.tracking.global_matching import candidate_places, match_globally

SIDE, DEPTH = 12, 8
LEAST = 0.6


class Frame:
    """Features on a grid of SIDE x SIDE places, with a large common part, bilinear between them."""

    def __init__(self, seed: int = 0) -> None:
        self.features = np.random.default_rng(seed).normal(size=(SIDE, SIDE, DEPTH)).astype(np.float32) + 5.0
        self.sampled = 0
        self.tuning = TAPTR_SMALL_TUNING

    def contexts(self, xy):
        """Return the contexts [n,3,3,DEPTH] at unit coordinates [n,2]; the border goes on outwards."""
        self.sampled += len(xy)
        offset = np.arange(-1, 2, dtype=np.float32)
        around = np.stack(np.meshgrid(offset, offset, indexing="xy"), axis=-1)
        x, y = np.moveaxis(np.clip(xy[:, None, None] * SIDE - 0.5 + around, 0.0, SIDE - 1.0), -1, 0)
        left, top = np.minimum(x, SIDE - 2).astype(int), np.minimum(y, SIDE - 2).astype(int)
        right, low = (x - left)[..., None], (y - top)[..., None]
        upper = self.features[top, left] * (1 - right) + self.features[top, left + 1] * right
        lower = self.features[top + 1, left] * (1 - right) + self.features[top + 1, left + 1] * right
        return (upper * (1 - low) + lower * low).astype(np.float32)

    def match(self, query_context):
        return match_globally(query_context, self.contexts, SIDE, LEAST, self.tuning)


@pytest.fixture
def frame():
    return Frame()


def test_places_are_the_cell_centres_row_by_row():
    places = candidate_places(4)
    np.testing.assert_allclose(
        places[:5], [[0.125, 0.125], [0.375, 0.125], [0.625, 0.125], [0.875, 0.125], [0.125, 0.375]]
    )


def test_every_patch_finds_its_own_place(frame):
    places = candidate_places(SIDE)
    matches = frame.match(frame.contexts(places))
    np.testing.assert_allclose(matches.score, 1.0, atol=1e-5)
    np.testing.assert_allclose(matches.xy, places, atol=0.02 / SIDE)
    assert (matches.margin > 0.2).all()


def test_brightness_common_to_the_frame_does_not_count(frame):
    foreign = Frame(1)
    matches = frame.match(foreign.contexts(candidate_places(SIDE)[40:45]))
    assert (matches.score < 0.6).all()


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.35, -0.35), (-0.2, 0.45), (0.0, 0.0)])
def test_a_query_between_places_is_found_there(frame, shift):
    """More closely than thirds of the candidates' distance, and as similar as if it had been one."""
    xy = np.array([[5.0, 5.0], [8.0, 3.0]], np.float32) / SIDE + np.array(shift, np.float32) / SIDE
    matches = frame.match(frame.contexts(xy))
    assert np.abs(matches.xy - xy).max() * SIDE < 0.17
    assert (matches.score > 0.88).all()


def test_a_peak_that_looks_lower_at_first_is_looked_at_too(frame):
    """What the query shows lies between candidate places; something a little like it lies at one."""
    xy = np.array([[5.0, 5.0]], np.float32) / SIDE
    query, common = frame.contexts(xy), frame.features.mean(axis=(0, 1))
    noise = 0.6 * np.random.default_rng(3).normal(size=query[0].shape)
    frame.features[8:11, 8:11] = query[0] + noise

    candidates = (frame.contexts(candidate_places(SIDE)) - common).reshape(SIDE**2, -1)
    heat = candidates @ (query - common).ravel() / np.linalg.norm(candidates, axis=1)
    assert np.unravel_index(heat.argmax(), (SIDE, SIDE)) == (9, 9)
    assert np.abs(frame.match(query).xy - xy).max() * SIDE < 0.17


def test_only_promising_peaks_are_looked_at_closely(frame):
    foreign = Frame(1).contexts(candidate_places(SIDE)[40:60])
    found = frame.contexts(candidate_places(SIDE)[60:61])
    frame.sampled = 0
    frame.match(foreign)
    assert frame.sampled < SIDE**2 + 20 * 9
    frame.sampled = 0
    frame.match(found)
    assert SIDE**2 < frame.sampled <= SIDE**2 + 3 * 9


def test_close_looks_are_limited_and_go_to_every_points_best_peak_first(frame):
    between = (candidate_places(SIDE)[40:46] + 0.5 / SIDE).astype(np.float32)
    queries = frame.contexts(between)
    limits = {}
    for limit in (0, len(queries), 1000):
        frame.tuning = dataclasses.replace(TAPTR_SMALL_TUNING, match_close_looks=limit)
        frame.sampled = 0
        limits[limit] = frame.match(queries)
        assert frame.sampled <= SIDE**2 + 9 * limit
    assert (limits[0].score < 0.8).all()
    np.testing.assert_allclose(limits[len(queries)].score, limits[1000].score, atol=1e-6)
    np.testing.assert_allclose(limits[len(queries)].xy, between, atol=0.17 / SIDE)


def test_repeated_texture_has_no_margin(frame):
    frame.features[7:10, 7:10] = frame.features[2:5, 2:5]
    matches = frame.match(frame.contexts(np.array([[3.5, 3.5]], np.float32) / SIDE))
    assert matches.margin[0] < 1e-5
    assert matches.score[0] > 0.999


def test_a_featureless_frame_matches_nothing(frame):
    contexts = frame.contexts(candidate_places(SIDE)[:3])
    frame.features[:] = 1.0
    assert (frame.match(contexts).score < 0.1).all()


def test_places_at_the_border_are_found(frame):
    xy = np.array([[0.6, 0.8], [SIDE - 0.6, 0.8]], np.float32) / SIDE
    found = frame.match(frame.contexts(xy)).xy * SIDE
    np.testing.assert_allclose(found, [[0.5, 5 / 6], [SIDE - 0.5, 5 / 6]], atol=1e-3)


@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 1, 1), (17, 576, 1440), (40, 100, 99)])
def test_products_in_blocks_are_those_of_the_whole(rows, columns, depth):
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(count, depth)).astype(np.float32) for count in (rows, columns))
    np.testing.assert_allclose(global_matching._products(left, right), left @ right.T, atol=2e-4)


def test_a_search_wakes_no_other_thread_of_linear_algebra():
    """More threads would go on spinning after a product, which shows in the processor time of this process."""
    rng = np.random.default_rng(0)
    queries, candidates = (rng.normal(size=(count, 1440)).astype(np.float32) for count in (256, 576))
    global_matching._products(queries, candidates)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(10):
        global_matching._products(queries, candidates)
        time.sleep(0.02)
    slept = 10 * 0.02
    assert time.process_time() - processor < time.perf_counter() - wall - slept / 2
