"""The command line: what it writes, what it prints, and how it answers mistakes."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_files import (
    FIRST_STAMP,
    HEIGHT,
    PERIOD,
    SHIFT,
    WIDTH,
    image_message,
    moving_scene,
    write_bag,
    write_folder,
    write_video,
)
from rosbags.rosbag2 import StoragePlugin

from taptr_ros import __version__
from taptr_ros.cli import main
from taptr_ros.runtime.loading import load_backend

FRAMES = 8
NEEDS_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
LUCAS_KANADE = ["--model", "lucas_kanade"]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the moving scene as clip.avi, images/ and bag/, and points.csv."""
    folder = tmp_path_factory.mktemp("media")
    scene = moving_scene(FRAMES)
    write_video(folder / "clip.avi", scene)
    write_folder(folder / "images", scene)
    messages = [image_message(index, image) for index, image in enumerate(scene)]
    write_bag(folder / "bag", {"/camera/image_raw": messages, "/other": messages[:1]})
    (folder / "points.csv").write_text("id,x,y,frame\n70,40.5,30.25,0\n9,64,48,3\n")
    write_dataset(folder / "dataset")
    return folder


def write_dataset(folder: Path) -> None:
    """Two sequences of the moving scene with exact ground truth, in TAP-Vid's raster convention."""
    folder.mkdir()
    scene = moving_scene(FRAMES)
    jpegs = [cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].reshape(-1) for image in scene]
    start = np.array([[40.5, 30.5], [60.5, 50.5], [80.5, 40.5]])
    points = start[:, None] + np.arange(FRAMES)[None, :, None] * SHIFT
    for name in ("first", "second"):
        np.savez(
            folder / f"{name}.npz",
            jpeg=np.concatenate(jpegs),
            jpeg_offsets=np.cumsum([0, *map(len, jpegs)]),
            size_hw=np.array([HEIGHT, WIDTH]),
            points=points.astype(np.float32),
            occluded=np.zeros((3, FRAMES), bool),
            valid=np.ones((3, FRAMES), bool),
        )


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("source", "options", "stamps"),
    [
        ("clip.avi", [], np.arange(FRAMES) * PERIOD),
        ("images", ["--fps", "10"], np.arange(FRAMES) * 100_000_000),
        ("bag", ["--image-topic", "/camera/image_raw"], FIRST_STAMP + np.arange(FRAMES) * PERIOD),
    ],
)
def test_track_follows_the_scene_in_every_kind_of_source(media, tmp_path, source, options, stamps) -> None:
    out = tmp_path / "tracks.npz"
    points = ["--points", "40.5,30.25;64,48"]
    assert main(["track", str(media / source), *points, *LUCAS_KANADE, *options, "--out", str(out)]) == 0
    tracks = load(out)
    expected = np.array([[40.5, 30.25], [64, 48]]) + np.arange(FRAMES)[:, None, None] * SHIFT
    assert np.abs(tracks["xy"] - expected).max() < 0.2
    assert tracks["visible"].all()
    assert (tracks["visibility"] > 0.5).all()
    assert not tracks["state"].any()
    assert tracks["ids"].tolist() == [1, 2]
    assert tracks["stamps"].tolist() == stamps.tolist()


def test_track_starts_points_in_the_frames_of_the_csv(media, tmp_path) -> None:
    out = tmp_path / "tracks.npz"
    arguments = ["track", str(media / "images"), "--points", str(media / "points.csv"), *LUCAS_KANADE]
    assert main([*arguments, "--out", str(out)]) == 0
    tracks = load(out)
    assert tracks["ids"].tolist() == [70, 9]
    assert np.isnan(tracks["xy"][:3, 1]).all()
    assert not tracks["visible"][:3, 1].any()
    assert not tracks["visibility"][:3, 1].any()
    assert (tracks["state"][:3, 1] == 3).all()
    assert np.allclose(tracks["xy"][3, 1], [64, 48], atol=1e-3)
    assert np.abs(tracks["xy"][7, 1] - ([64, 48] + 4 * SHIFT)).max() < 0.2
    assert np.isfinite(tracks["xy"][:, 0]).all()


