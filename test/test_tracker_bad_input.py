"""Every kind of bad input raises its exception, says what to do, and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from reference_backend import ReferenceBackend
from streams import HEIGHT, WIDTH, stamp, view

from taptr_ros.errors import (
    CapacityError,
    DuplicateIdError,
    InvalidImageError,
    InvalidPointsError,
    InvalidStampError,
    TaptrError,
    UnknownIdError,
)
from taptr_ros.tracking import PointTracker, TrackerConfig

STARTED = 6
INSIDE = [20.0, 20.0]
IMAGE = view(STARTED)
NOW = stamp(STARTED)


def make_tracker() -> PointTracker:
    """A tracker in mid-stream: ids 1 and 2 tracked, 3 waiting for the next image, 4 for a stamp to come."""
    tracker = PointTracker(ReferenceBackend(), TrackerConfig(capacity=6, memory_slots=8, history_frames=4))
    tracker.add([[40.0, 40.0], [100.0, 80.0]])
    for frame in range(STARTED):
        tracker.step(view(frame), stamp(frame))
    tracker.add([[60.0, 60.0]])
    tracker.add([[80.0, 60.0]], stamp=stamp(STARTED + 2))
    return tracker


def outcome(tracker: PointTracker) -> list[np.ndarray]:
    """Everything that can be seen of a tracker from now on."""
    seen = [tracker.ids, tracker.add([INSIDE], stamp=stamp(STARTED - 1))]
    for frame in range(STARTED, STARTED + 5):
        tracks = tracker.step(view(frame), stamp(frame))
        seen += [tracks.ids, tracks.xy, tracks.visibility, tracks.state, tracks.age, tracks.frames_since_seen]
        seen += [np.array([tracks.scene_cut, tracks.stamp])]
    return seen


EXPECTED = outcome(make_tracker())

BAD_CALLS = {
    "nan point": (InvalidPointsError, lambda t: t.add([INSIDE, [np.nan, 5.0]])),
    "infinite point": (InvalidPointsError, lambda t: t.add([[5.0, np.inf]])),
    "point left of the image": (InvalidPointsError, lambda t: t.add([[-0.51, 5.0]])),
    "point right of the image": (InvalidPointsError, lambda t: t.add([INSIDE, [WIDTH - 0.49, 5.0]])),
    "point above the image": (InvalidPointsError, lambda t: t.add([[5.0, -1.0]])),
    "point below the image": (InvalidPointsError, lambda t: t.add([[5.0, HEIGHT]])),
    "points of the wrong shape": (InvalidPointsError, lambda t: t.add([[1.0, 2.0, 3.0]])),
    "one point without brackets": (InvalidPointsError, lambda t: t.add([1.0, 2.0])),
    "points that are words": (InvalidPointsError, lambda t: t.add([["left", "top"]])),
    "ragged points": (InvalidPointsError, lambda t: t.add([[1.0, 2.0], [3.0]])),
    "fewer ids than points": (InvalidPointsError, lambda t: t.add([INSIDE, INSIDE], ids=[8])),
    "negative id": (InvalidPointsError, lambda t: t.add([INSIDE], ids=[-1])),
    "id beyond 64 bits": (InvalidPointsError, lambda t: t.add([INSIDE], ids=[2**64])),
    "id with a fraction": (InvalidPointsError, lambda t: t.add([INSIDE], ids=[1.5])),
    "id of a live track": (DuplicateIdError, lambda t: t.add([INSIDE], ids=[2])),
    "id of a waiting point": (DuplicateIdError, lambda t: t.add([INSIDE, INSIDE], ids=[9, 4])),
    "one id twice": (DuplicateIdError, lambda t: t.add([INSIDE, INSIDE], ids=[9, 9])),
    "too many points": (CapacityError, lambda t: t.add([INSIDE] * 3)),
    "too many points for a past frame": (CapacityError, lambda t: t.add([INSIDE] * 3, stamp=stamp(4))),
    "query stamp before the history": (InvalidStampError, lambda t: t.add([INSIDE], stamp=stamp(0))),
    "query stamp that is no number": (InvalidStampError, lambda t: t.add([INSIDE], stamp=1.5)),
    "query stamp of another clock": (InvalidStampError, lambda t: t.add([INSIDE], stamp=NOW + 11 * 10**9)),
    "past query with a live id": (DuplicateIdError, lambda t: t.add([INSIDE], ids=[1], stamp=stamp(4))),
    "unknown id": (UnknownIdError, lambda t: t.remove([1, 77])),
    "id 0 removed": (UnknownIdError, lambda t: t.remove([0])),
    "removal of one id twice": (DuplicateIdError, lambda t: t.remove([1, 1])),
    "removal by name": (InvalidPointsError, lambda t: t.remove(["one"])),
    "fewer groups than points": (InvalidPointsError, lambda t: t.add([INSIDE, INSIDE], groups=[8])),
    "group beyond 32 bits": (InvalidPointsError, lambda t: t.add([INSIDE], groups=[2**32])),
    "unknown group": (UnknownIdError, lambda t: t.remove([1], groups=[5])),
    "group 0 removed": (UnknownIdError, lambda t: t.remove(groups=[0])),
    "removal of one group twice": (DuplicateIdError, lambda t: t.remove([1], groups=[5, 5])),
    "no image": (InvalidImageError, lambda t: t.step(None, NOW)),
    "float image": (InvalidImageError, lambda t: t.step(IMAGE.astype(np.float32), NOW)),
    "16-bit image": (InvalidImageError, lambda t: t.step(IMAGE.astype(np.uint16), NOW)),
    "grey image": (InvalidImageError, lambda t: t.step(IMAGE[:, :, 0], NOW)),
    "image with alpha": (InvalidImageError, lambda t: t.step(np.dstack([IMAGE, IMAGE[:, :, :1]]), NOW)),
    "empty image": (InvalidImageError, lambda t: t.step(IMAGE[:0], NOW)),
    "image of another size": (InvalidImageError, lambda t: t.step(np.ascontiguousarray(IMAGE[:-1]), NOW)),
    "repeated stamp": (InvalidStampError, lambda t: t.step(IMAGE, stamp(STARTED - 1))),
    "stamp that goes back": (InvalidStampError, lambda t: t.step(IMAGE, stamp(2))),
    "stamp in seconds": (InvalidStampError, lambda t: t.step(IMAGE, 1e9)),
    "no stamp": (InvalidStampError, lambda t: t.step(IMAGE, None)),
}


@pytest.mark.parametrize(("error", "call"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_raises_and_changes_nothing(error, call):
    tracker = make_tracker()
    with pytest.raises(TaptrError) as caught:
        call(tracker)
    assert type(caught.value) is error
    message = str(caught.value)
    assert message.endswith(".")
    assert len(message) > 30
    for seen, expected in zip(outcome(tracker), EXPECTED, strict=True):
        np.testing.assert_array_equal(seen, expected)


def test_an_image_of_another_size_is_told_to_reset():
    tracker = make_tracker()
    with pytest.raises(InvalidImageError, match="160x100 pixels but the stream 160x120; reset"):
        tracker.step(np.ascontiguousarray(IMAGE[:100]), NOW)


def test_the_corners_of_the_image_area_are_inside():
    tracker = make_tracker()
    tracker.add([[-0.5, -0.5], [WIDTH - 0.5, HEIGHT - 0.5]])
    tracks = tracker.step(IMAGE, NOW)
    np.testing.assert_allclose(tracks.xy[-2:], [[-0.5, -0.5], [WIDTH - 0.5, HEIGHT - 0.5]], atol=1e-4)


def test_before_the_first_image_what_can_be_known_is_refused_at_once():
    tracker = PointTracker(ReferenceBackend())
    for bad in ([np.nan, 1.0], [-1.0, 1.0]):
        with pytest.raises(InvalidPointsError):
            tracker.add([bad])
    assert len(tracker.ids) == 0


def test_points_outside_the_first_image_are_dropped_and_reported_once():
    tracker = PointTracker(ReferenceBackend())
    tracker.add([INSIDE, [WIDTH + 10.0, 5.0], [30.0, 30.0]], ids=[5, 6, 7])
    tracks = tracker.step(view(0), stamp(0))
    (refused,) = tracks.refused
    assert refused.id == 6
    assert "(170, 5) is outside the image of 160x120" in refused.reason
    assert tracks.ids.tolist() == tracker.ids.tolist() == [5, 7]
    np.testing.assert_allclose(tracks.xy, [INSIDE, [30.0, 30.0]], atol=1e-4)
    assert not tracker.step(view(1), stamp(1)).refused
