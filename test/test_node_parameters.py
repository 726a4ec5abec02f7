"""The node's parameters: one declaration, and what is generated from it or repeats it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("yaml")

import yaml

from taptr_ros.errors import InvalidConfigError
from taptr_ros.nodes.configs import NodeConfig
from taptr_ros.nodes.parameters import descriptor, parameters_of
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
        ({"precision": "float16"}, "choose one of float32, bfloat16"),
        ({"device": 0}, "use a string"),
        ({"autostart": 1}, "use true or false"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        NodeConfig(**changes)


def test_a_size_may_be_set_in_two_steps_and_is_checked_as_a_pair() -> None:
    assert NodeConfig().input_size is None
    assert NodeConfig(input_height=256, input_width=320).input_size == (256, 320)
    half = NodeConfig(input_height=256)
    with pytest.raises(InvalidConfigError, match="set both"):
        _ = half.input_size
