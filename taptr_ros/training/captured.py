"""A training step's passes as one CUDA graph: thousands of small operations, of which none waits for Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from taptr_ros.training.batches import Batch

Learn = Callable[[Batch], Mapping[str, Tensor]]
"""Adds a batch's gradients to the parameters; returns what is worth noting."""

WARM_PASSES = 3
"""Passes before the capture, in which libraries choose their algorithms and constants are made."""


class CapturedLearning:
    """`Learn` for batches of one shape, captured from the first of them."""

    def __init__(self, learn: Learn, network: nn.Module, batch: Batch) -> None:
        """Capture `learn`, whose gradients are those of `network`."""
        self._batch = Batch(*(part.clone() for part in _parts(batch)))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_PASSES):
                network.zero_grad(set_to_none=True)
                learn(self._batch)
        torch.cuda.current_stream().wait_stream(stream)
        # The gradients have to be made within the graph, or it would add to what is there.
        network.zero_grad(set_to_none=True)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._noted = learn(self._batch)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the gradients of a batch, in place of those before; returns what is worth noting."""
        for own, new in zip(_parts(self._batch), _parts(batch), strict=True):
            own.copy_(new)
        self._graph.replay()
        return {name: value.clone() for name, value in self._noted.items()}


def _parts(batch: Batch) -> list[Tensor]:
    return [getattr(batch, field.name) for field in dataclasses.fields(batch)]
