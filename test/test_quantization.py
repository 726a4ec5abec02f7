"""Images encoded in 8-bit integers: close to float32, in the ranges that every processor adds up, checked at export."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx", reason="export needs onnx")
pytest.importorskip("torch", reason="export needs PyTorch")
pytest.importorskip("yaml", reason="training scenes come with the `training` extra")

from onnx import numpy_helper  # noqa: E402
from tiny_network import tiny_small_config  # noqa: E402

from taptr_ros.cli import main  # noqa: E402
from taptr_ros.errors import InvalidConfigError  # noqa: E402
from taptr_ros.model.files import save_model  # noqa: E402
from taptr_ros.model.small_config import SmallConfig  # noqa: E402
from taptr_ros.model.small_network import SmallNetwork  # noqa: E402
from taptr_ros.runtime import quantization  # noqa: E402
from taptr_ros.runtime.export import compare, export, follow_grid  # noqa: E402
from taptr_ros.runtime.exported import INT8_ENCODE, OPSET, graph_path  # noqa: E402
from taptr_ros.runtime.images import fit_image_to_bytes  # noqa: E402
from taptr_ros.runtime.loading import WEIGHTS  # noqa: E402
from taptr_ros.runtime.onnx_backend import OnnxBackend  # noqa: E402
from taptr_ros.runtime.quantization import LARGEST_WEIGHT  # noqa: E402
from taptr_ros.sources.panning import panning_images  # noqa: E402
from taptr_ros.training.scenes import SceneConfig, generate  # noqa: E402

MODEL = WEIGHTS / "taptr_small" / "model.safetensors"
SIZE = (128, 160)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights, exported for small images."""
    report = export(MODEL, tmp_path_factory.mktemp("small"), [panning_images(*SIZE, 4)], size=SIZE)
    assert report.int8 is not None
    assert report.has_int8
    assert report.float32.largest_pixel_difference < report.int8.median_pixel_difference < 0.5
    return report.folder


def cosines(folder: Path) -> list[NDArray[np.float32]]:
    """Return the cosines between the feature vectors of both graphs, for each level of an unseen scene."""
    image = generate(SceneConfig(frames=1), seed=11).frames[0]
    exact, rounded = (OnnxBackend(folder, precision=precision).encode(image) for precision in ("float32", "int8"))
    return [(exact[name].numpy() * rounded[name].numpy()).sum(-1) for name in exact]


def test_features_are_close_and_have_length_1(folder: Path) -> None:
    image = generate(SceneConfig(frames=1), seed=12).frames[0]
    for level in OnnxBackend(folder, precision="int8").encode(image).values():
        np.testing.assert_allclose(np.linalg.norm(level.numpy(), axis=-1), 1.0, atol=1e-4)
    for level in cosines(folder):
        assert level.mean() > 0.99
        assert level.max() < 1.0 - 1e-6


def test_without_corrected_biases_features_are_further_away(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrected = [1.0 - level.mean() for level in cosines(folder)]
    monkeypatch.setattr(quantization, "_correct_biases", lambda *_: None)
    plain = export(MODEL, tmp_path / "plain", [panning_images(*SIZE, 4)], size=SIZE).folder
    uncorrected = [1.0 - level.mean() for level in cosines(plain)]
    assert all(2.0 * ours < theirs for ours, theirs in zip(corrected, uncorrected, strict=True))


def test_no_two_products_overflow_16_bits(folder: Path) -> None:
    graph = onnx.load(graph_path(folder, INT8_ENCODE)).graph
    weights = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    kernels = [array for array in weights.values() if array.dtype == np.int8 and array.ndim == 4]
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(kernels) == len(convolutions) > 30
    assert max(np.abs(kernel.astype(int)).max() for kernel in kernels) == LARGEST_WEIGHT
    assert 2 * 255 * LARGEST_WEIGHT < 2**15


def test_graph_holds_plain_operators_only(folder: Path) -> None:
    model = onnx.load(graph_path(folder, INT8_ENCODE))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}


