"""Facts that several build files must state alike."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import taptr_ros

ROOT = Path(__file__).resolve().parent.parent

if not (ROOT / "package.xml").exists():
    pytest.skip("not in the source tree", allow_module_level=True)


def pins(text: str) -> dict[str, str]:
    """All `name==version` in a text, with extras counted to the name."""
    return dict(re.findall(r"^[ \"]*([\w.\[\]-]+)==([\w.+]+)", text, flags=re.MULTILINE))


def test_version_is_the_same_everywhere() -> None:
    assert ElementTree.parse(ROOT / "package.xml").findtext("version") == taptr_ros.__version__


def test_interfaces_are_built_with_the_pinned_ros_distribution() -> None:
    build_system = (ROOT / "pyproject.toml").read_text().partition("[project]")[0]
    pinned = pins((ROOT / "requirements-ros-kilted.txt").read_text())
    built_with = pins(build_system)
    assert "ros-rclpy[fastrtps]" in built_with
    assert built_with.items() <= pinned.items()


def test_every_interface_file_is_built() -> None:
    listed = set(re.findall(r"(?:msg|srv)/\w+\.(?:msg|srv)", (ROOT / "CMakeLists.txt").read_text()))
    assert listed == {f"{path.parent.name}/{path.name}" for kind in ("msg", "srv") for path in (ROOT / kind).iterdir()}


def test_every_interface_field_is_explained() -> None:
    for path in [*(ROOT / "msg").iterdir(), *(ROOT / "srv").iterdir()]:
        for line in path.read_text().splitlines():
            assert not line or line == "---" or "# " in line, f"{path.name}: {line!r} has no comment"


def lower_bounds() -> dict[str, str]:
    """The oldest version of everything that an installation with ONNX Runtime needs."""
    project = (ROOT / "pyproject.toml").read_text().partition("[project]")[2]
    needed = re.search(r"^dependencies = \[(.*?)^\]", project, flags=re.MULTILINE | re.DOTALL)
    assert needed is not None
    (cpu,) = re.findall(r"^cpu = (.*)$", project, flags=re.MULTILINE)
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', needed[1] + cpu))


def test_the_oldest_versions_that_are_tested_are_those_that_are_allowed() -> None:
    tested = pins((ROOT / "requirements-oldest.txt").read_text())
    for name, version in lower_bounds().items():
        # A release of that series: what Ubuntu 24.04 has of NumPy, or the first that has wheels.
        assert f"{tested[name]}.".startswith(f"{version}."), name


def test_onnx_runtime_is_never_installed_twice() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert re.findall(r'^(\w+) = \["onnxruntime', project, flags=re.MULTILINE) == ["cpu", "gpu"]
    assert len(re.findall(r'"onnxruntime[\w-]*>', project)) == 2


def test_every_file_of_the_page_is_installed_and_served() -> None:
    pytest.importorskip("aiohttp", reason="aiohttp, of the extra `view`, is not installed")
    from taptr_ros.view.server import _page_files

    files = [*(ROOT / "taptr_ros" / "view" / "page").iterdir()]
    assert '"view/page/*"' in (ROOT / "pyproject.toml").read_text()  # which takes files, not folders
    assert {path.name for path in files} == set(_page_files())
    for path in files:  # imports and links name files that are there
        for name in re.findall(r'(?:from "\./|src="|href=")([\w.]+)"', path.read_text()):
            assert (path.parent / name).is_file(), f"{path.name}: {name}"
