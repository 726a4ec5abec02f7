"""The network in PyTorch, on a CPU or a CUDA device."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptr_ros.errors import BackendUnavailableError, InvalidConfigError, ModelFileError
from taptr_ros.model.architectures import Config, Network, build_network
from taptr_ros.model.decoder import DecoderInput
from taptr_ros.model.rotary import rotary_phase
from taptr_ros.model.sampling import Form
from taptr_ros.runtime.backend import BackendInfo, Decoded, QueryArrays, TrackArrays
from taptr_ros.runtime.images import fit_image

DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}
"""Precisions and the types in which the network then computes; memory and positions are always float32."""


@dataclasses.dataclass(frozen=True)
class TorchArrays:
    """`ArrayFactory` of torch tensors on one device."""

    device: torch.device

    def zeros(self, shape: tuple[int, ...]) -> Tensor:
        """Return a float32 tensor of zeros."""
        return torch.zeros(shape, device=self.device)

    def from_numpy(self, array: NDArray[Any]) -> Tensor:
        """Return `array` as a float32 tensor on the device."""
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)

    def to_numpy(self, array: Tensor) -> NDArray[np.float32]:
        """Return a tensor as numpy float32, on the host."""
        return array.float().numpy(force=True)


class TorchBackend:
    """`Backend` that runs a network."""

    def __init__(
        self,
        config: Config,
        weights: Mapping[str, NDArray[Any]] | None = None,
        *,
        device: str = "cpu",
        precision: str = "auto",
    ) -> None:
        """Build the network of `config` and load `weights` (name to array); without them they are random.

        `device` is "cpu", "cuda" or "cuda:INDEX"; `precision` is "float32", "bfloat16" (autocast) or "auto",
        which is float32.
        Raises `ModelFileError` if the weights do not fit the configuration, `BackendUnavailableError` if the device is
        absent, and `InvalidConfigError` for an unknown precision.
        """
        if precision not in DTYPES:
            raise InvalidConfigError(f"PyTorch does not compute in {precision}; choose one of {', '.join(DTYPES)}.")
        self._device = _find_device(device)
        self._precision = DTYPES[precision]
        # The gather form computes row numbers in float32, which autocast would round.
        gathers = self._device.type == "cpu" and self._precision is torch.float32
        form: Form = "gather" if gathers else "grid"
        if weights is not None:
            check_weights(config, weights)
        network = build_network(config, form)
        if weights is not None:
            load_weights(network, weights)
        self.network = network.to(self._device).prepare_for_inference()
        self._arrays = TorchArrays(self._device)
        name = "float32" if precision == "auto" else precision
        self._info = BackendInfo.of_network(config, "torch", str(self._device), name)

    @property
    def info(self) -> BackendInfo:
        """Constants of the loaded model."""
        return self._info

    def allocate(self, capacity: int, slots: int) -> TrackArrays:
        """Return empty track arrays on the device."""
        return TrackArrays(self._arrays, self._info, capacity, slots)

    def encode(self, image: NDArray[np.uint8]) -> Any:
        """Compute the features of an image, uint8 [H,W,3] RGB, ready for being sampled."""
        fitted = fit_image(image, self._info.height, self._info.width)
        with self._inference():
            encoded = self.network.encode(torch.from_numpy(fitted).to(self._device))
            return self.network.features([part.float() for part in encoded])

    def init_queries(self, features: Any, xy: NDArray[np.float32]) -> QueryArrays:
        """Sample content and context of new points at unit coordinates `xy` [N,2]."""
        with self._inference():
            content, context, state = self.network.init_queries(features, self._arrays.from_numpy(xy))
        return QueryArrays(content.float(), context.float(), state)

    def decode(
        self,
        features: Any,
        previous_features: Any | None,
        tracks: TrackArrays,
        rows: int,
        slots: int,
        updated: NDArray[np.bool_],
        frame: int,
    ) -> Decoded:
        """Move the tracks in rows 0..rows-1 to this frame; `previous_features` are not needed."""
        inputs = DecoderInput(
            content=tracks.content[:rows],
            context=tracks.context[:rows],
            state=tracks.state[:rows],
            keys=tracks.keys[:rows, :slots],
            values=tracks.values[:rows, :slots],
            weights=tracks.weights[:rows, :slots],
            phase=self._arrays.from_numpy(rotary_phase(frame, self._info.content_dim)),
            updated=torch.as_tensor(updated, device=self._device),
        )
        with self._inference():
            output = self.network.decode(features, inputs)
            xy, visibility, confidence = self.network.estimates(output)
        return Decoded(
            xy=xy.float().numpy(force=True),
            visibility=visibility.float().numpy(force=True),
            confidence=confidence.float().numpy(force=True),
            state=output.state.float(),
            content=output.content.float(),
        )

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        """Compute without gradients, in the chosen precision."""
        reduced = self._precision is not torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._precision, enabled=reduced):
            yield


def _find_device(name: str) -> torch.device:
    """Return the device called `name`, if this machine has it."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidConfigError(f"device is {name!r}; use cpu, cuda or cuda:INDEX.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendUnavailableError(
            f"Device {name} was requested, but PyTorch sees {torch.cuda.device_count()} CUDA devices here; "
            "use --device cpu or install a CUDA build of PyTorch."
        )
    if device.type not in ("cpu", "cuda"):
        raise InvalidConfigError(f"device is {name!r}; use cpu, cuda or cuda:INDEX.")
    return device


def check_weights(config: Config, weights: Mapping[str, NDArray[Any]]) -> None:
    """Raise `ModelFileError` if weights (name to array) do not fit a configuration, before memory is taken for it."""
    try:
        # Tensors without memory: a configuration may claim any size.
        with torch.device("meta"):
            wanted = {name: tuple(tensor.shape) for name, tensor in build_network(config).state_dict().items()}
    except (RuntimeError, TypeError) as error:
        raise _misfit(error) from error
    # Files keep single numbers as arrays of one.
    found = {name: array.shape for name, array in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if (found.get(name) or (1,)) != (wanted.get(name) or (1,)) or (name in found) != (name in wanted):
            raise _misfit(f"{name} is {found.get(name)}, not {wanted.get(name)}")


def _misfit(details: object) -> ModelFileError:
    text = " ".join(str(details).split())[:300]
    return ModelFileError(f"The model's config does not match its weights ({text}); convert it again.")


def load_weights(network: Network, weights: Mapping[str, NDArray[Any]]) -> None:
    """Put `weights` (name to array) into the network.

    Raises `ModelFileError` if a name or a shape does not fit.
    """
    try:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except RuntimeError as error:
        raise _misfit(error) from error
