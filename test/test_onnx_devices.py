"""What ONNX Runtime really runs on, and how many processors it may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest

from taptr_ros.errors import BackendUnavailableError, InvalidConfigError, ModelFileError
from taptr_ros.runtime import onnx_backend, processors
from taptr_ros.runtime.loading import WEIGHTS, load_backend, shared_backend
from taptr_ros.tracking import PointTracker

MODEL = WEIGHTS / "taptr_small"


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt", "tensorrt:0"])
def test_a_provider_that_is_compiled_in_but_cannot_run_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's build of ONNX Runtime, told that it has the provider: like the GPU's build without a GPU."""
    provider = onnx_backend.PROVIDERS[device.partition(":")[0]]
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"{provider} may run here")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider, "CPUExecutionProvider"])
    with pytest.raises(BackendUnavailableError, match=f"{device} cannot be used on this machine; check the GPU"):
        load_backend("taptr_small", device=device)


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:", "cuda:one", "cuda:-1", ""])
def test_devices_that_do_not_exist_are_refused(device: str) -> None:
    with pytest.raises(InvalidConfigError, match="ONNX Runtime takes one of"):
        onnx_backend.OnnxBackend(MODEL, device=device)


class Session:
    """A session of another ONNX Runtime: keeps what it was made with."""

    made: ClassVar[list[Any]] = []

    def __init__(self, path: Path, options: Any, providers: list[Any]) -> None:
        self.made.append(providers)
        self._providers = [entry if isinstance(entry, str) else entry[0] for entry in providers]

    def get_providers(self) -> list[str]:
        return [*self._providers, "CPUExecutionProvider"]

    def disable_fallback(self) -> None:
        pass


def test_the_index_chooses_the_device_and_libraries_are_loaded_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(onnx_backend, "_check_graph", lambda *_: None)  # these sessions hold no graphs
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: calls.append("preload"), raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(Session, "made", [])
    backend = onnx_backend.OnnxBackend(MODEL, device="cuda:1")
    assert backend.info.device == "cuda:1"
    assert Session.made == [[("CUDAExecutionProvider", {"device_id": 1})]] * 3
    assert calls == ["preload"] * 3


@pytest.mark.parametrize(("device", "error"), [("cpu", ModelFileError), ("cuda", BackendUnavailableError)])
def test_a_failure_of_the_device_is_not_called_a_bad_model(
    device: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(onnx_backend.PROVIDERS.values()))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(error):
        load_backend("taptr_small", device=device)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({}, None),
    ],
)
def test_the_limit_of_the_control_group_counts(
    files: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(processors, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert processors.usable_processors() == (expected or 64)


def test_trackers_of_one_process_share_a_model_and_keep_apart() -> None:
    backend = shared_backend("taptr_small", threads=1)
    assert shared_backend("taptr_small", threads=1) is backend
    assert shared_backend("taptr_small", threads=2) is not backend
    rng = np.random.default_rng(0)
    images = [[rng.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(3)] for _ in range(2)]
    points = [[40.0, 50.0]]

    def run(tracker: PointTracker, image: Any, stamp: int) -> Any:
        if stamp == 1:
            tracker.add(points)
        return tracker.step(image, stamp).xy

    alone = [run(tracker, image, at) for tracker in [PointTracker(backend)] for at, image in enumerate(images[0], 1)]
    pair = [PointTracker(backend) for _ in range(2)]
    together = []
    for at, both in enumerate(zip(*images, strict=True), 1):
        found = [run(tracker, image, at) for tracker, image in zip(pair, both, strict=True)]
        together.append(found[0])
    np.testing.assert_array_equal(together, alone)


def test_limits_of_a_whole_process_cannot_be_changed_by_another_tracker() -> None:
    first = load_backend("lucas_kanade", threads=1)
    with pytest.raises(InvalidConfigError, match="another opencv model in this process runs with 1"):
        load_backend("lucas_kanade", threads=3)
    assert load_backend("lucas_kanade", threads=1).info == first.info
    del first
    load_backend("lucas_kanade", threads=3)
    load_backend("lucas_kanade", threads=1)


def test_a_model_file_without_its_packages_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for name in ("taptr_ros.model.files", "taptr_ros.runtime.torch_backend"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(BackendUnavailableError, match="needs PyTorch and safetensors"):
        load_backend("taptr_small", backend="torch")
