"""The launch file, run with stand-ins for `launch`, which is not on PyPI, and with `launch` where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from taptr_ros.cli import programs

ROOT = Path(__file__).resolve().parent.parent
LAUNCH_FILE = ROOT / "launch" / "tracker.launch.py"
CAMERAS_LAUNCH_FILE = ROOT / "launch" / "cameras.launch.py"
ARGUMENTS = {
    *("image", "params_file", "model", "backend", "device", "precision", "autostart", "compressed"),
    *("use_sim_time", "namespace"),
    *("grid", "depth", "camera_info", "source", "bag", "image_topic", "rate", "loop", "record"),
    *("view", "view_address"),
}

if not LAUNCH_FILE.exists():
    pytest.skip("not in the source tree", allow_module_level=True)


class Recorded:
    """Stands in for a class of `launch`: keeps what it was made of."""

    def __init__(self, *values: Any, **keywords: Any) -> None:
        self.values, self.keywords = values, keywords
        self.node_executable = keywords.get("executable")

    def perform(self, context: Any) -> str:
        return str(context.launch_configurations[self.values[0]])


STANDS_IN_FOR = {
    "launch": ["LaunchContext", "LaunchDescription"],
    "launch.actions": ["DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "RegisterEventHandler", "Shutdown"],
    "launch.event_handlers": ["OnProcessExit"],
    "launch.events": [],
    "launch.events.process": ["ProcessExited"],
    "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
    "launch_ros": [],
    "launch_ros.actions": ["Node"],
    "launch_ros.parameter_descriptions": ["ParameterValue"],
    "launch_ros.substitutions": ["FindPackageShare"],
}


def load(path: Path = LAUNCH_FILE) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.name.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launch file over the stand-ins."""
    for name, classes in STANDS_IN_FOR.items():
        module = ModuleType(name)
        for each in classes:
            setattr(module, each, type(each, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    return load()


def context(launch_file: ModuleType, **given: str) -> Any:
    """A launch context with these arguments, and the defaults of all others."""
    defaults = {argument.values[0]: argument.keywords["default_value"] for argument in launch_file.ARGUMENTS}
    assert given.keys() <= defaults.keys()
    return SimpleNamespace(launch_configurations=defaults | given, is_shutdown=False)


def value(parameter: Any) -> Any:
    return parameter.values[0] if isinstance(parameter, Recorded) else parameter


def parameters(launch_file: ModuleType, **given: str) -> dict[str, dict[str, Any]]:
    """What the nodes that are started with these arguments are told, beside the parameter file."""
    started = [entity for entity in launch_file.nodes(context(launch_file, **given)) if entity.node_executable]
    return {
        node.node_executable: {
            name: value(parameter)
            for entry in node.keywords["parameters"]
            if isinstance(entry, dict)
            for name, parameter in entry.items()
        }
        for node in started
    }


@pytest.mark.usefixtures("recorded")
def test_cameras_share_one_process_and_each_has_its_own_topics() -> None:
    launch_file = load(CAMERAS_LAUNCH_FILE)
    trackers, *grids = launch_file.nodes(
        context(launch_file, cameras="front arm/left", image="color/image_raw", grid="4")
    )
    assert trackers.keywords["arguments"] == ["--cameras", "front", "arm/left"]
    assert trackers.keywords["remappings"] == [
        ("/front/image", "/front/color/image_raw"),
        ("/arm/left/image", "/arm/left/color/image_raw"),
    ]
    assert [grid.keywords["namespace"] for grid in grids] == ["front", "arm/left"]
    assert [grid.keywords["remappings"] for grid in grids] == [[("image", "color/image_raw")]] * 2
    assert len(launch_file.nodes(context(launch_file))) == 1
    assert launch_file.nodes(context(launch_file, view="true"))[-1].node_executable == "view"


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("given", "words"), [({"cameras": " "}, "name at least one"), ({"grid": "2.5"}, "whole number")]
)
def test_cameras_that_cannot_be_are_refused(given: dict[str, str], words: str) -> None:
    launch_file = load(CAMERAS_LAUNCH_FILE)
    with pytest.raises(RuntimeError, match=words):
        launch_file.nodes(context(launch_file, **given))


def test_every_argument_is_declared_and_described(recorded: ModuleType) -> None:
    assert {argument.values[0] for argument in recorded.ARGUMENTS} == ARGUMENTS
    for argument in recorded.ARGUMENTS:
        assert argument.keywords["description"].endswith(".")
        if "choices" in argument.keywords:
            assert argument.keywords["default_value"] in argument.keywords["choices"]


def test_choices_are_those_of_the_parameter(recorded: ModuleType) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from taptr_ros.nodes.configs import NodeConfig
    from taptr_ros.nodes.parameters import parameters_of

    choices = {entry.name: list(entry.choices) for entry in parameters_of(NodeConfig)}
    for name in ("backend", "precision"):
        (argument,) = (argument for argument in recorded.ARGUMENTS if argument.values[0] == name)
        assert argument.keywords["choices"] == ["", *choices[name]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"tracker": {}}),
        (
            {
                "model": "0",
                "device": "cuda",
                "backend": "torch",
                "precision": "bfloat16",
                "autostart": "false",
                "compressed": "true",
            },
            {
                "tracker": {
                    "model": "0",
                    "device": "cuda",
                    "backend": "torch",
                    "precision": "bfloat16",
                    "autostart": False,
                    "compressed": True,
                }
            },
        ),
        (
            {"source": "street.mp4", "rate": "15", "loop": "true"},
            {"tracker": {}, "video_source": {"source": "street.mp4", "rate": 15.0, "loop": True, "subscribers": 1}},
        ),
        ({"view": "true"}, {"tracker": {}, "view": {}}),
        ({"view": "false", "view_address": "0.0.0.0"}, {"tracker": {}}),  # noqa: S104
        (
            {"view": "true", "view_address": "0.0.0.0", "use_sim_time": "true"},  # noqa: S104
            {"tracker": {"use_sim_time": True}, "view": {"address": "0.0.0.0", "use_sim_time": True}},  # noqa: S104
        ),
        ({"source": "0"}, {"tracker": {}, "video_source": {"camera": 0, "subscribers": 1}}),
        (
            {"bag": "bag", "image_topic": "/a", "record": "1", "grid": "5", "use_sim_time": "true", "depth": "/d"},
            {
                "tracker": {"use_sim_time": True},
                "depth": {"use_sim_time": True},
                "recorder": {"directory": "1", "use_sim_time": True},
                "grid": {"side": 5, "use_sim_time": True},
                "video_source": {"source": "bag", "image_topic": "/a", "subscribers": 2},
            },
        ),
    ],
)
def test_arguments_become_parameters_of_their_types(
    recorded: ModuleType, given: dict[str, str], expected: dict[str, dict[str, Any]]
) -> None:
    found = parameters(recorded, **given)
    assert found == expected
    types = {name: {key: type(each) for key, each in told.items()} for name, told in found.items()}
    assert types == {name: {key: type(each) for key, each in told.items()} for name, told in expected.items()}


