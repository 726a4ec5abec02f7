"""cv_bridge, where it is installed and works: the converter that other ROS nodes use."""

from __future__ import annotations

import functools
import importlib.util
import logging
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROBE = """
import numpy, cv_bridge, types
data = numpy.arange(12, dtype=numpy.uint8)
message = types.SimpleNamespace(height=2, width=2, encoding="bgr8", is_bigendian=0, step=6, data=data.tobytes())
image = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
assert (image == data.reshape(2, 2, 3)[..., ::-1]).all(), "it converts wrongly"
"""
"""Program that ends with status 0 where cv_bridge works."""

PROBE_TIME = 60.0
"""Seconds that the program may take."""


@functools.cache
def cv_bridge() -> Any | None:
    """Return a `cv_bridge.CvBridge`, or None where there is none that works; why it does not is logged once.

    A cv_bridge that was built for another NumPy ends the process that uses it, so it is tried in another one first.
    That takes some tenths of a second, the first time.
    """
    if importlib.util.find_spec("cv_bridge") is None:
        return None
    if problem := _problem():
        logging.getLogger("taptr_ros").warning(
            "cv_bridge does not work here (%s; NumPy is %s); taptr_ros converts images by itself. Install a cv_bridge "
            "that was built for this NumPy.",
            problem,
            np.__version__,
        )
        return None
    from cv_bridge import CvBridge

    return CvBridge()


def converted(message: Any) -> NDArray[np.uint8] | None:
    """Return a sensor_msgs/Image whose sizes fit its data as uint8 [H,W,3] RGB; None if cv_bridge refuses it."""
    bridge = cv_bridge()
    if bridge is None:
        return None
    try:
        image = np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    except Exception:  # noqa: BLE001  # it raises its own error, NumPy's and OpenCV's
        return None
    return image if image.dtype == np.uint8 and image.shape == (message.height, message.width, 3) else None


def _problem() -> str | None:
    """Try cv_bridge in a process of its own; return what is wrong with it."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, timeout=PROBE_TIME
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"it ended with status {done.returncode}"
