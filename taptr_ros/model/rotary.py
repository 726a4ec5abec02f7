"""VLTA's rotary embedding of time, free of PyTorch: the memory is rotated when written, the query when read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rotary_frequencies(depth: int) -> NDArray[np.float64]:
    """Return the D/2 angular frequencies of D = `depth` channels, radians per frame (spec section 5, step 1)."""
    return np.asarray(10000.0 ** (-2.0 * np.arange(depth // 2) / max(depth, 1)))


def rotary_phase(frame: int, depth: int) -> NDArray[np.float64]:
    """Return cosine and sine, [2,D/2], of a frame number times the frequencies of D = `depth` channels.

    The angles are float64: float32 would lose the phase after some thousand frames.
    """
    angle = float(frame) * rotary_frequencies(depth)
    return np.stack((np.cos(angle), np.sin(angle)))


def rotated_back(content: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
    """Rotate contents [N,D], numpy or torch, by minus a phase; returns the even channels and the odd ones, [N,D/2]."""
    even, odd = content[:, 0::2], content[:, 1::2]
    return even * cos + odd * sin, odd * cos - even * sin
