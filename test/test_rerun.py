"""`--rrd`: what the viewer Rerun gets, read back with its own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media_files import FIRST_STAMP, HEIGHT, PERIOD, WIDTH, image_message, moving_scene, write_bag, write_video

from taptr_ros.cli import main

chunk = pytest.importorskip("rerun.chunk")
pyarrow = pytest.importorskip("pyarrow")

FRAMES = 6
COMMON = ["--points", "40.5,30.25;64,48", "--model", "lucas_kanade"]


def read(path: Path) -> dict[str, dict[str, list[Any]]]:
    """All columns, by entity and name, in the order of the frames."""
    entities: dict[str, dict[str, list[Any]]] = {}
    for part in chunk.RrdReader(path).stream():
        if "frame" in part.timeline_names:
            columns = entities.setdefault(part.entity_path, {})
            batch = part.to_record_batch()
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                # Python has no stamps with nanoseconds.
                column = values.cast(pyarrow.int64()) if pyarrow.types.is_temporal(values.type) else values
                columns.setdefault(name, []).extend(column.to_pylist())
    return entities


def test_images_points_and_trails_lie_on_the_time_lines(tmp_path: Path) -> None:
    scene = moving_scene(FRAMES)
    bag = write_bag(tmp_path / "bag", {"/image": [image_message(index, image) for index, image in enumerate(scene)]})
    out, rrd = tmp_path / "tracks.npz", tmp_path / "tracks.rrd"
    assert main(["track", str(bag), *COMMON, "--out", str(out), "--rrd", str(rrd)]) == 0
    entities = read(rrd)
    assert set(entities) == {"/image", "/image/points", "/image/trails"}
    for columns in entities.values():
        assert columns["frame"] == list(range(FRAMES))
        assert columns["stamp"] == [FIRST_STAMP + index * PERIOD for index in range(FRAMES)]
        assert not {"log_time", "log_tick"} & set(columns)
    with np.load(out) as tracks:
        points = entities["/image/points"]
        # (0, 0) is the corner of the first pixel there, and its centre here.
        np.testing.assert_allclose(np.array(points["Points2D:positions"]), tracks["xy"] + 0.5, atol=1e-5)
        assert points["Points2D:labels"] == [["1", "2"]] * FRAMES
        np.testing.assert_array_equal(points["visibility"], tracks["visibility"])
        trails = [
            [np.array(strip) for strip in strips or []] for strips in entities["/image/trails"]["LineStrips2D:strips"]
        ]
        assert [len(strips) for strips in trails] == [0, *[2] * (FRAMES - 1)]
        np.testing.assert_allclose(trails[-1][0], tracks["xy"][:, 0] + 0.5, atol=0.04)
    image = entities["/image"]["EncodedImage:blob"][2][0]
    decoded = cv2.imdecode(np.frombuffer(bytes(image), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(decoded[..., ::-1].astype(int) - scene[2]).mean() < 6


def test_stamps_of_a_video_are_times_since_its_start_and_replay_writes_the_same_points(tmp_path: Path) -> None:
    scene = moving_scene(FRAMES)
    video = write_video(tmp_path / "clip.avi", scene)
    assert main(["track", str(video), *COMMON, "--out", str(tmp_path / "t.npz"), "--rrd", str(tmp_path / "a.rrd")]) == 0
    assert read(tmp_path / "a.rrd")["/image"]["stamp"] == [index * PERIOD for index in range(FRAMES)]
    bag = write_bag(tmp_path / "bag", {"/image": [image_message(index, image) for index, image in enumerate(scene)]})
    track = ["track", str(bag), *COMMON, "--out", str(tmp_path / "b.npz"), "--rrd", str(tmp_path / "b.rrd")]
    replay = ["replay", str(bag), *COMMON, "--out", str(tmp_path / "out"), "--rrd", str(tmp_path / "c.rrd")]
    assert (main(track), main(replay)) == (0, 0)
    points = [read(tmp_path / name)["/image/points"]["Points2D:positions"] for name in ("b.rrd", "c.rrd")]
    assert points[0] == points[1]


def test_other_files_are_not_overwritten(tmp_path: Path, capfd: Any) -> None:
    video = write_video(tmp_path / "clip.avi", moving_scene(FRAMES))
    rrd = tmp_path / "tracks.rrd"
    rrd.write_text("something else")
    command = ["track", str(video), *COMMON, "--out", str(tmp_path / "t.npz"), "--rrd", str(rrd)]
    assert main(command) == 2
    assert "was not made by this command" in capfd.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert main(command) == 0
