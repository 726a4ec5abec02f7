"""`taptr convert`: official checkpoints in, model files out, and no code run on the way."""

from __future__ import annotations

import argparse
import collections
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="checkpoints are PyTorch files")

import tiny_network  # noqa: E402

from taptr_ros.errors import ModelFileError  # noqa: E402
from taptr_ros.model.conversion import convert, official_name  # noqa: E402
from taptr_ros.model.files import load_model  # noqa: E402
from taptr_ros.model.rotary import rotary_frequencies  # noqa: E402


def official_tensors() -> dict[str, Any]:
    """Return tiny weights under the official names, with the aliases and constants that official files hold."""
    config = tiny_network.tiny_config()
    tensors: dict[str, Any] = {}
    thirds: dict[str, dict[int, Any]] = collections.defaultdict(dict)
    for name, array in tiny_network.tiny_weights(config).items():
        official, part = official_name(name)
        tensor = torch.from_numpy(array)
        if ".sampling_offsets." in name:
            tensor = torch.stack(tensor.chunk(2), dim=1).flatten(0, 1)
        if part is None:
            tensors[official] = tensor
        else:
            thirds[official][part] = tensor
    for official, parts in thirds.items():
        # The key bias of VLTA is the one third that the network has no use for.
        shape = parts[0].shape
        tensors[official] = torch.cat([parts.get(part, torch.full(shape, 0.7)) for part in range(3)])
    for name in [name for name in tensors if ".bbox_embed." in name or ".class_embed." in name]:
        tensors[name.removeprefix("transformer.decoder.")] = tensors[name]
    for layer in range(config.decoder_layers):
        frequencies = torch.from_numpy(rotary_frequencies(config.hidden_dim)).float()
        tensors[f"transformer.decoder.layers.{layer}.lta_temporal_embedding.freqs"] = frequencies
    return tensors


def write_checkpoint(path: Path, tensors: dict[str, Any], **extra: Any) -> Path:
    """Write a file laid out like an official checkpoint."""
    scheduler = {"milestones": collections.Counter({100: 1, 130: 1}), "last_epoch": 150}
    content = {
        "model": {f"module.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()},
        "ema_model": {f"module.{name}": tensor for name, tensor in tensors.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 2e-4, "params": [0]}]},
        "lr_scheduler": scheduler,
        "epoch": 150,
        "args": argparse.Namespace(hidden_dim=32, eval_scale=[512, 384], nested=argparse.Namespace(name="taptrv3")),
        **extra,
    }
    torch.save(content, path)
    return path


def test_checkpoint_becomes_the_same_network(tmp_path: Path) -> None:
    report = convert(write_checkpoint(tmp_path / "official.pth", official_tensors()), tmp_path / "model.safetensors")
    config, weights = load_model(tmp_path / "model.safetensors")
    expected = tiny_network.tiny_weights(tiny_network.tiny_config())
    assert weights.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)
    # Widths come from the tensors; name and input size are those of the released R18.
    assert config == tiny_network.tiny_config(name="taptrv3_r18", height=384, width=512)
    assert report.parameters == sum(array.size for array in expected.values())
    assert any("bbox_embed" in name for name in report.unused)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda tensors: tensors.pop("transformer.decoder.layers.1.norm3.bias"),
            "missing transformer.decoder.layers.1.norm3.bias",
        ),
        (
            lambda tensors: tensors.update({"transformer.extra.weight": torch.zeros(2)}),
            "unexpected transformer.extra.weight",
        ),
        (lambda tensors: tensors.pop("transformer.level_embed"), "no tensor transformer.level_embed"),
        (lambda tensors: tensors.update({"class_embed.0.bias": torch.ones(3)}), "class_embed.0.bias differs"),
        (lambda tensors: tensors.update({"input_proj.2.0.bias": torch.ones(5)}), "shape (5,)"),
        (
            lambda tensors: tensors.update(
                {"transformer.decoder.layers.0.lta_temporal_embedding.freqs": torch.ones(16)}
            ),
            "not the rotary table",
        ),
    ],
)
def test_names_and_shapes_are_strict(tmp_path: Path, change: Any, words: str) -> None:
    tensors = official_tensors()
    change(tensors)
    with pytest.raises(ModelFileError) as error:
        convert(write_checkpoint(tmp_path / "official.pth", tensors), tmp_path / "model.safetensors")
    assert words in str(error.value)
    assert not (tmp_path / "model.safetensors").exists()


class RunsCode:
    """An object whose unpickling creates the file whose path it was given."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("entry", ["args", "optimizer"])
def test_no_code_in_a_checkpoint_is_run(tmp_path: Path, entry: str) -> None:
    trace = tmp_path / "executed"
    path = write_checkpoint(tmp_path / "evil.pth", official_tensors(), **{entry: RunsCode(trace)})
    with pytest.raises(ModelFileError, match="could run code"):
        convert(path, tmp_path / "model.safetensors")
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file must really carry code, or this test proves nothing"


def test_unreadable_checkpoints_are_named(tmp_path: Path) -> None:
    missing, text, empty, plain = (tmp_path / name for name in ("missing.pth", "text.pth", "empty.pth", "plain.pth"))
    text.write_text("not a checkpoint")
    empty.touch()
    torch.save({"model": {}}, plain)
    whole = write_checkpoint(tmp_path / "whole.pth", official_tensors())
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:5000])
    for path in (missing, text, empty, plain, cut):
        with pytest.raises(ModelFileError, match=path.name):
            convert(path, tmp_path / "model.safetensors")


@pytest.mark.skipif(
    "TAPTR_GOLDEN" not in os.environ, reason="TAPTR_GOLDEN names no folder with vectors of the released code"
)
@pytest.mark.parametrize(("name", "model"), [("small", "taptrv3_r18"), ("small_r50", "taptrv3_r50")])
def test_checkpoint_with_released_names_converts(tmp_path: Path, name: str, model: str) -> None:
    with np.load(Path(os.environ["TAPTR_GOLDEN"]) / f"{name}.npz") as file:
        tensors = {key[2:]: torch.from_numpy(file[key]) for key in file.files if key.startswith("w/")}
    report = convert(write_checkpoint(tmp_path / "official.pth", tensors), tmp_path / "model.safetensors")
    config, weights = load_model(tmp_path / "model.safetensors")
    assert config.name == report.config.name == model
    assert sum(array.size for array in weights.values()) == report.parameters > 200_000


@pytest.mark.parametrize("content", [None, [], "x", 3, torch.zeros(2)])
def test_a_checkpoint_without_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save({"ema_model": content}, tmp_path / "odd.pth")
    with pytest.raises(ModelFileError, match="has no entry `ema_model`"):
        convert(tmp_path / "odd.pth", tmp_path / "out.safetensors")


@pytest.mark.parametrize("shape", [(), (4,), (0, 32), (4, 32, 2)])
def test_tensors_of_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tensors = {**official_tensors(), "transformer.level_embed": torch.zeros(shape)}
    with pytest.raises(ModelFileError, match="do not describe a TAPTRv3 model"):
        convert(write_checkpoint(tmp_path / "odd.pth", tensors), tmp_path / "out.safetensors")
