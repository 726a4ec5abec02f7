"""Every track is what it would have been alone, whatever happens to the others."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference_backend import ReferenceBackend
from streams import HEIGHT, WIDTH, stamp, view

from taptr_ros.runtime.coordinates import UnitCoordinates
from taptr_ros.tracking import PointTracker, TrackerConfig, Tracks, context_renewal

FRAMES = 24
COORDINATES = UnitCoordinates(WIDTH, HEIGHT, corner_aligned=False)


@functools.cache
def features(frame: int):
    return ReferenceBackend().encode(view(frame))


@dataclasses.dataclass
class Memory:
    content: NDArray[np.float32]
    weight: float
    frame: int


class PlainTrack:
    """One track by itself, from the method's words: a list of memories, arrays made anew in every frame."""

    def __init__(self, backend: ReferenceBackend, slots: int, pin: bool, xy, frame: int, decoder_ran: bool) -> None:
        self.backend, self.slots, self.pin = backend, slots, pin
        self.pixels = np.array([xy])
        self.unit = COORDINATES.from_pixels(self.pixels)
        self.query = backend.init_queries(features(frame), self.unit)
        self.context, self.start = self.query.context, frame
        self.state = self.query.state
        self.memories: list[Memory] = []
        self.visibility = 0.999
        content = self.query.content[0]
        if decoder_ran and backend.info.starting_queries_join_decoder:
            content = self.decode(frame, updated=False).content[0]
        self.memories.append(Memory(content, 1.0, frame))

    def decode(self, frame: int, updated: bool):
        arrays = self.backend.allocate(1, max(1, len(self.memories)))
        arrays.start(np.array([0]), dataclasses.replace(self.query, context=self.context))
        arrays.state[:] = self.state
        for slot, memory in enumerate(self.memories):
            weight = np.array([memory.weight], np.float32)
            arrays.remember(np.array([0]), np.array([slot]), memory.content[None], weight, memory.frame)
        previous = features(frame - 1) if updated else None
        return self.backend.decode(features(frame), previous, arrays, 1, len(self.memories), np.array([updated]), frame)

    def step(self, frame: int) -> None:
        decoded = self.decode(frame, updated=True)
        self.unit, self.state, self.visibility = decoded.xy, decoded.state, decoded.visibility[0]
        self.pixels = COORDINATES.to_pixels(decoded.xy)
        self.memories.append(Memory(decoded.content[0], max(float(self.visibility), 1e-7), frame))
        if len(self.memories) > self.slots:
            del self.memories[1 if self.pin else 0]
        renewal = self.backend.info.context_renewal
        tuning = self.backend.info.tuning
        due = context_renewal.due(frame - self.start, tuning)
        if renewal and due and self.visibility >= tuning.renewal_visibility:
            around = self.backend.init_queries(features(frame), self.unit).context
            self.context = context_renewal.renewed(self.context, self.query.context, around, renewal, tuning)


class PlainTracker:
    """The method for many tracks: a dictionary of `PlainTrack`, nothing shared."""

    def __init__(self, backend: ReferenceBackend, slots: int, pin: bool) -> None:
        self.make = functools.partial(PlainTrack, backend, slots, pin)
        self.tracks: dict[int, PlainTrack] = {}
        self.waiting: dict[int, tuple[float, float]] = {}
        self.decoder_ran: list[bool] = []

    def step(self, frame: int) -> None:
        self.decoder_ran.append(bool(self.tracks))
        for track in self.tracks.values():
            track.step(frame)
        for id_, xy in self.waiting.items():
            self.tracks[id_] = self.make(xy=xy, frame=frame, decoder_ran=self.decoder_ran[frame])
        self.waiting = {}

    def add_in_past(self, id_: int, xy, start: int, now: int) -> None:
        self.tracks[id_] = self.make(xy=xy, frame=start, decoder_ran=self.decoder_ran[start])
        for frame in range(start + 1, now + 1):
            self.tracks[id_].step(frame)

    def remove(self, id_: int) -> None:
        self.tracks.pop(id_, None)
        self.waiting.pop(id_, None)


def assert_same(tracks: Tracks, plain: PlainTracker) -> None:
    assert tracks.ids.tolist() == list(plain.tracks)
    for row, track in enumerate(plain.tracks.values()):
        np.testing.assert_allclose(tracks.xy[row] / WIDTH, track.pixels[0] / WIDTH, atol=1e-5)
        np.testing.assert_allclose(tracks.visibility[row], track.visibility, atol=1e-4)


