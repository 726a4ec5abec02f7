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
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        matrices = [parameter for parameter in self.network.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.network.parameters() if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups)
        self.averaged = {name: value.detach().clone() for name, value in self.network.named_parameters()}
        self.step = 0
        """Steps done."""
        self.best_score = -1.0
        """Best score of an evaluation so far."""

    def _load_initial(self, path: Path) -> None:
        config, weights = load_model(path)
        if not isinstance(config, SmallConfig):
            raise ModelFileError(f"{path} is not a small network; training can go on from those only.")
        load_weights(self.network, weights)

    def apply_gradients(self, rate: float) -> float:
        """Take an optimizer step and return the norm of the gradients; skip it if that is not a finite number."""
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_norm)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        # At first the average follows quickly, or the random start would stay in it for long.
        decay = min(self.config.average_decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                self.averaged[name].lerp_(parameter, 1.0 - decay)
        self.step += 1
        return float(norm)

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
