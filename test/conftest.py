"""Settings for all tests."""

import importlib.util
import os
import socket

PORT_BASE, DOMAIN_GAIN, FIRST_UNICAST = 7400, 250, 10
"""UDP ports of DDS participants: DDSI-RTPS 2.5, section 9.6.2.3."""


def unused_domain() -> int:
    """Return a ROS domain, 1 to 100, in which no process on this machine takes part."""
    for offset in range(100):
        domain = 1 + (os.getpid() + offset) % 100
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first_participant:
            try:
                first_participant.bind(("", PORT_BASE + DOMAIN_GAIN * domain + FIRST_UNICAST))
            except OSError:
                continue
        return domain
    raise RuntimeError("All ROS domains from 1 to 100 are in use on this machine; stop some of the nodes.")


# Tests hear no other program, neither on this machine nor on another. Processes that they start inherit both.
os.environ["ROS_DOMAIN_ID"] = str(unused_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

# As the command line sets it before OpenCV is imported: tests read what is said on stderr.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

if importlib.util.find_spec("torch"):
    import torch

    # The tests' networks are tiny: more threads only wait for each other.
    torch.set_num_threads(1)
