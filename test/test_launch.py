"""The launch file: that it agrees with the package, and, where `launch` is installed, that it starts the tracker."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAUNCH_FILE = ROOT / "launch" / "tracker.launch.py"
ARGUMENTS = {"image", "params_file", "model", "backend", "autostart", "namespace"}

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
    nodes = ast.walk(ast.parse(LAUNCH_FILE.read_text()))
    (kinds,) = (node for node in nodes if isinstance(node, ast.Dict))
    return {text(key): ast.unparse(value) for key, value in zip(kinds.keys, kinds.values, strict=True) if key}


def test_every_argument_is_declared_described_and_used() -> None:
    declared = {text(call.args[0]): call for call in calls("DeclareLaunchArgument")}
    assert set(declared) == ARGUMENTS
    for call in declared.values():
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        assert set(keywords) == {"default_value", "description"}
        assert text(keywords["description"]).endswith(".")
    used = {text(call.args[0]) for call in calls("LaunchConfiguration") if isinstance(call.args[0], ast.Constant)}
    assert used | set(parameter_kinds()) == ARGUMENTS


def test_arguments_that_are_parameters_have_their_type() -> None:
    parameters = pytest.importorskip("taptr_ros.nodes.parameters", reason="ROS 2 is not installed")
    types = {entry.name: type(entry.default).__name__ for entry in parameters.declarations()}
    kinds = parameter_kinds()
    assert kinds == {name: types[name] for name in kinds}


def test_the_one_node_is_an_executable_that_the_build_installs() -> None:
    (node,) = calls("Node")
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    assert text(keywords["package"]) == "taptr_ros"
    executable = re.escape(text(keywords["executable"]))
    build = (ROOT / "CMakeLists.txt").read_text()
    (module,) = re.findall(rf"^install_executable\({executable} ([\w.]+)\)$", build, flags=re.MULTILINE)
    assert (ROOT / "taptr_ros" / f"{module.replace('.', '/')}.py").exists()
    assert f'"taptr_ros.{module}:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture
def launch_file() -> ModuleType:
    pytest.importorskip("launch_ros", reason="launch and launch_ros are not installed: they are not on PyPI")
    spec = importlib.util.spec_from_file_location("tracker_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_starts_the_tracker_and_nothing_else(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from launch import LaunchContext
    from launch_ros.actions import Node

    # Set first, so that what the launch file puts there goes with the test.
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "")
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS")
    context = LaunchContext()
    started: list[Node] = []
    pending = list(launch_file.generate_launch_description().entities)
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, Node):
            started.append(entity)
        else:
            pending += entity.visit(context) or []
    assert [node.node_executable for node in started] == ["tracker"]
    assert context.environment["FASTDDS_BUILTIN_TRANSPORTS"]
    assert set(ARGUMENTS) <= set(context.launch_configurations)