point = st.tuples(st.floats(-0.5, WIDTH - 0.5, width=32), st.floats(-0.5, HEIGHT - 0.5, width=32))
action = st.one_of(
    st.just(("step",)),
    st.just(("step",)),
    st.tuples(st.just("add"), st.lists(point, min_size=1, max_size=3)),
    st.tuples(st.just("add_in_past"), point, st.integers(0, 9)),
    st.tuples(st.just("remove"), st.integers(0, 99)),
    st.just(("clear",)),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    actions=st.lists(action, min_size=10, max_size=45),
    joins=st.booleans(),
    slots=st.integers(1, 7),
    pin=st.booleans(),
    renewal=st.sampled_from((0.0, 0.5)),
)
def test_any_sequence_equals_the_plain_method(actions, joins, slots, pin, renewal):
    capacity = 6
    backend = ReferenceBackend(starting_queries_join_decoder=joins, context_renewal=renewal)
    config = TrackerConfig(capacity=capacity, memory_slots=slots, pin_query_frame=pin, lost_after=0, history_frames=10)
    tracker = PointTracker(backend, config)
    plain = PlainTracker(backend, slots, pin)
    frame = 0
    for name, *arguments in actions:
        present = [*plain.tracks, *plain.waiting]
        if name == "step" and frame < FRAMES:
            plain.step(frame)
            assert_same(tracker.step(view(frame), stamp(frame)), plain)
            frame += 1
        elif name == "add" and len(present) + len(arguments[0]) <= capacity:
            plain.waiting |= dict(zip(tracker.add(arguments[0]).tolist(), arguments[0], strict=True))
        elif name == "add_in_past" and frame > arguments[1] and len(present) < capacity and not plain.waiting:
            start = frame - 1 - arguments[1]
            (id_,) = tracker.add([arguments[0]], stamp=stamp(start)).tolist()
            plain.add_in_past(id_, arguments[0], start, frame - 1)
        elif name == "remove" and present:
            id_ = present[arguments[0] % len(present)]
            tracker.remove([id_])
            plain.remove(id_)
        elif name == "clear":
            tracker.clear()
            plain.tracks, plain.waiting = {}, {}
        assert tracker.ids.tolist() == [*plain.tracks, *plain.waiting]


def test_renewed_contexts_equal_the_plain_method():
    # What points of this stream look like changes little.
    backend = ReferenceBackend(context_renewal=0.5, renewal_similarity=0.99)
    config = TrackerConfig(memory_slots=8, history_frames=FRAMES, history_seconds=10.0)
    tracker, plain = PointTracker(backend, config), PlainTracker(backend, 8, pin=True)
    ids = tracker.add(POINTS).tolist()
    plain.waiting = dict(zip(ids, POINTS.tolist(), strict=True))
    for frame in range(FRAMES - 2):
        plain.step(frame)
        assert_same(tracker.step(view(frame), stamp(frame)), plain)
        if frame == 5:
            tracker.remove([ids[0]])
            plain.remove(ids[0])
        if frame == 11:
            (id_,) = tracker.add([(50.0, 50.0)], stamp=stamp(1)).tolist()
            plain.add_in_past(id_, (50.0, 50.0), 1, frame)
    changes = [np.abs(track.context - track.query.context).max() for track in plain.tracks.values()]
    assert min(changes) > 0.01


def test_contexts_of_points_that_do_not_count_as_visible_stay():
    """However sure the decoder is: a search may just have put such a point back to where it was."""
    config = TrackerConfig(memory_slots=8, visible_threshold=0.99999, visibility_hysteresis=0.0)
    followed = []
    for renewal in (0.0, 0.5):
        tracker = PointTracker(ReferenceBackend(context_renewal=renewal, renewal_similarity=0.99), config)
        tracker.add(POINTS)
        followed.append([tracks.xy for tracks in run(tracker, range(FRAMES))])
    np.testing.assert_array_equal(*followed)


POINTS = np.array([[30.0, 40.0], [80.5, 60.25], [120.0, 90.0], [100.0, 30.0]])


def run(tracker: PointTracker, frames: range) -> list[Tracks]:
    return [tracker.step(view(frame), stamp(frame)) for frame in frames]


@pytest.fixture
def alone():
    """Positions of each point tracked alone from frame 5 on, [T,N,2]."""
    columns = []
    for xy in POINTS:
        tracker = PointTracker(ReferenceBackend(), TrackerConfig(memory_slots=8))
        run(tracker, range(5))
        tracker.add([xy])
        columns.append([tracks.xy[0] for tracks in run(tracker, range(5, FRAMES))])
    return np.array(columns).swapaxes(0, 1)


