"""The short form of `scripts/endurance.py`: mutated input, faults and a long stream, a little of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the harness runs the nodes")
pytest.importorskip("onnxruntime", reason="the harness runs the network")
pytest.importorskip("safetensors", reason="the harness reads model files")

ENDURANCE = Path(__file__).parent.parent / "scripts" / "endurance.py"


def test_the_short_form_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ENDURANCE), "short", "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads((tmp_path / "short.json").read_text())
    assert result["fuzz"]["cases"] >= 3000
    assert result["live"]["cases"] >= 1200
    assert len(result["chaos"]["faults"]) == 4
    assert result["endurance"]["frames"] == 4000
