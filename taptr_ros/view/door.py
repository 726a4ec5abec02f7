"""The door for connections: how many may be open at once, and for how long one may ask for nothing."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

MOST_CONNECTIONS = 256
"""Connections at once: a browser opens a few for the page's files and keeps one."""

FIRST_REQUEST_TIME = 10.0
"""Seconds within which a connection must have asked for something."""


class Door:
    """Makes the protocol of each new connection, as `create_server` wants it, and closes those that are no use.

    Whoever opens connections and asks for nothing, or very slowly, keeps nobody out: when there are too many, the
    oldest one that has not asked for anything goes.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._silent: dict[web.RequestHandler, float] = {}
        """Connections that have asked for nothing yet, the oldest one first, and when they were opened."""

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        self.close_silent()
        if len(self._server.connections) >= MOST_CONNECTIONS:
            oldest = next((protocol for protocol in self._silent if protocol.transport is not None), None)
            if oldest is None:
                return _Closed()
            self._close(oldest)
        protocol: web.RequestHandler = self._server()
        self._silent[protocol] = time.monotonic()
        return protocol

    def has_asked(self, request: web.BaseRequest) -> None:
        """Note that a connection has asked for something."""
        self._silent.pop(request.protocol, None)

    def close_silent(self) -> None:
        """Close the connections that have asked for nothing for too long; to be called every now and then."""
        latest = time.monotonic() - FIRST_REQUEST_TIME
        for protocol, opened in list(self._silent.items()):
            if opened > latest:
                break
            self._close(protocol)

    def _close(self, protocol: web.RequestHandler) -> None:
        del self._silent[protocol]
        protocol.force_close()


class _Closed(asyncio.Protocol):
    """A connection that is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
