"""`taptr batch`: rows, resuming, pieces, and what is answered to bad recordings and bad commands."""

from __future__ import annotations

import contextlib
import csv
import http.server
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media_files import HEIGHT, WIDTH, image_message, moving_scene, write_bag, write_folder, write_video
from test_cli import environment

from taptr_ros.cli import main
from taptr_ros.cli.batch.inputs import beside, recordings
from taptr_ros.errors import InvalidConfigError
from taptr_ros.tracking.states import COLUMNS

ray = pytest.importorskip("ray")
pq = pytest.importorskip("pyarrow.parquet")

from taptr_ros.cli.batch.crew import connected  # noqa: E402
from taptr_ros.cli.batch.dataset import Dataset  # noqa: E402
from taptr_ros.cli.batch.model import Model  # noqa: E402
from taptr_ros.cli.batch.rows import SCHEMA  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
FRAMES = 10
NAMES = ("clip0.avi", "clip1.avi", "images", "bag")
LUCAS_KANADE = ["--model", "lucas_kanade"]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the moving scene as videos, images/ and bag/, and points, boxes and masks beside three of them."""
    folder = tmp_path_factory.mktemp("media")
    scene = moving_scene(FRAMES)
    for number in range(3):
        write_video(folder / f"clip{number}.avi", scene[number:])
    write_folder(folder / "images", scene)
    write_bag(folder / "bag", {"/image": [image_message(index, image) for index, image in enumerate(scene)]})
    for name in ("clip0", "images", "bag"):
        (folder / f"{name}.csv").write_text("id,x,y,frame\n70,40.5,30.25,0\n9,64,48,3\n")
        (folder / f"{name}.boxes.csv").write_text("x,y,width,height\n10,10,40,40\n60,40,50,50\n")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[20:60, 10:50], mask[40:90, 60:110] = 1, 2
        cv2.imwrite(str(folder / f"{name}.png"), mask)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with two cores, which all tests share: to start it takes seconds."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def batch(cluster: None) -> Iterator[Any]:  # noqa: ARG001 - it must run
    """Runs the command on the shared cluster, with one worker, and returns its status."""

    def run(*words: object) -> int:
        try:
            return main(["batch", "--workers", "1", *LUCAS_KANADE, *map(str, words)])
        except SystemExit as error:
            return int(error.code or 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taptr_ros.cli.batch.crew.connected", lambda _address: contextlib.nullcontext())
        yield run


@pytest.fixture(scope="module")
def dataset(media: Path, batch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a video, a folder and a bag, with everything that can be written beside the rows."""
    out = tmp_path_factory.mktemp("batch") / "dataset"
    extras = ["--npz", "--bag", "--overlay"] + (["--rrd"] if importlib.util.find_spec("rerun") else [])
    assert batch(*[media / name for name in NAMES], "--grid", 3, "--out", out, *extras) == 0
    return out


