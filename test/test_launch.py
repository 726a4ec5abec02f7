"""The launch file: that it agrees with the package, and, where `launch` is installed, what it starts."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAUNCH_FILE = ROOT / "launch" / "tracker.launch.py"
ARGUMENTS = {
    "image",
    "params_file",
    "model",
    "backend",
    "autostart",
    "compressed",
    "namespace",
    "source",
    "bag",
    "record",
}

if not LAUNCH_FILE.exists():
    pytest.skip("not in the source tree", allow_module_level=True)


def calls(name: str) -> list[ast.Call]:
    """All calls of a function in the launch file."""
    nodes = ast.walk(ast.parse(LAUNCH_FILE.read_text()))
    return [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name]


def text(node: ast.expr) -> str:
    value = ast.literal_eval(node)
    assert isinstance(value, str)
    return value


def parameter_kinds() -> dict[str, str]:
    """The arguments that the launch file hands on as parameters, and the names of their types."""
    (kinds,) = re.findall(r"kinds = (\{.*\})", LAUNCH_FILE.read_text())
    node = ast.parse(kinds, mode="eval").body
    assert isinstance(node, ast.Dict)
    return {text(key): ast.unparse(value) for key, value in zip(node.keys, node.values, strict=True) if key}


def test_every_argument_is_declared_and_described() -> None:
    declared = {text(call.args[0]): call for call in calls("DeclareLaunchArgument")}
    assert set(declared) == ARGUMENTS
    for call in declared.values():
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        assert set(keywords) == {"default_value", "description"}
        assert text(keywords["description"]).endswith(".")


def test_every_argument_is_used() -> None:
    functions = [node for node in ast.parse(LAUNCH_FILE.read_text()).body if isinstance(node, ast.FunctionDef)]
    nodes = [node for function in functions for node in ast.walk(function)]
    assert {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)} >= ARGUMENTS


def test_arguments_that_are_parameters_have_their_type() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from taptr_ros.nodes.configs import NodeConfig
    from taptr_ros.nodes.parameters import parameters_of

    types = {entry.name: type(entry.default).__name__ for entry in parameters_of(NodeConfig)}
    kinds = parameter_kinds()
    assert kinds == {name: types[name] for name in kinds}


@pytest.mark.parametrize("executable", ["tracker", "video_source", "recorder"])
def test_every_node_is_an_executable_that_both_builds_install(executable: str) -> None:
    assert f'"{executable}"' in LAUNCH_FILE.read_text()
    build = (ROOT / "CMakeLists.txt").read_text()
    (module,) = re.findall(rf"^install_executable\({executable} ([\w.]+)\)$", build, flags=re.MULTILINE)
    assert (ROOT / "taptr_ros" / f"{module.replace('.', '/')}.py").exists()
    assert f'taptr_{executable} = "taptr_ros.{module}:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture
def launch_file() -> ModuleType:
    pytest.importorskip("launch_ros", reason="launch and launch_ros are not installed: they are not on PyPI")
    spec = importlib.util.spec_from_file_location("tracker_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def started(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch, **arguments: str) -> tuple[list[str], Any]:
    """The executables that the launch file starts with these arguments, and the context of the launch."""
    from launch import LaunchContext
    from launch_ros.actions import Node

    # Set first, so that what the launch file puts there goes with the test.
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "")
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS")
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    executables: list[str] = []
    pending = list(launch_file.generate_launch_description().entities)
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, Node):
            executables.append(entity.node_executable)
        else:
            pending += entity.visit(context) or []
    return executables, context


def test_starts_the_tracker_and_nothing_else(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    executables, context = started(launch_file, monkeypatch)
    assert executables == ["tracker"]
    assert context.environment["FASTDDS_BUILTIN_TRANSPORTS"]
    assert set(ARGUMENTS) <= set(context.launch_configurations)


@pytest.mark.parametrize(
    ("arguments", "executables"),
    [
        ({"source": "street.mp4"}, ["tracker", "video_source"]),
        ({"source": "0"}, ["tracker", "video_source"]),
        ({"bag": "my_bag"}, ["tracker", "video_source"]),
        ({"bag": "my_bag", "record": "out"}, ["tracker", "recorder", "video_source"]),
    ],
)
def test_starts_what_it_is_asked_for(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str], executables: list[str]
) -> None:
    assert started(launch_file, monkeypatch, **arguments)[0] == executables


def test_two_sources_of_images_are_refused(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="leave one out"):
        started(launch_file, monkeypatch, source="street.mp4", bag="my_bag")
