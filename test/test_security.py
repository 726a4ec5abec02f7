"""What docs/security.md promises of the node, and the example policy for SROS 2."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.parameter import Parameter  # noqa: E402
from ros_graph import ros_context  # noqa: E402

from taptr_ros.nodes.tracker_node import TrackerNode  # noqa: E402

ROOT = Path(__file__).parent.parent
POLICY = ROOT / "config" / "security" / "tracker.policy.xml"


@pytest.fixture(scope="module")
def tracker() -> Iterator[TrackerNode]:
    """An active tracker in this process."""
    with ros_context() as context:
        node = TrackerNode(context=context, parameter_overrides=[Parameter("model", value="lucas_kanade")])
        node.trigger_configure()
        node.trigger_activate()
        yield node
        node.destroy_node()


def allowed(kind: str, action: str) -> set[str]:
    """Full names that the policy allows a node called /tracker."""
    profile = xml.etree.ElementTree.parse(POLICY).getroot().find("enclaves/enclave/profiles/profile")
    assert profile is not None
    assert (profile.get("ns"), profile.get("node")) == ("/", "tracker")
    entries = profile.findall(f"{kind}[@{action}='ALLOW']/*")
    return {re.sub("^(?!/)", "/", re.sub("^~", "/tracker", entry.text or "")) for entry in entries}


def test_the_policy_is_what_the_node_does(tracker: TrackerNode) -> None:
    used = {
        ("topics", "publish"): tracker.get_publisher_names_and_types_by_node("tracker", "/"),
        ("topics", "subscribe"): tracker.get_subscriber_names_and_types_by_node("tracker", "/"),
        ("services", "reply"): tracker.get_service_names_and_types_by_node("tracker", "/"),
    }
    for (kind, action), found in used.items():
        names = {name for name, _ in found}
        if kind == "services":  # of which ROS distributions have more or fewer
            names |= allowed(kind, action) & {"/tracker/get_type_description"}
        if action == "subscribe" and not importlib.util.find_spec("vision_msgs"):
            names.add("/detections")
        if action == "publish" and not importlib.util.find_spec("foxglove_msgs"):
            names.add("/tracks/annotations")
        assert names == allowed(kind, action)


def test_security_that_the_middleware_lacks_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "enclaves").mkdir()
    for name in ("identity_ca.cert.pem", "permissions_ca.cert.pem", "cert.pem", "key.pem", "governance.p7s"):
        (tmp_path / "enclaves" / name).write_text("none")
    (tmp_path / "enclaves" / "permissions.p7s").write_text("none")
    security = {"ENABLE": "true", "STRATEGY": "Enforce", "KEYSTORE": str(tmp_path)}
    environment = {**os.environ, **{f"ROS_SECURITY_{name}": value for name, value in security.items()}}
    command = [sys.executable, "-m", "taptr_ros.nodes.tracker_node", "--ros-args", "-p", "model:=lucas_kanade"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1, "a node with keys that are none must not run"
    assert "Traceback" not in ended.stderr
    assert "correct the environment" in ended.stderr


def test_nothing_that_comes_in_is_run() -> None:
    """No pickle but the one that names nothing, no YAML that makes objects, no code from texts, no shell."""
    forbidden = re.compile(
        r"pickle\.loads?\(|allow_pickle=True|weights_only=False|yaml\.(load|unsafe_load|full_load)\(|\beval\(|\bexec\("
        r"|shell=True|os\.system\(|marshal\.|shelve\.|extractall\("
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "taptr_ros").rglob("*.py")
        for line in path.read_text().splitlines()
        if forbidden.search(line) and ".eval()" not in line
    ]
    assert not found
