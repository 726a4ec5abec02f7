"""The training loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from taptr_ros.runtime.torch_backend import TorchBackend
from taptr_ros.training import processes
from taptr_ros.training.batches import (
    Batch,
    ClipSource,
    GeneratedClips,
    MixedClips,
    PooledClips,
    SequenceClips,
    draw_batch,
)
from taptr_ros.training.clip_files import Generators, pool_files
from taptr_ros.training.config import DataConfig, StageConfig, TrainingConfig, to_yaml
from taptr_ros.training.journal import Journal
from taptr_ros.training.losses import losses
from taptr_ros.training.measure import EvaluationScenes
from taptr_ros.training.processes import Place
from taptr_ros.training.state import BEST_MODEL, TrainingState
from taptr_ros.training.unroll import unroll

RECIPE = "recipe.yaml"
"""Name of the copy of the recipe in the run folder."""

POOL_PAUSE = 2.0
"""Seconds between two looks at a pool that is not full enough to start."""


def train(config: TrainingConfig, folder: Path) -> TrainingState:
    """Train in `folder`, going on from its checkpoint if it has one; returns what came out."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    with contextlib.ExitStack() as stack:
        source, count = _clips(config, stack)
        place = processes.join(config.device)
        stack.callback(processes.leave, place)
        return _Run(config, folder, place, source, count).run()


class _Run:
    """One process's part of a run."""

    def __init__(
        self, config: TrainingConfig, folder: Path, place: Place, source: ClipSource, count: Callable[[int], None]
    ) -> None:
        self.config, self.folder, self.place, self.source, self.count = config, folder, place, source, count
        self.state = TrainingState(config, place.device)
        self.resumed = self.state.load(folder)
        self.fused = place.device.type == "cpu"
        self.scenes: EvaluationScenes | None = None
        self.journal = Journal(folder) if place.leads else None
        self.saved = time.monotonic()

    def run(self) -> TrainingState:
        """Take all steps that are left."""
        if self.journal is not None:
            (self.folder / RECIPE).write_text(to_yaml(self.config))
            begun = "resumed" if self.resumed else "begun"
            self.journal.write(
                f"{begun} at step {self.state.step} of {self.config.steps}, {self.place.world} processes"
            )
        steps = range(self.state.step, self.config.steps)
        noted: list[dict[str, float]] = []
        since, frames = time.monotonic(), 0
        for step in tqdm(steps, unit="step", disable=None if self.place.leads else True, dynamic_ncols=True):
            batch = self._batch(step)
            stage, _ = self.config.stage_at(step)
            noted.append(self._learn(batch, stage))
            frames += batch.visible.shape[0] * batch.visible.shape[1] * self.place.world
            if self.state.step % self.config.log_every == 0:
                if self.journal is not None:
                    means = {name: float(np.mean([values[name] for values in noted])) for name in noted[0]}
                    rate = frames / (time.monotonic() - since)
                    self.journal.numbers(self.state.step, {**means, "train/frames_per_second": rate})
                noted.clear()
                since, frames = time.monotonic(), 0
            self._keep()
        return self.state

    def _batch(self, step: int) -> Batch:
        """Draw the batch of a step: the same one on every run with the same clips."""
        stage, _ = self.config.stage_at(step)
        rng = np.random.default_rng((self.config.seed, step, self.place.rank))
        batch = draw_batch(self.source, stage, rng).to(self.place.device)
        self.count(stage.clips)
        return batch

    def _learn(self, batch: Batch, stage: StageConfig) -> dict[str, float]:
        """Take one step; returns what is worth noting."""
        self.state.network.train()
        if stage.frozen_norms:
            for module in self.state.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        self.state.optimizer.zero_grad(set_to_none=True)
        unrolled = unroll(self.state.network, batch, lead=stage.lead, fused=self.fused, bfloat16=self.config.bfloat16)
        loss = losses(unrolled, batch, self.config.loss)
        unrolled.backward(loss.total)
        gradients = [parameter.grad for parameter in self.state.network.parameters() if parameter.grad is not None]
        processes.average(gradients, self.place)
        rate = self.config.rate_at(self.state.step)
        norm = self.state.apply_gradients(rate)
        with torch.no_grad():
            size = batch.images.shape[2]
            true, visible = batch.xy[unrolled.first :], batch.visible[unrolled.first :]
            error = size * (unrolled.positions[:, -1] - true).norm(dim=-1)[visible]
            within = (error < 4.0).float().mean()
            guessed = (unrolled.visibility_logits[:, -1] > 0) == visible
        return {
            "loss/total": float(loss.total.detach()),
            "loss/position": float(loss.position.detach()),
            "loss/visibility": float(loss.visibility.detach()),
            "loss/contrastive": float(loss.contrastive.detach()),
            "train/median_pixels": float(error.median()),
            "train/within_4_pixels": float(within),
            "train/visibility_accuracy": float(guessed.float().mean()),
            "train/gradient_norm": norm,
            "train/rate": rate,
        }

    def _keep(self) -> None:
        """Write a checkpoint and evaluate, each when it is time."""
        done = self.state.step == self.config.steps
        evaluates = done or self.state.step % self.config.evaluation.every == 0
        late = time.monotonic() - self.saved > 60.0 * self.config.checkpoint_minutes
        if self.journal is None or not (evaluates or late):
            return
        self.state.save(self.folder)
        if evaluates and self.config.evaluation.clips:
            self._evaluate(self.journal)
            self.state.save(self.folder)
        self.saved = time.monotonic()

    def _evaluate(self, journal: Journal) -> None:
        """Measure the averaged weights and keep them if they are the best so far."""
        if self.scenes is None:
            self.scenes = EvaluationScenes(self.config.evaluation)
        backend = TorchBackend(self.config.model, self.state.averaged_weights())
        scores = self.scenes.scores(backend)
        journal.numbers(self.state.step, {f"evaluation/{name}": score for name, score in scores.items()})
        journal.picture(self.state.step, "evaluation/tracks", self.scenes.picture(backend))
        if scores["AJ"] > self.state.best_score:
            self.state.best_score = scores["AJ"]
            self.state.save_model(self.folder / BEST_MODEL)


def _clips(config: TrainingConfig, stack: contextlib.ExitStack) -> tuple[ClipSource, Callable[[int], None]]:
    """Return where clips come from, and what to tell how many a step drew in each process."""
    data = config.data
    source, count = _synthetic_clips(data, stack)
    if data.sequences is not None:
        source = MixedClips(source, SequenceClips(Path(data.sequences)), data.sequence_share)
    return source, count


def _synthetic_clips(data: DataConfig, stack: contextlib.ExitStack) -> tuple[ClipSource, Callable[[int], None]]:
    """Return where scenes come from; the leading process starts the generators, before PyTorch starts threads."""
    if data.pool is None:
        return GeneratedClips(data), lambda _: None
    folder = Path(data.pool)
    if processes.rank() > 0:
        return PooledClips(folder), lambda _: None
    generators = Generators(
        folder,
        data.scenes,
        processes=data.generators,
        clips=data.pool_clips,
        uses=data.uses,
        device=data.device,
    )
    stack.callback(generators.stop)
    while len(pool_files(folder)) < data.pool_start:
        generators.check()
        time.sleep(POOL_PAUSE)

    def count(clips: int) -> None:
        generators.check()
        generators.count(clips * processes.world())

    return PooledClips(folder), count
