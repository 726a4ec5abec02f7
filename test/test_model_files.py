"""Model files and exported folders: what is missing, damaged or contradictory is said in one sentence."""

from __future__ import annotations

import dataclasses
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors", reason="model files are safetensors")

from safetensors.numpy import save_file

from taptr_ros.errors import BackendUnavailableError, InvalidConfigError, ModelFileError
from taptr_ros.model.architectures import config_from_dict, config_from_json, config_to_dict, config_to_json
from taptr_ros.model.config import ModelConfig
from taptr_ros.model.files import load_model, save_model
from taptr_ros.model.small_config import SmallConfig
from taptr_ros.model.tuning import TAPTR_SMALL_TUNING, Tuning
from taptr_ros.runtime.exported import GRAPHS, INT8_ENCODE, MANIFEST, graph_path, read_manifest, write_manifest
from taptr_ros.runtime.loading import TAPTR_SMALL, load_backend, model_bytes, model_checksum
from taptr_ros.runtime.loading import WEIGHTS as SHIPPED

CONFIG = ModelConfig(name="example", hidden_dim=64, height=64, width=96)
WEIGHTS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(4, np.float32)}


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "example.safetensors"
    save_model(path, CONFIG, WEIGHTS)
    return path


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    for name in GRAPHS:
        graph_path(tmp_path, name).write_bytes(name.encode())
    write_manifest(tmp_path, CONFIG)
    return tmp_path


def test_model_file_round_trip(model_file: Path) -> None:
    config, weights = load_model(model_file)
    assert config == CONFIG
    assert weights.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(weights[name], array)


def test_damaged_model_files_are_refused(model_file: Path, tmp_path: Path) -> None:
    content = model_file.read_bytes()
    damaged = {
        "flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "cut": content[:-3],
        "empty": b"",
        "text": b"hello, this is not a model at all",
    }
    for name, data in damaged.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=name):
            load_model(path)
    with pytest.raises(ModelFileError, match="no model file"):
        load_model(tmp_path / "missing.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file(WEIGHTS, foreign)
    with pytest.raises(ModelFileError, match="not a taptr_ros model"):
        load_model(foreign)


def test_config_must_fit_the_weights(model_file: Path) -> None:
    pytest.importorskip("torch", reason="the network is written in PyTorch")
    with pytest.raises(ModelFileError, match="config does not match its weights"):
        load_backend(str(model_file))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_dim": 0}, "hidden_dim"),
        ({"hidden_dim": 96, "heads": 5}, "multiple of heads"),
        ({"hidden_dim": 40}, "multiple of 32"),
        ({"backbone": "vgg"}, "resnet18"),
        ({"self_attention": 1}, "self_attention"),
        ({"visible_threshold": 1.0}, "visible_threshold"),
        ({"sine_features": 7}, "sine_features"),
    ],
)
def test_impossible_configs_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        ModelConfig(**change)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"hidden_dims": 3}', '{"hidden_dim": "x"}', '{"architecture": []}', '{"backbone": []}'),
        *('{"tuning": 3}', '{"tuning": null}', "[" * 100_000, '{"height": 65536, "width": 65536}'),
    ],
)
def test_unreadable_config_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidConfigError):
        config_from_json(text)
    assert config_from_json(config_to_json(CONFIG)) == CONFIG


def test_numbers_tuned_on_a_model_travel_with_it() -> None:
    tuned = dataclasses.replace(SmallConfig(), tuning=Tuning(match_gate=0.5, renewal_interval=7))
    assert config_from_json(config_to_json(tuned)) == tuned
    assert load_backend("taptr_small", threads=1).info.tuning == TAPTR_SMALL_TUNING
    # A model that brings none is searched with more care.
    assert ModelConfig().tuning == Tuning()
    assert Tuning().match_gate > TAPTR_SMALL_TUNING.match_gate
    old = config_to_dict(SmallConfig())
    del old["tuning"]  # as files have it that were written before
    assert config_from_dict(old) == SmallConfig()
    for bad in ({"match_gate": 2.0}, {"match_gat": 0.5}, {"match_peaks": 1.5}):
        with pytest.raises(InvalidConfigError, match="match_"):
            config_from_dict({**old, "tuning": bad})


def test_manifest_round_trip_and_damage(exported: Path) -> None:
    assert read_manifest(exported).config == CONFIG
    graph_path(exported, "decode").write_bytes(b"other")
    with pytest.raises(ModelFileError, match="checksum"):
        read_manifest(exported)
    graph_path(exported, "decode").unlink()
    with pytest.raises(ModelFileError, match="missing"):
        read_manifest(exported)
    manifest = json.loads((exported / MANIFEST).read_text())
    for damaged in ("{", "[]", json.dumps({**manifest, "format": "x"}), json.dumps({**manifest, "config": {"a": 1}})):
        (exported / MANIFEST).write_text(damaged)
        with pytest.raises(ModelFileError, match=MANIFEST):
            read_manifest(exported)
    (exported / MANIFEST).unlink()
    with pytest.raises(ModelFileError, match="taptr export"):
        read_manifest(exported)


