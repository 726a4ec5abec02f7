"""The measurement of groups in simulated rooms, in its shortest form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "groups.py"


def test_points_of_masks_begin_on_their_bodies(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    if not SCRIPT.exists():
        pytest.skip("not in the source tree")
    out = tmp_path / "groups.json"
    command = [sys.executable, str(SCRIPT), "--even", "--scenes", "1", "--frames", "4", "--model", "lucas_kanade"]
    done = subprocess.run([*command, "--json", str(out)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 4
    results = json.loads(out.read_text())
    assert results["mask"]["began"] >= 30
    assert results["mask"]["began, on their body, per cent"] == 100.0
    assert results["mask"]["seen at the end"] > 0
    assert results["box"]["began"] > 0