def rows(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The dataset's columns, by recording."""
    table = pq.read_table(folder / "tracks")
    assert table.schema.remove_metadata().equals(SCHEMA.remove_metadata())
    names = np.array(table["recording"].to_pylist(), str)
    columns = {name: np.array(table[name]) for name in table.column_names}
    return {str(name): {key: column[names == name] for key, column in columns.items()} for name in np.unique(names)}


def report(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "_report.csv").open(newline="") as file:
        return {line["recording"]: line for line in csv.DictReader(file)}


def assert_rows_are_those_of(found: dict[str, np.ndarray], npz: Path) -> None:
    """Check that rows are, to the bit, what `taptr track` wrote for the same recording."""
    with np.load(npz) as tracks:
        place = {identifier: column for column, identifier in enumerate(tracks["ids"].tolist())}
        frames = np.searchsorted(tracks["stamps"], found["stamp"])
        columns = np.array([place[identifier] for identifier in found["id"].tolist()])
        started = np.isfinite(tracks["xy"][..., 0])
        assert len(found["id"]) == started.sum()
        assert len(set(zip(frames.tolist(), columns.tolist(), strict=True))) == started.sum()
        for axis, name in enumerate("xy"):
            np.testing.assert_array_equal(found[name], tracks["xy"][frames, columns, axis])
        for name in ("visibility", "confidence", "state"):
            np.testing.assert_array_equal(found[name], tracks[name][frames, columns])


def test_rows_are_those_of_track_and_replay_to_the_bit(media: Path, dataset: Path, tmp_path: Path) -> None:
    found = rows(dataset)
    assert set(found) == set(NAMES)
    for name in NAMES:
        alone = tmp_path / f"{name}.npz"
        assert main(["track", str(media / name), "--grid", "3", *LUCAS_KANADE, "--quiet", "--out", str(alone)]) == 0
        assert_rows_are_those_of(found[name], alone)
    assert set(found["bag"]["topic"]) == {"/image"}
    assert set(found["images"]["topic"]) == {""}


def test_what_is_written_beside_the_rows_is_that_of_track_and_replay(
    media: Path, dataset: Path, tmp_path: Path
) -> None:
    from taptr_ros.sources.bags import BagReader

    bag, alone = str(media / "bag"), {name: tmp_path / name for name in ("bag", "a.npz", "a.mp4", "a.rrd")}
    common = ["--grid", "3", *LUCAS_KANADE, "--quiet"]
    assert main(["replay", bag, *common, "--out", str(alone["bag"])]) == 0
    track = ["track", bag, *common, "--out", str(alone["a.npz"]), "--overlay", str(alone["a.mp4"])]
    has_rerun = importlib.util.find_spec("rerun") is not None
    assert main([*track, *(["--rrd", str(alone["a.rrd"])] if has_rerun else [])]) == 0
    written = {}
    for kind in ("_bags", "_npz", "_overlays", *(["_rrd"] if has_rerun else [])):
        assert len(list((dataset / kind).iterdir())) == len(NAMES)
        (written[kind],) = (dataset / kind).glob("bag.*")
    messages = [list(BagReader(path).messages("/tracks")) for path in (written["_bags"], alone["bag"])]
    assert messages[0] == messages[1]
    assert len(messages[0]) == FRAMES
    assert written["_npz"].read_bytes() == alone["a.npz"].read_bytes()
    assert written["_overlays"].read_bytes() == alone["a.mp4"].read_bytes()
    if has_rerun:
        from test_rerun import read

        assert (
            read(written["_rrd"])["/image/points"]["Points2D:positions"]
            == (read(alone["a.rrd"])["/image/points"]["Points2D:positions"])
        )


def test_the_shipped_model_gives_the_rows_of_track(media: Path, tmp_path: Path, batch: Any) -> None:
    pytest.importorskip("onnxruntime")
    clip = media / "clip2.avi"
    common = ["--grid", "2", "--memory", "8", "--threads", "1", "--model", "taptr_small"]
    assert batch(clip, *common, "--out", tmp_path / "out") == 0
    assert main(["track", str(clip), *common, "--out", str(tmp_path / "t.npz")]) == 0
    assert_rows_are_those_of(rows(tmp_path / "out")["clip2.avi"], tmp_path / "t.npz")


@pytest.mark.parametrize("name", ["pandas", "polars", "duckdb"])
def test_the_documented_lines_read_the_dataset(dataset: Path, monkeypatch: Any, capfd: Any, name: str) -> None:
    document = ROOT / "docs" / "batch.md"
    if not document.exists():
        pytest.skip("not in the source tree")
    pytest.importorskip(name)
    (program,) = re.findall(rf"```python\n(import {name}\n.*?)```", document.read_text(), re.DOTALL)
    assert len(program.strip().splitlines()) == 4  # with one that is empty
    monkeypatch.chdir(dataset.parent)
    exec(program, {})  # noqa: S102
    printed = capfd.readouterr().out
    for recording, found in rows(dataset).items():
        assert re.search(rf"\b{recording}\W+{(found['state'] == 0).sum()}\b", printed), printed


def test_the_folder_itself_is_the_dataset(dataset: Path) -> None:
    """Whatever else lies in it: those who read it need not know its inside."""
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    count = pq.read_table(dataset / "tracks").num_rows
    assert {path.name for path in dataset.iterdir()} > {"_report.csv", "_batch.json", "_npz", "_bags", "_overlays"}
    assert len(pandas.read_parquet(dataset)) == count
    assert len(polars.read_parquet(dataset / "tracks")) == count
    for pattern in ("**/*.parquet", "*/*.parquet"):
        assert len(polars.read_parquet(dataset / pattern)) == count
        assert duckdb.read_parquet(str(dataset / pattern)).shape == (count, len(SCHEMA.names))


def test_the_columns_are_those_of_the_message() -> None:
    assert SCHEMA.names[5:] == [name for column in COLUMNS for name in column.message]
    assert {"id", "x", "y", "visibility", "confidence", "state"} < set(SCHEMA.names)


@pytest.mark.parametrize(
    ("kind", "option", "ending"),
    [("points", "--points", ".csv"), ("boxes", "--boxes", ".boxes.csv"), ("mask", "--mask", ".png")],
)
def test_what_to_track_lies_beside_the_recordings(
    media: Path, tmp_path: Path, batch: Any, kind: str, option: str, ending: str
) -> None:
    names = ["clip0.avi", "images", "bag"]
    replenish = ["--replenish"] * (kind == "mask")
    assert batch(*[media / name for name in names], "--beside", kind, "--out", tmp_path / "out", *replenish) == 0
    for name, found in rows(tmp_path / "out").items():
        beside = [option, str(media / name.replace(".avi", "")) + ending]
        alone = tmp_path / f"{name}.npz"
        assert main(["track", str(media / name), *beside, *LUCAS_KANADE, *replenish, "--out", str(alone)]) == 0
        assert_rows_are_those_of(found, alone)
        assert set(found["group"]) == ({0} if kind == "points" else {1, 2})


def test_a_recording_with_nothing_beside_it_fails(media: Path, tmp_path: Path, batch: Any) -> None:
    assert batch(media / "clip1.avi", "--beside", "points", "--out", tmp_path / "other") == 1
    assert "clip1.csv" in report(tmp_path / "other")["clip1.avi"]["remarks"]


def test_pieces_are_tracked_as_recordings_of_their_own(media: Path, tmp_path: Path, batch: Any) -> None:
    # 25 frames per second: four frames each, and a rest.
    chosen = [media / name for name in ("clip0.avi", "bag")]
    assert batch(*chosen, "--grid", 2, "--every", 0.16, "--out", tmp_path / "out", "--npz") == 0
    scene = moving_scene(FRAMES)
    for found in rows(tmp_path / "out").values():
        assert sorted(set(zip(found["piece"].tolist(), found["frame"].tolist(), strict=True))) == [
            (frame // 4, frame) for frame in range(FRAMES)
        ]
    assert len(list((tmp_path / "out" / "_npz").iterdir())) == 6
    # The same frames, alone in a bag, give the same rows.
    messages = [image_message(index, scene[index]) for index in range(4, 8)]
    alone = write_bag(tmp_path / "alone", {"/image": messages})
    assert main(["track", str(alone), "--grid", "2", *LUCAS_KANADE, "--out", str(tmp_path / "alone.npz")]) == 0
    found = rows(tmp_path / "out")["bag"]
    assert_rows_are_those_of(
        {key: column[found["piece"] == 1] for key, column in found.items()}, tmp_path / "alone.npz"
    )


def test_a_second_run_does_what_has_changed_and_nothing_else(tmp_path: Path, batch: Any, capfd: Any) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    scene = moving_scene(FRAMES)
    for name in ("a", "b"):
        write_video(inputs / f"{name}.avi", scene)
    out = tmp_path / "out"
    command = [str(inputs / "*.avi"), "--grid", 2, "--out", out]
    assert batch(*command) == 0
    first = {path.name: path.stat().st_mtime_ns for path in (out / "tracks").iterdir()}
    assert batch(*command) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (out / "tracks").iterdir()} == first
    assert "0 tracked, 2 done before" in capfd.readouterr().out
    # Other content under the same name.
    write_video(inputs / "b.avi", scene[2:])
    assert batch(*command) == 0
    assert [line["outcome"] for line in report(out).values()] == ["done before", "tracked"]
    assert {name: len(found["id"]) for name, found in rows(out).items()} == {"a.avi": 40, "b.avi": 32}
    # Another model, and a result that was not asked for before.
    before = set((out / "tracks").iterdir())
    capfd.readouterr()
    assert batch(*command, "--size", "48x64", "--npz") == 0
    assert "2 tracked" in capfd.readouterr().out
    assert not before & set((out / "tracks").iterdir())
    assert {name: len(found["id"]) for name, found in rows(out).items()} == {"a.avi": 40, "b.avi": 32}
    assert batch(*command, "--size", "48x64") == 0
    assert "2 done before" in capfd.readouterr().out


def test_parts_that_are_there_are_not_done_again(media: Path, tmp_path: Path, batch: Any) -> None:
    out = tmp_path / "out"
    command = [media / "clip0.avi", "--grid", 2, "--every", 0.16, "--out", out]
    assert batch(*command) == 0
    whole = rows(out)["clip0.avi"]
    first, second, third = sorted((out / "tracks").iterdir())
    second.unlink()
    kept = {path: path.stat().st_mtime_ns for path in (first, third)}
    assert batch(*command) == 0
    assert {path: path.stat().st_mtime_ns for path in (first, third)} == kept
    assert report(out)["clip0.avi"]["frames"] == "10"
    for name, column in rows(out)["clip0.avi"].items():
        np.testing.assert_array_equal(column, whole[name])


def test_results_that_are_asked_for_later_are_made_for_all_parts(media: Path, tmp_path: Path, batch: Any) -> None:
    out = tmp_path / "out"
    command = [media / "clip0.avi", "--grid", 2, "--every", 0.16, "--out", out]
    assert batch(*command) == 0
    whole = rows(out)["clip0.avi"]
    assert batch(*command, "--npz") == 0
    first, *others = sorted((out / "_npz").iterdir())
    for path in others:  # as if the run had been killed after the first part
        path.unlink()
    assert batch(*command, "--npz") == 0
    assert sorted((out / "_npz").iterdir()) == [first, *others]
    np.testing.assert_array_equal(rows(out)["clip0.avi"]["x"], whole["x"])


def test_a_recording_that_fails_in_one_part_has_no_rows(
    media: Path, tmp_path: Path, batch: Any, monkeypatch: Any
) -> None:
    from taptr_ros.cli.batch import work

    class Failing(work.TrackingWorker):
        def _track(self, recording: Any, source: Any, points: Any, part: Any, *others: Any) -> work.Tracked:
            if recording.name == "clip1.avi" and part.number == 1:
                raise ValueError("It is broken.")
            return super()._track(recording, source, points, part, *others)

    monkeypatch.setattr(work, "TrackingWorker", Failing)
    out = tmp_path / "out"
    command = [media / "clip0.avi", media / "clip1.avi", "--grid", 2, "--every", 0.08, "--out", out]
    assert batch(*command) == 1
    assert set(rows(out)) == {"clip0.avi"}
    assert report(out)["clip1.avi"]["remarks"] == "It is broken."
    monkeypatch.undo()
    monkeypatch.setattr("taptr_ros.cli.batch.crew.connected", lambda _address: contextlib.nullcontext())
    assert batch(*command) == 0
    assert {name: line["outcome"] for name, line in report(out).items()} == {
        "clip0.avi": "done before",
        "clip1.avi": "tracked",
    }
    assert report(out)["clip0.avi"]["frames"] == "10"


def test_rows_stay_while_their_recording_is_out_of_reach(media: Path, tmp_path: Path, batch: Any) -> None:
    clip = tmp_path / "clip.avi"
    clip.write_bytes((media / "clip0.avi").read_bytes())
    command = [clip, "--grid", 2, "--out", tmp_path / "out"]
    assert batch(*command) == 0
    clip.rename(tmp_path / "elsewhere")
    assert batch(*command) == 1
    assert len(rows(tmp_path / "out")["clip.avi"]["id"]) == 40
    clip.write_bytes(b"another content, which is no video")
    assert batch(*command) == 1
    assert not list((tmp_path / "out" / "tracks").iterdir())


def test_a_recording_that_grows_while_it_is_read_fails(
    media: Path, tmp_path: Path, batch: Any, monkeypatch: Any
) -> None:
    from taptr_ros.cli.batch import work

    class WhileItIsRecorded(work.TrackingWorker):
        def _track(self, recording: Any, *others: Any) -> work.Tracked:
            tracked = super()._track(recording, *others)
            with Path(recording.location).open("ab") as file:
                file.write(b"more")
            return tracked

    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    clip.write_bytes((media / "clip0.avi").read_bytes())
    monkeypatch.setattr(work, "TrackingWorker", WhileItIsRecorded)
    for every in ([], ["--every", 0.2]):
        assert batch(clip, "--grid", 2, *every, "--out", out.with_name(f"out{len(every)}")) == 1
        answer = report(out.with_name(f"out{len(every)}"))["clip.avi"]["remarks"]
        assert "changed while it was read; start the command again" in answer
        assert not list(out.with_name(f"out{len(every)}").glob("tracks/*"))


def test_bad_recordings_are_named_and_the_others_are_tracked(
    media: Path, tmp_path: Path, batch: Any, capfd: Any
) -> None:
    (tmp_path / "rubbish.mp4").write_bytes(b"rubbish")
    (tmp_path / "empty").mkdir()
    listed = tmp_path / "list.txt"
    listed.write_text(f"# recordings\n{tmp_path}/rubbish.mp4\n\n{tmp_path}/empty\n{tmp_path}/gone.mp4\n{media}/bag\n")
    assert batch(listed, media / "clip0.avi", "--grid", 2, "--out", tmp_path / "out") == 1
    assert set(rows(tmp_path / "out")) == {"bag", "clip0.avi"}
    printed, error = capfd.readouterr()
    assert "2 tracked, 0 done before, 3 failed" in printed
    assert re.search(r"clip0\.avi: 10 frames, 4 points, \d+% visible, \d+\.\d s\.", printed)
    assert "3 of 5 recordings failed" in error
    for name, words in {"rubbish.mp4": "cannot be opened", "empty": "no images", "gone.mp4": "does not exist"}.items():
        assert words in report(tmp_path / "out")[name]["remarks"]
        assert re.search(rf"  {tmp_path}/{name}: .*{words}", error)
    assert "Traceback" not in error


def test_recordings_come_by_http(media: Path, tmp_path: Path, batch: Any) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def handler(*arguments: Any) -> Quiet:
        return Quiet(*arguments, directory=str(media))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        inputs = [f"{url}/clip0.avi?token=a*b", f"{url}/gone.avi", (media / "bag").as_uri()]
        inputs += [f"{media.as_uri()}/clip[12].avi", f"zip://zipped/*.avi::{media.as_uri()}/clips.zip"]
        with zipfile.ZipFile(media / "clips.zip", "w") as archive:
            archive.write(media / "clip0.avi", "zipped/0.avi")
            archive.write(media / "clip1.avi", "zipped/1.avi")
        assert batch(*inputs, "--grid", 2, "--out", tmp_path / "out") == 1
        server.shutdown()
    assert batch(*[media / name for name in ("clip0.avi", "bag")], "--grid", 2, "--out", tmp_path / "local") == 0
    remote, local = rows(tmp_path / "out"), rows(tmp_path / "local")
    assert set(remote) == {"clip0.avi", "clip1.avi", "clip2.avi", "bag", "0.avi", "1.avi"}
    np.testing.assert_array_equal(remote["0.avi"]["x"], remote["clip0.avi"]["x"])
    for name, found in local.items():
        for column in SCHEMA.names:
            np.testing.assert_array_equal(remote[name][column], found[column])
    assert "cannot be fetched" in report(tmp_path / "out")["gone.avi"]["remarks"]


def test_lists_are_read_as_people_write_them(tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    for name in ("a b, c.mp4", "2.mp4", "10.mp4", "naïve #1.mp4", "[x].mp4"):
        (folder / name).write_bytes(b"")
    listed = folder / "all.txt"
    lines = [
        "# episodes",
        "",
        "  a b, c.mp4 ",
        "naïve #1.mp4",
        "[x].mp4",
        str(folder / "2.mp4"),
        "[0-9]*.mp4",
        "s3://b/1.mp4",
    ]
    listed.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    monkeypatch.chdir(tmp_path)
    found = recordings([str(listed), "episodes/../episodes/2.mp4"], 1)  # one of them twice
    assert [recording.name for recording in found] == [
        *("a b, c.mp4", "naïve #1.mp4", "[x].mp4", "2.mp4", "10.mp4", "1.mp4")
    ]
    assert [Path(recording.location).exists() for recording in found] == [True] * 5 + [False]
    # What a line names is looked for in the working folder first.
    (tmp_path / "2.mp4").write_bytes(b"")
    (folder / "two.txt").write_text("2.mp4\nall.txt\n")
    with pytest.raises(InvalidConfigError, match=r"2\.mp4 and .*episodes/2\.mp4 have one name"):
        recordings(["episodes/two.txt"], 1)
    (folder / "remote.txt").write_text("10.mp4\n")
    (remote,) = recordings([(folder / "remote.txt").as_uri()], 1)
    assert remote.location == (folder / "10.mp4").as_uri()
    (folder / "loop.txt").write_text("loop.txt\n")
    with pytest.raises(InvalidConfigError, match="names itself"):
        recordings(["episodes/loop.txt"], 1)


@pytest.mark.parametrize(
    ("location", "parts", "name", "points"),
    [
        ("/data/1/clip.v2.mp4", 2, "1/clip.v2.mp4", "/data/1/clip.v2.csv"),
        ("s3://bucket/1/clip.mp4", 3, "bucket/1/clip.mp4", "s3://bucket/1/clip.csv"),
        ("https://[::1]:80/clip.mp4?X-Key=a/b*::c", 1, "clip.mp4", "https://[::1]:80/clip.csv?X-Key=a/b*::c"),
        ("zip://1/clip.mp4::https://h/all.zip?a=b", 3, "all.zip/1/clip.mp4", "zip://1/clip.csv::https://h/all.zip?a=b"),
        ("simplecache::gs://bucket/clip.mp4", 1, "clip.mp4", "simplecache::gs://bucket/clip.csv"),
    ],
)
def test_what_a_location_tells(location: str, parts: int, name: str, points: str) -> None:
    (recording,) = recordings([location], parts)
    assert (recording.name, recording.location) == (name, location)
    assert recording.is_remote == (not location.startswith("/"))
    assert beside(location, ".csv", is_folder=False) == points


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["clip0.avi", "again/clip0.avi"], "have one name"),
        (["nothing*.avi"], "Nothing matches"),
        (["no_list.txt"], "cannot be read as a list"),
        (["clip0.avi", "--every", "1", "--beside", "points"], "--every"),
        (["clip0.avi", "--replenish"], "use it with boxes or a mask"),
        (["clip0.avi", "--cpus", "1000"], "No machine has room"),
        (["clip0.avi", "--address", "127.0.0.1:1"], "cannot be reached"),
        (["bag", "--out", "bag/out"], "lies inside the input"),
        (["clip0.avi", "--out", "images"], "something else"),
        (["clip0.avi", "--out", "far/away"], "does not exist"),
        (["clip0.avi", "--model", "gone.safetensors"], "gone.safetensors"),
    ],
)
def test_bad_commands_are_answered_with_one_sentence(
    media: Path, tmp_path: Path, capfd: Any, monkeypatch: Any, words: list[str], answer: str
) -> None:
    if "--address" not in words:
        monkeypatch.setattr("taptr_ros.cli.batch.crew.connected", lambda _: contextlib.nullcontext())
    else:
        monkeypatch.setattr("taptr_ros.cli.batch.crew.connected", connected)
    (media / "again").mkdir(exist_ok=True)
    (media / "again" / "clip0.avi").write_bytes((media / "clip0.avi").read_bytes())
    monkeypatch.chdir(media)
    points = [] if "--beside" in words else ["--grid", "2"]
    status = main(["batch", *LUCAS_KANADE, "--out", str(tmp_path / "out"), *points, *words])
    error = capfd.readouterr().err
    assert (status, error.count("\n")) == (2, 1), error
    assert answer in error
    assert not (tmp_path / "out" / "tracks").exists()


