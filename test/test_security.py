"""What docs/security.md promises of the nodes, and the example policies for SROS 2."""

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

from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_graph import Spinner, ros_context, wait_until  # noqa: E402

from taptr_ros.nodes.depth_node import DepthNode  # noqa: E402
from taptr_ros.nodes.tracker_node import TrackerNode  # noqa: E402
from taptr_ros.nodes.view_node import ViewNode  # noqa: E402

ROOT = Path(__file__).parent.parent
POLICIES = ROOT / "config" / "security"

PACKAGES = {
    "/detections": "vision_msgs",
    "/tracks/annotations": "foxglove_msgs",
    "/bodies/markers": "visualization_msgs",
    "/tf": "tf2_msgs",
}
"""Topics that a node has only where a package is installed."""


class Onlooker:
    """Somebody who looks at the page and takes no image."""

    def can_take(self) -> bool:
        return False

    def take(self, message: bytes) -> None:
        raise AssertionError


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, Node]]:
    """An active tracker, the node `depth`, and the node `view` while somebody looks, in this process."""
    with ros_context() as context:
        tracker = TrackerNode(context=context, parameter_overrides=[Parameter("model", value="lucas_kanade")])
        tracker.trigger_configure()
        tracker.trigger_activate()
        transforms = bool(importlib.util.find_spec("tf2_msgs"))
        depth = DepthNode(context=context, parameter_overrides=[Parameter("transforms", value=transforms)])
        view = ViewNode(context=context, parameter_overrides=[Parameter("port", value=0)])
        spinners = [Spinner(node, context) for node in (tracker, view)]
        wait_until(view.current)
        (session,) = view.current().values()
        session.stage.add(Onlooker())
        wait_until(lambda: len(view.get_subscriber_names_and_types_by_node("view", "/")) >= 3)
        wait_until(lambda: view.get_client_names_and_types_by_node("view", "/"))
        yield {"tracker": tracker, "depth": depth, "view": view}
        for spinner in spinners:
            spinner.stop()
        for node in (tracker, depth, view):
            node.destroy_node()


def allowed(node: str, kind: str, action: str) -> set[str]:
    """Full names that the policy allows a node of this name in the namespace /."""
    policy = xml.etree.ElementTree.parse(POLICIES / f"{node}.policy.xml").getroot()
    profile = policy.find(f"enclaves/enclave[@path='/{node}']/profiles/profile")
    assert profile is not None
    assert (profile.get("ns"), profile.get("node")) == ("/", node)
    entries = profile.findall(f"{kind}[@{action}='ALLOW']/*")
    return {re.sub("^(?!/)", "/", re.sub("^~", f"/{node}", entry.text or "")) for entry in entries}


@pytest.mark.parametrize("name", ["tracker", "depth", "view"])
def test_the_policy_is_what_the_node_does(nodes: dict[str, Node], name: str) -> None:
    node = nodes[name]
    used = {
        ("topics", "publish"): node.get_publisher_names_and_types_by_node(name, "/"),
        ("topics", "subscribe"): node.get_subscriber_names_and_types_by_node(name, "/"),
        ("services", "reply"): node.get_service_names_and_types_by_node(name, "/"),
        ("services", "request"): node.get_client_names_and_types_by_node(name, "/"),
    }
    for (kind, action), found in used.items():
        permitted = allowed(name, kind, action)
        names = {topic for topic, _ in found}
        # ROS distributions have more services or fewer, and not all packages are installed everywhere.
        names |= permitted & {f"/{name}/get_type_description"}
        names |= {topic for topic in permitted & PACKAGES.keys() if not importlib.util.find_spec(PACKAGES[topic])}
        assert names == permitted, (kind, action)


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
