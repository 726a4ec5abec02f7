"""Export to ONNX: the same tracks as PyTorch, from plain operators, without PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip("onnx", reason="export needs onnx")
torch = pytest.importorskip("torch", reason="export needs PyTorch")

import streams  # noqa: E402
import tiny_network  # noqa: E402

from taptr_ros.errors import InvalidConfigError, ModelFileError  # noqa: E402
from taptr_ros.model.config import ModelConfig  # noqa: E402
from taptr_ros.model.files import save_model  # noqa: E402
from taptr_ros.runtime import export as export_module  # noqa: E402
from taptr_ros.runtime.export import TOLERANCE, export  # noqa: E402
from taptr_ros.runtime.exported import GRAPHS, OPSET, graph_path  # noqa: E402
from taptr_ros.runtime.loading import load_backend  # noqa: E402
from taptr_ros.runtime.onnx_backend import OnnxBackend  # noqa: E402
from taptr_ros.tracking.config import TrackerConfig  # noqa: E402
from taptr_ros.tracking.tracker import PointTracker  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file and the folder that it was exported to."""
    folder = tmp_path_factory.mktemp("models")
    config = tiny_network.tiny_config()
    save_model(folder / "tiny.safetensors", config, tiny_network.tiny_weights(config))
    report = export(folder / "tiny.safetensors", folder / "tiny", [[streams.view(frame) for frame in range(5)]])
    assert report.float32.largest_pixel_difference < TOLERANCE
    assert (report.float32.frames, report.int8, report.has_int8) == (4, None, False)
    return folder / "tiny.safetensors", folder / "tiny"


def follow(model: Path, frames: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Track points that come and go; returns the last frame's positions and visibilities."""
    tracker = PointTracker(load_backend(str(model), threads=1), TrackerConfig(capacity=8, memory_slots=4))
    tracker.add([(30.0, 30.0), (80.0, 60.0), (120.5, 100.0)])
    for frame in range(frames):
        if frame == 3:
            tracker.remove([1])
            tracker.add([(60.0, 20.0)])
        if frame == 6:
            tracker.add([(10.0, 100.0)], stamp=streams.stamp(4))
        tracks = tracker.step(streams.view(frame), streams.stamp(frame))
    assert tracks.ids.tolist() == [2, 3, 4, 5]
    return tracks.xy, tracks.visibility


def test_tracks_equal_those_of_pytorch(models: tuple[Path, Path]) -> None:
    xy, visibility = follow(models[0])
    other_xy, other_visibility = follow(models[1])
    np.testing.assert_allclose(other_xy, xy, atol=TOLERANCE)
    np.testing.assert_allclose(other_visibility, visibility, atol=1e-3)


def test_graphs_hold_plain_operators_only(models: tuple[Path, Path]) -> None:
    for name in GRAPHS:
        model = onnx.load(graph_path(models[1], name))
        onnx.checker.check_model(model, full_check=True)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
        assert {node.domain for node in model.graph.node} == {""}
        samples = [node.output[0] for node in model.graph.node if node.op_type == "GridSample"]
        assert len(samples) > 0
        assert {value.ndim for value in run_with_zeros(model, samples)} == {4}


def run_with_zeros(model: onnx.ModelProto, outputs: list[str]) -> list[np.ndarray]:
    """Run a graph on zeros, dynamic dimensions being 2, and return the named inner values."""
    kinds = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.BOOL: np.bool_}
    inputs = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [dimension.dim_value or 2 for dimension in tensor.shape.dim]
        inputs[value.name] = np.zeros(shape, kinds[tensor.elem_type])
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values: list[np.ndarray] = session.run(outputs, inputs)
    return values


def test_running_it_never_imports_torch(models: tuple[Path, Path], tmp_path: Path) -> None:
    """A process in which torch cannot be imported tracks as this one does."""
    script = tmp_path / "track.py"
    script.write_text(
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch':\n"
        "            raise ImportError('torch is not installed')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "try:\n"
        "    import torch\n"
        "except ImportError:\n"
        "    pass\n"
        "else:\n"
        "    raise SystemExit('torch was importable')\n"
        "import numpy as np, streams\n"
        "from taptr_ros.runtime.loading import load_backend\n"
        "from taptr_ros.tracking.tracker import PointTracker\n"
        "import taptr_ros.cli, taptr_ros.evaluation.evaluate, taptr_ros.evaluation.benchmark\n"
        "tracker = PointTracker(load_backend(sys.argv[1], threads=1))\n"
        "tracker.add([(30.0, 30.0), (80.0, 60.0)])\n"
        "for frame in range(4):\n"
        "    tracks = tracker.step(streams.view(frame), streams.stamp(frame))\n"
        "np.save(sys.argv[2], tracks.xy)\n"
    )
    test_folder = Path(__file__).parent
    command = [sys.executable, str(script), str(models[1]), str(tmp_path / "xy.npy")]
    path = {"PYTHONPATH": f"{test_folder}:{test_folder.parent}", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(command, capture_output=True, text=True, env=path, check=False)
    assert result.returncode == 0, result.stderr
    tracker = PointTracker(load_backend(str(models[0])))
    tracker.add([(30.0, 30.0), (80.0, 60.0)])
    for frame in range(4):
        tracks = tracker.step(streams.view(frame), streams.stamp(frame))
    np.testing.assert_allclose(np.load(tmp_path / "xy.npy"), tracks.xy, atol=TOLERANCE)


def test_padding_to_the_capacity_changes_nothing(models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What providers with fixed shapes compute: all rows and slots, the unused ones masked."""
    expected = follow(models[1])
    monkeypatch.setattr("taptr_ros.runtime.onnx_backend.FIXED_SHAPE_DEVICES", ("cpu",))
    padded = follow(models[1])
    for ours, theirs in zip(padded, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_size_is_fixed_at_export(models: tuple[Path, Path], tmp_path: Path) -> None:
    frames = [streams.view(frame) for frame in range(2)]
    report = export(models[0], tmp_path / "other", [frames], size=(48, 64))
    backend = OnnxBackend(report.folder)
    assert (backend.info.height, backend.info.width) == (48, 64)
    assert load_backend(str(tmp_path / "other"), size=(48, 64)).info == backend.info
    with pytest.raises(InvalidConfigError, match="48x64"):
        load_backend(str(tmp_path / "other"), size=(64, 64))
    with pytest.raises(InvalidConfigError, match="two frames"):
        export(models[0], tmp_path / "third", [frames, frames[:1]])


def test_disagreement_is_reported(models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of other weights than the model's must not pass as its export."""
    write_graphs = export_module.write_graphs

    def write_other_graphs(network: torch.nn.Module, config: ModelConfig, folder: Path) -> None:
        network.decoder.box_heads[-1].layers[-1].bias += 0.1
        write_graphs(network, config, folder)

    monkeypatch.setattr(export_module, "write_graphs", write_other_graphs)
    with pytest.raises(ModelFileError, match="differ from PyTorch"):
        export(models[0], tmp_path / "wrong", [[streams.view(frame) for frame in range(3)]])
    assert not any((tmp_path / "wrong").iterdir())
