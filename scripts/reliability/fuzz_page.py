"""Mutated messages of the page, given to what reads them and does what they say with a file."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import threading
from pathlib import Path
from typing import Any

import cv2

from reliability import scene
from reliability.fuzz_nodes import Give
from reliability.mutators import Generator, mutated, odd_json
from taptr_ros.cli.file_session import FileSession
from taptr_ros.errors import TaptrError
from taptr_ros.runtime.loading import load_backend
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking import TrackerConfig
from taptr_ros.view import protocol

FRAMES = 12
"""Images of the file."""
GOOD_FRAMES = 6
"""Images of the good stream."""
LONGEST_ANSWER = 30.0
"""Seconds after which something that is asked for counts as hanging."""
OF_THE_SERVER = (protocol.Hello, protocol.Ready, protocol.Choose)
"""What the server does itself."""

MESSAGES: list[dict[str, Any]] = [
    {"do": "hello", "token": "secret"},
    {"do": "ready"},
    {"do": "choose", "name": "file"},
    {"do": "add", "points": [[40.5, 30.25], [90, 60]], "stamp": "0"},
    {"do": "add", "points": [[40, 30]], "stamp": "66666667"},
    {"do": "add_grid", "side": 3, "stamp": "0"},
    {"do": "add_box", "box": [20, 20, 80, 70], "stamp": "0"},
    {"do": "remove", "ids": ["1", "2"]},
    {"do": "clear"},
    {"do": "reset"},
    {"do": "set", "name": "visible_threshold", "value": 0.4},
    {"do": "play"},
    {"do": "pause"},
    {"do": "step"},
    {"do": "seek", "frame": 2},
    {"do": "save", "what": "npz"},
]


class _Viewer:
    """Somebody who takes every image, and remembers the newest one."""

    def __init__(self) -> None:
        self.newest: dict[str, Any] = {}
        self.came = threading.Condition()

    def can_take(self) -> bool:
        return True

    def take(self, message: bytes) -> None:
        header = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
        with self.came:
            self.newest = header
            self.came.notify()


class FuzzedPage:
    """A file that is shown by a page, and what a page can send."""

    def __init__(self, folder: Path) -> None:
        images = folder / "images"
        images.mkdir()
        for frame in range(FRAMES):
            cv2.imwrite(str(images / f"{frame}.png"), scene.view(frame * 0.033)[..., ::-1])
        backend = load_backend("lucas_kanade")
        self._defaults = TrackerConfig(capacity=64, memory_slots=16)
        self._session = FileSession(open_source(images), backend, self._defaults, folder / "saved")
        self._viewer = _Viewer()
        self._session.stage.add(self._viewer)
        self._session.start()
        self._loop = asyncio.new_event_loop()
        # What is saved is saved in a thread; one of them, so that none comes to stay later.
        self._loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        self.targets: dict[str, Give] = {"messages of the page": self._give}

    def good_stream(self) -> list[float]:
        """Track four points through the first images of the file; return where they are in the last one."""
        self._do(protocol.Pause())
        for parameter in self._session.parameters():
            name = parameter.setting.name
            self._do(protocol.Set(name, getattr(self._defaults, name)))
        self._do(protocol.Reset())
        points = tuple((float(x), float(y)) for x, y in scene.points(2))
        self._do(protocol.Add(points, 0))
        for _ in range(GOOD_FRAMES - 1):
            self._do(protocol.Step())
        with self._viewer.came:
            self._viewer.came.wait_for(self._shows_the_last, LONGEST_ANSWER)
            tracks = self._viewer.newest["tracks"]
        return [float(value) for name in ("x", "y", "state", "visibility") for value in tracks[name]]

    def close(self) -> None:
        """End the session."""
        self._session.stop()
        self._loop.close()

    def _shows_the_last(self) -> bool:
        newest = self._viewer.newest
        return newest.get("number") == GOOD_FRAMES - 1 and len(newest.get("tracks", {}).get("x", ())) == 4

    def _give(self, rng: Generator) -> bool:
        message = {**MESSAGES[int(rng.integers(len(MESSAGES)))], "request": int(rng.integers(100))}
        for _ in range(int(rng.integers(3))):
            message = odd_json(message, rng)
        text = json.dumps(message)
        if rng.random() < 0.3:
            text = mutated(text.encode(), rng).decode(errors="replace")
        try:
            _, command = protocol.parse(text)
            if not isinstance(command, OF_THE_SERVER):
                self._do(command)
        except TaptrError:
            return False
        return True

    def _do(self, command: protocol.Command) -> None:
        self._loop.run_until_complete(asyncio.wait_for(self._session.do(command), LONGEST_ANSWER))
