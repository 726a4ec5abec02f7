"""Off-screen OpenGL for MuJoCo: with EGL on a graphics card, with OSMesa in software."""

from __future__ import annotations

import atexit
import ctypes.util
import functools
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import BackendUnavailableError

_NO_OPENGL = "OpenGL does not start ({}); install libosmesa6 and set MUJOCO_GL=osmesa, or make scenes of another kind."


@functools.cache
def load_mujoco() -> ModuleType:
    """Import MuJoCo, and tell it how to draw unless the environment variable MUJOCO_GL does.

    Raises `BackendUnavailableError` if it is not installed or finds no OpenGL.
    """
    if "MUJOCO_GL" not in os.environ:
        software = not Path("/dev/nvidia0").exists() and ctypes.util.find_library("OSMesa")
        os.environ["MUJOCO_GL"] = "osmesa" if software else "egl"
    # Mesa in software: one thread for each process, of which training runs one per core.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        import mujoco
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise BackendUnavailableError(
            f"Simulated scenes need MuJoCo and OpenGL ({error}); install this package with its extra `training`, and "
            "libosmesa6 or libegl1."
        ) from error
    module: ModuleType = mujoco
    return module


class OffscreenRenderer:
    """Draws the scenes of one model from its camera number 0."""

    def __init__(self, model: Any, height: int, width: int) -> None:
        """Take over OpenGL: only the renderer that was made last may draw."""
        self._mujoco = load_mujoco()
        _context(os.getpid()).make_current()
        self._model, self._viewport = model, self._mujoco.MjrRect(0, 0, width, height)
        self._scene = self._mujoco.MjvScene(model, maxgeom=1000)
        try:
            self._resources = self._mujoco.MjrContext(model, self._mujoco.mjtFontScale.mjFONTSCALE_50)
        except self._mujoco.FatalError as error:
            raise BackendUnavailableError(_NO_OPENGL.format(error)) from error
        self._mujoco.mjr_setBuffer(self._mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._resources)
        self._camera = self._mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = self._mujoco.mjtCamera.mjCAMERA_FIXED, 0
        self._options = self._mujoco.MjvOption()
        self._picture = np.empty((height, width, 3), np.uint8)

    def update(self, data: Any) -> None:
        """Take the positions of all bodies from MuJoCo's `data`."""
        everything = self._mujoco.mjtCatBit.mjCAT_ALL
        self._mujoco.mjv_updateScene(self._model, data, self._options, None, self._camera, everything, self._scene)

    def draw(self) -> NDArray[np.uint8]:
        """Return uint8 [H,W,3] RGB."""
        self._mujoco.mjr_render(self._viewport, self._scene, self._resources)
        self._mujoco.mjr_readPixels(self._picture, None, self._viewport, self._resources)
        return np.ascontiguousarray(self._picture[::-1])

    def close(self) -> None:
        """Give textures and buffers back."""
        self._resources.free()


@functools.lru_cache(maxsize=1)
def _context(_: int) -> Any:
    """Return the OpenGL context of a process, by its number: one that was forked cannot use its parent's."""
    try:
        # The size is that of the window: pictures have buffers of their own.
        context = load_mujoco().GLContext(64, 64)
    except (RuntimeError, ImportError, AttributeError, OSError) as error:
        raise BackendUnavailableError(_NO_OPENGL.format(error)) from error
    # Its own destructor would come too late, when what it needs is gone.
    atexit.register(context.free)
    return context