def test_depth_starts_one_node_more_and_changes_nothing_else(recorded: ModuleType) -> None:
    topic = "/camera/aligned_depth_to_color/image_raw"
    plain, beside = (
        [node for node in recorded.nodes(context(recorded, **given)) if node.node_executable]
        for given in ({"image": "/camera/color"}, {"image": "/camera/color", "depth": topic})
    )
    (tracker,), (same, depth) = plain, beside
    assert describe(same) == describe(tracker)
    assert depth.keywords["remappings"] == [
        ("depth", topic),
        ("camera_info", "/camera/aligned_depth_to_color/camera_info"),
    ]
    assert depth.keywords["parameters"] == []
    _, other = (
        node
        for node in recorded.nodes(context(recorded, depth=f"{topic}/compressedDepth", camera_info="/info"))
        if node.node_executable
    )
    assert other.keywords["remappings"] == [("depth", f"{topic}/compressedDepth"), ("camera_info", "/info")]
    assert other.keywords["parameters"] == [{"compressed": True}]


def describe(entity: Any) -> Any:
    """What an action was made of, as far as it can be compared."""
    if isinstance(entity, Recorded):
        return type(entity).__name__, describe(list(entity.values)), describe(list(entity.keywords.items()))
    return [describe(part) for part in entity] if isinstance(entity, list | tuple) else entity


