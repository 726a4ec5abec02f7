"""What a run notes down: a log of lines, and scalars and pictures for TensorBoard where that is installed."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOG = "log.txt"
"""Name of the log in the run folder."""

BOARD = "tensorboard"
"""Name of TensorBoard's folder in the run folder."""


class Journal:
    """Writes into a run folder."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / LOG).open("a")
        self._board = _board(folder / BOARD)

    def write(self, line: str) -> None:
        """Write a line to the log."""
        self._log.write(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S} {line}\n")
        self._log.flush()

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Note numbers of a step, whose names may have a group and a slash before them."""
        self.write(
            f"step {step} " + " ".join(f"{name.partition('/')[2] or name} {v:.4g}" for name, v in values.items())
        )
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Note a picture, uint8 [H,W,3] RGB."""
        if self._board is not None:
            self._board.add_image(name, image, step, dataformats="HWC")


def _board(folder: Path) -> Any:
    """Return TensorBoard's writer, or None without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
