"""Somebody who looks at the page, without a browser: takes every image that it is sent, and counts them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from types import TracebackType
from typing import Any

import aiohttp

from taptr_ros.errors import BackendUnavailableError

CONNECTION_TIME = 30.0
"""Longest time in seconds until the page answers."""


class PageViewer:
    """Looks at the view on a port of this machine, in a thread of its own; a context manager.

    Raises `BackendUnavailableError` at the end if the view did not answer.
    """

    def __init__(self, port: int) -> None:
        self.images = 0
        """Images that came so far."""
        self._url = f"http://127.0.0.1:{port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="viewer", daemon=True)
        self._looking: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> PageViewer:
        self._thread.start()
        self._looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            concurrent.futures.wait([self._looking])
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if error is None and self._looking is not None and not self._looking.cancelled():
            self._looking.result()

    async def _look(self) -> None:
        async with aiohttp.ClientSession() as client:
            socket = await self._connected(client)
            await socket.send_json({"do": "hello", "token": ""})
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    self.images += 1
                    await socket.send_json({"do": "ready"})

    async def _connected(self, client: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse[Any]:
        """Return a connection to the page, whose server may still be starting."""
        end = self._loop.time() + CONNECTION_TIME
        while True:
            try:
                return await client.ws_connect(f"{self._url}/socket", headers={"Origin": self._url}, max_msg_size=0)
            except aiohttp.ClientError as error:
                if self._loop.time() > end:
                    raise BackendUnavailableError(f"The view at {self._url} does not answer ({error}).") from error
            await asyncio.sleep(0.2)
