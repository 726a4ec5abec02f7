"""Settings for all tests."""

import importlib.util

if importlib.util.find_spec("torch"):
    import torch

    # The tests' networks are tiny: more threads only wait for each other.
    torch.set_num_threads(1)
