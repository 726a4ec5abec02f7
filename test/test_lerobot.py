"""`taptr lerobot`, on datasets that LeRobot makes and reads back, in the environment of scripts/setup_lerobot.sh."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_files import HEIGHT, SHIFT, WIDTH, moving_scene, write_folder

from taptr_ros.cli import main

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-lerobot" / "bin" / "python"

if importlib.util.find_spec("lerobot") is None:

    def test_in_the_environment_of_lerobot() -> None:
        if not PYTHON.exists():
            pytest.skip("LeRobot needs an environment of its own; run scripts/setup_lerobot.sh")
        from test_cli import environment

        here = {name: value for name, value in environment().items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
        ended = subprocess.run(
            [str(PYTHON), "-m", "pytest", "-q", str(Path(__file__))],
            env=here,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert " passed" in ended.stdout


FPS = 10
LENGTHS = (8, 12)
FRONT, WRIST = "observation.images.front", "observation.images.wrist"


if importlib.util.find_spec("lerobot"):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    @pytest.fixture(scope="module")
    def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Two episodes of the moving scene: one camera as video, the other, in which it runs backwards, as images."""
        image = {"shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
        features = {
            FRONT: {"dtype": "video", **image},
            WRIST: {"dtype": "image", **image},
            "observation.state": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
        }
        root = tmp_path_factory.mktemp("lerobot") / "moving"
        dataset = LeRobotDataset.create("local/moving", fps=FPS, features=features, root=root, use_videos=True)
        for length in LENGTHS:
            scene = moving_scene(length)
            for number, front in enumerate(scene):
                state = np.array([number, length], np.float32)
                wrist = scene[length - 1 - number]
                dataset.add_frame({FRONT: front, WRIST: wrist, "observation.state": state, "task": "move"})
            dataset.save_episode()
        dataset.finalize()
        return root

    def run(original: Path, out: Path, *words: object) -> int:
        common = ["--out", str(out), "--model", "lucas_kanade", "--workers", "1"]
        try:
            return main(["lerobot", str(original), *common, *map(str, words)])
        except SystemExit as error:
            return int(error.code or 0)

    def test_the_tracks_are_a_feature_of_the_frames(original: Path, tmp_path: Path, capfd: Any) -> None:
        out = tmp_path / "new"
        assert run(original, out, "--points", "60,40;80.5,50.5") == 0
        printed, error = capfd.readouterr()
        assert "20 frames in 2 episodes" in printed
        assert error == ""
        before, after = LeRobotDataset("local/moving", root=original), LeRobotDataset("local/new", root=out)
        assert after.num_frames == before.num_frames == sum(LENGTHS)
        for key, sign in (("front", 1), ("wrist", -1)):
            name = f"observation.tracks.{key}"
            feature = after.meta.features[name]
            assert (feature["dtype"], tuple(feature["shape"])) == ("float32", (2, 4))
            assert feature["names"] == {"points": ["1", "2"], "values": ["x", "y", "visibility", "confidence"]}
            assert np.array(after.meta.stats[name]["mean"]).shape == (2, 4)
            first = 0
            for length in LENGTHS:
                values = np.stack([np.asarray(after[first + number][name]) for number in range(length)])
                first += length
                pixels = values[..., :2] * (WIDTH, HEIGHT) - 0.5
                start = np.array([[60, 40], [80.5, 50.5]])
                expected = start + sign * np.arange(length)[:, None, None] * SHIFT
                assert np.abs(pixels - expected).max() < 0.7  # the video is compressed
                assert values[..., 2:].min() > 0.3
                assert values[..., 2:].max() <= 1
        for index in (0, 9, 19):
            one, other = before[index], after[index]
            assert set(other) - set(one) == {"observation.tracks.front", "observation.tracks.wrist"}
            for key in (FRONT, WRIST, "observation.state", "timestamp", "episode_index"):
                np.testing.assert_array_equal(np.asarray(one[key]), np.asarray(other[key]))
            assert one["task"] == other["task"]

    def test_the_values_are_those_of_taptr_track(original: Path, tmp_path: Path) -> None:
        out = tmp_path / "new"
        assert run(original, out, "--grid", 3, "--camera", "wrist") == 0
        folder = write_folder(tmp_path / "images", moving_scene(LENGTHS[0])[::-1])
        alone = ["track", str(folder), "--fps", str(FPS), "--grid", "3", "--model", "lucas_kanade"]
        assert main([*alone, "--out", str(tmp_path / "alone.npz")]) == 0
        dataset = LeRobotDataset("local/new", root=out)
        assert "observation.tracks.front" not in dataset.meta.features
        values = np.stack([np.asarray(dataset[number]["observation.tracks.wrist"]) for number in range(LENGTHS[0])])
        with np.load(tmp_path / "alone.npz") as tracks:
            size = np.array([WIDTH, HEIGHT])
            np.testing.assert_array_equal(values[..., :2], ((tracks["xy"] + 0.5) / size).astype(np.float32))
            np.testing.assert_array_equal(values[..., 2], tracks["visibility"])
            np.testing.assert_array_equal(values[..., 3], tracks["confidence"])

    def test_a_run_goes_on_where_it_was(original: Path, tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
        from taptr_ros.cli.lerobot import episodes

        out = tmp_path / "new"

        original_worker = episodes.EpisodeWorker

        class Failing(original_worker):
            def work(self, episode: episodes.Episode) -> Any:
                return episodes.FailedEpisode("It is broken.") if episode.index else super().work(episode)

        monkeypatch.setattr(episodes, "EpisodeWorker", Failing)
        assert run(original, out, "--boxes", "40,30,50,40", "--points-per-region", 4, "--camera", FRONT) == 1
        assert "episode 1, observation.images.front: It is broken." in capfd.readouterr().err
        assert not out.exists()
        (kept,) = (tmp_path / "new.unfinished").glob("*.npy")
        made = kept.stat().st_mtime_ns

        class Checking(original_worker):
            def work(self, episode: episodes.Episode) -> Any:
                assert (episode.index, kept.stat().st_mtime_ns) == (1, made)
                return super().work(episode)

        monkeypatch.setattr(episodes, "EpisodeWorker", Checking)
        assert run(original, out, "--boxes", "40,30,50,40", "--points-per-region", 4, "--camera", FRONT) == 0
        assert not (tmp_path / "new.unfinished").exists()
        info = json.loads((out / "meta" / "info.json").read_text())
        assert info["features"]["observation.tracks.front"]["shape"] == [4, 4]

    @pytest.mark.parametrize(
        ("words", "answer"),
        [
            (["--camera", "rear"], "has no camera rear; it has observation.images.front"),
            (["--out", "moving"], "exists already"),
            (["--points", "500,500"], "outside the image"),
        ],
    )
    def test_bad_commands(
        original: Path, tmp_path: Path, capfd: Any, monkeypatch: Any, words: Any, answer: str
    ) -> None:
        monkeypatch.chdir(original.parent)
        points = [] if "--points" in words else ["--grid", "2"]
        assert run(original, tmp_path / "new", *points, *words) in (1, 2)
        error = capfd.readouterr().err
        assert answer in error
        assert "Traceback" not in error
        assert not (tmp_path / "new").exists()

    def test_a_folder_without_a_dataset_is_named(tmp_path: Path, capfd: Any) -> None:
        assert run(tmp_path, tmp_path.with_name("new"), "--grid", 2) == 2
        assert "holds no LeRobot dataset" in capfd.readouterr().err
