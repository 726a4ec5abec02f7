"""The script for a borrowed GPU, rehearsed on the processor with a tiny recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")
yaml = pytest.importorskip("yaml", reason="recipes are YAML")

ROOT = Path(__file__).resolve().parent.parent

RECIPE = """
threads: 1
stages:
  - {steps: 3, frames: 2, size: 64, clips: 2, points: 8, rate: [1e-3, 1e-3]}
  - {steps: 3, frames: 4, size: 64, clips: 1, points: 8, rate: [1e-3, 1e-4]}
data:
  pool_clips: 8
  pool_start: 2
  loaders: 1
  scenes:
    - {kind: layered, height: 64, width: 64, frames: 6, points: 48}
"""


def test_the_script_checks_trains_and_measures(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    command = [sys.executable, str(ROOT / "scripts" / "gpu.py"), "recipe.yaml", "--run", "run", "--out", "out"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([*command, "--device", "cpu", "--minutes", "0.4"], cwd=tmp_path, env=environment, check=True)
    results = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert not [name for name, result in results.items() if "failed" in result]
    assert results["training"]["steps"] >= 1
    assert results["resume"]["largest_difference"] == 0.0
    assert results["bfloat16"]["cosine_of_gradients"] > 0.5
    assert results["latency 256"]["decode 64"]["eager"] > 0.0
    parts = sorted((tmp_path / "out").glob("latest.pt.*"))
    assert max(part.stat().st_size for part in parts) <= 16 << 20
    joined = b"".join(part.read_bytes() for part in parts)
    assert joined == (tmp_path / "run" / "latest.pt").read_bytes()
    assert results["onnxruntime"]["cpu"]["decode 64"] > 0.0

    # What was kept is gone on with elsewhere, as a run that was cut off: its recipe has more steps than were taken.
    kept = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    taken, planned = results["training"]["steps"], results["training"]["of"]
    kept["stages"][-1]["steps"] += 2
    (tmp_path / "out" / "recipe.yaml").write_text(yaml.safe_dump(kept))
    again = [*command[:2], "recipe.yaml", "--run", "out", "--out", "out2", "--device", "cpu", "--train-only"]
    for _ in range(2):
        subprocess.run([*again, "--minutes", "1.0"], cwd=tmp_path, env=environment, check=True)
        results = json.loads((tmp_path / "out2" / "gpu.json").read_text())
        if "failed" in results["training"]:
            break
        assert (results["training"]["begun_at"], results["training"]["steps"]) == (taken, planned + 2)
    assert "is complete; start another from its weights with --first" in results["training"]["failed"]