def test_tracks_are_close_on_fresh_scenes() -> None:
    clips = [list(generate(SceneConfig(frames=8), seed=5).frames)]
    exact, rounded = (OnnxBackend(WEIGHTS / "taptr_small", precision=name) for name in ("float32", "int8"))
    compared = compare(follow_grid(exact, clips), follow_grid(rounded, clips), SmallConfig())
    assert 0.0 < compared.median_pixel_difference < 0.5


def test_graph_takes_the_image_as_it_is(folder: Path) -> None:
    """Of an image of the model's size, every byte reaches the first convolution."""
    image = np.random.default_rng(3).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    assert fit_image_to_bytes(image, *SIZE) is image
    backend = OnnxBackend(folder, precision="int8")
    before = {name: value.numpy() for name, value in backend.encode(image).items()}
    mirrored = backend.encode(np.ascontiguousarray(image[:, ::-1]))
    for name, value in backend.encode(image[:, ::-1]).items():
        np.testing.assert_array_equal(value.numpy(), mirrored[name].numpy())
    image[64, 80] ^= 8
    after = {name: value.numpy() for name, value in backend.encode(image).items()}
    assert any((before[name] != after[name]).any() for name in before)


def test_graph_that_is_further_off_than_allowed_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the model is written, in place of one that had the graph."""
    arguments = ["export", str(MODEL), str(tmp_path / "strict"), "--size", "64x64", "--overwrite"]
    assert main(arguments) == 0
    assert OnnxBackend(tmp_path / "strict").info.precision == "int8"
    monkeypatch.setattr("taptr_ros.runtime.export.INT8_TOLERANCE", 0.001)
    assert main(arguments) == 0
    assert "That is too much: images are encoded in float32 only." in capsys.readouterr().out
    assert OnnxBackend(tmp_path / "strict").info.precision == "float32"
    with pytest.raises(InvalidConfigError, match="in float32, not in int8"):
        OnnxBackend(tmp_path / "strict", precision="int8")


def test_clips_are_followed_one_by_one(folder: Path) -> None:
    """Whatever comes before a clip, its points are where they are without."""
    first, second = panning_images(*SIZE, 3), list(generate(SceneConfig(frames=4), seed=6).frames)
    backend = OnnxBackend(folder)
    both, alone = follow_grid(backend, [first, second]), follow_grid(backend, [second])
    assert both.xy.shape == (2 + 3, 64, 2)
    np.testing.assert_array_equal(both.xy[2:], alone.xy)
    np.testing.assert_array_equal(both.visibility[2:], alone.visibility)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_may_have_one_channel(tmp_path: Path, level: int) -> None:
    """Its projection is told from the sum of squares, which has one channel as well."""
    channels = [8, 8, 8]
    channels[level] = 1
    config = tiny_small_config(level_channels=tuple(channels))
    weights = {name: value.numpy(force=True) for name, value in SmallNetwork(config).state_dict().items()}
    save_model(tmp_path / "tiny.safetensors", config, weights)
    report = export(tmp_path / "tiny.safetensors", tmp_path / "tiny", [panning_images(48, 64, 3)])
    assert report.int8 is not None


def test_command_line_tells_the_difference_and_takes_the_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert main(["export", str(MODEL), str(out), "--size", "64x64"]) == 0
    assert re.search(r"8-bit integers: 0\.\d\d px in the median", capsys.readouterr().out)
    short = ["--threads", "1", "--seconds", "0.01", "--points", "1", "--memory", "1", "--json", f"{tmp_path}/b.json"]
    for precision, name in (("auto", "int8"), ("float32", "float32"), ("int8", "int8")):
        chosen = ["--model", str(out), "--precision", precision, "--overwrite"]
        assert main(["bench", *chosen, *short]) == 0
        assert f"on cpu, {name}, 1 threads" in capsys.readouterr().out
