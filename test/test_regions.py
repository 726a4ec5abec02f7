"""Points that are chosen in regions: their properties against brute force, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference_backend import ReferenceBackend
from streams import HEIGHT, WIDTH, stamp, true_position, view

from taptr_ros.errors import InvalidImageError, InvalidPointsError, InvalidRegionError, TaptrError
from taptr_ros.messages.regions import detected_regions, requested_regions
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackStream
from taptr_ros.tracking.regions import (
    LEAST_APART,
    LEAST_MARGIN,
    LEAST_TEXTURE,
    LEAST_THICKNESS,
    MARGIN_SHARE,
    MOST_MARGIN,
    MOST_PIXELS,
    Box,
    LabelMask,
    choose_points,
    points_in,
    shrunk_view,
    smoothed,
    texture,
)
from taptr_ros.tracking.stream import MOST_REGIONS

RIGHT = (80, 20, 60, 60)
LEFT = (10, 20, 50, 80)


def box(x: float, y: float, width: float, height: float, angle: float = 0.0) -> Box:
    return Box("boxes[0]", x, y, width, height, angle)


def noise(rng: np.random.Generator, height: int, width: int, smooth: float) -> NDArray[np.uint8]:
    """A random texture, the smoother the coarser."""
    picture = cv2.GaussianBlur(rng.normal(0.0, 1.0, (height, width)), (0, 0), smooth)
    return np.clip(128 + 60 * picture / picture.std(), 0, 255).astype(np.uint8)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
    """A grey image, a region of some blobs in it that may reach the image's edge, and a number of points."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    height, width = draw(st.integers(24, 90)), draw(st.integers(24, 120))
    grey = noise(rng, height, width, draw(st.floats(0.7, 4.0)))
    inside = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(1, 4))):
        middle = int(rng.integers(width)), int(rng.integers(height))
        axes = int(rng.integers(4, 40)), int(rng.integers(4, 40))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(inside, middle, axes, angle, 0, 360, 1, cv2.FILLED)
    return grey, inside, draw(st.integers(1, 60))


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_points_are_inside_apart_on_texture_and_away_from_the_border(scene: Any) -> None:
    grey, inside, count = scene
    # The region's surroundings, the outside of the image among them, one pixel at a time.
    outside = np.argwhere(np.pad(inside, 1) == 0) - 1
    pixels = np.argwhere(inside)
    to_border = np.sqrt(((pixels[:, np.newaxis] - outside) ** 2).sum(-1).min(1))
    margin = np.clip(MARGIN_SHARE * to_border.max(), LEAST_MARGIN, MOST_MARGIN)
    if to_border.max() <= LEAST_THICKNESS:
        with pytest.raises(InvalidRegionError, match="too small"):
            choose_points(grey, inside, count)
        return
    strength = texture(smoothed(grey))
    is_peak = strength == cv2.dilate(strength, np.ones((3, 3), np.uint8))
    is_peak[[0, -1]] = is_peak[:, [0, -1]] = False  # nothing is known of what is beside these
    row, column = pixels.T
    clear = is_peak[row, column] & (strength[row, column] > 1.02 * LEAST_TEXTURE) & (to_border > margin + 1e-4)
    try:
        chosen = choose_points(grey, inside, count)
    except InvalidRegionError:
        # There are only slopes of something outside.
        assert not clear.any()
        return
    assert 1 <= len(chosen) <= count
    assert np.array_equal(chosen, np.rint(chosen))
    distance_of = dict(zip(map(tuple, pixels[:, ::-1].tolist()), to_border.tolist(), strict=True))
    for point in chosen.tolist():
        assert distance_of[tuple(point)] > margin - 1e-4
    x, y = chosen.astype(int).T
    assert texture(smoothed(grey))[y, x].min() > 0.98 * LEAST_TEXTURE
    between = np.linalg.norm(chosen[:, np.newaxis] - chosen, axis=-1)[~np.eye(len(chosen), dtype=bool)]
    assert between.min(initial=np.inf) >= LEAST_APART
    assert np.array_equal(chosen, choose_points(grey, inside, count))


