"""Pairing by stamp, and the stream of tracks, depth images and CameraInfo: what is used, counted and said."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bodies_camera import info

from taptr_ros.bodies.config import BodiesConfig
from taptr_ros.bodies.depth_image import DepthImage
from taptr_ros.bodies.pairing import Pair, StampPairs
from taptr_ros.bodies.rigid_bodies import BodyState
from taptr_ros.bodies.stream import BodyStream, PlacedTracks, StampedDepth
from taptr_ros.errors import InvalidDepthError
from taptr_ros.tracking import Tracks

MILLISECOND = 1_000_000
PERIOD = 33 * MILLISECOND
CAMERA = "camera_optical_frame"


def pairs(tolerance: int = 10, kept: int = 1000) -> StampPairs[int, int]:
    return StampPairs(tolerance * MILLISECOND, kept * MILLISECOND)


def found(settled: list[Pair[int, int]]) -> list[tuple[int, int | None]]:
    return [(pair.tracks, pair.depth) for pair in settled]


def feed(stamps: StampPairs[int, int], kind: str, *milliseconds: int) -> list[tuple[int, int | None]]:
    add = stamps.add_tracks if kind == "tracks" else stamps.add_depth
    return [entry for stamp in milliseconds for entry in found(add(stamp * MILLISECOND, stamp))]


def test_an_equal_stamp_is_taken_at_once_whichever_comes_first() -> None:
    stamps = pairs()
    assert feed(stamps, "depth", 0, 33) == []
    assert feed(stamps, "tracks", 0, 33, 66) == [(0, 0), (33, 33)]
    assert feed(stamps, "depth", 66) == [(66, 66)]


def test_an_equal_stamp_wins_over_one_that_came_before() -> None:
    stamps = pairs()
    assert feed(stamps, "depth", 95) == []
    assert feed(stamps, "tracks", 100) == []  # 95 would do, but 100 may come
    assert feed(stamps, "depth", 100) == [(100, 100)]


def test_the_nearest_within_the_tolerance_is_taken_once_a_later_one_has_come() -> None:
    stamps = pairs()
    assert feed(stamps, "depth", 92) == []
    assert feed(stamps, "tracks", 100) == []
    assert feed(stamps, "depth", 105) == [(100, 105)]
    assert feed(stamps, "tracks", 130) == []
    assert feed(stamps, "depth", 141) == [(130, None)]


def test_tracks_do_not_wait_for_ever() -> None:
    stamps = pairs(kept=50)
    feed(stamps, "depth", 95)
    assert feed(stamps, "tracks", 100, 133) == []
    assert feed(stamps, "tracks", 166) == [(100, 95)]
    assert found(stamps.finish()) == [(133, None), (166, None)]


def test_stamps_that_never_match_say_how_far_they_are_apart() -> None:
    stamps = pairs()
    feed(stamps, "depth", 5000)
    (pair,) = stamps.add_tracks(0, 0)
    assert (pair.depth, pair.apart) == (None, 5000 * MILLISECOND)
    stamps = pairs()
    stamps.add_tracks(0, 0)
    (pair,) = stamps.finish()
    assert (pair.depth, pair.apart) == (None, None)


def test_depth_images_that_jump_back_begin_anew() -> None:
    stamps = pairs()
    feed(stamps, "depth", 9000, 9033)
    assert feed(stamps, "depth", 0) == []
    assert feed(stamps, "tracks", 0) == [(0, 0)]


@settings(max_examples=200, deadline=None)
@given(
    tracks=st.lists(st.integers(0, 400), unique=True, max_size=12).map(sorted),
    depths=st.lists(st.integers(0, 400), unique=True, max_size=12).map(sorted),
    tolerance=st.integers(0, 60),
    order=st.randoms(use_true_random=False),
)
def test_pairs_are_those_of_brute_force_in_whatever_order_topics_come(
    tracks: list[int], depths: list[int], tolerance: int, order: Any
) -> None:
    """Each topic in its order, but mixed at random: the nearest depth image of all, if it is near enough."""
    stamps = pairs(tolerance)
    settled: list[tuple[int, int | None]] = []
    left = {"tracks": tracks[:], "depth": depths[:]}
    while left["tracks"] or left["depth"]:
        kind = order.choice([name for name, waiting in left.items() if waiting])
        settled += feed(stamps, kind, left[kind].pop(0))
    settled += found(stamps.finish())
    assert [stamp for stamp, _ in settled] == tracks
    for stamp, depth in settled:
        best = min((abs(other - stamp) for other in depths), default=None)
        if best is None or best > tolerance:
            assert depth is None
        else:
            assert depth is not None
            assert abs(depth - stamp) == best


# The stream.

WIDTH, HEIGHT = 640, 480


def tracks_at(number: int, *, stream: int = 1, **more: Any) -> Tracks:
    rng = np.random.default_rng(0)
    count = 12
    fields: dict[str, Any] = {
        "ids": np.arange(1, count + 1, dtype=np.uint64),
        "group": np.repeat(np.uint32(1), count),
        "xy": (rng.uniform(100, 380, (count, 2)) + np.array([number, 0])).astype(np.float32),
        "visibility": np.ones(count, np.float32),
        "confidence": np.ones(count, np.float32),
        "visible": np.ones(count, np.bool_),
        "state": np.zeros(count, np.uint8),
        "age": np.zeros(count, np.uint32),
        "frames_since_seen": np.zeros(count, np.uint32),
        "stamp": number * PERIOD,
        "width": WIDTH,
        "height": HEIGHT,
        "scene_cut": False,
        "stream": stream,
    }
    return Tracks(**(fields | more))


def depth_of(number: int, frame_id: str = CAMERA, size: tuple[int, int] = (HEIGHT, WIDTH), value: float = 1.0) -> Any:
    image = DepthImage(np.full(size, value, np.float32), 1.0)
    return StampedDepth(number * PERIOD, frame_id, lambda: image)


class Heard:
    """A stream, and what it says."""

    def __init__(self, *, calibrated: bool = True, **settings_: Any) -> None:
        self.reports: list[str] = []
        self.stream = BodyStream(BodiesConfig(**settings_), self.reports.append)
        if calibrated:
            self.stream.add_camera_info(info(), 0, CAMERA)

    def frame(self, number: int, depth: Any = None, **more: Any) -> list[PlacedTracks]:
        placed = self.stream.add_depth(depth or depth_of(number))
        return placed + self.stream.add_tracks(tracks_at(number, **more), CAMERA)


def test_points_and_bodies_come_with_the_header_of_their_image() -> None:
    heard = Heard()
    for number in range(5):
        (placed,) = heard.frame(number)
        assert (placed.lifted.tracks.stamp, placed.frame_id) == (number * PERIOD, CAMERA)
    (body,) = placed.bodies
    assert body.state == BodyState.TRACKED
    # Four pixels to the right at one metre.
    np.testing.assert_allclose(body.motion.translation, [4 / 520, 0, 0], atol=1e-4)
    np.testing.assert_allclose(placed.lifted.xyz[:, 2], 1.0)
    assert (heard.reports, heard.stream.counts.placed) == ([], 5)


def test_hidden_points_and_points_without_depth_have_no_place() -> None:
    state = np.array([0, 1, 2, 3] * 3, np.uint8)
    (placed,) = Heard().frame(0, state=state)
    assert np.isfinite(placed.lifted.xyz).all(axis=1).tolist() == (state == 0).tolist()
    (placed,) = Heard().frame(0, depth_of(0, value=np.nan))
    assert np.isnan(placed.lifted.xyz).all()
    assert [body.state for body in placed.bodies] == [BodyState.WAITING]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (
            depth_of(1, size=(240, 320)),
            "depth image has 320x240 pixels, but the tracked image 640x480: it is not regis",
        ),
        (depth_of(1, frame_id="camera_depth_optical_frame"), "frame_id is 'camera_depth_optical_frame', but the track"),
    ],
)
def test_a_depth_image_that_is_not_registered_is_refused_with_what_registers_it(bad: Any, words: str) -> None:
    heard = Heard()
    assert len(heard.frame(0)) == 1
    assert heard.frame(1, bad) == []
    (report,) = heard.reports
    assert words in report
    assert "depth_image_proc" in report
    assert len(heard.frame(2)) == 1
    assert dataclasses.astuple(heard.stream.counts)[:3] == (2, 0, 1)


def test_a_depth_image_that_cannot_be_read_costs_one_frame() -> None:
    def broken() -> DepthImage:
        raise InvalidDepthError("The depth image is broken; repair it.")

    heard = Heard()
    assert heard.frame(0, StampedDepth(0, CAMERA, broken)) == []
    assert heard.reports == ["The depth image is broken; repair it."]
    assert len(heard.frame(1)) == 1


def test_without_a_camera_info_nothing_is_guessed() -> None:
    heard = Heard(calibrated=False)
    assert heard.frame(0) == []
    assert "No camera_info has come yet" in heard.reports[0]
    heard.stream.add_camera_info(info(k=np.zeros(9)), PERIOD, CAMERA)
    assert heard.frame(1) == []
    assert "k is all zero" in heard.reports[1]
    heard.stream.add_camera_info(info(), 2 * PERIOD, CAMERA)
    assert len(heard.frame(2)) == 1


def test_a_camera_info_that_changes_counts_from_its_stamp_on() -> None:
    heard = Heard()
    (before,) = heard.frame(0)
    wider = np.array([260.0, 0, 322.5, 0, 257.5, 236.25, 0, 0, 1])
    heard.stream.add_camera_info(info(k=wider), 2 * PERIOD, CAMERA)
    for number in (0, 2, 3):
        heard.stream.add_camera_info(info(k=wider), number * PERIOD, CAMERA)  # the same again says nothing
    assert heard.reports == ["camera_info has changed in mid-stream; the new one counts from its stamp on."]
    (same,) = heard.frame(1)
    (after,) = heard.frame(2, xy=before.lifted.tracks.xy)
    np.testing.assert_allclose(after.lifted.xyz[:, :2], 2 * before.lifted.xyz[:, :2], rtol=1e-6)
    assert np.abs(same.lifted.xyz[:, 0] - before.lifted.xyz[:, 0]).max() < 0.003


def test_a_camera_info_of_another_size_or_frame_is_refused() -> None:
    heard = Heard(calibrated=False)
    heard.stream.add_camera_info(info(width=1280), 0, CAMERA)
    assert heard.frame(0) == []
    assert "camera_info describes images of 1280x480" in heard.reports[-1]
    heard.stream.add_camera_info(info(), PERIOD, "other_camera")
    assert heard.frame(1) == []
    assert "camera_info's frame_id is 'other_camera'" in heard.reports[-1]


def test_stamps_that_never_match_are_counted_and_said() -> None:
    heard = Heard()
    for number in range(5):
        assert heard.frame(number, depth_of(number + 1000)) == []
    assert heard.stream.counts.unpaired == 5
    assert "is 33.000 s later than the tracked image, more than depth_tolerance (0.02 s)" in heard.reports[0]


def test_a_new_stream_begins_with_new_bodies() -> None:
    heard = Heard()
    for number in range(4):
        heard.frame(number)
    (placed,) = heard.frame(4, stream=2)
    np.testing.assert_array_equal(placed.bodies[0].motion.translation, 0.0)


@pytest.mark.parametrize("points", [12, 8])
def test_a_tracker_that_is_started_again_begins_new_bodies(points: int) -> None:
    """It counts its streams, groups and ids from 1, as the one before it did."""
    heard = Heard()
    for number in range(4):
        heard.frame(number, age=np.full(12, number, np.uint32))
    (placed,) = heard.frame(4, age=np.full(12, 4, np.uint32))
    assert placed.bodies[0].motion.translation[0] > 0.005
    names = [field.name for field in dataclasses.fields(Tracks)]
    fields = {name: getattr(tracks_at(5), name) for name in names}
    few = {name: value[:points] for name, value in fields.items() if isinstance(value, np.ndarray)}
    (placed,) = heard.frame(5, **few)
    np.testing.assert_array_equal(placed.bodies[0].motion.translation, 0.0)


def test_a_bag_that_begins_again_begins_new_bodies() -> None:
    """Half a second long, so that all its depth images are remembered."""
    heard = Heard()
    for _ in range(2):
        for number in range(15):
            (placed,) = heard.frame(number)
            assert placed.lifted.tracks.stamp == number * PERIOD
            if number == 0:
                np.testing.assert_array_equal(placed.bodies[0].motion.translation, 0.0)
    assert heard.reports == []


def test_every_second_image_is_placed_with_depth_at_half_the_rate() -> None:
    heard = Heard()
    stamps = []
    for number in range(20):
        placed = heard.stream.add_depth(depth_of(number)) if number % 2 == 0 else []
        placed += heard.stream.add_tracks(tracks_at(number), CAMERA)
        stamps += [entry.lifted.tracks.stamp // PERIOD for entry in placed]
    assert stamps == [*range(0, 20, 2)]
    assert "more than depth_tolerance (0.02 s)" in heard.reports[0]


def test_nothing_is_published_twice_or_out_of_order() -> None:
    heard = Heard()
    stamps = [placed.lifted.tracks.stamp for number in range(20) for placed in heard.frame(number)]
    assert stamps == [number * PERIOD for number in range(20)]
    assert heard.stream.finish() == []


def test_no_tracks_at_all_are_placed_as_none() -> None:
    empty = {
        name: getattr(tracks_at(0), name)[:0]
        for name in ("ids", "group", "xy", "visibility", "confidence", "visible", "state", "age", "frames_since_seen")
    }
    (placed,) = Heard().frame(0, **empty)
    assert (placed.lifted.xyz.shape, placed.bodies) == ((0, 3), [])


def test_settings_of_the_camera_reach_it() -> None:
    heard = Heard(rectified=True, calibrated=False)
    heard.stream.add_camera_info(info("fov", [0.9]), 0, CAMERA)  # of no use to rectified images
    assert len(heard.frame(0)) == 1


@pytest.mark.filterwarnings("error")
def test_nothing_that_arrives_ends_the_stream() -> None:
    """Cameras, depths and positions from anywhere in the range of their numbers; after them, good ones are placed."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        heard = Heard(rectified=bool(rng.random() < 0.2))
        for number in range(8):
            d = rng.normal(0, 10.0 ** rng.integers(-3, 6), rng.choice([0, 4, 5, 8]))
            k = np.array([10.0 ** rng.uniform(-3, 8), 0, 300, 0, 10.0 ** rng.uniform(-3, 8), 200, 0, 0, 1.0])
            model = str(rng.choice(["plumb_bob", "rational_polynomial", "equidistant", "fov", ""]))
            heard.stream.add_camera_info(info(model, d, k=k), number * PERIOD, CAMERA)
            if rng.random() < 0.5:
                heard.stream.add_camera_info(info(), number * PERIOD, CAMERA)
            values = rng.normal(1, 10.0 ** rng.integers(-4, 30), (HEIGHT, WIDTH)).astype(np.float32)
            values[rng.random(values.shape) < rng.random()] = rng.choice([np.nan, np.inf, 0.0, 1.0])
            xy = rng.uniform(100, 380, (12, 2)).astype(np.float32)
            strange = rng.integers(5)
            if strange == 0:
                xy[:] = xy[0]
            elif strange == 1:
                xy[:, 1] = xy[:, 0]
            elif strange == 2:
                xy *= np.float32(10.0 ** rng.integers(0, 35))
            elif strange == 3:
                xy[rng.integers(12)] = np.nan
            image = DepthImage(values, 1.0)
            state = (rng.integers(0, 5, 12) * (rng.random(12) < 0.3)).astype(np.uint8)
            depth = StampedDepth(number * PERIOD, CAMERA, lambda image=image: image)
            heard.frame(number, depth, xy=xy, group=rng.integers(0, 4, 12).astype(np.uint32), state=state)
        counts = heard.stream.counts
        assert counts.placed + counts.refused == 8
        heard.stream.add_camera_info(info(), 8 * PERIOD, CAMERA)
        assert len(heard.frame(8)) == 1
