"""Bags: what is written can be read, by everyone, and a damaged one gives what comes before the damage."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from mcap.writer import Writer as McapWriter
from media_files import FIRST_STAMP, PERIOD, image_message, moving_scene, write_bag
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin

from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.messages.tracks import tracks_of
from taptr_ros.sources.bag_source import BagSource
from taptr_ros.sources.bags import BagReader, BagWriter, RecordedMessage
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


def split_bag(path: Path, parts: int, storage: StoragePlugin) -> tuple[Path, list[int]]:
    """A bag split into files of two images each, numbered without leading zeros, and its times of recording."""
    path.mkdir()
    times = []
    scene = moving_scene(2 * parts)
    for part in range(parts):
        messages = [image_message(index, scene[index]) for index in (2 * part, 2 * part + 1)]
        source = write_bag(path.parent / f"part{part}", {TOPIC: messages}, storage)
        file = next(file for file in source.iterdir() if file.name != "metadata.yaml")
        shutil.move(file, path / f"bag_{part}{file.suffix}")
        # What tells the parts apart: every image has the stamp of its place in the whole.
        times += [FIRST_STAMP + index * PERIOD for index in (2 * part, 2 * part + 1)]
    return path, times


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_files_of_a_split_recording_follow_each_other_in_the_order_of_their_numbers(
    tmp_path: Path, storage: StoragePlugin
) -> None:
    bag, stamps = split_bag(tmp_path / "bag", 12, storage)
    source = BagSource(bag, None)
    assert source.frame_count == 24
    assert [frame.stamp for frame in source] == stamps


def test_a_damaged_file_of_a_split_recording_costs_only_what_is_in_it(tmp_path: Path) -> None:
    bag, stamps = split_bag(tmp_path / "bag", 3, StoragePlugin.MCAP)
    (bag / "bag_1.mcap").write_bytes(b"rubbish")
    frames = iter(BagSource(bag, None))
    assert [next(frames).stamp for _ in range(4)] == [*stamps[:2], *stamps[4:]]
    with pytest.raises(SourceError, match=r"damaged after 4 messages .*bag_1\.mcap"):
        next(frames)


@pytest.mark.parametrize("change", ["qos", "count", "topic", "rubbish"])
def test_metadata_that_does_not_fit_the_storage_changes_nothing(bag: Path, change: str) -> None:
    expected, _ = read(bag)
    path = bag / "metadata.yaml"
    text = path.read_text()
    changed = {
        "qos": re.sub(r"offered_qos_profiles:.*", "offered_qos_profiles: [{depth: 99}]", text),
        "count": re.sub(r"message_count: \d+", "message_count: 77777", text),
        "topic": text.replace(TOPIC, "/another"),
        "rubbish": "]",
    }[change]
    assert changed != text
    path.write_text(changed)
    assert BagReader(bag).topics[TOPIC].count == FRAMES
    assert read(bag) == (expected, None)


def test_a_storage_file_without_messages_is_refused_whatever_the_metadata_says(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", {TOPIC: [image_message(0, moving_scene(1)[0])]}, StoragePlugin.SQLITE3)
    with sqlite3.connect(bag / "bag.db3") as connection:
        connection.execute("DELETE FROM messages")
    with pytest.raises(SourceError, match=f"holds no message on {TOPIC}"):
        BagSource(bag, None)


@pytest.mark.parametrize("checkpointed", [0, 5])
def test_messages_in_the_write_ahead_log_of_a_killed_recorder_are_read(tmp_path: Path, checkpointed: int) -> None:
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(12))]
    live = write_bag(tmp_path / "live", {TOPIC: messages}, StoragePlugin.SQLITE3) / "live.db3"
    rows = sqlite3.connect(live).execute("SELECT id, topic_id, timestamp, data FROM messages ORDER BY id").fetchall()
    connection = sqlite3.connect(live)
    connection.execute("DELETE FROM messages WHERE id > ?", (rows[checkpointed][0] - 1,))
    connection.commit()
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows[checkpointed:])
    connection.commit()
    bag = tmp_path / "bag"
    shutil.copytree(live.parent, bag)  # as a power cut leaves it
    connection.close()
    before = {file: file.read_bytes() for file in bag.iterdir()}
    assert (bag / "live.db3-wal").stat().st_size
    read_back, error = read(bag)
    assert ([message.recorded for message in read_back], error) == ([row[2] for row in rows], None)
    assert {file: file.read_bytes() for file in bag.iterdir()} == before


@pytest.mark.parametrize("how", ["file.zstd", "file.zst", "file of a folder.zstd", "messages"])
def test_compressed_bags_are_read_without_metadata(bag: Path, how: str) -> None:
    expected, _ = read(bag)
    (bag / "metadata.yaml").unlink()
    path = storage_file(bag)
    compress = zstandard.ZstdCompressor().compress
    if how == "messages":
        if path.suffix != ".db3":
            pytest.skip("one storage format is enough")
        with sqlite3.connect(path) as connection:
            for number, data in connection.execute("SELECT id, data FROM messages").fetchall():
                connection.execute("UPDATE messages SET data = ? WHERE id = ?", (compress(data), number))
    else:
        where, _, suffix = how.partition(".")
        compressed = path.with_name(f"{path.name}.{suffix}")
        compressed.write_bytes(compress(path.read_bytes()))
        path.unlink()
        bag = compressed if where == "file" else bag
    assert read(bag) == (expected, None)


def test_a_file_that_was_compressed_and_left_is_read_once(bag: Path) -> None:
    expected, _ = read(bag)
    path = storage_file(bag)
    path.with_name(path.name + ".zstd").write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    assert read(bag) == (expected, None)


def test_a_damaged_compressed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bag_0.mcap.zstd").write_bytes(b"rubbish")
    with pytest.raises(SourceError, match=r"bag_0\.mcap\.zstd cannot be unpacked"):
        BagReader(tmp_path)


def test_a_recording_of_ros_1_is_named_as_such(tmp_path: Path) -> None:
    with (tmp_path / "old.mcap").open("wb") as file:
        writer = McapWriter(file)
        writer.start(profile="ros1")
        schema = writer.register_schema("sensor_msgs/Image", "ros1msg", b"")
        writer.add_message(writer.register_channel("/image", "ros1", schema), 5, b"data", 5)
        writer.finish()
    with pytest.raises(SourceError, match="recording of ROS 1"):
        BagSource(tmp_path / "old.mcap", "/image")


def test_a_killed_recorder_loses_no_more_than_the_last_chunk(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from taptr_ros.sources.bags import BagWriter, RecordedMessage\n"
        "bag = BagWriter(Path(sys.argv[1])); bag.add_topic('/camera/image_raw', 'sensor_msgs/msg/Image')\n"
        "for index in range(100): bag.write('/camera/image_raw', RecordedMessage(index, bytes(100_000)))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "bag")], check=False)
    messages, error = read(tmp_path / "bag")
    assert len(messages) > 80
    assert error is not None


TRACKS = Tracks(
    ids=np.array([3, 2**63 + 1], np.uint64),
    group=np.array([0, 2**32 - 1], np.uint32),
    xy=np.array([[1.5, 2.25], [-0.5, 100.0]], np.float32),
    visibility=np.array([0.75, 0.0], np.float32),
    confidence=np.array([0.5, 1.0], np.float32),
    visible=np.array([True, False]),
    state=np.array([0, 3], np.uint8),
    age=np.array([4, 2**32 - 1], np.uint32),
    frames_since_seen=np.array([0, 7], np.uint32),
    stamp=1_700_000_000_999_999_999,
    width=640,
    height=480,
    scene_cut=False,
)


def test_what_is_flushed_can_be_read_before_the_bag_is_complete(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.add_topic("/tracks", "std_msgs/msg/String")
    for stamp in range(1, 4):
        writer.write("/tracks", RecordedMessage(stamp, b"\0\1\0\0" + bytes([stamp])))
        writer.flush()
        writer.flush()
    messages = BagReader(tmp_path / "bag").messages("/tracks")
    assert [next(messages) for _ in range(3)] == [
        RecordedMessage(stamp, b"\0\1\0\0" + bytes([stamp])) for stamp in range(1, 4)
    ]
    writer.close()
    assert len([*BagReader(tmp_path / "bag").messages("/tracks")]) == 3


def test_written_tracks_can_be_read_by_rosbags_alone(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "out") as writer:
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
        with BagWriter(tmp_path / "out") as writer:
            writer.add_topic("/tracks", TRACKED_POINTS)
            writer.write("/tracks", RecordedMessage(5, serialized_tracks(TRACKS, "camera")))
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        write()
    assert len(list(BagReader(tmp_path / "out").messages("/tracks"))) == 1


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="exists already; name a new folder"):
        BagWriter(tmp_path)


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
