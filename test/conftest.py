"""Settings for all tests."""

import importlib.util
import os

# Keeps test runs on one machine apart, mostly; namespaces do it always. Processes that tests start inherit it.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)

# As the command line sets it before OpenCV is imported: tests read what is said on stderr.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

if importlib.util.find_spec("torch"):
    import torch

    # The tests' networks are tiny: more threads only wait for each other.
    torch.set_num_threads(1)
