"""Where image_transport puts what belongs to a topic of images."""

from __future__ import annotations

TRANSPORTS = ("compressedDepth", "compressed")
"""What image_transport appends to the topic of an image for its compressed forms."""


def camera_info_topic(images: str) -> str:
    """Return the topic of the CameraInfo of a topic of images: `camera_info` beside it, as image_transport has it."""
    base = images
    for transport in TRANSPORTS:
        base = base.removesuffix(f"/{transport}")
    return f"{base.rpartition('/')[0]}/camera_info" if "/" in base else "camera_info"