def test_texture_is_the_weakest_gradient_in_grey_levels_per_pixel() -> None:
    y, x = np.mgrid[:40, :40]
    ramp = (2.0 * x).astype(np.float32)
    saddle = (3.0 * np.abs(x - 20) + 2.0 * np.abs(y - 20)).astype(np.float32)
    assert texture(ramp)[20, 20] == pytest.approx(0.0, abs=1e-3)
    # Both slopes all around, except on the creases.
    assert texture(saddle)[8, 8] == pytest.approx(0.0, abs=1e-3)
    pyramid = np.where((x + y) % 16 < 8, 2.0 * x, 2.0 * y).astype(np.float32)
    brute = np.zeros(pyramid.shape)
    gy, gx = (cv2.Sobel(pyramid, cv2.CV_64F, dx, dy, ksize=3) / 8 for dx, dy in ((0, 1), (1, 0)))
    for row in range(4, 36):
        for column in range(4, 36):
            window = np.s_[row - 2 : row + 3, column - 2 : column + 3]
            gradients = np.stack([gx[window].ravel(), gy[window].ravel()])
            brute[row, column] = math.sqrt(max(np.linalg.eigvalsh(gradients @ gradients.T / 25)[0], 0.0))
    np.testing.assert_allclose(texture(pyramid)[4:36, 4:36], brute[4:36, 4:36], atol=1e-3)


def test_noise_of_a_camera_is_no_texture_and_a_faint_print_is() -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(rng.normal(120, 3.0, (100, 100)), 0, 255).astype(np.uint8)
    with pytest.raises(InvalidRegionError, match="no texture"):
        choose_points(noisy, np.ones_like(noisy), 16)
    faint = noisy.copy()
    faint[40:60, 40:60] += 15
    assert len(choose_points(faint, np.ones_like(noisy), 16)) == 4  # its corners


