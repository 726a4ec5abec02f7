"""Every command that the README gives, run as it stands there: with files of these names, and shortened."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_files import image_message, moving_scene, write_bag, write_folder, write_video
from test_cli import environment, write_checkpoint, write_dataset
from test_replay_depth import depth_message, info_message
from view_client import view_process

from taptr_ros.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

if not README.exists():
    pytest.skip("not in the source tree", allow_module_level=True)


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of the bash blocks, without comments."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    parts = [part for line in lines for part in re.split(r" && ", line)]
    return [stripped for part in parts if (stripped := re.sub(r"\s+# .*", "", part).strip())]


OURS = [command for command in commands() if command.startswith("taptr ")]
OTHERS = [command for command in commands() if not command.startswith("taptr ")]

SHORTER = {
    "demo": ["--source", "street.mp4", "--seconds", "1", "--model", "lucas_kanade"],
    "bench": ["--points", "1", "--memory", "1", "--seconds", "0.01", "--images", "48x64"],
    "latency": ["--seconds", "1"],
    "scenes": ["--clips", "1", "--frames", "4", "--columns", "2", "--size", "64x64", "--points", "10"],
    "export": ["--size", "64x96"],
    "batch": ["--workers", "1", "--model", "lucas_kanade"],
}
"""Options that make a command take a few seconds at most."""

NEEDS_ROS = ("demo", "latency")
NEEDS_TORCH = ("convert", "export", "teach", "train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README names."""
    folder = tmp_path_factory.mktemp("readme")
    # As many frames as a training clip needs.
    scene = [np.tile(image, (4, 4, 1)) for image in moving_scene(16)]
    write_video(folder / "street.avi", scene).rename(folder / "street.mp4")
    frames = range(len(scene))
    depth = [depth_message(index, size=scene[0].shape[:2]) for index in frames]
    info = [info_message(index, size=scene[0].shape[:2]) for index in frames]
    images = [image_message(index, image) for index, image in enumerate(scene)]
    write_bag(folder / "my_bag", {"/camera/image_raw": images})
    topics = {"/camera/image_raw": images, "/camera/depth/image_raw": depth, "/camera/depth/camera_info": info}
    write_bag(folder / "rgbd_bag", topics)
    labels = np.zeros(scene[0].shape[:2], np.uint8)
    labels[50:150, 60:180], labels[200:300, 250:400] = 1, 2
    cv2.imwrite(str(folder / "bodies.png"), labels)
    write_dataset(folder / "DIR")
    write_folder(folder / "images", scene)
    (folder / "frames_color.txt").write_text("".join(f"{path}\n" for path in sorted((folder / "images").iterdir())))
    (folder / "query_obj0.txt").write_text("0\n200,150\n")
    (folder / "episodes").mkdir()
    shutil.copy(folder / "street.mp4", folder / "episodes" / "1.mp4")
    shutil.copy(ROOT / "config" / "training" / "small.yaml", folder / "RECIPE.yaml")
    return folder


@pytest.mark.parametrize(
    "command", [command for command in OURS if "--publish" not in command and not command.startswith("taptr view")]
)
def test_a_command_of_this_package_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    _, name, *rest = shlex.split(command)
    if name in NEEDS_ROS:
        pytest.importorskip("rclpy", reason="ROS 2 is not installed")
        pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")
    if name in NEEDS_TORCH:
        pytest.importorskip("torch")
    if name == "batch":
        pytest.importorskip("ray")
    if name == "lerobot":
        pytest.importorskip("lerobot", reason="LeRobot needs an environment of its own; test_lerobot.py runs there")
    monkeypatch.chdir(folder)
    if name == "convert":
        write_checkpoint(folder / "CHECKPOINT.pth")
    if name == "train":
        # The run would take days: that the recipe and the options are right is what can be tried.
        from taptr_ros.training.config import load_training_config

        assert rest == ["RECIPE.yaml", "--run", "DIR"]
        load_training_config(folder / "RECIPE.yaml")
        with pytest.raises(SystemExit):
            main([name, *rest, "--help"])
        return
    before = set(folder.iterdir())
    assert main([name, *rest, *SHORTER.get(name, [])]) == 0
    assert name == "latency" or set(folder.iterdir()) - before


def test_a_bag_is_played_for_a_node(folder: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    (command,) = (command for command in OURS if "--publish" in command)
    run = [sys.executable, "-m", "taptr_ros", *shlex.split(command)[1:]]
    with subprocess.Popen(
        run,
        cwd=folder,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stderr is not None
        assert "Waiting for 1 subscriptions" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "Traceback" not in log


def test_a_file_is_shown_in_a_browser(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp, of the extra `view`, is not installed")
    (command,) = (command for command in OURS if command.startswith("taptr view"))
    monkeypatch.chdir(folder)
    with view_process(Path(shlex.split(command)[2])) as address:
        assert b"<!doctype html>" in urllib.request.urlopen(address).read()  # noqa: S310


def test_every_command_of_this_package_is_in_the_readme() -> None:
    assert {command.split()[1] for command in OURS} == set(COMMANDS)


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_name_what_there_is(command: str) -> None:
    program, *words = shlex.split(command)
    if program.startswith("scripts/"):
        assert os.access(ROOT / program, os.X_OK)
    elif command.startswith("ros2 launch"):
        package, file, *given = words[1:]
        assert package == "taptr_ros"
        names = re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', (ROOT / "launch" / file).read_text())
        assert {argument.partition(":=")[0] for argument in given} <= set(names)
    elif command.startswith("ros2 run taptr_ros"):
        assert f"install_executable({words[2]} " in (ROOT / "CMakeLists.txt").read_text()
    elif command.startswith("ros2 service call"):
        name, kind, request = words[2:]
        package, folder_name, interface = kind.split("/")
        assert (package, (ROOT / folder_name / f"{interface}.srv").exists()) == ("taptr_ros", True)
        assert f'"{name[1:]}"' in (ROOT / "taptr_ros" / "nodes" / "requests.py").read_text()
        interfaces = pytest.importorskip("taptr_ros.srv", reason="the ROS interfaces are not built")
        yaml = pytest.importorskip("yaml")
        from taptr_ros.msg import QueryPoint, QueryPoints

        points = [QueryPoint(**point) for point in yaml.safe_load(request)["query"]["points"]]
        getattr(interfaces, interface).Request(query=QueryPoints(points=points))
    else:
        # Of ROS, pip and the shell.
        known = (
            "rosdep install",
            "python3 -m venv",
            "touch venv",
            ". venv",
            "pip install",
            "colcon build",
            ". install",
        )
        assert command.startswith(
            (*known, ".venv/bin/taptr view", "ros2 topic echo /tracks", "ros2 run rqt_image_view")
        )


def test_the_python_example_tracks_its_points() -> None:
    pytest.importorskip("onnxruntime")
    (program,) = blocks("python")
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert {"add", "step"} <= calls
    places = {"image": np.zeros((480, 640, 3), np.uint8), "stamp": 1}
    exec(program, places)  # noqa: S102
    assert places["tracks"].xy.tolist() == [[320.0, 240.0], [100.0, 50.0]]
