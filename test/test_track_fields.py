"""One line in the table of columns is all that a further field of a track needs."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from taptr_ros.errors import InvalidMessageError
from taptr_ros.messages import tracks as track_messages
from taptr_ros.tracking import Tracks, slot_table, states
from taptr_ros.tracking.states import COLUMNS, column

ROOT = Path(__file__).resolve().parent.parent


def test_the_message_has_the_fields_of_the_table() -> None:
    script = ROOT / "scripts" / "track_message.py"
    if not script.exists():
        pytest.skip("not in the source tree")
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_comments_of_interfaces_hold_no_brackets() -> None:
    """ROS takes a word in brackets for the field's unit, and leaves it out of what it shows."""
    interfaces = [*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]
    if not interfaces:
        pytest.skip("not in the source tree")
    comments = [line.partition("#")[2] for path in interfaces for line in path.read_text().splitlines()]
    assert [comment for comment in comments if "[" in comment] == []
    assert any("Column in pixels" in comment for comment in comments)


@dataclasses.dataclass(frozen=True)
class _Extended(Tracks):
    """Tracks with one more field, written as it would be in `Tracks`."""

    layer: NDArray[np.uint32] = dataclasses.field(
        default=None, metadata=column(np.uint32, {"layer": "Number of the layer"}, in_cloud=True, absent=0)
    )


@pytest.fixture
def extended(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules that read the table, as they are with one more line in it."""
    more = (*COLUMNS, states.Column("layer", **dataclasses.fields(_Extended)[-1].metadata))
    monkeypatch.setattr(states, "COLUMNS", more)
    monkeypatch.setattr(states, "Tracks", _Extended)
    names = ["taptr_ros.tracking.slot_table", "taptr_ros.messages.tracks"]
    if importlib.util.find_spec("sensor_msgs"):
        names += ["taptr_ros.messages.clouds", "taptr_ros.messages.ros"]
    modules = [importlib.reload(importlib.import_module(name)) for name in names]
    yield modules
    monkeypatch.undo()
    for module in modules:
        importlib.reload(module)


def test_a_further_field_is_kept_sent_and_read_back(extended: Any) -> None:
    assert slot_table.RECORD["layer"] == np.uint32
    tracks = _Extended(
        ids=np.array([7, 2**40], np.uint64),
        xy=np.array([[1.5, 2.5], [3.5, 4.5]], np.float32),
        visibility=np.array([0.75, 0.25], np.float32),
        confidence=np.array([0.5, 1.0], np.float32),
        visible=np.array([True, False]),
        state=np.array([0, 1], np.uint8),
        age=np.array([4, 5], np.uint32),
        frames_since_seen=np.array([0, 3], np.uint32),
        stamp=5,
        width=64,
        height=48,
        scene_cut=False,
        stream=3,
        group=np.array([0, 2**32 - 1], np.uint32),
        layer=np.array([8, 9], np.uint32),
    )
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=5))
    message = track_messages.tracked_points(tracks, header, SimpleNamespace, SimpleNamespace)
    assert [point.layer for point in message.points] == [8, 9]
    assert (message.points[1].id, message.points[1].y, message.stream) == (2**40, 4.5, 3)
    back = track_messages.tracks_of(message)
    for field in dataclasses.fields(_Extended):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(tracks, field.name))
    if len(extended) == 4:
        *_, clouds, ros = extended
        names = list(clouds.CLOUD_POINT.names)
        fields = ["visibility", "confidence", "id", "id_high", "group", "layer", "state"]
        assert names == ["x", "y", "z", *fields, "padding"]
        from std_msgs.msg import Header

        cloud = np.frombuffer(ros.point_cloud(tracks, Header()).data, clouds.CLOUD_POINT)
        assert (cloud["layer"].tolist(), cloud["id_high"].tolist()) == ([8, 9], [0, 256])


@given(
    frame_id=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
    points=st.lists(st.tuples(st.integers(1, 2**64 - 1), st.floats(width=32, allow_nan=False)), max_size=5),
    sizes=st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
    stamp=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 10**9 - 1)),
)
def test_serialized_tracks_are_read_as_the_message_is(
    frame_id: str, points: list[tuple[int, float]], sizes: tuple[int, int, int], stamp: tuple[int, int]
) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="ROS 2 is not installed")
    from taptr_ros.msg import TrackedPoint, TrackedPoints

    message = TrackedPoints(width=sizes[0], height=sizes[1], stream=sizes[2])
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    for number, (id_, x) in enumerate(points):
        numbers = {"age": number, "frames_since_seen": 2**32 - 1 - number, "group": number + 7, "state": number % 4}
        message.points.append(TrackedPoint(id=id_, x=x, y=-x, visibility=0.5, confidence=0.25, **numbers))
    expected = track_messages.tracks_of(message)
    data = serialization.serialize_message(message)
    tracks, name = track_messages.tracks_of_serialized(data)
    assert name == frame_id
    for field in dataclasses.fields(Tracks):
        found, wanted = getattr(tracks, field.name), getattr(expected, field.name)
        np.testing.assert_array_equal(found, wanted)
        assert getattr(found, "dtype", None) == getattr(wanted, "dtype", None)
    for length in range(len(data) - 3):  # up to three bytes of padding may follow
        with pytest.raises(InvalidMessageError, match="cannot be read as TrackedPoints"):
            track_messages.tracks_of_serialized(data[:length])