def test_many_points_fill_the_region_evenly() -> None:
    grey = noise(np.random.default_rng(3), 120, 160, 1.5)
    chosen = choose_points(grey, np.ones_like(grey), 48)
    assert len(chosen) == 48
    cells = {(int(x) // 40, int(y) // 40) for x, y in chosen.tolist()}
    assert len(cells) == 12


@pytest.mark.parametrize("region", [(3, 5, 20, 12), (0, 0, 160, 120), (150, 100, 99, 99), (-5.5, 3.25, 20.5, 8.5)])
def test_a_box_covers_the_pixels_whose_centres_it_holds(region: Any) -> None:
    x, y, width, height = region
    inside = box(*region).inside(160, 120, (120, 160))
    rows, columns = np.mgrid[:120, :160]
    held = (columns >= x - 0.5) & (columns <= x + width - 0.5) & (rows >= y - 0.5) & (rows <= y + height - 0.5)
    assert np.array_equal(inside, held)


def test_a_turned_box_turns_counterclockwise_about_its_centre() -> None:
    upright = box(40, 50, 60, 10).inside(160, 120, (120, 160))
    quarter = box(40, 50, 60, 10, math.pi / 2).inside(160, 120, (120, 160))
    y, x = np.argwhere(quarter).T
    assert (x.mean(), y.mean()) == pytest.approx((69.5, 54.5), abs=0.6)
    assert (np.ptp(x), np.ptp(y)) == pytest.approx((10, 60), abs=1)
    assert abs(int(quarter.sum()) - int(upright.sum())) < 90  # its outline is drawn with it
    tilted = box(40, 50, 60, 10, math.radians(20)).inside(160, 120, (120, 160))
    y, x = np.argwhere(tilted).T
    assert y[x > 90].mean() < y[x < 50].mean() - 8  # its right end points up


def test_points_of_a_large_image_are_in_its_pixels() -> None:
    picture = noise(np.random.default_rng(1), 1500, 2000, 6.0)
    image = np.stack([picture] * 3, axis=-1)
    view = shrunk_view(image)
    assert 0.95 * MOST_PIXELS < view.size / 3 <= MOST_PIXELS
    chosen = points_in(box(1200, 900, 300, 200), view, 2000, 1500, 16).xy
    assert len(chosen) == 16
    assert (chosen >= (1202, 902)).all()
    assert (chosen <= (1497, 1097)).all()
    labels = np.zeros((1500, 2000), np.uint16)
    labels[900:1100, 1200:1500] = 40000
    region = LabelMask.of(labels).regions()[0]
    assert region.label == 40000
    in_mask = points_in(region, view, 2000, 1500, 16).xy
    assert len(in_mask) == 16
    assert (in_mask >= (1202, 902)).all()
    assert (in_mask <= (1497, 1097)).all()


def blurred_noise(rng: np.random.Generator, colour: tuple[int, int, int]) -> np.ndarray:
    """A picture of 160x120 pixels of one colour, with texture."""
    texture = cv2.GaussianBlur(rng.normal(0, 150, (HEIGHT, WIDTH, 1)), (0, 0), 2.0)[..., np.newaxis]
    return np.clip(np.array(colour) + texture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_points_in_the_box_round_a_body_are_on_it(seed: int) -> None:
    """A round thing before a wall of another colour; in the corners of its box is the wall."""
    rng = np.random.default_rng(seed)
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    body = (columns - 80) ** 2 / 40**2 + (rows - 60) ** 2 / 25**2 + (columns - 80) * (rows - 60) / 1000 < 1
    image = np.where(body[..., np.newaxis], blurred_noise(rng, (170, 90, 60)), blurred_noise(rng, (90, 120, 150)))
    left, top, width, height = cv2.boundingRect(body.astype(np.uint8))
    region = box(left, top, width, height)
    found = points_in(region, shrunk_view(image), WIDTH, HEIGHT, 24)
    x, y = np.rint(found.xy).astype(int).T
    assert len(found.xy) >= 16
    assert body[y, x].all()
    assert (found.inside[body] > 0).mean() > 0.9
    np.testing.assert_array_equal(points_in(region, shrunk_view(image), WIDTH, HEIGHT, 24).xy, found.xy)


@pytest.mark.parametrize(
    "edges", [(0, 0, WIDTH, HEIGHT), (40, 30, 60, 50), (10, 55, 140, 9), (75, 52, 9, 9), (130, 90, 60, 60)]
)
def test_a_box_within_one_surface_has_points_in_its_middle(edges: tuple[int, int, int, int]) -> None:
    left, top, width, height = edges
    image = blurred_noise(np.random.default_rng(0), (120, 120, 120))
    found = points_in(box(*edges), shrunk_view(image), WIDTH, HEIGHT, 16)
    assert len(found.xy) >= (8 if min(width, height) > 10 else 1)
    assert ((found.xy >= (left, top)) & (found.xy < (left + width, top + height))).all()


def test_a_thin_body_in_a_box_leaves_the_box() -> None:
    image = blurred_noise(np.random.default_rng(0), (120, 120, 120))
    image[58:61] = (250, 20, 20)
    assert len(points_in(box(20, 50, 120, 20), shrunk_view(image), WIDTH, HEIGHT, 16).xy) >= 4


REFUSED = {
    "outside": (box(160, 0, 20, 20), "holds no pixel of the image of 160x120 pixels"),
    "left of it": (box(-30, 5, 20, 20), "holds no pixel"),
    "far away": (box(2**32 - 1, 0, 20, 20), "holds no pixel"),
    "far away and turned": (box(1e9, 0, 1e9, 20, 1.0), "holds no pixel"),
    "without area": (box(10, 10, 0, 20), "0 pixels wide and 20 high"),
    "negative": (box(10, 10, 20, -1), "both must be above 0"),
    "not finite": (box(10, math.nan, 20, 20), "not finite"),
    "too small": (box(10, 10, 7, 90), "too small, at most 7 pixels wide"),
    "plain": (box(10, 10, 30, 30), "has no texture away from its border"),
    "of another size": (LabelMask.of(np.ones((60, 80), np.uint8)).regions()[0], "80x60 pixels but the image 160x120"),
    "a label that is not there": (LabelMask.of(np.ones((120, 160), np.uint8)).regions([2])[0], "nowhere in it"),
    "label 0": (LabelMask.of(np.ones((120, 160), np.uint8)).regions([0])[0], "stands for no body"),
}


@pytest.mark.parametrize(("region", "words"), REFUSED.values(), ids=REFUSED)
def test_a_region_that_cannot_be_used_is_refused_in_a_sentence(region: Any, words: str) -> None:
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(capacity=40))
    picture = view(0).copy()
    picture[5:50, 5:50] = 90
    tracker.step(picture, stamp(0))
    good = box(*RIGHT)
    refused, accepted = tracker.add_regions([region, good], 8, stamp=stamp(0))
    assert (refused.group, refused.ids) == (0, [])
    assert words in refused.refusal
    assert refused.refusal.endswith(".")
    assert len(refused.refusal) > 30
    assert (accepted.group, len(accepted.ids), accepted.refusal) == (1, 8, "")
    assert tracker.tracks.group.tolist() == [1] * 8


def test_a_mask_without_labels_is_refused() -> None:
    for labels in (
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.ones((4, 4), np.int32),
        np.ones(4, np.uint8),
    ):
        with pytest.raises(InvalidRegionError, match="mask"):
            LabelMask.of(labels).regions()


def test_regions_become_groups_that_are_tracked_and_removed() -> None:
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(capacity=40, points_per_region=6))
    tracker.step(view(0), stamp(0))
    first, second = tracker.add_regions([box(*LEFT), box(*RIGHT)], groups=[0, 7], stamp=stamp(0))
    assert (first.group, second.group, first.ids, second.ids) == (8, 7, [1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12])
    chosen = tracker.tracks.xy.copy()
    for frame in range(1, 5):
        tracks = tracker.step(view(frame), stamp(frame))
    np.testing.assert_allclose(tracks.xy, true_position(chosen, 4), atol=2.5)
    assert tracks.group.tolist() == [8] * 6 + [7] * 6
    tracker.remove(groups=[8])
    assert tracker.groups == [7]
    assert [region.group for region in tracker.add_regions([box(*LEFT)], stamp=stamp(4))] == [9]
    (known,) = tracker.add_regions([box(*RIGHT)], groups=[7], stamp=stamp(4))
    assert "Group 7 is in use" in known.refusal


def test_a_region_starts_in_the_image_in_which_it_was_chosen() -> None:
    """In a past image its points are chosen there, and have caught up since."""
    tracker, present = (PointTracker(ReferenceBackend(), TrackerConfig(capacity=16)) for _ in range(2))
    for frame in range(4):
        tracker.step(view(frame), stamp(frame))
    present.step(view(1), stamp(1))
    (at_once,) = present.add_regions([box(*RIGHT)], 8, stamp=stamp(1))
    for frame in range(2, 4):
        expected = present.step(view(frame), stamp(frame))
    (late,) = tracker.add_regions([box(*RIGHT)], 8, stamp=stamp(1))
    assert late.ids == at_once.ids
    assert tracker.tracks.age.tolist() == [2] * 8
    np.testing.assert_allclose(tracker.tracks.xy, expected.xy, atol=1e-3)


def test_a_region_waits_for_its_image() -> None:
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(capacity=20))
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y, width, height = RIGHT
    labels[y : y + height, x : x + width] = 3
    mask = LabelMask.of(labels)
    labels[:] = 0  # the caller's array is its own
    (next_image,) = tracker.add_regions([box(*LEFT)], 8)
    (later,) = tracker.add_regions(mask.regions(), 8, stamp=stamp(2))
    assert (next_image.group, next_image.ids, later.group, later.ids) == (1, [], 2, [])
    (full,) = tracker.add_regions([box(*LEFT)], 8)
    assert "needs 8 points, but of the capacity of 20 only 4 are free" in full.refusal
    assert tracker.groups == [1, 2]
    assert tracker.step(view(0), stamp(0)).group.tolist() == [1] * 8
    assert tracker.step(view(1), stamp(1)).group.tolist() == [1] * 8
    tracks = tracker.step(view(2), stamp(2))
    assert tracks.group.tolist() == [1] * 8 + [2] * 8
    assert tracks.age.tolist() == [2] * 8 + [0] * 8
    assert ((tracks.xy[8:] >= (x, y)) & (tracks.xy[8:] < (x + width, y + height))).all()


