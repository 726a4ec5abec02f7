"""Bags: what is written can be read, by everyone, and a damaged one gives what comes before the damage."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from media_files import FIRST_STAMP, PERIOD, image_message, moving_scene, write_bag
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin

from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.messages.tracks import tracks_of
from taptr_ros.sources.bags import BagReader, BagWriter, RecordedMessage
from taptr_ros.sources.frames import STORAGES
from taptr_ros.sources.interfaces import TRACKED_POINTS, serialized_tracks, typestore
from taptr_ros.tracking.states import Tracks

FRAMES = 120
TOPIC = "/camera/image_raw"
STORAGE_FILES = {StoragePlugin.MCAP: "bag.mcap", StoragePlugin.SQLITE3: "bag.db3"}


@pytest.fixture(params=STORAGE_FILES, ids=lambda plugin: plugin.name.lower())
def bag(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bag of 120 images, 4 MB, and a second topic."""
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(FRAMES))]
    return write_bag(tmp_path / "bag", {TOPIC: messages, "/other": messages[:3]}, request.param)


def storage_file(bag: Path) -> Path:
    (path,) = (path for path in bag.iterdir() if path.name != "metadata.yaml")
    return path


def read(bag: Path) -> tuple[list[RecordedMessage], SourceError | None]:
    """The images that can be read, and the error that ends them."""
    messages = []
    try:
        for message in BagReader(bag).messages(TOPIC):
            messages.append(message)  # noqa: PERF402  # those before the error are wanted
    except SourceError as error:
        return messages, error
    return messages, None


def test_a_sound_bag_is_read_whole(bag: Path) -> None:
    reader = BagReader(bag)
    assert {name: (topic.kind, topic.count) for name, topic in reader.topics.items()} == {
        TOPIC: ("sensor_msgs/msg/Image", FRAMES),
        "/other": ("sensor_msgs/msg/Image", 3),
    }
    assert reader.duration == pytest.approx((FRAMES - 1) * PERIOD, abs=2)
    messages, error = read(bag)
    assert error is None
    assert [message.recorded for message in messages] == [FIRST_STAMP + i * PERIOD + 5_000_000 for i in range(FRAMES)]
    assert read(storage_file(bag)) == (messages, None)


def test_a_bag_without_metadata_is_read_whole(bag: Path) -> None:
    expected, _ = read(bag)
    (bag / "metadata.yaml").unlink()
    assert read(bag) == (expected, None)


@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
def test_a_truncated_bag_gives_what_comes_before_the_cut(bag: Path, share: float) -> None:
    expected, _ = read(bag)
    path = storage_file(bag)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    messages, error = read(bag)
    assert error is not None
    assert f"is damaged after {len(messages)} messages on {TOPIC}" in str(error)
    assert messages == expected[: len(messages)]
    # The chunk at the cut is lost: one megabyte, that is 28 images.
    assert len(messages) >= share * FRAMES - 30


@pytest.mark.parametrize("place", range(10))
def test_damage_inside_ends_in_a_sentence_at_worst(bag: Path, place: int) -> None:
    path = storage_file(bag)
    raw = bytearray(path.read_bytes())
    start = len(raw) * place // 10
    raw[start : start + 512] = b"\xff" * 512
    path.write_bytes(raw)
    try:
        messages, error = read(bag)
    except SourceError as refusal:
        assert "cannot be read as a rosbag2" in str(refusal)  # noqa: PT017  # either is right
    else:
        assert len(messages) == FRAMES or error is not None


@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3"])
@pytest.mark.parametrize("content", [b"", b"rubbish" * 100])
def test_rubbish_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"{name} cannot be read as a rosbag2"):
        BagReader(tmp_path / name)


def test_files_of_a_split_recording_follow_each_other(bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
    path = storage_file(bag)
    shutil.copy(path, path.with_stem("later"))
    messages, error = read(bag)
    assert (len(messages), error) == (2 * FRAMES, None)


TRACKS = Tracks(
    ids=np.array([3, 2**63 + 1], np.uint64),
    xy=np.array([[1.5, 2.25], [-0.5, 100.0]], np.float32),
    visibility=np.array([0.75, 0.0], np.float32),
    visible=np.array([True, False]),
    state=np.array([0, 3], np.uint8),
    age=np.array([4, 2**32 - 1], np.uint32),
    frames_since_seen=np.array([0, 7], np.uint32),
    stamp=1_700_000_000_999_999_999,
    width=640,
    height=480,
    scene_cut=False,
)


@pytest.mark.parametrize("storage", STORAGES)
def test_written_tracks_can_be_read_by_rosbags_alone(tmp_path: Path, storage: str) -> None:
    with BagWriter(tmp_path / "out", storage) as writer:
        writer.add_topic("/tracks", TRACKED_POINTS)
        writer.write("/tracks", RecordedMessage(5, serialized_tracks(TRACKS, "camera")))
    with AnyReader([tmp_path / "out"]) as reader:  # knows the type from the bag only
        ((connection, recorded, raw),) = reader.messages()
        message = reader.deserialize(raw, connection.msgtype)
    assert (recorded, message.header.frame_id) == (5, "camera")
    read_back = tracks_of(message)
    for name, value in vars(TRACKS).items():
        np.testing.assert_array_equal(getattr(read_back, name), value)


def test_a_bag_is_complete_also_after_an_error(tmp_path: Path) -> None:
    def write() -> None:
        with BagWriter(tmp_path / "out", "mcap") as writer:
            writer.add_topic("/tracks", TRACKED_POINTS)
            writer.write("/tracks", RecordedMessage(5, serialized_tracks(TRACKS, "camera")))
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        write()
    assert len(list(BagReader(tmp_path / "out").messages("/tracks"))) == 1


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="exists already; name a new folder"):
        BagWriter(tmp_path, "mcap")


def test_types_in_bags_have_the_hashes_of_the_built_interfaces() -> None:
    description = Path(sys.prefix, "share", "taptr_ros", "msg", "TrackedPoints.json")
    if not description.exists():
        pytest.skip("the ROS interfaces are not built here")
    hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(description.read_text())["type_hashes"]}
    for kind in ("TrackedPoints", "TrackedPoint"):
        assert typestore().hash_rihs01(f"taptr_ros/msg/{kind}") == hashes[f"taptr_ros/msg/{kind}"]


def test_ros_reads_the_same_from_a_message_of_a_bag() -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="ROS 2 is not installed")
    messages = pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built")
    message = serialization.deserialize_message(serialized_tracks(TRACKS, "camera"), messages.TrackedPoints)
    assert message.header.frame_id == "camera"
    read_back = tracks_of(message)
    for name, value in vars(TRACKS).items():
        np.testing.assert_array_equal(getattr(read_back, name), value)
