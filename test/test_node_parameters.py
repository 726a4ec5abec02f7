"""The node's parameters: one declaration, and what is generated from it or repeats it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("yaml")
pytest.importorskip("taptr_ros.msg", reason="the ROS interfaces are not built; run scripts/setup_dev.sh")

import yaml
from rcl_interfaces.msg import Log
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import Client, Inbox, Spinner, new_namespace, ros_context

from taptr_ros.errors import InvalidConfigError
from taptr_ros.nodes.configs import NodeConfig
from taptr_ros.nodes.parameters import descriptor, parameters_of
from taptr_ros.nodes.tracker_node import TrackerNode
from taptr_ros.runtime.loading import BACKENDS
from taptr_ros.tracking import TrackerConfig

ROOT = Path(__file__).resolve().parent.parent
TRACKER = parameters_of(NodeConfig, TrackerConfig)


def test_every_field_of_both_configurations_is_a_parameter() -> None:
    fields = [*dataclasses.fields(NodeConfig), *dataclasses.fields(TrackerConfig)]
    assert [(entry.name, entry.default) for entry in TRACKER] == [(field.name, field.default) for field in fields]


def test_the_tables_in_the_documents_are_those_of_the_declarations() -> None:
    script = ROOT / "scripts" / "parameter_tables.py"
    if not script.exists():
        pytest.skip("not in the source tree")
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_parameter_file_holds_every_parameter_and_its_default() -> None:
    parameters = yaml.safe_load((ROOT / "config" / "tracker.yaml").read_text())["/**"]["ros__parameters"]
    assert list(parameters.items()) == [(entry.name, entry.default) for entry in TRACKER]
    assert all(type(parameters[entry.name]) is type(entry.default) for entry in TRACKER)


def test_descriptors_have_the_ranges_that_the_configurations_check() -> None:
    for entry in TRACKER:
        declared = descriptor(entry)
        ranges = [*declared.integer_range, *declared.floating_point_range]
        assert [(limits.from_value, limits.to_value) for limits in ranges] == ([entry.limits] if entry.limits else [])


def test_every_backend_can_be_chosen() -> None:
    (backend,) = (entry for entry in TRACKER if entry.name == "backend")
    assert set(backend.choices) == {"auto", *BACKENDS}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backend": "tensorflow"}, "choose one of auto, torch, onnxruntime, opencv"),
        ({"precision": "float16"}, "choose one of auto, float32, bfloat16, int8"),
        ({"device": 0}, "use a string"),
        ({"autostart": 1}, "use true or false"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        NodeConfig(**changes)


@pytest.fixture
def context() -> Iterator[Context]:
    with ros_context() as context:
        yield context


@pytest.fixture
def made(context: Context, tmp_path: Path) -> Iterator[Callable[..., tuple[TrackerNode, list[str]]]]:
    """Make a tracker from the text of a parameter file; return it and its warnings."""
    nodes = []

    def make(text: str) -> tuple[TrackerNode, list[str]]:
        path = tmp_path / "parameters.yaml"
        path.write_text(f"/**:\n  ros__parameters: {{{text}}}\n")
        arguments = ["--ros-args", "--params-file", str(path)]
        log = Node("listener", context=context)
        everything = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        inbox = Inbox(log, Log, "/rosout", everything)
        namespace = new_namespace()
        nodes.extend([log, TrackerNode(context=context, namespace=namespace, cli_args=arguments)])
        # Lines of one node come in their order: the last one shows that all are there.
        nodes[-1].get_logger().warning("That is all.")
        spinner = Spinner(log, context)
        name, warnings = f"{namespace[1:]}.tracker", []
        while not (warnings and warnings[-1] == "That is all."):
            warnings.append(inbox.next(lambda line: line.name == name).msg)
        spinner.stop()
        return nodes[-1], warnings[:-1]

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("capacity: ~", "capacity", 256),
        ("capacity: null", "capacity", 256),
        ("model: ~", "model", "taptr_small"),
        ("autostart: []", "autostart", True),
    ],
)
def test_a_parameter_without_a_value_is_named_and_keeps_its_default(
    made: Callable[..., Any], text: str, name: str, value: object
) -> None:
    node, (warning,) = made(text)
    assert f"The parameter {name} is given without a value (null), so its default {value!r} is used" in warning
    assert node.get_parameter(name).value == value


def test_a_parameter_that_does_not_exist_is_named_once(made: Callable[..., Any]) -> None:
    node, warnings = made("capasity: 3, gap_seconds: 2, lost_after: 7, nested: {gain: 1.0}, use_sim_time: false")
    assert sorted(warnings) == [
        "The parameter capasity does not exist and has no effect; did you mean capacity?",
        "The parameter nested.gain does not exist and has no effect; its name may be misspelt, or of another node.",
    ]
    assert node.get_parameter("lost_after").value == 7
    assert repr(node.get_parameter("gap_seconds").value) == "2.0"  # a whole number serves as a decimal one


def test_good_parameters_cause_no_warning(made: Callable[..., Any]) -> None:
    assert made("capacity: 3, qos_overrides: {/image: {subscription: {reliability: reliable}}}")[1] == []


def test_all_parameters_can_be_set_to_what_they_are(context: Context) -> None:
    namespace = new_namespace()
    overrides = [Parameter("model", value="lucas_kanade")]
    node = TrackerNode(context=context, namespace=namespace, parameter_overrides=overrides)
    node.autostart()
    spinner, client = Spinner(node, context), Client(context, namespace)
    names = list(client.parameter_descriptors())
    assert {"capacity", "lost_after", "use_sim_time"} < set(names)
    assert any(name.startswith("qos_overrides.") for name in names)  # those are read-only
    request = GetParameters.Request(names=names)
    dump = dict(zip(names, client.call(GetParameters, "tracker/get_parameters", request).values, strict=True))
    values = [ParameterMessage(name=name, value=value) for name, value in dump.items()]
    one_by_one = client.call(SetParameters, "tracker/set_parameters", SetParameters.Request(parameters=values))
    assert [(name, result.reason) for name, result in zip(names, one_by_one.results, strict=True)] == [
        (name, "") for name in names
    ]
    assert all(result.successful for result in one_by_one.results)
    # What changes is still checked, beside others that do not.
    assert [result.successful for result in client.set_parameters(capacity=8, lost_after=7)] == [False, True]
    request = SetParametersAtomically.Request(parameters=[*values, Parameter("capacity", value=8).to_parameter_msg()])
    result = client.call(SetParametersAtomically, "tracker/set_parameters_atomically", request).result
    assert "capacity takes effect when the node is configured" in result.reason
    assert node.get_parameter("lost_after").value == 7
    client.close()
    spinner.stop()
    node.destroy_node()


def test_a_size_may_be_set_in_two_steps_and_is_checked_as_a_pair() -> None:
    assert NodeConfig().input_size is None
    assert NodeConfig(input_height=256, input_width=320).input_size == (256, 320)
    half = NodeConfig(input_height=256)
    with pytest.raises(InvalidConfigError, match="set both"):
        _ = half.input_size
