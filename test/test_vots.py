"""`taptr vots`: the VOT toolkit's protocol of files, by hand and, where it is installed, by the toolkit itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_files import SHIFT, moving_scene, write_folder
from test_cli import environment

from taptr_ros.cli import main

ROOT = Path(__file__).resolve().parent.parent
TOOLKIT = ROOT / ".venv-vots" / "bin" / "python"
FRAMES = 8
COMMAND = ["vots", "--model", "lucas_kanade"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the toolkit makes it, with a point in the first frame and one in the fourth."""
    images = write_folder(tmp_path / "images", moving_scene(FRAMES))
    paths = sorted(images.iterdir())
    (tmp_path / "frames_color.txt").write_text("".join(f"{path}\n" for path in paths))
    (tmp_path / "frames_depth.txt").write_text("nothing.png\n")
    (tmp_path / "query_obj0.txt").write_text("0\n40.5,30.25\n")
    (tmp_path / "query_obj10.txt").write_text("3\n64.0,48.0\nname=value\n")
    return tmp_path


def test_positions_are_written_for_every_frame(folder: Path, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.chdir(folder)
    (folder / "images" / "005.png").write_bytes(b"rubbish")
    assert main(COMMAND) == 0
    assert "005.png" in capfd.readouterr().err
    first, second = ((folder / f"output_{name}.txt").read_text().splitlines() for name in ("obj0", "obj10"))
    assert second[:3] == ["0"] * 3
    for lines, start, place in ((first, 0, (40.5, 30.25)), (second, 3, (64, 48))):
        assert len(lines) == FRAMES
        found = np.array([[float(number) for number in line.split(",")] for line in lines[start:]])
        steps = np.array([step for step in range(FRAMES) if step != 5])
        expected = np.array(place) + (steps[steps >= start] - start)[:, None] * SHIFT
        np.testing.assert_allclose(np.delete(found, 5 - start, axis=0), expected, atol=0.2)
        np.testing.assert_array_equal(found[5 - start], found[4 - start])  # the image that cannot be read
    seen = np.array((folder / "output_obj10_visibility.txt").read_text().split(), float)
    assert (seen[:3] == 0).all()
    assert seen[3] > 0.5


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("query_obj0.txt", "0\n1,2,3,4\n", "does not give a frame and a point"),
        ("query_obj0.txt", "0\n", "does not give a frame and a point"),
        ("query_obj0.txt", "8\n1,2\n", "there are 8 frames"),
        ("query_obj0.txt", "0\nnan,2\n", "finite"),
        ("frames_color.txt", "", "no image"),
    ],
)
def test_folders_that_cannot_be_used(folder: Path, capfd: Any, name: str, text: str, answer: str) -> None:
    (folder / name).write_text(text)
    assert main([*COMMAND, "--folder", str(folder)]) == 2
    error = capfd.readouterr().err
    assert answer in error
    assert error.count("\n") == 1
    assert not list(folder.glob("output_*"))


def test_a_folder_of_something_else(tmp_path: Path, capfd: Any) -> None:
    assert main([*COMMAND, "--folder", str(tmp_path)]) == 2
    assert "no frames_*.txt" in capfd.readouterr().err


EVALUATION = """
import json, sys
from vot.analysis.point import compute_point_accuracy
from vot.dataset.dummy import generate_dummy
from vot.region import Point
from vot.tracker import ObjectQuery, Tracker

sequence = generate_dummy(60, objects=3)
tracker = Tracker("taptr", __file__, sys.argv[1], "folder")
objects = sequence.objects()

def middle(frame, name):
    box = sequence.frame(frame).object(name)
    return Point(box.x + (box.width - 1) / 2, box.y + (box.height - 1) / 2)

queries = [ObjectQuery(middle(0, name), {}, 0) for name in objects]
with tracker.runtime(log=True) as runtime:
    result = runtime.run(sequence, queries)
accuracy = {}
for name, states in zip(objects, result.objects):
    truth = [middle(frame, name) for frame in range(len(sequence))]
    accuracy[name] = compute_point_accuracy([state.region for state in states], truth, *sequence.size)
print(json.dumps(accuracy))
"""


def test_the_toolkit_runs_it_on_its_own_sequence(tmp_path: Path) -> None:
    """Three pictures go round in circles; the middle of each is tracked, and the toolkit measures how well."""
    if not TOOLKIT.exists():
        pytest.skip(
            "the VOT toolkit is not installed; run python3 -m venv .venv-vots, and "
            ".venv-vots/bin/pip install vot-toolkit attributee==0.1.9"
        )
    script = tmp_path / "evaluation.py"
    script.write_text(EVALUATION)
    command = f"{sys.executable} -m taptr_ros vots --model lucas_kanade"
    ended = subprocess.run(
        [str(TOOLKIT), str(script), command],
        env=environment() | {"TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    accuracy = json.loads(ended.stdout.splitlines()[-1])
    assert len(accuracy) == 3
    for average, *_, within_16, frames in accuracy.values():
        assert frames == 59
        assert (average > 0.95, within_16) == (True, 1.0)
