"""The recipe of a training run: documented dataclasses, read from YAML."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from taptr_ros.errors import InvalidConfigError
from taptr_ros.model.small_config import LEVEL_STRIDES, SmallConfig
from taptr_ros.settings import check_settings, described, setting
from taptr_ros.training.scenes import SceneConfig

COUNT = (1, math.inf)
"""Limits of how many there are, where there must be one."""

ANY = (0, math.inf)
"""Limits of what is not below 0."""

SHARE = (0.0, 1.0)
"""Limits of a part of the whole."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """A part of the run with one kind of batch. Numbers of clips are for each process.

    Raises `InvalidConfigError`, as all parts of a recipe do, if a value is of the wrong kind or out of range.
    """

    steps: int = dataclasses.field(metadata=described("Optimizer steps.", limits=COUNT))
    frames: int = dataclasses.field(
        metadata=described("Frames per clip; the points start in the first.", limits=(2, math.inf))
    )
    size: int = dataclasses.field(
        metadata=described("Width and height, in pixels, of the crops that clips are cut and scaled to.", limits=COUNT)
    )
    clips: int = dataclasses.field(metadata=described("Clips per step and process.", limits=COUNT))
    points: int = dataclasses.field(metadata=described("Points per clip.", limits=COUNT))
    rate: tuple[float, float] = dataclasses.field(
        metadata=described(
            "Learning rate at the stage's start and end, with half a cosine between.",
            limits=(0.0, 1e6),
            excluded=(0.0,),
        )
    )
    lead: int = setting(
        0,
        "How many of the frames after the first are only followed, which makes memories long for a third of the time "
        "that learning from them takes.",
        limits=ANY,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.frames < self.lead + 2 or self.size % LEVEL_STRIDES[-1]:
            raise InvalidConfigError(
                f"A stage has {self.frames} frames, {self.lead} of them lead, of {self.size} pixels; use at least two "
                f"frames more than lead, and a size that is a multiple of {LEVEL_STRIDES[-1]}."
            )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where clips come from."""

    scenes: tuple[SceneConfig, ...] = (SceneConfig(),)
    """Kinds of scenes, in equal shares."""
    pool: str | None = setting(
        None,
        "Folder of clips that generators fill and training draws from. Without one every clip is generated when it is "
        "needed and used once: slower on a processor, but a step draws the same clips whenever it is repeated.",
    )
    pool_clips: int = setting(1000, "Clips in the pool, 5 MB each at 24 frames of 256x256.", limits=ANY)
    pool_start: int = setting(100, "Clips that the pool must hold before training starts.", limits=ANY)
    uses: float = setting(
        20.0,
        "How often a clip is drawn, on average, before a new one replaces it; infinity never replaces any.",
        limits=ANY,
    )
    generators: int = setting(1, "Generator processes.", limits=ANY)
    loaders: int = setting(
        0,
        "Processes that draw views ahead of training; without one, training draws them itself.",
        limits=ANY,
    )
    recordings: str | None = setting(
        None,
        "Folder of recordings with the tracks of a teacher, as `taptr teach` writes it.",
    )
    recording_share: float = setting(
        0.3,
        "Share of the drawn clips that come from `recordings` where there are some.",
        limits=SHARE,
    )
    sequences: str | None = setting(
        None,
        "Folder of your own sequences, in the formats that `taptr eval` reads, for fine-tuning.",
    )
    sequence_share: float = setting(
        0.5,
        "Share of the drawn clips that come from `sequences` where there are some.",
        limits=SHARE,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.scenes:
            raise InvalidConfigError("scenes is empty; name at least one kind.")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses, see `taptr_ros.training.losses`."""

    position: float = setting(1.0, "Of the distance from the true position, per 4 pixels.", limits=ANY)
    hidden: float = setting(
        0.2,
        "Of the position of points that are hidden, compared with visible ones.",
        limits=ANY,
    )
    visibility: float = setting(0.5, "Of the cross-entropy of visibility.", limits=ANY)
    occlusion: float = setting(
        3.0,
        "Of the visibility of points that are hidden, compared with visible ones, which are several times as many.",
        limits=ANY,
    )
    confidence: float = setting(0.25, "Of the cross-entropy of confidence, of visible points.", limits=ANY)
    contrastive: float = setting(
        0.3,
        "Of the contrastive loss, mean over the levels and the heat map.",
        limits=ANY,
    )
    layer_discount: float = setting(
        0.7,
        "Every decoder layer's loss counts this much less than the next one's.",
        limits=ANY,
    )
    fine_points: int = setting(
        12,
        "Points per clip in the contrastive loss of the finest level, which has most of its cost.",
        limits=ANY,
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is measured during training, on scenes that training does not see."""

    every: int = setting(500, "Steps between two evaluations; there is always one at the end.", limits=COUNT)
    scenes: SceneConfig = SceneConfig(points=48)  # noqa: RUF009 - immutable
    """Kind of scenes."""
    clips: int = setting(
        8,
        "Number of scenes. They have negative seeds, which no training clip has.",
        limits=ANY,
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Raises `InvalidConfigError` if a value is of the wrong kind or out of range.
    """

    stages: tuple[StageConfig, ...]
    """One after another."""
    model: SmallConfig = SmallConfig()  # noqa: RUF009 - immutable
    """The network."""
    data: DataConfig = DataConfig()
    """Where clips come from."""
    loss: LossConfig = LossConfig()
    """Weights of the losses."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured during training."""
    initial: str | None = setting(
        None,
        "Model file whose weights training starts from, for fine-tuning; without one, all but the trunk's are random.",
    )
    pretrained_trunk: bool = setting(True, "Start the trunk from ImageNet weights rather than from random ones.")
    seed: int = setting(0, "Of the random weights and of everything drawn at random.", limits=ANY)
    processes: int = setting(
        1,
        "Processes that share a step's clips. Ignored under torchrun, which has its own.",
        limits=COUNT,
    )
    threads: int = setting(1, "Processor threads of each process.", limits=COUNT)
    device: str = setting("cpu", "cpu, or cuda: every process takes the GPU of its local rank.")
    bfloat16: bool = setting(False, "Encode images in bfloat16: for GPUs, and processors that compute in it.")
    captured: bool = setting(True, "On a GPU, run each step's passes as one CUDA graph.")
    warmup_steps: int = setting(40, "Steps in which the learning rate rises from 0.", limits=ANY)
    trunk_rate: float = setting(
        0.2,
        "Learning rate of the trunk, which starts from ImageNet weights, as a share of the others'.",
        limits=ANY,
    )
    weight_decay: float = setting(1e-4, "AdamW's weight decay, of matrices only.", limits=ANY)
    gradient_norm: float = setting(1.0, "Gradients are scaled down to this norm.", limits=ANY, excluded=(0.0,))
    average_decay: float = setting(
        0.999,
        "Decay, per step, of the moving average of the weights, which is what is evaluated and kept.",
        limits=SHARE,
    )
    checkpoint_minutes: float = setting(4.0, "Minutes between two checkpoints.", limits=ANY, excluded=(0.0,))
    log_every: int = setting(25, "Steps between two lines in the log.", limits=COUNT)

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.stages:
            raise InvalidConfigError("stages is empty; name at least one.")

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[StageConfig, int]:
        """Return the stage of a step and the step's number within it."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise InvalidConfigError(f"The run has {self.steps} steps.")

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        stage, within = self.stage_at(step)
        start, end = stage.rate
        rate = end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * within / stage.steps))
        return rate * min(1.0, (step + 1) / max(self.warmup_steps, 1))


def load_training_config(path: Path) -> TrainingConfig:
    """Read a recipe from YAML; raises `InvalidConfigError` if it is none."""
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidConfigError(f"{path} is not YAML ({error}); see config/training for examples.") from error
    try:
        config: TrainingConfig = _parse(TrainingConfig, content, "the file")
    except InvalidConfigError as error:
        raise InvalidConfigError(f"{path}: {error}") from error
    return config


def to_yaml(config: TrainingConfig) -> str:
    """Return the recipe as YAML that `load_training_config` reads."""
    return str(yaml.safe_dump(_plain(config), sort_keys=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _parse(kind: Any, value: Any, where: str) -> Any:
    """Turn plain YAML values into `kind`: a dataclass, a tuple, an optional or a plain type, which is not checked."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise InvalidConfigError(f"{where} is {value!r}; use names and values.")
        hints = typing.get_type_hints(kind)
        known = [field.name for field in dataclasses.fields(kind)]
        if unknown := sorted(set(value) - set(known), key=str):
            raise InvalidConfigError(f"{where} has no {unknown[0]!r}; it has {', '.join(known)}.")
        try:
            return kind(**{name: _parse(hints[name], entry, name) for name, entry in value.items()})  # type: ignore[operator]
        except TypeError as error:
            raise InvalidConfigError(f"{where} is incomplete ({error}).") from error
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _parse(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list) or (arguments[-1] is not ... and len(value) != len(arguments)):
            raise InvalidConfigError(
                f"{where} is {value!r}; use a list{'' if ... in arguments else ' of its numbers'}."
            )
        return tuple(_parse(arguments[0], item, where) for item in value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        # YAML 1.1 takes 1e-3 for a text. What is no number at all, the dataclass refuses.
        try:
            return float(value)
        except ValueError:
            return value
        except OverflowError:
            raise InvalidConfigError(f"{where} is too large; use a smaller number.") from None
    return value
