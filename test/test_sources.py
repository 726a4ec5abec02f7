"""Videos, folders and bags give the frames and stamps that were written, and say what is wrong when they cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_files import (
    FIRST_STAMP,
    PERIOD,
    TYPES,
    compressed_message,
    image_message,
    moving_scene,
    write_bag,
    write_folder,
    write_video,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from taptr_ros.errors import InvalidConfigError, SourceError, TaptrError
from taptr_ros.runtime.images import opencv_path
from taptr_ros.sources.bag_source import COMPRESSED_IMAGE, IMAGE, BagSource
from taptr_ros.sources.camera import camera_number
from taptr_ros.sources.frames import LeftOut
from taptr_ros.sources.interfaces import typestore
from taptr_ros.sources.opening import open_source
from taptr_ros.sources.order import in_natural_order

FRAMES = 5
BAG_STAMPS = [FIRST_STAMP + index * PERIOD for index in range(FRAMES)]


def test_video_gives_frames_and_stamps_of_the_container(tmp_path: Path) -> None:
    scene = moving_scene(FRAMES)
    source = open_source(write_video(tmp_path / "clip.avi", scene))
    frames = list(source)
    assert source.frame_count == len(frames) == FRAMES
    assert source.rate == pytest.approx(25.0)
    assert [frame.stamp for frame in frames] == [index * PERIOD for index in range(FRAMES)]
    for frame, image in zip(frames, scene, strict=True):
        assert frame.image.dtype == np.uint8
        # JPEG loses a little; swapped channels or a neighbouring frame would differ by tens.
        assert np.abs(frame.image.astype(int) - image).mean() < 8
    assert [frame.stamp for frame in source] == [frame.stamp for frame in frames]


@pytest.mark.parametrize("milliseconds", [0, -60])
def test_stamps_that_repeat_or_go_back_are_put_a_frame_after_the_last(tmp_path: Path, milliseconds: int) -> None:
    path = write_video(tmp_path / "clip.mkv", moving_scene(FRAMES))
    raw = path.read_bytes()
    # Matroska's block header: track number, milliseconds since the cluster's start, flags. Clusters have two frames.
    head, found, tail = raw.rpartition(b"\x81" + (40).to_bytes(2, "big") + b"\x80")
    assert found
    path.write_bytes(head + b"\x81" + milliseconds.to_bytes(2, "big", signed=True) + b"\x80" + tail)
    capture = cv2.VideoCapture(str(path))
    container = [capture.get(cv2.CAP_PROP_POS_MSEC) for _ in range(FRAMES) if capture.read()[0]]
    assert container[3] == 80 + milliseconds
    assert [frame.stamp for frame in open_source(path)] == [0, PERIOD, 2 * PERIOD, 3 * PERIOD, 4 * PERIOD]


def test_truncated_video_gives_what_can_be_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", moving_scene(40))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    assert 10 < len(list(open_source(path))) < 40


def test_folder_is_read_in_name_order_at_the_given_rate(tmp_path: Path) -> None:
    scene = moving_scene(FRAMES)
    folder = write_folder(tmp_path / "images", scene)
    (folder / "notes.txt").write_text("not an image")
    (folder / "000.png").rename(folder / "b.png")
    source = open_source(folder, rate=10.0)
    frames = list(source)
    assert (source.frame_count, source.rate) == (FRAMES, 10.0)
    assert [frame.stamp for frame in frames] == [index * 100_000_000 for index in range(FRAMES)]
    for frame, image in zip(frames, [*scene[1:], scene[0]], strict=True):
        assert np.array_equal(frame.image, image)
    assert open_source(folder).rate == 30.0


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("message", [image_message, compressed_message])
def test_bag_gives_frames_with_the_stamps_of_the_headers(tmp_path: Path, storage, message) -> None:
    scene = moving_scene(FRAMES)
    messages = [message(index, image) for index, image in enumerate(scene)]
    bag = write_bag(tmp_path / "bag", {"/camera/image": messages, "/note": [note("hello")]}, storage)
    storage_file = next(file for file in bag.iterdir() if file.suffix in (".mcap", ".db3"))
    for path in (bag, storage_file, bag / "metadata.yaml"):
        source = open_source(path)
        frames = list(source)
        assert source.frame_count == FRAMES
        assert source.rate == pytest.approx(25.0, rel=1e-3)
        assert [frame.stamp for frame in frames] == BAG_STAMPS
        for frame, image in zip(frames, scene, strict=True):
            assert np.array_equal(frame.image, image)


def test_one_of_several_image_topics_is_chosen(tmp_path: Path) -> None:
    scene = moving_scene(2)
    topics = {
        "/left": [image_message(0, scene[0])],
        "/right": [image_message(0, scene[1])],
        "/note": [note("hello")],
    }
    bag = write_bag(tmp_path / "bag", topics)
    (frame,) = open_source(bag, image_topic="/right")
    assert np.array_equal(frame.image, scene[1])
    for topic in (None, "/middle", "/note"):
        with pytest.raises(SourceError, match="/left, /right"):
            open_source(bag, image_topic=topic)


def without_stamp(message):
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return message


def test_a_topic_without_messages_is_no_choice(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kind = "sensor_msgs/msg/Image"
        writer.add_connection("/empty", kind, typestore=TYPES)
        topic = writer.add_connection("/full", kind, typestore=TYPES)
        writer.write(topic, FIRST_STAMP, TYPES.serialize_cdr(image_message(0, moving_scene(1)[0]), kind))
    assert open_source(tmp_path / "bag").topic == "/full"
    with pytest.raises(SourceError, match="holds no message on /empty"):
        open_source(tmp_path / "bag", image_topic="/empty")


def test_a_bag_of_compressed_video_is_named_as_such(tmp_path: Path) -> None:
    definition = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    kind = "foxglove_msgs/msg/CompressedVideo"
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(definition, kind))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/video", kind, typestore=store)
    with pytest.raises(SourceError, match="/video is foxglove_msgs/msg/CompressedVideo"):
        open_source(tmp_path / "bag")


def test_a_bag_whose_first_image_has_no_stamp_is_read_on_the_clock_of_its_recording(tmp_path: Path) -> None:
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(3))]
    without_stamp(messages[0])
    frames = open_source(write_bag(tmp_path / "bag", {"/image": messages}))
    assert [frame.stamp for frame in frames] == [FIRST_STAMP + index * PERIOD + 5_000_000 for index in range(3)]


@pytest.mark.parametrize("kind", [image_message, compressed_message])
def test_messages_of_a_bag_without_stamps_are_passed_on_with_those_of_its_recording(tmp_path: Path, kind) -> None:
    messages = [without_stamp(kind(index, image)) for index, image in enumerate(moving_scene(3))]
    source = open_source(write_bag(tmp_path / "bag", {"/image": messages}))
    assert isinstance(source, BagSource)
    name = COMPRESSED_IMAGE if source.is_compressed else IMAGE
    stamps = [typestore().deserialize_cdr(data, name).header.stamp for _, data in source.messages()]
    recorded = [FIRST_STAMP + index * PERIOD + 5_000_000 for index in range(3)]
    assert [stamp.sec * 10**9 + stamp.nanosec for stamp in stamps] == recorded
    assert [frame.stamp for frame in source] == recorded


def test_an_unset_stamp_among_good_ones_stays_unset(tmp_path: Path) -> None:
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(3))]
    without_stamp(messages[1])
    frames = open_source(write_bag(tmp_path / "bag", {"/image": messages}))
    assert [frame.stamp for frame in frames] == [BAG_STAMPS[0], 0, BAG_STAMPS[2]]


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("kind", [image_message, compressed_message])
def test_a_broken_message_in_a_bag_is_reported_and_left_out(tmp_path: Path, broken: int, kind) -> None:
    messages = [kind(index, image) for index, image in enumerate(moving_scene(3))]
    messages[broken].data = messages[broken].data[:100]
    source = open_source(write_bag(tmp_path / "bag", {"/Image": messages}))
    reports = []
    source.report = reports.append
    assert [frame.number for frame in source] == [index for index in range(3) if index != broken]
    (report,) = reports
    assert f"Message {broken} on /Image" in report


def test_a_bag_of_broken_messages_is_refused_with_what_is_wrong_with_the_first(tmp_path: Path) -> None:
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(2))]
    for message in messages:
        message.encoding = "32FC1"
    with pytest.raises(SourceError, match=r"no image that can be used. Message 0 on /image .*32FC1"):
        list(open_source(write_bag(tmp_path / "bag", {"/image": messages})))


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_truncated_bag_is_a_source_error_or_complete(tmp_path: Path, storage, kept: float) -> None:
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(FRAMES))]
    bag = write_bag(tmp_path / "bag", {"/image": messages}, storage)
    file = next(file for file in bag.iterdir() if file.suffix in (".mcap", ".db3"))
    raw = file.read_bytes()
    file.write_bytes(raw[: int(kept * len(raw))])
    try:
        frames = list(open_source(bag))
    except SourceError as error:
        assert "bag" in str(error)  # noqa: PT017  # either is right
    else:
        assert len(frames) == FRAMES  # what was cut off was no message


def test_bag_without_rosbags_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write_bag(tmp_path / "bag", {"/image": [image_message(0, moving_scene(1)[0])]})
    monkeypatch.delitem(sys.modules, "taptr_ros.sources.bag_source", raising=False)
    monkeypatch.setitem(sys.modules, "taptr_ros.sources.bags", None)
    with pytest.raises(SourceError, match="pip install rosbags mcap"):
        open_source(bag)


@pytest.mark.parametrize(
    ("make", "options", "error", "words"),
    [
        (lambda path: path, {}, SourceError, "does not exist"),
        (lambda path: path.mkdir(), {}, SourceError, "holds no images"),
        (lambda path: path.write_bytes(b""), {}, SourceError, "cannot be opened as a video"),
        (lambda path: path.write_bytes(b"rubbish" * 1000), {}, SourceError, "cannot be opened as a video"),
        (
            lambda path: write_folder(path, moving_scene(1)),
            {"image_topic": "/image"},
            InvalidConfigError,
            "not a rosbag2",
        ),
        (lambda path: write_folder(path, moving_scene(1)), {"rate": 0.0}, InvalidConfigError, "above 0"),
        (lambda path: path.write_bytes(b"rubbish"), {"rate": 10.0}, InvalidConfigError, "its own stamps"),
        (lambda path: write_bag(path, {"/note": [note("x")]}), {}, SourceError, "no image topic"),
        (lambda path: (path.mkdir(), (path / "metadata.yaml").write_text("]")), {}, SourceError, "rosbag2"),
        (lambda path: (path.mkdir(), (path / "metadata.yaml").write_text("a: 1")), {}, SourceError, "rosbag2"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path: Path, make, options, error: type[TaptrError], words: str) -> None:
    make(tmp_path / "source")
    with pytest.raises(error, match=words):
        open_source(tmp_path / "source", **options)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="is a pipe"):
        open_source(tmp_path / "pipe.mp4")


def test_single_image_is_refused_though_opencv_would_play_its_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", moving_scene(3))
    with pytest.raises(SourceError, match="single image"):
        open_source(folder / "000.png")


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_broken_image_of_a_folder_is_reported_and_left_out(tmp_path: Path, broken: int) -> None:
    scene = moving_scene(3)
    folder = write_folder(tmp_path / "images", scene)
    (folder / f"{broken:03d}.png").write_bytes(b"rubbish")
    source = open_source(folder, rate=10.0)
    for _ in range(2):  # the same on every pass
        reports = []
        source.report = reports.append
        frames = list(source)
        # The others keep the stamps of their places.
        kept = [index for index in range(3) if index != broken]
        assert [(frame.number, frame.stamp) for frame in frames] == [(index, index * 100_000_000) for index in kept]
        assert all(np.array_equal(frame.image, scene[frame.number]) for frame in frames)
        (report,) = reports
        assert f"{broken:03d}.png (7 bytes) cannot be decoded" in report


def test_a_folder_of_broken_images_is_refused_with_what_is_wrong_with_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(2):
        cv2.imwrite(str(folder / f"{index}.tif"), np.full((20, 20), 0.5, np.float32))
    with pytest.raises(SourceError, match=r"no image that can be used. .*0\.tif holds 32-bit floating-point"):
        list(open_source(folder))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere.png")])
def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path, make) -> None:
    folder = write_folder(tmp_path / "images", moving_scene(3))
    (folder / "001.png").unlink()
    make(folder / "001.png")
    source = open_source(folder)
    reports = []
    source.report = reports.append
    assert [frame.number for frame in source] == [0, 2]
    assert "001.png cannot be read" in reports[0]


def test_the_first_left_out_image_is_named_and_all_are_counted() -> None:
    said = []
    left_out = LeftOut(said.append)
    for name in "abc":
        left_out(f"{name} is broken.")
    assert (left_out.count, said) == (3, ["An image was left out. a is broken."])


@pytest.mark.parametrize("name", ["frame{}.png", "{}.png", "{}_left.png", "a{}b007.png"])
def test_numbers_without_leading_zeros_are_in_their_order(tmp_path: Path, name: str) -> None:
    scene = moving_scene(12)
    folder = tmp_path / "images"
    folder.mkdir()
    for index, image in enumerate(scene):
        cv2.imwrite(str(folder / name.format(index + 1)), image[..., ::-1])
    for frame, image in zip(open_source(folder), scene, strict=True):
        assert np.array_equal(frame.image, image)


def test_natural_order_compares_text_and_numbers_of_any_length() -> None:
    names = ["1.png", "2.png", "10.png", "010b.png", "a.png", "a1.png", "a1b.png", "b0.png"]
    assert [path.name for path in in_natural_order(map(Path, sorted(names)))] == [
        *("1.png", "2.png", "10.png", "010b.png"),
        *("a.png", "a1.png", "a1b.png", "b0.png"),
    ]


def test_files_that_macos_puts_beside_images_are_no_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", moving_scene(3))
    for file in list(folder.iterdir()):
        (folder / f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert open_source(folder).frame_count == len(list(open_source(folder))) == 3


@pytest.mark.parametrize("name", ["12:30:00.mp4", "file:clip.mp4", "100%.mp4"])
def test_names_that_ffmpeg_would_take_for_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_video(tmp_path / "clip.avi", moving_scene(3)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(open_source(name))) == 3


def test_a_path_in_another_encoding_is_read_or_refused(tmp_path: Path) -> None:
    """OpenCV ends the process for a path that Python could not read as text, as it does in the locale C."""
    video = write_video(tmp_path / "clip.avi", moving_scene(3))
    unreadable = Path(os.fsdecode(os.fsencode(tmp_path) + b"/clip\xff.avi"))
    video.rename(unreadable)
    with pytest.raises(SourceError, match="no text in UTF-8"):
        open_source(unreadable)
    assert opencv_path(tmp_path / os.fsdecode("é".encode())) == f"{tmp_path}/é"
    program = (
        "import sys; from taptr_ros.sources.opening import open_source; print(len(list(open_source(sys.argv[1]))))"
    )
    unreadable.rename(tmp_path / "é日.avi")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "é日.avi")],
        capture_output=True,
        check=False,
        env={**os.environ, **locale},
    )
    assert (done.returncode, done.stdout) == (0, b"3\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "name is empty"),
        ("rtsp://127.0.0.1/stream", "is an address; save"),
        ("https://example.org/street.mp4", "is an address; save"),
        ("recording.mcap.gz", "is an archive; unpack"),
        ("frames.zip", "is an archive; unpack"),
        ("recording.bag.active", "ROS 1; convert"),
        ("old", "holds recordings of ROS 1"),
    ],
)
def test_what_is_something_else_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("recording.mcap.gz", "frames.zip", "recording.bag.active", "old/a.bag"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"x")
    with pytest.raises(SourceError, match=words):
        open_source(name)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("63", 63), ("64", None), ("9" * 5000, None), ("²", None), ("٣", None), ("-1", None)]
)
def test_the_number_of_a_camera(text: str, number: int | None) -> None:
    assert camera_number(text) == number


def test_a_codec_that_opencv_lacks_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", moving_scene(3))
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"zzzz"))
    with pytest.raises(SourceError, match=r"codec \(zzzz\)|cannot be opened as a video"):
        open_source(path)


def test_a_recording_of_ros_1_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(SourceError, match="ROS 1; convert it"):
        open_source(tmp_path / "old.bag")


def test_video_without_a_readable_frame_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", moving_scene(20))
    raw = path.read_bytes()
    head = raw.index(b"00dc")
    path.write_bytes(raw[:head])
    with pytest.raises(SourceError, match=r"clip\.avi"):
        open_source(path)
    shutil.copy(__file__, tmp_path / "text.mp4")
    with pytest.raises(SourceError, match=r"text\.mp4"):
        open_source(tmp_path / "text.mp4")


def note(text: str) -> object:
    return TYPES.types["std_msgs/msg/String"](text)
