"""Self-training: what a teacher vouches for is true, and clips of it are learnt from."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch")

from taptr_ros.cli import main
from taptr_ros.cli.train import taught_recordings
from taptr_ros.model.files import load_model
from taptr_ros.runtime.loading import TAPTR_SMALL, WEIGHTS, load_backend
from taptr_ros.training.clip_files import load_frames, load_tracks, pool_files
from taptr_ros.training.config import load_training_config
from taptr_ros.training.scenes import SceneConfig, generate
from taptr_ros.training.teaching import FEWEST, SHORTEST, WINDOW, pieces, taught, textured_points

SCENES = SceneConfig(kind="spatial", frames=SHORTEST, fastest=4.0, motion_blur_share=0.0)


def write_video(path: Path, frames: np.ndarray) -> None:
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (width, height))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()


def test_recordings_are_cut_into_pieces_and_reduced() -> None:
    frames = [np.full((300, 768, 3), number, np.uint8) for number in range(2 * WINDOW + SHORTEST - 1)]
    cut = list(pieces(frames))
    assert [piece.shape for piece in cut] == [(WINDOW, 150, 384, 3)] * 2
    assert [int(piece[0, 0, 0, 0]) for piece in cut] == [0, WINDOW]
    assert len(list(pieces(frames[:SHORTEST]))) == 1


def test_points_are_on_texture_and_elsewhere() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[20:40, 30:50] = np.random.default_rng(0).integers(0, 256, (20, 20, 3))
    points = textured_points(image, np.random.default_rng(0))
    on_texture = ((points > [28, 18]) & (points < [52, 42])).all(axis=1)
    assert 8 < on_texture.sum() < len(points)
    assert ((points >= 0) & (points <= [95, 63])).all()


def test_what_the_teacher_vouches_for_is_true() -> None:
    """In a scene whose points are known everywhere: a teacher's points lie on surfaces that moved as it says."""
    teacher = load_backend(TAPTR_SMALL, threads=2)
    scene = generate(SCENES, 3)
    clip = taught(teacher, scene.frames, seed=0)
    assert clip is not None
    assert len(clip.xy) >= FEWEST
    assert clip.visible[:, 0].all()
    assert (clip.visible <= clip.known).all()
    assert np.isnan(clip.xy[~clip.visible]).all()
    errors = []
    for points, visible in zip(clip.xy, clip.visible, strict=True):
        near = np.linalg.norm(scene.xy[:, 0] - points[0], axis=1)
        true = int(np.argmin(near))
        # The true point next to it moves alike, if it is near enough to lie on the same surface.
        if near[true] < 3.0 and scene.visible[true, 0]:
            moved = (points - points[0]) - (scene.xy[true] - scene.xy[true, 0])
            errors.extend(np.linalg.norm(moved, axis=1)[visible & scene.visible[true]])
    assert len(errors) > 50
    assert np.median(errors) < 1.0


def test_a_picture_without_texture_teaches_nothing() -> None:
    teacher = load_backend("lucas_kanade")
    noise = np.random.default_rng(0).integers(0, 256, (SHORTEST, 64, 64, 3), np.uint8)
    assert taught(teacher, noise, seed=0) is None


def test_the_command_leaves_out_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = generate(dataclasses.replace(SCENES, height=128, width=160), 1)
    write_video(tmp_path / "good.mp4", scene.frames)
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    sources = [str(tmp_path / "bad.mp4"), str(tmp_path / "good.mp4")]
    assert main(["teach", *sources, "--model", "lucas_kanade", "--out", str(tmp_path / "clips")]) == 0
    out = capsys.readouterr().out
    assert "bad.mp4" in out
    assert "1 of 1 pieces" in out
    (path,) = pool_files(tmp_path / "clips")
    tracks, contrasts = load_tracks(path)
    assert tracks.size == load_frames(path).shape[1:3] == (128, 160)
    assert contrasts.shape == tracks.visible.shape == tracks.known.shape
    # A second run adds to what is there, and one without any clip says so.
    assert main(["teach", sources[1], "--model", "lucas_kanade", "--out", str(tmp_path / "clips")]) == 0
    assert [found.name[:12] for found in pool_files(tmp_path / "clips")] == ["000000000000", "000000000001"]
    assert main(["teach", sources[0], "--model", "lucas_kanade", "--out", str(tmp_path / "none")]) == 2
    assert "No clip came of 0 pieces of 1 recordings" in capsys.readouterr().err


def test_one_command_learns_from_videos(tmp_path: Path) -> None:
    """It makes the tracks once, and goes on from the package's weights."""
    write_video(tmp_path / "clip.mp4", generate(SCENES, 4).frames)
    command = [sys.executable, "-m", "taptr_ros", "train", "--videos", "clip.mp4", "--run", "run"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([*command, "--minutes", "0.05"], cwd=tmp_path, env=environment, check=True, timeout=300)
    (clip,) = pool_files(tmp_path / "run" / "recordings")
    recipe = load_training_config(tmp_path / "run" / "recipe.yaml")
    assert recipe.initial == str(WEIGHTS / TAPTR_SMALL / "model.safetensors")
    assert recipe.data.recordings == "run/recordings"
    assert "begun at step 0 of 200, 2 processes" in (tmp_path / "run" / "log.txt").read_text()
    # Started again, it does not read the videos again.
    made = clip.stat().st_mtime_ns
    assert taught_recordings([tmp_path / "gone.mp4"], tmp_path / "run") == tmp_path / "run" / "recordings"
    assert clip.stat().st_mtime_ns == made
    before, after = (load_model(path)[1] for path in (Path(recipe.initial), tmp_path / "run" / "latest.safetensors"))
    changes = [np.abs(after[name] - before[name]).max() for name in before]
    assert 0.0 < max(changes) < 0.1


def test_the_recipe_of_the_document_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "training.md").read_text()
    recipes = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert recipes
    for number, recipe in enumerate(recipes):
        path = tmp_path / f"{number}.yaml"
        path.write_text(recipe)
        assert load_training_config(path).data.recordings == "recordings"