def test_waiting_regions_can_be_removed_and_cleared() -> None:
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(capacity=20))
    tracker.add_regions([box(*LEFT), box(*RIGHT)], 4)
    tracker.remove(groups=[1])
    assert set(tracker.step(view(0), stamp(0)).group.tolist()) == {2}
    tracker.add_regions([box(*LEFT)], 4, stamp=stamp(2))
    tracker.clear()
    assert tracker.groups == []
    assert not len(tracker.step(view(2), stamp(2)).ids)


def test_waiting_regions_that_turn_out_unusable_are_reported() -> None:
    stream = TrackStream(PointTracker(ReferenceBackend(), TrackerConfig(capacity=20)))
    (added,) = stream.add_regions([box(500, 5, 20, 20)], [0], 4, 0)
    assert (added.group, added.refusal) == (1, "")
    step = stream.step(view(0), stamp(0))
    assert step.tracks.refused_regions[0].group == 1
    assert "1 waiting regions were dropped. Group 1: boxes[0] at (500, 5)" in step.notices[0]
    (past,) = stream.add_regions([box(*LEFT)], [0], 4, 1)
    assert "frame history" in past.refusal
    (future,) = stream.add_regions([box(*LEFT)], [0], 4, 10**18)
    assert "later than the newest image" in future.refusal