def test_every_parameter_is_one_of_its_node(recorded: ModuleType) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from taptr_ros.nodes import configs
    from taptr_ros.nodes.parameters import parameters_of

    kinds = {
        "tracker": configs.NodeConfig,
        "recorder": configs.RecorderConfig,
        "grid": configs.GridConfig,
        "video_source": configs.VideoSourceConfig,
        "depth": configs.DepthConfig,
        "view": configs.ViewConfig,
    }
    numbers = {"rate": "5", "grid": "5", "depth": "/depth/compressedDepth"}
    choices = {argument.values[0]: argument.keywords.get("choices", ["x"])[-1] for argument in recorded.ARGUMENTS}
    found = parameters(recorded, **(choices | numbers | {"bag": "", "source": "clip.mp4", "view": "true"}))
    assert found.keys() == kinds.keys()
    for name, told in found.items():
        known = {entry.name: type(entry.default) for entry in parameters_of(kinds[name])} | {"use_sim_time": bool}
        assert {key: type(each) for key, each in told.items()} == {key: known[key] for key in told}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"source": "street.mp4", "bag": "my_bag"}, "leave one out"),
        ({"source": "street.mp4", "rate": "fast"}, "rate is 'fast'; use a number"),
        ({"grid": "2.5"}, "grid is '2.5'; use a number"),
    ],
)
def test_what_cannot_be_is_refused(recorded: ModuleType, given: dict[str, str], words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        parameters(recorded, **given)


def ends(launch_file: ModuleType, name: str, status: int, *, shutting_down: bool = False) -> Iterator[str]:
    """The names of the actions that follow the end of a node."""
    launch_context = context(launch_file, source="street.mp4", record="out")
    launch_context.is_shutdown = shutting_down
    for entity in launch_file.nodes(launch_context):
        if not entity.node_executable:
            (handler,) = entity.values
            if handler.keywords["target_action"].node_executable == name:
                actions = handler.keywords["on_exit"](SimpleNamespace(returncode=status), launch_context)
                yield from (type(action).__name__ for action in actions)


@pytest.mark.parametrize(
    ("name", "status", "actions"),
    [
        ("tracker", 0, ["LogInfo", "Shutdown"]),
        ("tracker", -9, ["LogInfo", "Shutdown"]),
        ("video_source", 0, ["LogInfo"]),
        ("video_source", 1, ["LogInfo", "Shutdown"]),
        ("recorder", 1, ["LogInfo", "Shutdown"]),
    ],
)
def test_the_launch_ends_with_the_tracker_and_when_another_node_fails(
    recorded: ModuleType, name: str, status: int, actions: list[str]
) -> None:
    assert list(ends(recorded, name, status)) == actions
    assert list(ends(recorded, name, status, shutting_down=True)) == []


@pytest.mark.parametrize("executable", ["tracker", "video_source", "recorder", "grid", "depth", "view"])
def test_every_node_is_an_executable_that_both_builds_install(executable: str) -> None:
    build = (ROOT / "CMakeLists.txt").read_text()
    assert f"\ninstall_executable({executable} cli.programs {executable})\n" in build
    assert callable(getattr(programs, executable))
    assert (ROOT / "taptr_ros" / "nodes" / f"{executable}_node.py").exists()
    assert f'taptr_{executable} = "taptr_ros.cli.programs:{executable}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "executables"),
    [
        ({}, ["tracker"]),
        ({"source": "street.mp4"}, ["tracker", "video_source"]),
        ({"bag": "my_bag", "record": "out", "grid": "8"}, ["tracker", "recorder", "grid", "video_source"]),
        ({"depth": "/camera/depth/image_raw"}, ["tracker", "depth"]),
    ],
)
def test_launch_itself_starts_what_it_is_asked_for(arguments: dict[str, str], executables: list[str]) -> None:
    pytest.importorskip("launch_ros", reason="launch and launch_ros are not installed: they are not on PyPI")
    from launch import LaunchContext
    from launch_ros.actions import Node

    launch_context = LaunchContext()
    launch_context.launch_configurations.update(arguments)
    started: list[str] = []
    pending = list(load().generate_launch_description().entities)
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, Node):
            started.append(entity.node_executable)
        else:
            pending += entity.visit(launch_context) or []
    assert started == executables
