"""OpenCV, which everything here needs, and which may be installed without the libraries that it needs."""

from __future__ import annotations

from taptr_ros.errors import BackendUnavailableError


def require_opencv() -> None:
    """Raise `BackendUnavailableError` if OpenCV cannot be imported."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            f"OpenCV cannot be imported ({' '.join(str(error).split())}); run pip install opencv-python-headless, in place "
            "of opencv-python: it needs no display libraries."
        ) from error