def test_replacing_keeps_the_others_if_every_region_is_refused() -> None:
    stream = TrackStream(PointTracker(ReferenceBackend(), TrackerConfig(capacity=20)))
    stream.step(view(0), stamp(0))
    stream.add(np.array([[20.0, 20.0]]), [99], 0, replace=False)
    stream.add_regions([box(500, 5, 20, 20)], [0], 4, 0, replace=True)
    assert stream.newest([]).tracks.ids.tolist() == [99]
    stream.add_regions([box(500, 5, 20, 20), box(*RIGHT)], [0, 0], 4, 0, replace=True)
    assert stream.newest([]).tracks.group.tolist() == [1] * 4


def test_a_detected_group_that_is_tracked_already_is_left_alone() -> None:
    stream = TrackStream(PointTracker(ReferenceBackend(), TrackerConfig(capacity=20)))
    stream.step(view(0), stamp(0))
    (first,) = stream.add_regions([box(*LEFT)], [5], 4, 0, known=True)
    again, other = stream.add_regions([box(*LEFT), box(*RIGHT)], [5, 6], 4, 0, known=True)
    assert again == first
    assert (other.group, len(other.ids)) == (6, 4)
    assert len(stream.newest([]).tracks.ids) == 8


def test_requests_without_end_are_refused_as_a_whole() -> None:
    stream = TrackStream(PointTracker(ReferenceBackend(), TrackerConfig(capacity=20)))
    many = stream.add_regions([box(*LEFT)] * (MOST_REGIONS + 1), [0] * (MOST_REGIONS + 1), 4, 0)
    assert all(f"more than {MOST_REGIONS}" in region.refusal for region in many)
    (large,) = stream.add_regions([box(*LEFT)], [0], 10**6, 0)
    assert "1000000 points" in large.refusal


@pytest.mark.parametrize("count", [-1, 1.5, "many"])
def test_a_number_of_points_that_is_none_raises(count: Any) -> None:
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(capacity=20))
    with pytest.raises(InvalidPointsError):
        tracker.add_regions([box(*LEFT)], count)


# Messages.


def image(pixels: NDArray[Any], encoding: str, **changes: Any) -> SimpleNamespace:
    height, width = pixels.shape
    fields = {"height": height, "width": width, "encoding": encoding, "step": pixels.strides[0], "is_bigendian": 0}
    return SimpleNamespace(**{**fields, "data": pixels.tobytes(), **changes})