def test_track_grid_and_overlay(media, tmp_path, capfd) -> None:
    out, overlay = tmp_path / "tracks.npz", tmp_path / "overlay.mp4"
    arguments = ["track", str(media / "clip.avi"), "--grid", "3", *LUCAS_KANADE, "--memory", "4", "--no-support"]
    assert main([*arguments, "--out", str(out), "--overlay", str(overlay)]) == 0
    tracks = load(out)
    assert tracks["xy"].shape == (FRAMES, 9, 2)
    assert np.allclose(tracks["xy"][0, 0], [WIDTH / 6 - 0.5, HEIGHT / 6 - 0.5], atol=1e-3)
    capture = cv2.VideoCapture(str(overlay))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25.0)
    difference = np.abs(capture.read()[1][..., ::-1].astype(int) - moving_scene(FRAMES)[0]).max(axis=2)
    on_points = [difference[round(y), round(x)] for x, y in tracks["xy"][0]]
    assert np.median(on_points) > 60
    printed, progress = capfd.readouterr()
    assert "9 points over 8 frames" in printed
    assert progress == ""


def test_track_quietly_prints_nothing(media, tmp_path, capfd) -> None:
    arguments = ["track", str(media / "images"), "--grid", "2", *LUCAS_KANADE, "--out", str(tmp_path / "t.npz")]
    assert main([*arguments, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_size_changes_what_the_model_sees_but_not_the_pixels_of_the_result(media, tmp_path) -> None:
    out = tmp_path / "tracks.npz"
    arguments = ["track", str(media / "images"), "--points", "64,48", *LUCAS_KANADE, "--out", str(out)]
    assert main([*arguments, "--size", "48x96"]) == 0
    assert np.abs(load(out)["xy"][:, 0] - ([64, 48] + np.arange(FRAMES)[:, None] * SHIFT)).max() < 1.0


def test_damaged_video_gives_the_tracks_of_what_can_be_read_and_says_so(tmp_path, capfd) -> None:
    video = write_video(tmp_path / "clip.avi", moving_scene(30))
    raw = video.read_bytes()
    index = raw.rindex(b"idx1")
    video.write_bytes(raw[: index // 2] + raw[index:])
    out = tmp_path / "tracks.npz"
    assert main(["track", str(video), "--grid", "2", *LUCAS_KANADE, "--out", str(out)]) == 0
    frames = len(load(out)["xy"])
    assert 5 < frames < 30
    assert f"read {frames} of the 30 frames" in capfd.readouterr().err


def test_damaged_bag_gives_the_tracks_before_the_damage_and_status_2(tmp_path, capfd) -> None:
    frames = 60
    messages = [image_message(index, image) for index, image in enumerate(moving_scene(frames))]
    bag = write_bag(tmp_path / "bag", {"/image": messages}, StoragePlugin.SQLITE3)
    raw = (bag / "bag.db3").read_bytes()
    (bag / "bag.db3").write_bytes(raw[: len(raw) // 2])
    out = tmp_path / "tracks.npz"
    assert main(["track", str(bag), "--points", "20,15", *LUCAS_KANADE, "--out", str(out)]) == 2
    assert "is damaged after" in capfd.readouterr().err
    tracks = load(out)
    count = len(tracks["stamps"])
    assert frames // 4 < count < frames
    np.testing.assert_allclose(tracks["xy"][:, 0], [20, 15] + np.arange(count)[:, None] * SHIFT, atol=0.5)


@pytest.mark.parametrize("broken", [0, 3])
def test_track_goes_on_after_a_broken_image_and_says_so(tmp_path, capfd, broken) -> None:
    folder = write_folder(tmp_path / "images", moving_scene(FRAMES))
    (folder / f"{broken:03d}.png").write_bytes(b"rubbish")
    out = tmp_path / "tracks.npz"
    assert main(["track", str(folder), "--points", "40,30", *LUCAS_KANADE, "--out", str(out)]) == 0
    error = capfd.readouterr().err
    assert "An image was left out." in error
    assert f"{broken:03d}.png" in error
    assert error.count("\n") == 1
    tracks = load(out)
    kept = np.array([index for index in range(FRAMES) if index != broken])
    assert tracks["stamps"].tolist() == [round(index * 1e9 / 30) for index in kept]
    first = max(kept[0], 0)
    np.testing.assert_allclose(tracks["xy"][:, 0], [40, 30] + (kept - first)[:, None] * SHIFT, atol=0.3)


def test_a_point_of_a_broken_image_starts_in_the_next_one(tmp_path) -> None:
    folder = write_folder(tmp_path / "images", moving_scene(FRAMES))
    (folder / "003.png").write_bytes(b"rubbish")
    points, out = tmp_path / "points.csv", tmp_path / "tracks.npz"
    points.write_text("x,y,frame\n40,30,0\n64,48,3\n")
    assert main(["track", str(folder), "--points", str(points), *LUCAS_KANADE, "--out", str(out)]) == 0
    tracks = load(out)
    assert np.isnan(tracks["xy"][:3, 1]).all()
    assert np.allclose(tracks["xy"][3, 1], [64, 48], atol=1e-3)  # frame 4


def test_images_of_another_size_and_repeated_stamps_are_left_out(tmp_path, capfd) -> None:
    scene = moving_scene(FRAMES)
    folder = write_folder(tmp_path / "images", scene)
    cv2.imwrite(str(folder / "003.png"), scene[3][:40, :50])
    messages = [image_message(index, image) for index, image in enumerate(scene)]
    messages[3].header.stamp = messages[2].header.stamp
    bag = write_bag(tmp_path / "bag", {"/image": messages})
    for source, name in ((folder, "003.png"), (bag, "Message 3 on /image")):
        out = tmp_path / "tracks.npz"
        assert main(["track", str(source), "--points", "40,30", *LUCAS_KANADE, "--out", str(out)]) == 0
        assert name in capfd.readouterr().err
        kept = np.array([0, 1, 2, 4, 5, 6, 7])
        np.testing.assert_allclose(load(out)["xy"][:, 0], [40, 30] + kept[:, None] * SHIFT, atol=0.3)


def test_points_that_look_normalised_are_tracked_with_a_word(media, tmp_path, capfd) -> None:
    arguments = ["track", str(media / "images"), *LUCAS_KANADE, "--out", str(tmp_path / "out.npz")]
    assert main([*arguments, "--points", "0.5,0.25;0.75,0.5"]) == 0
    assert "as if they were shares of the image" in capfd.readouterr().err
    assert main([*arguments, "--points", "0.5,0.25;7,5"]) == 0
    assert capfd.readouterr().err == ""


def test_an_error_of_the_overlay_keeps_the_tracks(media, tmp_path, capfd, monkeypatch) -> None:
    def write(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("taptr_ros.drawing.overlay.OverlayVideo.write", write)
    out = tmp_path / "tracks.npz"
    arguments = ["track", str(media / "images"), "--grid", "2", *LUCAS_KANADE, "--out", str(out)]
    assert main([*arguments, "--overlay", str(tmp_path / "overlay.mp4")]) == 2
    assert "No space left on device" in capfd.readouterr().err
    assert load(out)["xy"].shape == (1, 4, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to(path.name), "leads to itself"),
        (lambda path: path.symlink_to(path.parent / "missing" / "t.npz"), "lies in a folder that does not exist"),
        (os.mkfifo, "is a pipe"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_tracking(media, tmp_path, capfd, make, words) -> None:
    out = tmp_path / "tracks.npz"
    make(out)
    assert main(["track", str(media / "images"), "--grid", "2", *LUCAS_KANADE, "--out", str(out)]) == 2
    printed, error = capfd.readouterr()
    assert (printed, error.count("\n")) == ("", 1)
    assert words in error


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("{taptr} | true; exit ${{PIPESTATUS[0]}}", 141),
        ("{taptr} 2>&-", 0),
        ("{taptr} <&- >&- 2>&-", 0),
        ("PYTHONIOENCODING=ascii {taptr}", 0),
    ],
    ids=["reader gone", "no stderr", "no streams", "ASCII only"],
)
def test_whatever_the_streams_are_the_tracks_are_written(media, tmp_path, command, status) -> None:
    out = tmp_path / "é.npz"
    track = [sys.executable, "-m", "taptr_ros", "track", media / "images", "--grid", "2", *LUCAS_KANADE, "--out", out]
    line = command.format(taptr=shlex.join(map(str, track)))
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, env=environment(), check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert load(out)["xy"].shape[1:] == (4, 2)


TRACK_CLIP = ["track", "clip.avi", "--grid", "2", *LUCAS_KANADE]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*TRACK_CLIP, "--out", "clip.avi"], "clip.avi is an input"),
        ([*TRACK_CLIP, "--out", "./images/../clip.avi"], "is an input"),
        ([*TRACK_CLIP, "--out", "link.avi"], "is an input"),
        ([*TRACK_CLIP, "--out", "hard.avi"], "is an input"),
        ([*TRACK_CLIP, "--out", "t.npz", "--overlay", "clip.mp4"], "clip.mp4 exists and was not made by this command"),
        ([*TRACK_CLIP, "--out", "other.npz"], "other.npz exists and was not made by this command"),
        ([*TRACK_CLIP, "--out", "points.csv"], "points.csv exists and was not made by this command"),
        (["track", "clip.mp4", *TRACK_CLIP[2:], "--out", "t.npz", "--overlay", "clip.mp4", "--overwrite"], "an input"),
        (["track", "clip.avi", "--points", "points.csv", *LUCAS_KANADE, "--out", "points.csv"], "is an input"),
        (["track", "images", *TRACK_CLIP[2:], "--out", "images/t.npz"], "lies inside the input images"),
        (["track", "bag", "--image-topic", "/other", *TRACK_CLIP[2:], "--out", "bag/bag.mcap"], "inside the input bag"),
        (["track", "bag/bag.mcap", "--image-topic", "/other", *TRACK_CLIP[2:], "--out", "bag/bag.mcap"], "is an input"),
        ([*TRACK_CLIP, "--out", "both.mp4", "--overlay", "both.mp4"], "named for two outputs"),
        (["replay", "bag", "--image-topic", "/other", "--grid", "2", "--out", "bag/new"], "inside the input bag"),
        (["eval", "dataset", *LUCAS_KANADE, "--json", "dataset/result.json"], "inside the input dataset"),
        (["eval", "dataset", *LUCAS_KANADE, "--json", "points.csv"], "was not made by this command"),
        (["bench", *LUCAS_KANADE, "--json", "points.csv"], "was not made by this command"),
        (["scenes", "--out", "points.csv"], "was not made by this command"),
    ],
)
def test_no_input_and_nothing_of_others_is_overwritten(media, tmp_path, capfd, monkeypatch, arguments, words) -> None:
    shutil.copytree(media, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    np.savez("other.npz", a=np.zeros(3))
    shutil.copy("clip.avi", "clip.mp4")
    Path("link.avi").symlink_to("clip.avi")
    Path("hard.avi").hardlink_to("clip.avi")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(arguments) == 2
    assert words in capfd.readouterr().err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_own_results_and_what_is_named_with_overwrite_are_replaced(media, tmp_path) -> None:
    out, overlay = tmp_path / "tracks.npz", tmp_path / "overlay.mp4"
    arguments = ["track", str(media / "images"), *LUCAS_KANADE, "--out", str(out), "--overlay", str(overlay)]
    for side in (2, 3):
        assert main([*arguments, "--grid", str(side)]) == 0
        assert load(out)["xy"].shape[1] == side**2
    out.write_text("mine")
    assert main([*arguments, "--grid", "2"]) == 2
    assert out.read_text() == "mine"
    assert main([*arguments, "--grid", "2", "--overwrite"]) == 0
    assert load(out)["xy"].shape[1] == 4


def test_an_empty_file_can_be_replaced(media, tmp_path) -> None:
    (tmp_path / "tracks.npz").touch()  # as mktemp makes it
    arguments = ["track", str(media / "images"), "--grid", "2", *LUCAS_KANADE, "--out", str(tmp_path / "tracks.npz")]
    assert main(arguments) == 0


def test_eval_writes_percentages_and_prints_a_table(media, tmp_path, capfd) -> None:
    out = tmp_path / "result.json"
    assert main(["eval", str(media / "dataset"), *LUCAS_KANADE, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert set(result) == {"mean", "sequences"}
    assert set(result["mean"]) == {"AJ", "delta_avg", "OA", "n"}
    assert set(result["sequences"]) == {"first", "second"}
    for scores in result["sequences"].values():
        assert set(scores) == {"AJ", "delta_avg", "OA", "frames", "points", "seconds"}
        assert (scores["frames"], scores["points"]) == (FRAMES, 3)
        assert scores["delta_avg"] > 95
        assert scores["OA"] == 100
    printed = capfd.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["sequence", "first", "second", "mean"]
    assert f"{result['mean']['AJ']:.1f}" in printed


@pytest.mark.parametrize("options", [["--raster", "native"], ["--raster", "64x64"], ["--query-mode", "strided"]])
def test_eval_options_reach_the_evaluation(media, tmp_path, options) -> None:
    out = tmp_path / "result.json"
    assert main(["eval", str(media / "dataset" / "first.npz"), *LUCAS_KANADE, "--json", str(out), *options]) == 0
    scores = json.loads(out.read_text())["sequences"]["first"]
    assert scores["points"] == (6 if "strided" in options else 3)
    assert scores["delta_avg"] > 90


def test_bench_writes_its_list_and_prints_a_table_with_the_peak(tmp_path, capfd) -> None:
    out = tmp_path / "bench.json"
    settings = ["--points", "1,4", "--memory", "1,3", "--sizes", "48x64", "--images", "60x90", "--seconds", "0.01"]
    assert main(["bench", *LUCAS_KANADE, *settings, "--threads", "1", "--json", str(out)]) == 0
    entries = json.loads(out.read_text())
    assert [entry["stage"] for entry in entries] == ["encode", *["init"] * 2, *["decode"] * 4, *["frame"] * 4]
    keys = ["stage", "model", "backend", "precision", "threads", "height", "width", "image_height", "image_width"]
    keys += ["points", "memory", "median_s", "cpu_s"]
    assert all(list(entry) == keys for entry in entries)
    assert all((entry["threads"], entry["height"], entry["width"]) == (1, 48, 64) for entry in entries)
    printed = capfd.readouterr().out
    assert "lucas_kanade" in printed
    assert printed.count("48x64") == len(entries)
    assert "matmul peak" in printed


def test_bench_times_the_shipped_model_at_its_own_size(tmp_path) -> None:
    out = tmp_path / "bench.json"
    settings = ["--points", "4", "--memory", "1", "--seconds", "0.01", "--images", "48x64"]
    assert main(["bench", *settings, "--json", str(out)]) == 0
    entries = json.loads(out.read_text())
    assert [entry["stage"] for entry in entries] == ["encode", "init", "decode", "frame"]
    own = load_backend("taptr_small").info
    assert {(entry["height"], entry["width"]) for entry in entries} == {(own.height, own.width)}


def write_checkpoint(path: Path) -> None:
    """A small network with random weights under the official names."""
    torch = pytest.importorskip("torch")
    from taptr_ros.model.config import ModelConfig
    from taptr_ros.model.conversion import official_name
    from taptr_ros.model.network import TaptrNetwork

    torch.manual_seed(0)
    small = {"backbone_width": 8, "hidden_dim": 32, "feedforward_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
    official = {}
    for name, tensor in TaptrNetwork(ModelConfig.released(**small)).state_dict().items():
        source, third = official_name(name)
        if third is None:
            official[source] = tensor
        else:
            # Queries, keys and values share one tensor there; the keys' bias changes nothing and has no place here.
            thirds = official.setdefault(source, torch.zeros(3 * len(tensor), *tensor.shape[1:]))
            thirds[third * len(tensor) : (third + 1) * len(tensor)] = tensor
    torch.save({"ema_model": official}, path)


def test_convert_export_and_track_with_both_backends(media, tmp_path, capfd) -> None:
    write_checkpoint(tmp_path / "official.pth")
    model, exported = str(tmp_path / "small.safetensors"), str(tmp_path / "exported")
    assert main(["convert", str(tmp_path / "official.pth"), model]) == 0
    assert "resnet18, 32 channels, 1 encoder and 2 decoder layers, input 384x512" in capfd.readouterr().out
    assert main(["export", model, exported, "--size", "64x96", "--frames", str(media / "clip.avi")]) == 0
    assert "64 points in 7 frames" in capfd.readouterr().out
    results = []
    for options in (["--model", model, "--size", "64x96"], ["--model", exported, "--backend", "onnxruntime"]):
        out = tmp_path / "tracks.npz"
        arguments = ["track", str(media / "images"), "--grid", "2", "--threads", "1", "--out", str(out)]
        assert main([*arguments, *options]) == 0
        results.append(load(out))
    assert np.abs(results[0]["xy"] - results[1]["xy"]).max() < 0.02
    assert np.abs(results[0]["visibility"] - results[1]["visibility"]).max() < 1e-3
    assert main([*arguments, "--model", exported, "--size", "32x32"]) == 2
    assert "64x96" in capfd.readouterr().err


TRACK = ["track", "{media}/clip.avi", "--out", "{tmp}/out.npz", "--model", "lucas_kanade"]
BENCH = ["bench", "--model", "lucas_kanade", "--json", "{tmp}/bench.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND", "taptr --help"]),
        (["fly"], ["fly", "track"]),
        (["track"], ["SOURCE", "taptr track --help"]),
        (TRACK, ["--points", "--grid", "required"]),
        ([*TRACK, "--points", "1,1", "--grid", "2"], ["not allowed with"]),
        ([*TRACK, "--grid", "0"], ["--grid", "whole number from 1"]),
        ([*TRACK, "--grid", "257"], ["--grid", "256"]),
        ([*TRACK, "--grid", "2", "--size", "384"], ["--size", "384x512"]),
        ([*TRACK, "--grid", "2", "--size", "0x512"], ["--size", "0x512"]),
        ([*TRACK, "--grid", "2", "--memory", "-1"], ["--memory"]),
        ([*TRACK, "--grid", "2", "--threads", "two"], ["--threads", "two"]),
        ([*TRACK, "--grid", "2", "--backend", "abacus"], ["--backend", "abacus", "onnxruntime"]),
        ([*TRACK, "--grid", "2", "--device", "cuda"], ["Lucas-Kanade", "CPU"]),
        ([*TRACK, "--grid", "2", "--precision", "float8"], ["--precision", "float8", "bfloat16"]),
        ([*TRACK, "--grid", "2", "--size", "8x8"], ["8x8", "21x21"]),
        ([*TRACK, "--grid", "2", "--size", "99999x99999"], ["99999x99999", "more than 67108864 pixels"]),
        ([*TRACK, "--grid", "2", "--fps", "0"], ["--fps", "above 0"]),
        ([*TRACK, "--grid", "2", "--fps", "10"], ["clip.avi", "own stamps"]),
        ([*TRACK, "--grid", "2", "--image-topic", "/x"], ["clip.avi", "not a rosbag2"]),
        ([*TRACK, "--grid", "2", "--overlay", "{tmp}/out.avi"], ["--overlay", ".mp4"]),
        ([*TRACK, "--grid", "2", "--out", "{tmp}/missing/out.npz"], ["--out", "does not exist"]),
        ([*TRACK, "--grid", "2", "--out", "{tmp}"], ["--out", "is a folder"]),
        ([*TRACK, "--points", ""], ["at least one"]),
        ([*TRACK, "--points", "1,1;2"], ['"2" is not a point']),
        ([*TRACK, "--points", "1,nan"], ["finite"]),
        ([*TRACK, "--points", "500,1"], ["Point 1", "(500, 1)", "128x96"]),
        ([*TRACK, "--points", "-1,-0.5"], ["Point 1", "(-1, -0.5)", "128x96"]),
        ([*TRACK, "--points", "-.75,1"], ["Point 1", "(-0.75, 1)", "128x96"]),
        ([*TRACK, "--points", "{tmp}/none.csv"], ["none.csv"]),
        ([*TRACK, "--grid", "2", "--model", "taptr-small"], ["taptr-small", "did you mean taptr_small?"]),
        (["replay", "{media}/bag", "--grid", "2", "--out", "{tmp}/b", "--tracks-topic", "my tracks"], ['"my tracks"']),
        (["replay", "{media}/bag", "--grid", "2", "--out", "{tmp}/b", "--tracks-topic", ""], ["name of a topic"]),
        ([*TRACK, "--grid", "2", "--model", "{tmp}/none.safetensors"], ["none.safetensors"]),
        (["track", "{tmp}/none.mp4", *TRACK[2:], "--grid", "2"], ["none.mp4", "does not exist"]),
        (["track", "{media}/bag", *TRACK[2:], "--grid", "2"], ["/camera/image_raw", "/other"]),
        (["track", "{media}/points.csv", *TRACK[2:], "--grid", "2"], ["points.csv", "video"]),
        (["eval", "{tmp}/none", "--model", "lucas_kanade", "--json", "{tmp}/e.json"], ["{tmp}/none"]),
        (["eval", "{media}/dataset", "--model", "lucas_kanade"], ["--json"]),
        (["eval", "{media}/dataset", *LUCAS_KANADE, "--json", "{tmp}/e.json", "--raster", "big"], ["--raster", "big"]),
        (
            ["eval", "{media}/dataset", *LUCAS_KANADE, "--json", "{tmp}/e.json", "--query-mode", "x"],
            ["first", "strided"],
        ),
        ([*BENCH, "--points", "1,x"], ["--points", '"x"']),
        ([*BENCH, "--memory", ""], ["--memory"]),
        ([*BENCH, "--sizes", "256"], ["--sizes", "256"]),
        ([*BENCH, "--seconds", "nan"], ["--seconds"]),
        pytest.param(["convert", "{tmp}/none.pth", "{tmp}/out.safetensors"], ["none.pth"], marks=NEEDS_TORCH),
        pytest.param(["convert", "{media}/clip.avi", "{tmp}/out.safetensors"], ["clip.avi"], marks=NEEDS_TORCH),
        pytest.param(["export", "{tmp}/none.safetensors", "{tmp}/exported"], ["none.safetensors"], marks=NEEDS_TORCH),
    ],
)
def test_mistakes_get_one_sentence_and_status_2(media, tmp_path, capfd, arguments, words) -> None:
    places = {"media": media, "tmp": tmp_path}
    assert main([argument.format(**places) for argument in arguments]) == 2
    printed, error = capfd.readouterr()
    assert printed == ""
    assert error.startswith("taptr: ")
    assert error.count("\n") == 1
    assert error.endswith((".\n", "?\n"))
    assert "Traceback" not in error
    for word in words:
        assert word.format(**places) in error
    assert not list(tmp_path.iterdir())


def test_csv_with_a_frame_beyond_the_end_is_refused_before_tracking(media, tmp_path, capfd) -> None:
    points = tmp_path / "points.csv"
    points.write_text("x,y,frame\n1,1,0\n1,1,8\n")
    arguments = ["track", str(media / "images"), "--points", str(points), *LUCAS_KANADE]
    assert main([*arguments, "--out", str(tmp_path / "t.npz")]) == 2
    assert "Point 2 starts in frame 8" in capfd.readouterr().err


def test_result_that_cannot_be_written_gets_one_sentence(media, capfd) -> None:
    arguments = ["track", str(media / "images"), "--grid", "2", *LUCAS_KANADE, "--quiet", "--out", "/dev/full"]
    assert main(arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith("taptr: ")
    assert error.count("\n") == 1
    assert "No space left" in error


@pytest.mark.parametrize("command", ["", "track", "eval", "bench", "export", "convert"])
def test_help_and_version_end_with_status_0(command, capfd) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: taptr {command}".strip() in capfd.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capfd.readouterr().out == f"taptr_ros {__version__}\n"


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def test_process_reports_rubbish_in_one_line(tmp_path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"\x00\x00\x00\x18ftypmp42 and then rubbish" * 50)
    arguments = ["track", str(video), "--grid", "2", *LUCAS_KANADE, "--out", str(tmp_path / "out.npz")]
    ended = subprocess.run(
        [sys.executable, "-m", "taptr_ros", *arguments], capture_output=True, text=True, env=environment(), check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (
        f"taptr: {video} cannot be opened as a video: it is none, or not complete; pass a video file, a folder of "
        "images or a rosbag2.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_process_that_is_interrupted_keeps_what_was_tracked(tmp_path, number) -> None:
    folder = write_folder(tmp_path / "images", moving_scene(3))
    for index in range(3, 20_000):  # more than a loaded machine gets through before the signal comes
        (folder / f"{index:05d}.png").hardlink_to(folder / "002.png")
    overlay = tmp_path / "overlay.mp4"
    arguments = ["track", str(folder), "--grid", "4", *LUCAS_KANADE, "--out", str(tmp_path / "out.npz")]
    with subprocess.Popen(
        [sys.executable, "-m", "taptr_ros", *arguments, "--overlay", str(overlay)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell that runs the tests in the background makes them, and all they start, ignore interrupts.
        preexec_fn=lambda: [signal.signal(sent, signal.SIG_DFL) for sent in (signal.SIGINT, signal.SIGHUP)],  # noqa: PLW1509
    ) as process:
        deadline = time.monotonic() + 30
        while not (overlay.exists() and overlay.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "taptr: interrupted.\n")
    tracks = load(tmp_path / "out.npz")
    assert 0 < len(tracks["xy"]) < 20_000
    assert np.isfinite(tracks["xy"]).any()
    written = int(cv2.VideoCapture(str(overlay)).get(cv2.CAP_PROP_FRAME_COUNT))
    assert written == len(tracks["xy"])


def test_help_imports_nothing_that_takes_time() -> None:
    program = (
        "import sys; from taptr_ros.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'cv2', 'onnx', 'onnxruntime', 'numpy', 'rclpy') if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["track", "replay", "eval", "bench", "demo"])
def test_no_command_imports_the_training_of_another(command) -> None:
    program = (
        "import sys; from taptr_ros.cli import main\n"
        "try: main([sys.argv[1], '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith(('taptr_ros.training', 'torch', 'onnx.'))])"
    )
    run = [sys.executable, "-c", program, command]
    ended = subprocess.run(run, capture_output=True, text=True, env=environment(), check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_an_opencv_that_cannot_be_imported_gets_one_sentence(tmp_path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    run = [sys.executable, "-m", "taptr_ros"]
    settings = environment() | {"PYTHONPATH": path}
    ended = subprocess.run([*run, *TRACK_CLIP], capture_output=True, text=True, env=settings, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("taptr: OpenCV cannot be imported (libGL.so.1")
    assert ended.stderr.count("\n") == 1
    assert subprocess.run([*run, "--help"], capture_output=True, env=settings, check=False).returncode == 0
    node = [sys.executable, "-c", "import sys; from taptr_ros.cli import programs; sys.exit(programs.tracker())"]
    ended = subprocess.run(node, capture_output=True, text=True, env=settings, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("tracker: OpenCV cannot be imported (libGL.so.1")
    assert ended.stderr.count("\n") == 1


def test_an_interrupt_while_a_node_is_imported_shows_no_traceback(tmp_path) -> None:
    (tmp_path / "cv2.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    node = [sys.executable, "-c", "import sys; from taptr_ros.cli import programs; sys.exit(programs.tracker())"]
    with subprocess.Popen(
        node,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | {"PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (-signal.SIGINT, "")


def test_lucas_kanade_runs_without_torch(media, tmp_path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from taptr_ros.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    tracked = ["track", str(media / "images"), "--grid", "2", *LUCAS_KANADE, "--out", str(tmp_path / "out.npz")]
    run = [sys.executable, "-c", program]
    assert subprocess.run([*run, *tracked], env=environment(), check=False).returncode == 0
    convert = ["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors")]
    ended = subprocess.run([*run, *convert], capture_output=True, text=True, env=environment(), check=False)
    assert ended.returncode == 2
    assert 'pip install ".[torch]"' in ended.stderr