def test_together_equals_alone(alone):
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(memory_slots=8))
    run(tracker, range(5))
    tracker.add(POINTS)
    together = np.array([tracks.xy for tracks in run(tracker, range(5, FRAMES))])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.ptp(together, axis=0).min() > 1.0  # they move, so that there is something to compare


def test_added_among_others_and_others_removed_equals_alone(alone):
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(memory_slots=8))
    others = tracker.add(POINTS + 3.0)
    run(tracker, range(5))
    ids = tracker.add(POINTS)
    early = run(tracker, range(5, 12))
    tracker.remove(others[::2])
    late = run(tracker, range(12, FRAMES))
    xy = np.array([tracks.xy[np.isin(tracks.ids, ids)] for tracks in [*early, *late]])
    np.testing.assert_allclose(xy, alone, atol=1e-4)


def test_removed_and_added_again_equals_alone(alone):
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(memory_slots=8))
    tracker.add(POINTS[::-1], ids=[4, 3, 2, 1])
    run(tracker, range(5))
    tracker.remove([1, 2, 3, 4])
    tracker.add(POINTS, ids=[1, 2, 3, 4])
    xy = np.array([tracks.xy for tracks in run(tracker, range(5, FRAMES))])
    np.testing.assert_allclose(xy, alone, atol=1e-4)


def test_added_with_a_past_stamp_equals_added_in_time(alone):
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(memory_slots=8))
    others = tracker.add(POINTS + 3.0)
    run(tracker, range(14))
    ids = tracker.add(POINTS, stamp=stamp(5))
    late = run(tracker, range(14, FRAMES))
    xy = np.array([tracks.xy[np.isin(tracks.ids, ids)] for tracks in late])
    np.testing.assert_allclose(xy, alone[14 - 5 :], atol=1e-4)
    assert late[0].age[np.isin(late[0].ids, ids)].tolist() == [9] * len(POINTS)

    undisturbed = PointTracker(ReferenceBackend(), TrackerConfig(memory_slots=8))
    undisturbed.add(POINTS + 3.0)
    expected = run(undisturbed, range(FRAMES))[14:]
    for tracks, without in zip(late, expected, strict=True):
        np.testing.assert_allclose(tracks.xy[np.isin(tracks.ids, others)], without.xy, atol=1e-4)


@pytest.mark.parametrize("joins", [False, True])
def test_a_starting_point_joins_the_others_when_the_method_says_so(joins):
    def others(newcomers: int) -> list[Tracks]:
        backend = ReferenceBackend(self_attention=True, starting_queries_join_decoder=joins)
        tracker = PointTracker(backend, TrackerConfig(support="none"))
        tracker.add(POINTS[:2])
        run(tracker, range(5))
        tracker.add(POINTS[2 : 2 + newcomers])
        return run(tracker, range(5, 8))

    for frame, (alone, accompanied) in enumerate(zip(others(0), others(2), strict=True)):
        influenced = np.abs(alone.xy - accompanied.xy[:2]).max() > 1e-3
        assert influenced == (joins or frame > 0)


@pytest.mark.parametrize("joins", [False, True])
def test_a_past_point_starts_with_the_decoder_where_it_ran_and_the_method_says_so(joins):
    def late_and_in_time(others: int) -> tuple[Tracks, Tracks]:
        tracks = []
        for late in (True, False):
            tracker = PointTracker(ReferenceBackend(starting_queries_join_decoder=joins), TrackerConfig(memory_slots=8))
            tracker.add(POINTS[:others])
            run(tracker, range(5))
            if not late:
                tracker.add(POINTS[3:])
            run(tracker, range(5, 9))
            if late:
                tracker.add(POINTS[3:], stamp=stamp(5))
            tracks.append(run(tracker, range(9, 12))[-1])
        return tracks[0], tracks[1]

    finals = []
    for others in (0, 1):
        late, in_time = late_and_in_time(others)
        np.testing.assert_allclose(late.xy, in_time.xy, atol=1e-4)
        finals.append(late.xy[-1])
    assert (np.abs(finals[0] - finals[1]).max() > 1e-3) == joins


def test_memory_reaches_the_decoder():
    """With less memory the same track differs: the comparisons above would show a forgotten slot."""
    paths = []
    for slots in (1, 3, 512):
        tracker = PointTracker(ReferenceBackend(), TrackerConfig(memory_slots=slots))
        tracker.add(POINTS)
        paths.append(run(tracker, range(FRAMES))[-1].xy)
    assert np.abs(paths[0] - paths[1]).max() > 1e-2
    assert np.abs(paths[1] - paths[2]).max() > 1e-2