def test_a_folder_of_another_run_is_refused(media: Path, tmp_path: Path, batch: Any, capfd: Any) -> None:
    out = tmp_path / "out"
    assert batch(media / "clip0.avi", "--grid", 2, "--out", out) == 0
    before = sorted(out.rglob("*"))
    capfd.readouterr()
    assert batch(media / "clip0.avi", "--grid", 3, "--out", out) == 2
    assert "with --grid 2 instead of --grid 3" in capfd.readouterr().err
    assert batch(media / "clip0.avi", "--grid", 2, "--out", out, "--name-parts", 2) == 2  # it would be there twice
    assert "with --name-parts 1 instead of --name-parts 2" in capfd.readouterr().err
    assert sorted(out.rglob("*")) == before


def test_a_full_disk_ends_the_run_with_one_sentence_and_nothing_half_written(
    media: Path, tmp_path: Path, batch: Any, capfd: Any, monkeypatch: Any
) -> None:
    def fsync(_descriptor: int) -> None:
        assert not list(out.glob(".unfinished/*.parquet"))  # which a pattern of a reader might find
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    assert batch(media / "clip0.avi", "--grid", 2, "--out", out) == 0
    capfd.readouterr()
    monkeypatch.setattr(os, "fsync", fsync)
    assert batch(media / "clip1.avi", "--grid", 2, "--out", out) == 2
    error = capfd.readouterr().err
    assert "No space left on device" in error
    assert error.count("\n") == 1
    monkeypatch.undo()
    assert set(rows(out)) == {"clip0.avi"}
    assert {path.name for path in out.iterdir()} == {".lock", "_batch.json", "_report.csv", "tracks"}


