"""The view without a browser: what the page may say, who gets in, who is shown what, and files that are tracked."""

from __future__ import annotations

import asyncio
import csv
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media_files import HEIGHT, SHIFT, WIDTH, moving_scene, write_video
from view_client import TIMEOUT, wait_until

from taptr_ros.cli import main
from taptr_ros.cli.file_session import FileSession
from taptr_ros.errors import InvalidConfigError, TaptrError
from taptr_ros.runtime.loading import load_backend
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking import PointTracker, TrackerConfig
from taptr_ros.view import protocol
from taptr_ros.view.gate import BURST, Allowance, Gate, address_to_open, read_token
from taptr_ros.view.protocol import ProtocolError, frame_message, parse
from taptr_ros.view.session import RefusedError
from taptr_ros.view.stage import Stage

FRAMES = 12
STAMP = "1700000000123456789"


def said(**message: Any) -> str:
    return json.dumps(message)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (said(do="hello", token="abc"), protocol.Hello("abc")),  # noqa: S106
        (said(do="ready"), protocol.Ready()),
        (said(do="add", points=[[1.5, 2]], stamp=STAMP), protocol.Add(((1.5, 2.0),), int(STAMP))),
        (said(do="add_grid", side=8, stamp="0"), protocol.AddGrid(8, 0)),
        (said(do="add_box", box=[0, 1, 2, 3], stamp="5"), protocol.AddBox((0.0, 1.0, 2.0, 3.0), 5)),
        (said(do="remove", ids=["18446744073709551615"]), protocol.Remove((2**64 - 1,))),
        (said(do="set", name="lost_after", value=3), protocol.Set("lost_after", 3.0)),
        (said(do="seek", frame=4), protocol.Seek(4)),
    ],
)
def test_messages_of_the_page_are_read(text: str, command: protocol.Command) -> None:
    assert parse(text) == (0, command)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "[" * 100_000,
        "NaN",
        '{"do": "ready"',
        said(do="steal"),
        said(do=["ready"]),
        said(do="ready", more=1),
        said(do="add", points=[[1, 2]]),
        said(do="add", points=[], stamp="1"),
        said(do="add", points=[[1, 2, 3]], stamp="1"),
        said(do="add", points=[[1, True]], stamp="1"),
        said(do="add", points=[[1, "2"]], stamp="1"),
        said(do="add", points=[[1, 1e7]], stamp="1"),
        '{"do": "add", "points": [[1, NaN]], "stamp": "1"}',
        '{"do": "add", "points": [[1, 1e999]], "stamp": "1"}',
        said(do="add", points=[[1, 2]], stamp=1),
        said(do="add", points=[[1, 2]], stamp="-1"),
        said(do="add", points=[[1, 2]], stamp="\u0661"),
        said(do="add", points=[[1, 2]], stamp="9223372036854775808"),
        said(do="add", points=[[0, 0]] * (protocol.MOST_POINTS + 1), stamp="1"),
        said(do="add_grid", side=0, stamp="1"),
        said(do="add_grid", side=65, stamp="1"),
        said(do="add_box", box=[3, 1, 2, 3], stamp="1"),
        said(do="add_box", box=[1, 2, 3], stamp="1"),
        said(do="add_box", box=None, stamp="1"),
        said(do="remove", ids=[1]),
        said(do="remove", ids=["18446744073709551616"]),
        said(do="seek", frame=-1),
        said(do="seek", frame=1.5),
        said(do="set", name="x" * 257, value=1),
        said(do="set", name="a\0b", value=1),
        said(do="hello", token=None),
        said(do="ready", request=-1),
        '{"do": "seek", "frame": 1' + "0" * 5000 + "}",
    ],
)
def test_what_the_page_never_says_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse(text)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("view") / "clip.avi", moving_scene(FRAMES))