def query(boxes: Any = (), mask: Any = None, **fields: Any) -> SimpleNamespace:
    entries = [SimpleNamespace(x_offset=x, y_offset=y, width=w, height=h, do_rectify=False) for x, y, w, h in boxes]
    empty = image(np.zeros((0, 0), np.uint8), "")
    return SimpleNamespace(**{"boxes": entries, "mask": mask or empty, "labels": [], "groups": [], **fields})


def test_boxes_and_masks_are_read_from_messages() -> None:
    request = requested_regions(query([LEFT, RIGHT], groups=[0, 9]))
    assert [(region.x, region.y, region.width, region.height) for region in request.regions] == [LEFT, RIGHT]
    assert (request.groups, request.labels) == ([0, 9], [0, 0])
    labels = np.zeros((4, 6), ">u2")
    labels[1, 2], labels[3, 5] = 300, 7
    request = requested_regions(query(mask=image(labels, "mono16", is_bigendian=1)))
    assert (request.labels, request.groups) == ([7, 300], [0, 0])
    assert np.argwhere(request.regions[1].inside(6, 4, (4, 6))).tolist() == [[1, 2]]
    request = requested_regions(query(mask=image(labels, "16UC1", is_bigendian=1), labels=[300, 8], groups=[1, 2]))
    assert (request.labels, request.groups) == ([300, 8], [1, 2])


MASK = np.ones((4, 6), np.uint8)
BAD_MESSAGES: dict[str, tuple[type[TaptrError], SimpleNamespace, str]] = {
    "nothing": (InvalidRegionError, query(), "neither boxes nor a mask"),
    "both": (InvalidRegionError, query([LEFT], image(MASK, "mono8")), "both boxes and a mask"),
    "labels without mask": (InvalidRegionError, query([LEFT], labels=[1]), "1 labels but no mask"),
    "groups": (InvalidRegionError, query([LEFT, RIGHT], groups=[1]), "2 regions but 1 groups"),
    "empty mask": (InvalidRegionError, query(mask=image(0 * MASK, "mono8")), "holds no label"),
    "encoding": (InvalidImageError, query(mask=image(MASK, "rgb8")), "encoding is 'rgb8'; send one of mono8, mono16"),
    "truncated": (InvalidImageError, query(mask=image(MASK, "mono8", data=b"123")), "mask's data has 3 bytes"),
    "step": (InvalidImageError, query(mask=image(MASK, "mono16")), "mask's step is 6 bytes"),
    "no height": (InvalidImageError, query(mask=image(MASK, "mono8", height=0)), "mask's width x height is 6x0"),
    "endless": (InvalidImageError, query(mask=image(MASK, "mono8", height=2**31)), "more than"),
}


@pytest.mark.parametrize(("error", "message", "words"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_message_without_usable_regions_is_refused_in_a_sentence(error: Any, message: Any, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        requested_regions(message)
    assert str(caught.value).endswith(".")


def detection(id_: str, x: float, y: float, width: float, height: float, theta: float = 0.0) -> SimpleNamespace:
    centre = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=theta)
    return SimpleNamespace(id=id_, bbox=SimpleNamespace(center=centre, size_x=width, size_y=height))


def test_detections_are_boxes_with_a_centre_and_ids_that_are_numbers_are_groups() -> None:
    ids = ["12", "", "cup", "0", str(2**32), "-3", "٣", "9" * 5000]
    found = detected_regions(SimpleNamespace(detections=[detection(id_, 30.0, 20.0, 21.0, 11.0) for id_ in ids]))
    assert found.groups == [12, 0, 0, 0, 0, 0, 0, 0]
    inside = found.regions[0].inside(WIDTH, HEIGHT, (HEIGHT, WIDTH))
    y, x = np.argwhere(inside).T
    assert (x.min(), x.max(), y.min(), y.max()) == (20, 40, 15, 25)
