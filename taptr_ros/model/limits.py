"""What a model's configuration may ask for at most: a file may claim anything, and memory is taken for it."""

from __future__ import annotations

from taptr_ros import MAX_IMAGE_PIXELS
from taptr_ros.errors import InvalidConfigError

MOST = 65536
"""Most of anything that is counted."""

MOST_LAYERS = 64
"""Most layers of one kind: each is built before its weights can be found missing."""


def check_input_size(height: int, width: int) -> None:
    """Raise `InvalidConfigError` for an input size of more pixels than any image may have."""
    if height * width > MAX_IMAGE_PIXELS:
        raise InvalidConfigError(
            f"The input size {height}x{width} has more than {MAX_IMAGE_PIXELS} pixels; use a smaller one."
        )
