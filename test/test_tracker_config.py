"""The tracker's configuration and its file."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("yaml")

import yaml

from taptr_ros.errors import InvalidConfigError
from taptr_ros.tracking import TrackerConfig

CONFIG_FILE = Path(__file__).parent.parent / "config" / "tracker.yaml"


def test_the_file_holds_every_field_and_its_default():
    # The node's own parameters come first; the tests of the node compare those.
    parameters = yaml.safe_load(CONFIG_FILE.read_text())["/**"]["ros__parameters"]
    first = list(parameters).index("capacity")
    parameters = dict(list(parameters.items())[first:])
    assert TrackerConfig(**parameters) == TrackerConfig()
    assert list(parameters) == [field.name for field in dataclasses.fields(TrackerConfig)]
    for field in dataclasses.fields(TrackerConfig):
        assert type(parameters[field.name]) is type(field.default)  # ROS parameters keep their type


@pytest.mark.parametrize(
    "changes",
    [
        {"capacity": 0},
        {"capacity": 2.0},
        {"capacity": True},
        {"memory_slots": -1},
        {"pin_query_frame": 1},
        {"visible_threshold": 1.5},
        {"visible_threshold": float("nan")},
        {"visible_threshold": "high"},
        {"visibility_hysteresis": 0.6},
        {"border_margin": -0.1},
        {"lost_after": -1},
        {"removed_after": -1},
        {"support": "some"},
        {"history_frames": 0},
        {"history_seconds": -1.0},
        {"stamp_tolerance": float("inf")},
        {"gap_seconds": -1.0},
        {"scene_cut_threshold": 300.0},
        {"match_grid": 1},
        {"match_grid": 65},  # at 256, a search took gigabytes and seconds
        {"match_gate": 2.0},
        {"match_margin": -1.5},
        {"rematch_interval": -1},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(changes):
    (name,) = changes
    with pytest.raises(InvalidConfigError, match=f"^{name} is .*; (use|choose) "):
        TrackerConfig(**changes)


def test_whole_numbers_serve_as_decimal_ones():
    assert TrackerConfig(gap_seconds=3).gap_seconds == 3


def test_tracking_needs_neither_torch_nor_onnx_nor_ros():
    forbidden = ("torch", "onnx", "onnxruntime", "rclpy")
    program = f"import sys, taptr_ros.tracking; sys.exit(any(name in sys.modules for name in {forbidden}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
