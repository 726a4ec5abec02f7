"""OpenCV, which everything here needs, and which may be installed without the libraries that it needs."""

from __future__ import annotations

from taptr_ros.errors import BackendUnavailableError


def require_opencv() -> None:
    """Raise `BackendUnavailableError` if OpenCV cannot be imported."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise BackendUnavailableError(
            f"OpenCV cannot be imported ({reason}); run pip install opencv-python-headless, which needs no display "
            "libraries, in place of opencv-python."
        ) from error