def test_a_frame_is_told_with_its_tracks() -> None:
    tracker = PointTracker(load_backend("lucas_kanade"), TrackerConfig(capacity=4))
    tracker.add([[40.126, 30.0]], [2**64 - 1], groups=[7])
    tracks = tracker.step(moving_scene(1)[0], 5)
    message = frame_message(b"jpeg", WIDTH, HEIGHT, 5, tracks, number=3, past=[tracks])
    length = int.from_bytes(message[:4], "little")
    header = json.loads(message[4 : 4 + length])
    assert message[4 + length :] == b"jpeg"
    assert (header["stamp"], header["width"], header["number"]) == ("5", WIDTH, 3)
    assert header["tracks"]["id"] == ["18446744073709551615"]
    assert (header["tracks"]["x"], header["tracks"]["y"], header["tracks"]["group"]) == ([40.13], [30.0], [7])
    assert header["past"] == [header["tracks"]]


def test_a_token_is_needed_where_others_can_reach_the_page() -> None:
    for address in ("127.0.0.1", "localhost", "::1"):
        assert Gate(address, None).token is None
        assert Gate(address, None).admits("")
    for address in ("0.0.0.0", "192.168.0.7", "::", "robot"):  # noqa: S104
        gate = Gate(address, None)
        assert gate.token is not None
        assert len(gate.token) >= 20
        assert gate.admits(gate.token)
        assert not gate.admits("")
        assert not gate.admits(gate.token[:-1])
        assert not gate.admits("\ud800")
    assert not Gate("127.0.0.1", "a token of ours").admits("")
    assert Gate("0.0.0.0", None).token != Gate("0.0.0.0", None).token  # noqa: S104


def test_the_address_to_open_is_one_that_a_browser_can_reach() -> None:
    for address in ("127.0.0.1", "::1", "192.168.0.7", "robot.example"):
        assert address_to_open(address) == address
    for address in ("0.0.0.0", "::", ""):  # noqa: S104
        assert address_to_open(address) not in ("0.0.0.0", "::", "")  # noqa: S104


def test_names_that_do_not_stand_for_this_machine_are_refused() -> None:
    gate = Gate("127.0.0.1", None, ["Robot.example"])
    for host in ("127.0.0.1:8765", "localhost", "[::1]:8765", "192.168.0.7:1", "robot.example:8765"):
        assert gate.knows_host(host), host
    for host in ("", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "[::1", "a@b:c", "1"):
        assert not gate.knows_host(host), host


def test_only_the_own_page_may_connect() -> None:
    gate = Gate("127.0.0.1", None)
    assert gate.is_own_page("http://localhost:8765", "localhost:8765")
    assert gate.is_own_page("https://Robot:1", "robot:1")
    for origin in (
        "",
        "null",
        "http://evil.example",
        "http://localhost:1",
        "file://",
        "http://",
        "http:localhost:8765",
    ):
        assert not gate.is_own_page(origin, "localhost:8765"), origin
    assert not gate.is_own_page("http://", "")


