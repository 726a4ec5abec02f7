"""One viewer's connection: what it looks at, and what waits to be sent."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from taptr_ros.view.session import Session

IMAGES_AHEAD = 2
"""Images that a viewer is sent before it says that it has drawn one."""

SLOW_IMAGE = 0.25
"""Seconds from sending an image until it is drawn, beyond which the next one waits for that: it would only be older."""

WAITING_TEXTS = 256
"""Texts that may wait for a viewer; one that is further behind is gone."""

CLOSE_TIME = 1.0
"""Seconds for which a viewer is waited for when its connection is closed."""

CLOSE_TOO_MANY = 4429
"""Code with which the page is told that there are too many messages, or viewers."""


class _Look:
    """A viewer's look at one session: which of its images were sent and not drawn yet."""

    def __init__(self, session: Session, put: Callable[[_Look, bytes], None]) -> None:
        self.session = session
        self._put = put
        self._under_way: collections.deque[float] = collections.deque()
        """When each was sent. The stage's thread adds, the server's removes."""
        self._most_under_way = IMAGES_AHEAD

    def can_take(self) -> bool:
        """Return whether the viewer has drawn enough to take another image."""
        return len(self._under_way) < self._most_under_way

    def take(self, message: bytes) -> None:
        """Send an image; one that still waits is overtaken by it."""
        self._under_way.append(time.monotonic())
        self._put(self, message)

    def has_drawn(self) -> None:
        """Note that an image was drawn, or overtaken."""
        if self._under_way:
            seconds = time.monotonic() - self._under_way.popleft()
            self._most_under_way = 1 if seconds > SLOW_IMAGE else IMAGES_AHEAD
        self.session.stage.wake()


class Connection:
    """One viewer: what it looks at, and what waits to be sent."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.name = ""
        self.tasks: set[asyncio.Task[None]] = set()
        self._look: _Look | None = None
        self._loop = asyncio.get_running_loop()
        self._texts: asyncio.Queue[str] = asyncio.Queue(WAITING_TEXTS)
        self._image: bytes | None = None
        self._is_let_go = False
        self._news = asyncio.Event()
        self._said: dict[str, str] = {}

    @property
    def session(self) -> Session | None:
        """What the viewer looks at."""
        return self._look.session if self._look else None

    def look_at(self, name: str, session: Session | None) -> None:
        """Look at a session in place of another one."""
        self.leave()
        self.name = name
        if session is not None:
            self._look = _Look(session, self._take)
            session.stage.add(self._look)

    def leave(self) -> None:
        """Look at nothing any more."""
        if self._look is not None:
            self._look.session.stage.remove(self._look)
        self._look = self._image = None

    def has_drawn(self) -> None:
        """Note that the viewer has drawn an image."""
        if self._look is not None:
            self._look.has_drawn()

    def say(self, message: dict[str, Any]) -> None:
        """Send a text; a viewer that does not read them is let go."""
        self._say(json.dumps(message, separators=(",", ":")))

    def say_once(self, message: dict[str, Any]) -> None:
        """Send a text unless it says the same as the last one of its kind."""
        text = json.dumps(message, separators=(",", ":"))
        if self._said.get(message["is"]) != text:
            self._said[message["is"]] = text
            self._say(text)

    async def write(self) -> None:
        """Send what there is to send, until it is cancelled or the connection breaks."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            while True:
                await self._news.wait()
                self._news.clear()
                while not self._texts.empty():
                    await self.socket.send_str(self._texts.get_nowait())
                if self._image is not None:
                    image, self._image = self._image, None
                    await self.socket.send_bytes(image)

    async def pong(self, data: bytes) -> None:
        """Answer a ping."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.socket.pong(data)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection and say why; a viewer that does not read is waited for no longer than `CLOSE_TIME`."""
        with contextlib.suppress(ConnectionError, RuntimeError, asyncio.TimeoutError):
            await asyncio.wait_for(self.socket.close(code=code, message=reason.encode()[:120]), CLOSE_TIME)

    def _say(self, text: str) -> None:
        try:
            self._texts.put_nowait(text)
        except asyncio.QueueFull:
            if not self._is_let_go:
                self._is_let_go = True
                closing = self._loop.create_task(self.close(CLOSE_TOO_MANY, "The viewer does not read."))
                self.tasks.add(closing)
                closing.add_done_callback(self.tasks.discard)
        self._news.set()

    def _take(self, look: _Look, message: bytes) -> None:
        """Take an image from the stage's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._put, look, message)

    def _put(self, look: _Look, message: bytes) -> None:
        if look is not self._look:
            return
        if self._image is not None:
            look.has_drawn()
        self._image = message
        self._news.set()