def test_unloadable_graph_is_named(exported: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot load"):
        load_backend(str(exported))


def test_memory_is_not_taken_for_a_config_that_does_not_fit_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the network is written in PyTorch")
    path = tmp_path / "huge.safetensors"
    save_model(path, SmallConfig(hidden_dim=65536, feedforward_dim=65536), WEIGHTS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError, match="config does not match its weights"):
        load_backend(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.fixture
def shipped_copy(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    return Path(shutil.copytree(SHIPPED / TAPTR_SMALL, tmp_path / "model"))


@pytest.mark.parametrize(
    "change", [{"height": 256}, {"width": 256}, {"hidden_dim": 64}, {"level_channels": (32, 64, 32)}]
)
def test_graphs_must_fit_the_manifest(change: dict[str, Any], shipped_copy: Path) -> None:
    write_manifest(shipped_copy, dataclasses.replace(read_manifest(shipped_copy).config, **change))
    with pytest.raises(ModelFileError, match=rf"does not fit {MANIFEST} \(.*; export the model again"):
        load_backend(str(shipped_copy), threads=1)


def test_graphs_must_not_be_exchanged(shipped_copy: Path) -> None:
    config = read_manifest(shipped_copy).config
    shutil.copyfile(graph_path(shipped_copy, "init_queries"), graph_path(shipped_copy, "encode"))
    write_manifest(shipped_copy, config)
    with pytest.raises(
        ModelFileError, match="it maps features_0, features_1, features_2, xy to content, context, state"
    ):
        load_backend(str(shipped_copy), threads=1, precision="float32")
    shutil.copyfile(SHIPPED / TAPTR_SMALL / "encode.onnx", graph_path(shipped_copy, INT8_ENCODE))
    write_manifest(shipped_copy, config)
    with pytest.raises(ModelFileError, match=r"image is tensor\(float\), not tensor\(uint8\)"):
        load_backend(str(shipped_copy), threads=1, precision="int8")


def test_graph_in_integers_is_checked_too(shipped_copy: Path) -> None:
    graph = graph_path(shipped_copy, INT8_ENCODE)
    content = graph.read_bytes()
    graph.write_bytes(content[:-1])
    with pytest.raises(ModelFileError, match="checksum"):
        load_backend(str(shipped_copy), precision="float32")
    graph.unlink()
    with pytest.raises(ModelFileError, match="missing"):
        load_backend(str(shipped_copy), precision="float32")
    write_manifest(shipped_copy, read_manifest(SHIPPED / TAPTR_SMALL).config)
    assert load_backend(str(shipped_copy)).info.precision == "float32"
    with pytest.raises(InvalidConfigError, match="on cpu in float32, not in int8; use that"):
        load_backend(str(shipped_copy), precision="int8")


def test_what_is_asked_of_a_model_that_is_not_there_says_so(tmp_path: Path) -> None:
    for ask in (model_checksum, model_bytes):
        with pytest.raises(ModelFileError, match="There is no model"):
            ask(str(tmp_path / "missing.safetensors"))
    assert model_bytes(TAPTR_SMALL, "torch") == (SHIPPED / TAPTR_SMALL / "model.safetensors").stat().st_size


def test_options_a_backend_lacks_are_refused(exported: Path, model_file: Path) -> None:
    for device in ("cuda", "tensorrt"):
        with pytest.raises(BackendUnavailableError, match="ExecutionProvider"):
            load_backend(str(exported), device=device)
    with pytest.raises(InvalidConfigError, match="device"):
        load_backend(str(exported), device="abacus")
    for precision, advice in (("bfloat16", "use PyTorch for that"), ("int8", "use that")):
        with pytest.raises(InvalidConfigError, match=f"on cpu in float32, not in {precision}; {advice}"):
            load_backend(str(exported), precision=precision)
    with pytest.raises(InvalidConfigError, match="precision is 'float8'"):
        load_backend(str(exported), precision="float8")
    with pytest.raises(InvalidConfigError, match="int8 is for exported models"):
        load_backend(str(model_file), precision="int8")
    with pytest.raises(InvalidConfigError, match="backend"):
        load_backend(str(exported), "tensorflow")
    with pytest.raises(InvalidConfigError, match="threads"):
        load_backend("lucas_kanade", threads=0)
    with pytest.raises(ModelFileError, match="taptr export"):
        load_backend(str(model_file), "onnxruntime")
    with pytest.raises(ModelFileError, match="onnxruntime"):
        load_backend(str(exported), "torch")
    with pytest.raises(ModelFileError, match="no model file"):
        load_backend("missing.safetensors")
    with pytest.raises(InvalidConfigError, match="CPU"):
        load_backend("lucas_kanade", device="cuda")
