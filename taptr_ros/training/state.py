"""Everything a run has to remember to go on as if it had never stopped, and the files that hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taptr_ros.errors import ModelFileError
from taptr_ros.model.files import load_model, save_model
from taptr_ros.model.small_config import SmallConfig
from taptr_ros.model.small_network import SmallNetwork
from taptr_ros.runtime.torch_backend import load_weights
from taptr_ros.training.config import TrainingConfig
from taptr_ros.training.trunk_weights import load_trunk_weights

CHECKPOINT = "latest.pt"
"""Everything, at the last checkpoint."""

LATEST_MODEL = "latest.safetensors"
"""The averaged weights at the last checkpoint."""

BEST_MODEL = "best.safetensors"
"""The averaged weights with the best score so far."""


class TrainingState:
    """Network, averaged weights, optimizer and step.

    Nothing else carries over from step to step: what a step draws at random follows from the seed and its number.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.network = SmallNetwork(config.model)
        if config.initial is not None:
            self._load_initial(Path(config.initial))
        elif config.pretrained_trunk:
            self.network.encoder.trunk.load_state_dict(load_trunk_weights())
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        in_trunk = {id(parameter) for parameter in self.network.encoder.trunk.parameters()}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            share = config.trunk_rate if id(parameter) in in_trunk else 1.0
            groups.setdefault((decay, share), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": part, "weight_decay": decay, "share": share} for (decay, share), part in groups.items()],
            fused=device.type == "cuda",
        )
        self.averaged = {name: value.detach().clone() for name, value in self.network.named_parameters()}
        self.step = 0
        """Steps done."""
        self.best_score = -1.0
        """Best score of an evaluation so far."""

    @property
    def has_random_trunk(self) -> bool:
        """Whether the trunk's weights have just been drawn at random."""
        return self.step == 0 and self.config.initial is None and not self.config.pretrained_trunk

    def _load_initial(self, path: Path) -> None:
        config, weights = load_model(path)
        if not isinstance(config, SmallConfig):
            raise ModelFileError(f"{path} is not a small network; training can go on from those only.")
        load_weights(self.network, weights)

    def apply_gradients(self, rate: float) -> Tensor:
        """Take an optimizer step and return the norm of the gradients; skip it if that is not a finite number."""
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_norm)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["share"]
            self.optimizer.step()
        # At first the average follows quickly, or the random start would stay in it for long.
        decay = min(self.config.average_decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.values()), list(self.network.parameters()), 1.0 - decay)
        self.step += 1
        return norm.detach()

    def averaged_weights(self) -> dict[str, NDArray[Any]]:
        """Return the averaged weights, with the latest statistics of the norms, as a model file holds them."""
        weights: dict[str, Tensor] = {**self.network.state_dict(), **self.averaged}
        return {name: np.ascontiguousarray(value.numpy(force=True)) for name, value in weights.items()}

    def save(self, folder: Path) -> None:
        """Write the checkpoint and the averaged weights; a reader never sees half of either."""
        content = {
            "step": self.step,
            "best_score": self.best_score,
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
        }
        unfinished = folder / f".{CHECKPOINT}"
        torch.save(content, unfinished)
        unfinished.replace(folder / CHECKPOINT)
        self.save_model(folder / LATEST_MODEL)

    def save_model(self, path: Path) -> None:
        """Write the averaged weights to a model file."""
        unfinished = path.with_name(f".{path.name}")
        save_model(unfinished, self.config.model, self.averaged_weights())
        unfinished.replace(path)

    def load(self, folder: Path) -> bool:
        """Go on from the checkpoint in `folder`; returns whether there was one."""
        path = folder / CHECKPOINT
        if not path.exists():
            return False
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            for name, value in content["averaged"].items():
                self.averaged[name].copy_(value)
            self.step, self.best_score = content["step"], content["best_score"]
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelFileError(
                f"{path} does not fit the recipe ({' '.join(str(error).split())[:200]}); use another run folder."
            ) from error
        return True
