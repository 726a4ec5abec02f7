"""Small tensors that follow from shapes alone, made once: making them copies from the host, which a GPU waits for."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def constant(values: tuple[float, ...] | tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """Return a tensor of these numbers, of the type and on the device of `like`; not to be changed."""
    return _constant(values, like.dtype, like.device)


@functools.lru_cache(maxsize=1024)
def _constant(values: object, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Training must be able to use what inference has made first.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
