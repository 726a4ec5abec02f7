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
from taptr_ros.training.scenes import SceneConfig


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """A part of the run with one kind of batch. Numbers of clips are for each process."""

    steps: int
    """Optimizer steps."""
    frames: int
    """Frames per clip; the points start in the first."""
    size: int
    """Width and height, in pixels, of the crops that clips are cut and scaled to."""
    clips: int
    """Clips per step and process."""
    points: int
    """Points per clip."""
    rate: tuple[float, float]
    """Learning rate at the stage's start and end, with half a cosine between."""
    lead: int = 0
    """How many of the frames after the first are only followed, which makes memories long for a third of the time that
    learning from them takes."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where clips come from."""

    scenes: tuple[SceneConfig, ...] = (SceneConfig(),)
    """Kinds of scenes, in equal shares."""
    pool: str | None = None
    """Folder of clips that generators fill and training draws from. Without one every clip is generated when it is
    needed and used once: slower on a processor, but a step draws the same clips whenever it is repeated."""
    pool_clips: int = 1000
    """Clips in the pool, 5 MB each at 24 frames of 256x256."""
    pool_start: int = 100
    """Clips that the pool must hold before training starts."""
    uses: float = 20.0
    """How often a clip is drawn, on average, before a new one replaces it; infinity never replaces any."""
    generators: int = 1
    """Generator processes."""
    loaders: int = 0
    """Processes that draw views ahead of training; without one, training draws them itself."""
    recordings: str | None = None
    """Folder of recordings with the tracks of a teacher, as `taptr teach` writes it."""
    recording_share: float = 0.3
    """Share of the drawn clips that come from `recordings` where there are some."""
    sequences: str | None = None
    """Folder of your own sequences, in the formats that `taptr eval` reads, for fine-tuning."""
    sequence_share: float = 0.5
    """Share of the drawn clips that come from `sequences` where there are some."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses, see `taptr_ros.training.losses`."""

    position: float = 1.0
    """Of the distance from the true position, per 4 pixels."""
    hidden: float = 0.2
    """Of the position of points that are hidden, compared with visible ones."""
    visibility: float = 0.5
    """Of the cross-entropy of visibility."""
    occlusion: float = 3.0
    """Of the visibility of points that are hidden, compared with visible ones, which are several times as many."""
    confidence: float = 0.25
    """Of the cross-entropy of confidence, of visible points."""
    contrastive: float = 0.3
    """Of the contrastive loss, mean over the levels and the heat map."""
    layer_discount: float = 0.7
    """Every decoder layer's loss counts this much less than the next one's."""
    fine_points: int = 12
    """Points per clip in the contrastive loss of the finest level, which has most of its cost."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is measured during training, on scenes that training does not see."""

    every: int = 500
    """Steps between two evaluations; there is always one at the end."""
    scenes: SceneConfig = SceneConfig(points=48)  # noqa: RUF009 - immutable
    """Kind of scenes."""
    clips: int = 8
    """Number of scenes. They have negative seeds, which no training clip has."""


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
    initial: str | None = None
    """Model file whose weights training starts from, for fine-tuning; without one, all but the trunk's are random."""
    pretrained_trunk: bool = True
    """Start the trunk from ImageNet weights rather than from random ones."""
    seed: int = 0
    """Of the random weights and of everything drawn at random."""
    processes: int = 1
    """Processes that share a step's clips. Ignored under torchrun, which has its own."""
    threads: int = 1
    """Processor threads of each process."""
    device: str = "cpu"
    """cpu, or cuda: every process takes the GPU of its local rank."""
    bfloat16: bool = False
    """Encode images in bfloat16: for GPUs, and processors that compute in it."""
    captured: bool = True
    """On a GPU, run each step's passes as one CUDA graph."""
    warmup_steps: int = 40
    """Steps in which the learning rate rises from 0."""
    trunk_rate: float = 0.2
    """Learning rate of the trunk, which starts from ImageNet weights, as a share of the others'."""
    weight_decay: float = 1e-4
    """AdamW's weight decay, of matrices only."""
    gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    average_decay: float = 0.999
    """Decay, per step, of the moving average of the weights, which is what is evaluated and kept."""
    checkpoint_minutes: float = 4.0
    """Minutes between two checkpoints."""
    log_every: int = 25
    """Steps between two lines in the log."""

    def __post_init__(self) -> None:
        positive = ("processes", "threads", "checkpoint_minutes", "log_every", "gradient_norm")
        parts: tuple[Any, ...] = (self, self.data, self.loss, self.evaluation, *self.stages)
        for part in parts:
            for field in dataclasses.fields(part):
                value = getattr(part, field.name)
                numbers = value if isinstance(value, tuple) else (value,)
                for number in numbers:
                    if isinstance(number, int | float) and not isinstance(number, bool):
                        above_zero = isinstance(part, StageConfig) or field.name in positive
                        zero_allowed = field.name == "lead" or not above_zero
                        if not number >= 0 or (number == 0 and not zero_allowed):
                            raise InvalidConfigError(f"{field.name} is {value!r}; use a number above 0.")
        if not self.stages:
            raise InvalidConfigError("stages is empty; name at least one.")
        for stage in self.stages:
            finite = all(map(math.isfinite, stage.rate))
            if stage.frames < stage.lead + 2 or stage.size % LEVEL_STRIDES[-1] or not finite:
                raise InvalidConfigError(
                    f"A stage has {stage.frames} frames, {stage.lead} of them lead, of {stage.size} pixels at rates "
                    f"{stage.rate}; use at least two frames more than lead, a size that is a multiple of "
                    f"{LEVEL_STRIDES[-1]}, and finite rates."
                )
        if not self.data.scenes:
            raise InvalidConfigError("scenes is empty; name at least one kind.")

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
    """Turn plain YAML values into `kind`: a dataclass, a tuple, an optional or a plain type."""
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
    if origin is typing.Literal:
        return value
    if kind is float and isinstance(value, str):
        # YAML 1.1 takes 1e-3 for a text.
        with_number = _number(value)
        value = value if with_number is None else with_number
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
        raise InvalidConfigError(f"{where} is {value!r}; use a value of type {kind.__name__}.")
    try:
        return kind(value)
    except OverflowError:
        raise InvalidConfigError(f"{where} is too large; use a smaller number.") from None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except (ValueError, OverflowError):
        return None