def test_token_files(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  0123456789abcdef \nmore\n")
    assert read_token(str(file)) == "0123456789abcdef"
    file.write_text("short\n")
    with pytest.raises(InvalidConfigError, match="at least 12 characters"):
        read_token(str(file))
    file.write_bytes(b"\xff" * 20)
    with pytest.raises(InvalidConfigError, match="cannot be read"):
        read_token(str(file))
    with pytest.raises(InvalidConfigError, match="cannot be read"):
        read_token(str(tmp_path / "none"))


def test_a_viewer_may_say_only_so_much() -> None:
    allowance = Allowance()
    over = [allowance.take() for _ in range(int(BURST) + 50)]
    assert not any(over[: int(BURST)])
    assert over[-1]


class Watching:
    """A viewer that can take as many images as it is told to."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.got: list[bytes] = []
        self.new = threading.Semaphore(0)

    def can_take(self) -> bool:
        return len(self.got) < self.room

    def take(self, message: bytes) -> None:
        self.got.append(message)
        self.new.release()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage("test")
    yield stage
    stage.stop()


def test_nothing_is_made_while_nobody_looks(stage: Stage) -> None:
    made: list[int] = []
    for number in range(5):
        stage.show(lambda number=number: made.append(number) or b"%d" % number)  # type: ignore[misc]
    viewer = Watching(1)
    stage.add(viewer)
    assert viewer.new.acquire(timeout=10)
    assert (made, viewer.got) == ([4], [b"4"])
    stage.remove(viewer)
    stage.show(lambda: made.append(5) or b"5")  # type: ignore[func-returns-value]
    late = Watching(1)
    stage.add(late)
    assert late.new.acquire(timeout=10)
    assert made == [4, 5]


def test_a_slow_viewer_gets_the_newest_image_and_holds_nobody_up(stage: Stage) -> None:
    made: list[int] = []

    def show(number: int) -> None:
        stage.show(lambda: made.append(number) or b"%d" % number)  # type: ignore[func-returns-value]

    slow, fast = Watching(1), Watching(100)
    stage.add(slow)
    stage.add(fast)
    for number in range(10):
        show(number)
        assert fast.new.acquire(timeout=10)
    assert fast.got == [b"%d" % number for number in range(10)]
    assert made == [*range(10)]  # once for both
    assert slow.got == [b"0"]
    slow.room = 2
    stage.wake()
    wait_until(lambda: len(slow.got) == 2)
    assert slow.got == [b"0", b"9"]
    assert made == [*range(10)]


def test_an_image_that_is_none_is_left_out(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    viewer = Watching(10)
    stage.add(viewer)
    stage.show(lambda: None)
    stage.show(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
    wait_until(lambda: "cannot be shown" in caplog.text)
    stage.show(lambda: b"good")
    assert viewer.new.acquire(timeout=10)
    assert viewer.got == [b"good"]


class Seen:
    """A file session that somebody looks at, and its newest frame."""

    def __init__(self, clip: Path, folder: Path, model: str, **config: Any) -> None:
        backend = load_backend(model, threads=1) if model != "lucas_kanade" else load_backend(model)
        self.session = FileSession(open_source(clip), backend, TrackerConfig(**config), folder)
        self.viewer = Watching(10**9)
        self.session.stage.add(self.viewer)
        self.session.start()

    def do(self, command: protocol.Command) -> dict[str, Any]:
        return asyncio.run(asyncio.wait_for(self.session.do(command), TIMEOUT))

    def add(self, x: float, y: float) -> str:
        """Add a point in the frame that is shown."""
        return str(self.do(protocol.Add(((x, y),), 0))["ids"][0])

    def step_to(self, frame: int) -> None:
        while self.session.status().frame != frame:
            self.do(protocol.Step())

    def settle(self) -> None:
        """Wait until points that were added in earlier frames have been tracked to the newest one."""
        wait_until(lambda: not self.session._late and self.session._follower is None)

    @property
    def shown(self) -> dict[str, Any]:
        """The header of the newest frame, which must be that of the session's position."""

        def newest() -> dict[str, Any] | None:
            header = self.header(self.viewer.got[-1]) if self.viewer.got else None
            return header if header and header["number"] == self.session.status().frame else None

        return dict(wait_until(newest))

    @staticmethod
    def header(message: bytes) -> dict[str, Any]:
        return dict(json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")]))


@pytest.fixture
def seen(clip: Path, tmp_path: Path) -> Iterator[Seen]:
    seen = Seen(clip, tmp_path / "saved", "lucas_kanade", capacity=16)
    yield seen
    seen.session.stop()


@pytest.mark.parametrize("model", ["lucas_kanade", "taptr_small"])
def test_saved_tracks_are_those_of_taptr_track(clip: Path, tmp_path: Path, model: str) -> None:
    if model == "taptr_small":
        pytest.importorskip("onnxruntime")
    points = tmp_path / "points.csv"
    points.write_text("id,x,y,frame\n1,40.5,30.25,0\n2,64,48,6\n3,80,40,2\n")
    options = ["--points", str(points), "--out", str(tmp_path / "tracks.npz"), "--model", model, "--quiet"]
    assert main(["track", str(clip), *options, *(["--threads", "1"] if model == "taptr_small" else [])]) == 0
    seen = Seen(clip, tmp_path / "saved", model, capacity=16)
    try:
        seen.add(40.5, 30.25)
        seen.step_to(6)
        seen.add(64.0, 48.0)
        seen.step_to(8)
        # In an earlier frame, when later ones have been tracked.
        seen.do(protocol.Seek(2))
        seen.add(80.0, 40.0)
        seen.do(protocol.Seek(8))
        seen.step_to(FRAMES - 1)
        with pytest.raises(RefusedError, match="last frame"):
            seen.do(protocol.Step())
        # What is removed by mistake comes back as it was.
        seen.do(protocol.Remove((1,)))
        seen.do(protocol.Undo())
        seen.settle()
        with pytest.raises(RefusedError, match="Nothing was removed"):
            seen.do(protocol.Undo())
        for what in ("npz", "csv", "overlay"):
            seen.do(protocol.Save(what))
    finally:
        seen.session.stop()
    with np.load(tmp_path / "tracks.npz") as expected, np.load(tmp_path / "saved" / "tracks.npz") as saved:
        assert set(saved) == set(expected)
        for name in expected:
            np.testing.assert_allclose(saved[name], expected[name], atol=1e-3, err_msg=name)
        with (tmp_path / "saved" / "tracks.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == FRAMES + (FRAMES - 6) + (FRAMES - 2)
        for row in rows:
            place = int(row["frame"]), int(row["id"]) - 1
            assert [float(row["x"]), float(row["y"])] == pytest.approx(saved["xy"][place].tolist(), abs=1e-3)
            assert int(row["state"]) == saved["state"][place]
    video = cv2.VideoCapture(str(tmp_path / "saved" / "overlay.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES


def test_a_file_is_shown_frame_by_frame_with_trails(seen: Seen) -> None:
    assert seen.shown["number"] == 0
    identifier = seen.add(40.0, 30.0)
    wait_until(lambda: seen.shown["tracks"]["id"] == [identifier])
    assert (seen.shown["tracks"]["x"], seen.shown["tracks"]["y"]) == ([40.0], [30.0])
    seen.do(protocol.Play())
    wait_until(lambda: not seen.session.status().playing)
    status = seen.session.status()
    assert (status.frame, status.tracked, status.points) == (FRAMES - 1, FRAMES, 1)
    end = np.array([40.0, 30.0]) + SHIFT * (FRAMES - 1)
    assert [seen.shown["tracks"]["x"][0], seen.shown["tracks"]["y"][0]] == pytest.approx(end.tolist(), abs=0.3)
    seen.do(protocol.Seek(4))
    wait_until(lambda: "past" in seen.shown)
    assert [frame["id"] for frame in seen.shown["past"]] == [[identifier]] * 4
    with pytest.raises(RefusedError, match="not tracked yet"):
        seen.do(protocol.Seek(FRAMES))


def test_a_file_that_ends_too_early_says_so(clip: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.avi"
    data = clip.read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    seen = Seen(damaged, tmp_path / "saved", "lucas_kanade", capacity=16)
    try:
        announced = seen.session.status().frame_count
        seen.do(protocol.Play())
        wait_until(lambda: not seen.session.status().playing)
        status = seen.session.status()
        assert 0 < status.tracked < announced
        assert status.frame_count == status.tracked
        assert f"It ends here: {status.tracked} of the {announced} frames" in status.sentence
    finally:
        seen.session.stop()


def test_a_video_that_is_being_written_is_given_up_when_the_view_ends(seen: Seen, tmp_path: Path) -> None:
    seen.add(40.0, 30.0)
    seen.session.stop()
    with pytest.raises(RefusedError, match="the video is not written"):
        seen.do(protocol.Save("overlay"))
    assert not (tmp_path / "saved" / "overlay.mp4").exists()


def test_points_that_are_removed_are_gone_from_all_frames(seen: Seen) -> None:
    first, second = seen.add(40.0, 30.0), seen.add(60.0, 30.0)
    seen.step_to(5)
    seen.do(protocol.Seek(1))
    third = seen.add(80.0, 40.0)
    seen.do(protocol.Remove((int(first), int(third), 99)))
    seen.settle()
    for frame in (0, 1, 5):
        seen.do(protocol.Seek(frame))
        wait_until(lambda: seen.shown["tracks"]["id"] == [second])
    seen.step_to(6)
    wait_until(lambda: seen.shown["tracks"]["id"] == [second])
    seen.do(protocol.Clear())
    wait_until(lambda: seen.shown["tracks"]["id"] == [])
    with pytest.raises(RefusedError, match="nothing to save"):
        seen.do(protocol.Save("npz"))


def test_a_box_becomes_a_group_and_what_does_not_fit_is_refused(seen: Seen) -> None:
    seen.do(protocol.Set("points_per_region", 5.0))
    for group, box in enumerate([(20.0, 20.0, 70.0, 70.0), (-30.0, 40.0, 60.0, 200.0)], 1):
        before = len(seen.shown["tracks"]["id"])
        answer = seen.do(protocol.AddBox(box, 0))
        wait_until(lambda: len(seen.shown["tracks"]["id"]) == before + len(answer["ids"]))  # noqa: B023
        tracks = seen.shown["tracks"]
        assert 1 < len(answer["ids"]) <= 5
        assert set(tracks["group"][before:]) == {group}
        for x, y in zip(tracks["x"][before:], tracks["y"][before:], strict=True):
            assert box[0] < x < box[2]
            assert box[1] < y < box[3]
    seen.do(protocol.Clear())
    answer = seen.do(protocol.AddGrid(5, 0))
    assert len(answer["ids"]) == 16  # the capacity
    assert "room for 16 of 25" in answer["refused"]
    with pytest.raises(TaptrError, match="room for 0"):
        seen.add(5.0, 5.0)
    seen.do(protocol.Clear())
    with pytest.raises(TaptrError, match="outside"):
        seen.add(-20.0, 5.0)
    with pytest.raises(TaptrError, match=r"The box at .* holds no pixel"):
        seen.do(protocol.AddBox((500.0, 10.0, 600.0, 40.0), 0))
    with pytest.raises(TaptrError, match="The box is too small"):
        seen.do(protocol.AddBox((10.0, 10.0, 13.0, 13.0), 0))
    with pytest.raises(TaptrError, match="not there any more"):
        seen.do(protocol.Add(((5.0, 5.0),), 12345))


def test_reset_begins_the_file_again(seen: Seen) -> None:
    seen.add(40.0, 30.0)
    seen.step_to(3)
    seen.do(protocol.Reset())
    status = seen.session.status()
    assert (status.frame, status.tracked, status.points, status.playing) == (0, 1, 0, False)
    seen.add(40.0, 30.0)
    seen.step_to(2)
    assert wait_until(lambda: seen.shown["tracks"]["id"]) == ["2"]  # ids do not repeat


def test_live_parameters_are_set_and_others_refused(seen: Seen) -> None:
    seen.do(protocol.Set("lost_after", 7.0))
    values = {entry.setting.name: entry.value for entry in seen.session.parameters()}
    assert values["lost_after"] == 7
    for name, value, reason in (("lost_after", -1.0, "lost_after is -1"), ("capacity", 3.0, "no live parameter")):
        with pytest.raises(TaptrError, match=reason):
            seen.do(protocol.Set(name, value))
    assert {entry.setting.name: entry.value for entry in seen.session.parameters()} == values


def test_nothing_is_tracked_while_nobody_looks(seen: Seen) -> None:
    seen.session.stage.remove(seen.viewer)
    seen.do(protocol.Play())
    seen.do(protocol.Set("lost_after", 7.0))  # the thread has gone round since
    assert seen.session.status().tracked == 1
    seen.session.stage.add(seen.viewer)
    wait_until(lambda: seen.session.status().tracked == FRAMES)


def test_a_command_of_somebody_who_has_left_harms_nobody(seen: Seen) -> None:
    async def leave() -> None:
        asked = [asyncio.ensure_future(seen.session.do(protocol.Seek(0))) for _ in range(50)]
        await asyncio.sleep(0)
        for one in asked:
            one.cancel()

    for _ in range(10):
        asyncio.run(leave())
    seen.add(40.0, 30.0)
    assert wait_until(lambda: seen.shown["tracks"]["id"]) == ["1"]


def test_what_is_saved_goes_where_the_command_line_says_and_nowhere_else(seen: Seen, tmp_path: Path) -> None:
    seen.add(40.0, 30.0)
    for what in ("../../x", "npz/../..", ""):
        with pytest.raises(RefusedError, match="can be saved"):
            seen.do(protocol.Save(what))
    assert seen.do(protocol.Save("npz"))["text"] == (f"Saved 1 point in 1 frame: {tmp_path / 'saved' / 'tracks.npz'}")
    assert [path.name for path in tmp_path.rglob("*")] == ["saved", "tracks.npz"]