def test_a_folder_that_vanishes_is_not_made_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Dataset(out, {}, ()) as dataset:
        out.rename(tmp_path / "elsewhere")
        with pytest.raises(InvalidConfigError, match="was removed or replaced"):
            dataset.add({"tracks/a.00000.key.parquet": {"": b""}})
        assert not out.exists()
        with Dataset(out, {}, ()), pytest.raises(InvalidConfigError, match="was removed or replaced"):
            dataset.write_report([], [])
        assert not (out / "_report.csv").exists()


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """On this machine's own Ray: the command is killed in the middle, and started again on a terminal."""
    scene = moving_scene(FRAMES)
    for number in range(6):
        write_video(tmp_path / f"{number}.avi", [*scene, *scene[::-1]] * (2 + 3 * number))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "taptr_ros", "batch", str(tmp_path / "*.avi"), "--grid", "4", *LUCAS_KANADE]
    command += ["--out", str(out), "--workers", "1"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "frames" in process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    done = set((out / "tracks").iterdir())
    assert 1 <= len(done) < 6
    printed, shown = on_a_terminal(command)
    assert f"{len(done)} done before, 0 failed" in printed
    assert "6/6" in shown
    assert re.search(r"0 failed, \d+\.\d frames/s", shown)
    assert not re.search("WARN|INFO|raylet", shown)
    found = rows(out)
    assert {name: len(columns["id"]) for name, columns in found.items()} == {
        f"{number}.avi": 16 * 20 * (2 + 3 * number) for number in range(6)
    }
    for columns in found.values():
        assert len(set(zip(columns["frame"].tolist(), columns["id"].tolist(), strict=True))) == len(columns["id"])


def on_a_terminal(command: list[str]) -> tuple[str, str]:
    """Run a command that ends well, its stderr a terminal; return what it wrote to stdout and stderr."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=slave, text=True) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal's end
            while part := os.read(master, 4096):
                shown += part
        printed, _ = process.communicate()
        assert process.returncode == 0, shown
    os.close(master)
    return printed, shown.decode()


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with Dataset(tmp_path / "out", {}, ()), pytest.raises(InvalidConfigError, match="Another run"):
        Dataset(tmp_path / "out", {}, ())
    Dataset(tmp_path / "out", {}, ()).close()


def test_a_recording_that_ends_its_worker_is_given_up_and_the_others_go_on(
    media: Path, tmp_path: Path, batch: Any, monkeypatch: Any
) -> None:
    from taptr_ros.cli.batch import work

    class Dying(work.TrackingWorker):
        def work(self, task: work.Task) -> work.Outcome:
            if task.recording.name == "clip1.avi":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().work(task)

    monkeypatch.setattr(work, "TrackingWorker", Dying)
    assert batch(media / "clip0.avi", media / "clip1.avi", "--grid", 2, "--out", tmp_path / "out") == 1
    assert set(rows(tmp_path / "out")) == {"clip0.avi"}
    assert "ended 3 times" in report(tmp_path / "out")["clip1.avi"]["remarks"]


def test_nothing_is_lost_or_doubled_when_a_node_and_the_command_are_killed() -> None:
    script = ROOT / "scripts" / "batch.py"
    if not script.exists():
        pytest.skip("not in the source tree")
    command = [sys.executable, str(script), "cluster", "--recordings", "9", "--frames", "20"]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["recordings whose rows are not those of taptr track"] == []
    assert result["rows"] == 9 * 20 * 36
    assert result["done when the node was killed"] < result["done when the command was killed"] < 9


def test_what_one_kind_of_device_made_is_not_taken_for_that_of_another() -> None:
    """On a processor `auto` encodes images in integers, elsewhere it does not."""

    def identity(device: str) -> list[Any]:
        return Model("taptr_small", "0" * 64, None, device, None, 1, "auto").identity

    assert identity("cpu") != identity("cuda")
    assert identity("cuda:0") == identity("cuda:1")
