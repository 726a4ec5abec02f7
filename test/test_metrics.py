"""The TAP-Vid metrics against cases counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taptr_ros.errors import InvalidPointsError
from taptr_ros.evaluation.metrics import Metrics, evaluated_frames, mean_metrics, tapvid_metrics

RASTER = (256, 256)
EXACT = 1e-9


def measure(
    distances: list[list[float]],
    occluded: list[list[int]],
    predicted_visible: list[list[int]],
    evaluated: list[list[int]],
    size: tuple[int, int] = RASTER,
) -> Metrics:
    """Measure predictions that lie `distances` pixels to the right of the true points."""
    offset = np.zeros((*np.shape(distances), 2))
    offset[..., 0] = distances
    points = np.full_like(offset, 100.0)
    return tapvid_metrics(
        points=points,
        occluded=np.array(occluded, np.bool_),
        evaluated=np.array(evaluated, np.bool_),
        predicted_points=points + offset,
        predicted_visible=np.array(predicted_visible, np.bool_),
        size=size,
    )


def test_two_tracks_counted_by_hand() -> None:
    """Eight entries, six of them evaluated.

    entry            a     b     c     d     e     f
    truth            vis   vis   vis   occ   occ   vis
    predicted        vis   vis   occ   vis   occ   vis
    distance         0.5   3     1.5   0     50    20

    Occlusion: a, b, e, f are right: 4 of 6.
    Visible entries: a, b, c, f: 4.
    within      <1: a        <2: a, c    <4: a, b, c   <8 and <16: a, b, c
      of 4      1/4          2/4         3/4           3/4, 3/4
    true pos.   <1: a        <2: a       <4: a, b      <8 and <16: a, b      (c is predicted occluded)
    false pos.  d (hidden) and f (20 px) always; b while 3 px is not within:
                3            3           2             2, 2
    jaccard     1/(4+3)      1/7         2/(4+2)       2/6, 2/6
    """
    metrics = measure(
        distances=[[0.0, 0.5, 3.0, 1.5], [9.0, 0.0, 50.0, 20.0]],
        occluded=[[0, 0, 0, 0], [0, 1, 1, 0]],
        predicted_visible=[[1, 1, 1, 0], [1, 1, 0, 1]],
        evaluated=[[0, 1, 1, 1], [0, 1, 1, 1]],
    )
    assert metrics.occlusion_accuracy == pytest.approx(100 * 4 / 6, abs=EXACT)
    assert metrics.within == pytest.approx({1: 25.0, 2: 50.0, 4: 75.0, 8: 75.0, 16: 75.0}, abs=EXACT)
    assert metrics.jaccard == pytest.approx({1: 100 / 7, 2: 100 / 7, 4: 100 / 3, 8: 100 / 3, 16: 100 / 3}, abs=EXACT)
    assert metrics.average_within == pytest.approx(60.0, abs=EXACT)  # (25 + 50 + 3 * 75) / 5
    assert metrics.average_jaccard == pytest.approx((2 * 100 / 7 + 3 * 100 / 3) / 5, abs=EXACT)


@pytest.mark.parametrize("seed", range(5))
def test_random_tracks_agree_with_counting_entry_by_entry(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = 90, 400
    points = random.random((6, 15, 2)) * (width, height)
    predicted_points = points + random.normal(size=points.shape) * random.choice([0.3, 3.0, 20.0], points.shape)
    occluded, predicted_visible, evaluated = random.random((3, 6, 15)) < 0.6
    metrics = tapvid_metrics(
        points=points,
        occluded=occluded,
        evaluated=evaluated,
        predicted_points=predicted_points,
        predicted_visible=predicted_visible,
        size=(height, width),
    )
    jaccard, within = [], []
    for threshold in (1, 2, 4, 8, 16):
        true_positives = false_positives = visible = near_and_visible = right = entries = 0
        for index in np.argwhere(evaluated):
            entry = tuple(index)
            dx, dy = predicted_points[entry] - points[entry]
            near = math.hypot(dx * 256 / width, dy * 256 / height) < threshold
            entries += 1
            right += occluded[entry] != predicted_visible[entry]
            visible += not occluded[entry]
            near_and_visible += near and not occluded[entry]
            if predicted_visible[entry]:
                true_positives += near and not occluded[entry]
                false_positives += bool(occluded[entry]) or not near
        jaccard.append(100 * true_positives / (visible + false_positives))
        within.append(100 * near_and_visible / visible)
    assert list(metrics.jaccard.values()) == pytest.approx(jaccard, abs=EXACT)
    assert list(metrics.within.values()) == pytest.approx(within, abs=EXACT)
    assert metrics.average_jaccard == pytest.approx(sum(jaccard) / 5, abs=EXACT)
    assert metrics.average_within == pytest.approx(sum(within) / 5, abs=EXACT)
    assert metrics.occlusion_accuracy == pytest.approx(100 * right / entries, abs=EXACT)


def test_a_perfect_prediction_scores_100() -> None:
    metrics = measure([[0.0, 0.0, 0.0]], [[0, 1, 0]], [[1, 0, 1]], [[0, 1, 1]])
    assert (metrics.average_jaccard, metrics.average_within, metrics.occlusion_accuracy) == (100.0, 100.0, 100.0)


@pytest.mark.parametrize(("distance", "right_at"), [(1.0, 4), (0.999999, 5), (2.0, 3), (16.0, 0), (15.999999, 1)])
def test_a_distance_equal_to_the_threshold_is_not_within(distance: float, right_at: int) -> None:
    # One visible entry: each of the five thresholds gives 0 or 100, so the mean counts in steps of 20.
    metrics = measure([[distance]], [[0]], [[1]], [[1]])
    assert metrics.average_within == pytest.approx(20.0 * right_at, abs=EXACT)
    # A wrong visible prediction is a miss and a false alarm at once: 0 / (1 + 1).
    assert metrics.average_jaccard == pytest.approx(20.0 * right_at, abs=EXACT)


def test_an_occluded_point_predicted_visible_is_a_false_positive_even_in_the_right_place() -> None:
    # One true positive, one false positive: 1 / (1 + 1). Position accuracy does not look at the hidden entry.
    metrics = measure([[0.0, 0.0]], [[0, 1]], [[1, 1]], [[1, 1]])
    assert metrics.average_jaccard == pytest.approx(50.0, abs=EXACT)
    assert metrics.average_within == pytest.approx(100.0, abs=EXACT)
    assert metrics.occlusion_accuracy == pytest.approx(50.0, abs=EXACT)


def test_a_visible_point_predicted_occluded_is_missed_but_no_false_positive() -> None:
    # Two visible entries, one found, no false positive: 1 / 2. Position accuracy ignores the predicted visibility.
    metrics = measure([[0.0, 0.0]], [[0, 0]], [[1, 0]], [[1, 1]])
    assert metrics.average_jaccard == pytest.approx(50.0, abs=EXACT)
    assert metrics.average_within == pytest.approx(100.0, abs=EXACT)


def test_entries_that_are_not_evaluated_change_nothing() -> None:
    base = measure([[0.5, 3.0]], [[0, 0]], [[1, 1]], [[1, 1]])
    with_unknown = measure([[0.5, 3.0, 99.0, 0.0]], [[0, 0, 0, 1]], [[1, 1, 1, 1]], [[1, 1, 0, 0]])
    assert with_unknown == base


def test_distances_are_taken_on_the_256_raster() -> None:
    # A frame 512 wide and 128 high: 3 px to the right become 1.5, 3 px down become 6.
    right = measure([[3.0]], [[0]], [[1]], [[1]], size=(128, 512))
    assert right.average_within == pytest.approx(80.0, abs=EXACT)  # within 2, 4, 8 and 16
    points = np.zeros((1, 1, 2))
    mask = np.ones((1, 1), np.bool_)
    down = tapvid_metrics(
        points=points,
        occluded=~mask,
        evaluated=mask,
        predicted_points=points + np.array([0.0, 3.0]),
        predicted_visible=mask,
        size=(128, 512),
    )
    assert down.average_within == pytest.approx(40.0, abs=EXACT)  # within 8 and 16


def test_distance_is_euclidean() -> None:
    # 3 right and 2.5 down: 3.905 px, within 4, 8, 16. The larger of both would say the same at 4; the sum would not.
    points = np.zeros((1, 1, 2))
    mask = np.ones((1, 1), np.bool_)
    metrics = tapvid_metrics(
        points=points,
        occluded=~mask,
        evaluated=mask,
        predicted_points=points + np.array([3.0, 2.5]),
        predicted_visible=mask,
        size=RASTER,
    )
    assert metrics.within == {1: 0.0, 2: 0.0, 4: 100.0, 8: 100.0, 16: 100.0}


def test_a_position_that_is_not_finite_is_never_within() -> None:
    metrics = measure([[np.nan, np.inf, 0.0]], [[0, 0, 0]], [[1, 1, 1]], [[1, 1, 1]])
    assert metrics.average_within == pytest.approx(100 / 3, abs=EXACT)
    assert metrics.average_jaccard == pytest.approx(100 * 1 / (3 + 2), abs=EXACT)


def test_metrics_without_anything_to_take_them_from_are_none() -> None:
    nothing = measure([[0.0]], [[0]], [[1]], [[0]])
    assert (nothing.average_jaccard, nothing.average_within, nothing.occlusion_accuracy) == (None, None, None)
    hidden = measure([[0.0, 0.0]], [[1, 1]], [[0, 0]], [[1, 1]])
    assert (hidden.average_jaccard, hidden.average_within, hidden.occlusion_accuracy) == (None, None, 100.0)
    false_alarm = measure([[0.0, 0.0]], [[1, 1]], [[1, 0]], [[1, 1]])
    assert (false_alarm.average_jaccard, false_alarm.average_within, false_alarm.occlusion_accuracy) == (
        0.0,
        None,
        50.0,
    )


def test_evaluated_frames_follow_the_query_mode() -> None:
    queries = np.array([0, 2])
    first = [[0, 1, 1, 1], [0, 0, 0, 1]]
    strided = [[0, 1, 1, 1], [1, 1, 0, 1]]
    assert (evaluated_frames(queries, 4, "first") == np.array(first, np.bool_)).all()
    assert (evaluated_frames(queries, 4, "strided") == np.array(strided, np.bool_)).all()


def test_the_mean_weighs_sequences_alike_and_leaves_out_undefined_ones() -> None:
    perfect = measure([[0.0]], [[0]], [[1]], [[1]])
    wrong = measure([[50.0] * 9], [[0] * 9], [[0] * 9], [[1] * 9])
    undefined = measure([[0.0]], [[1]], [[0]], [[1]])
    mean = mean_metrics([perfect, wrong, undefined])
    assert (mean.average_jaccard, mean.average_within, mean.occlusion_accuracy, mean.sequences) == (50.0, 50.0, 50.0, 2)
    empty = mean_metrics([undefined])
    assert (empty.average_jaccard, empty.average_within, empty.occlusion_accuracy, empty.sequences) == (
        None,
        None,
        None,
        0,
    )


def test_shapes_that_disagree_are_refused() -> None:
    mask = np.ones((1, 3), np.bool_)
    with pytest.raises(InvalidPointsError, match=r"\[Q,T,2\]"):
        tapvid_metrics(
            points=np.zeros((2, 3, 2)),
            occluded=mask,
            evaluated=mask,
            predicted_points=np.zeros((2, 3, 2)),
            predicted_visible=mask,
            size=RASTER,
        )
