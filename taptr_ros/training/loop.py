"""The training loop."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import torch
from torch import Tensor
from tqdm import tqdm

from taptr_ros.runtime.torch_backend import TorchBackend
from taptr_ros.training import processes
from taptr_ros.training.batches import (
    Batch,
    Batches,
    ClipSource,
    GeneratedClips,
    MixedClips,
    SequenceClips,
    StoredClips,
)
from taptr_ros.training.captured import CapturedLearning
from taptr_ros.training.clip_files import Generators, pool_files
from taptr_ros.training.config import StageConfig, TrainingConfig, to_yaml
from taptr_ros.training.journal import Journal
from taptr_ros.training.losses import losses
from taptr_ros.training.measure import EvaluationScenes
from taptr_ros.training.processes import Place
from taptr_ros.training.state import BEST_MODEL, TrainingState
from taptr_ros.training.unroll import unroll

RECIPE = "recipe.yaml"
"""Name of the copy of the recipe in the run folder."""

CLIPS_PER_SEED = 1_000_000
"""Numbers of clips that belong to one seed of a recipe."""

POOL_PAUSE = 2.0
"""Seconds between two looks at a pool that is not full enough to start."""


def train(config: TrainingConfig, folder: Path, *, minutes: float = math.inf) -> TrainingState:
    """Train in `folder`, going on from its checkpoint if it has one; returns what came out.

    After `minutes` the run stops at a checkpoint, for another one to go on from.
    """
    end = time.monotonic() + 60.0 * minutes
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    with contextlib.ExitStack() as stack:
        source, count = _clips(config, stack)
        place = processes.join(config.device)
        stack.callback(processes.leave, place)
        run = _Run(config, folder, place, source, count)
        stack.callback(run.batches.close)
        return run.run(end)


class _Run:
    """One process's part of a run."""

    def __init__(
        self, config: TrainingConfig, folder: Path, place: Place, source: ClipSource, count: Callable[[int], None]
    ) -> None:
        self.config, self.folder, self.place, self.count = config, folder, place, count
        self.batches = Batches(config, source, place.rank, place.device)
        self.state = TrainingState(config, place.device)
        self.resumed = self.state.load(folder)
        self.fused = place.device.type == "cpu"
        self.captured: tuple[StageConfig, CapturedLearning] | None = None
        self.scenes: EvaluationScenes | None = None
        self.journal = Journal(folder) if place.leads else None
        self.saved = time.monotonic()

    def run(self, end: float) -> TrainingState:
        """Take all steps that are left, or as many as there are before `end` of the monotonic clock."""
        if self.journal is not None:
            (self.folder / RECIPE).write_text(to_yaml(self.config))
            begun = "resumed" if self.resumed else "begun"
            self.journal.write(
                f"{begun} at step {self.state.step} of {self.config.steps}, {self.place.world} processes"
            )
        steps = range(self.state.step, self.config.steps)
        noted: list[dict[str, Tensor]] = []
        since, frames = time.monotonic(), 0
        progress = tqdm(steps, unit="step", disable=None if self.place.leads else True, dynamic_ncols=True)
        batches = self.batches.draw(steps)
        coming = next(batches, None)
        if coming is not None and self.state.has_random_trunk:
            images = coming.images.flatten(0, 1).permute(0, 3, 1, 2).float()
            processes.average(self.state.network.encoder.trunk.measure_norms(images), self.place)
        for step in progress:
            batch, stage = coming, self.config.stage_at(step)[0]
            if batch is None:
                break
            values = self._pass(batch, stage)
            # A GPU is still busy with this batch while the next one is filmed.
            coming = next(batches, None)
            noted.append({**values, **self._take_step()})
            self.count(stage.clips)
            frames += batch.visible.shape[0] * batch.visible.shape[1] * self.place.world
            if self.state.step % self.config.log_every == 0:
                if self.journal is not None:
                    means = {name: float(sum(float(part[name]) for part in noted)) / len(noted) for name in noted[0]}
                    rate = frames / (time.monotonic() - since)
                    self.journal.numbers(self.state.step, {**means, "train/frames_per_second": rate})
                noted.clear()
                since, frames = time.monotonic(), 0
            late = self._is_late(end)
            self._keep(late)
            if late:
                break
        return self.state

    def _is_late(self, end: float) -> bool:
        """Return whether the run's time is over, for all processes alike."""
        if self.place.world == 1:
            return time.monotonic() > end
        late = torch.tensor(float(time.monotonic() > end), device=self.place.device)
        processes.average([late], self.place)
        return bool(late > 0)

    def _pass(self, batch: Batch, stage: StageConfig) -> Mapping[str, Tensor]:
        """Compute the gradients of a batch; returns what is worth noting."""
        self.state.network.train()
        learn = functools.partial(self._learn, stage=stage)
        if self.place.device.type != "cuda" or not self.config.captured:
            self.state.optimizer.zero_grad(set_to_none=True)
            return learn(batch)
        if self.captured is None or self.captured[0] is not stage:
            # The memory of the last stage's graph is given back first.
            self.captured = None
            with self.batches.resting():
                self.captured = stage, CapturedLearning(learn, self.state.network, batch)
        return self.captured[1](batch)

    def _take_step(self) -> dict[str, Tensor]:
        """Take the optimizer's step; returns what is worth noting."""
        gradients = [parameter.grad for parameter in self.state.network.parameters() if parameter.grad is not None]
        processes.average(gradients, self.place)
        rate = self.config.rate_at(self.state.step)
        return {"train/gradient_norm": self.state.apply_gradients(rate), "train/rate": torch.tensor(rate)}

    def _learn(self, batch: Batch, stage: StageConfig) -> dict[str, Tensor]:
        """Add the gradients of a batch to the parameters; returns what is worth noting."""
        unrolled = unroll(self.state.network, batch, lead=stage.lead, fused=self.fused, bfloat16=self.config.bfloat16)
        loss = losses(unrolled, batch, self.config.loss)
        unrolled.backward(loss.total)
        with torch.no_grad():
            size = batch.images.shape[2]
            true, visible = batch.xy[unrolled.first :], batch.visible[unrolled.first :]
            error = size * (unrolled.positions[:, -1] - true).norm(dim=-1)
            guessed = (unrolled.logits[:, -1, ..., 0] > 0) == visible
            known = batch.known[unrolled.first :]
        return {
            "loss/total": loss.total.detach(),
            "loss/position": loss.position.detach(),
            "loss/visibility": loss.visibility.detach(),
            "loss/confidence": loss.confidence.detach(),
            "loss/contrastive": loss.contrastive.detach(),
            "train/within_4_pixels": ((error < 4.0) & visible).sum() / visible.sum(),
            "train/visibility_accuracy": (guessed & known).sum() / known.sum(),
        }

    def _keep(self, late: bool) -> None:
        """Write a checkpoint and evaluate, each when it is time; `late`: the run ends here."""
        done = self.state.step == self.config.steps
        evaluates = done or self.state.step % self.config.evaluation.every == 0
        due = late or time.monotonic() - self.saved > 60.0 * self.config.checkpoint_minutes
        if self.journal is None or not (evaluates or due):
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
    source, count = _synthetic_clips(config, stack)
    if data.recordings is not None:
        source = MixedClips(source, StoredClips(Path(data.recordings)), data.recording_share)
    if data.sequences is not None:
        source = MixedClips(source, SequenceClips(Path(data.sequences)), data.sequence_share)
    return source, count


def _synthetic_clips(config: TrainingConfig, stack: contextlib.ExitStack) -> tuple[ClipSource, Callable[[int], None]]:
    """Return where scenes come from; the leading process starts the generators, before PyTorch starts threads."""
    data = config.data
    if data.pool is None:
        return GeneratedClips(data), lambda _: None
    folder = Path(data.pool)
    if processes.rank() > 0:
        return StoredClips(folder), lambda _: None
    generators = Generators(
        folder,
        data.scenes,
        processes=data.generators,
        clips=data.pool_clips,
        uses=data.uses,
        first=config.seed * CLIPS_PER_SEED,
    )
    stack.callback(generators.stop)
    while len(pool_files(folder)) < data.pool_start:
        generators.check()
        time.sleep(POOL_PAUSE)

    def count(clips: int) -> None:
        generators.check()
        generators.count(clips * processes.world())

    return StoredClips(folder), count
