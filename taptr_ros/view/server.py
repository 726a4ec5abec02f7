"""The server of the page: files of its own, and one WebSocket for each viewer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, cast
from urllib.parse import quote

from taptr_ros.errors import BackendUnavailableError, TaptrError
from taptr_ros.view.gate import Allowance, Gate, address_to_open
from taptr_ros.view.protocol import MOST_BYTES, Choose, Hello, ProtocolError, Ready, parse
from taptr_ros.view.session import RefusedError, Sessions, Status

try:
    from aiohttp import WSCloseCode, WSMsgType, web

    from taptr_ros.view.connection import CLOSE_TOO_MANY, Connection
    from taptr_ros.view.door import Door
except ImportError as error:
    raise BackendUnavailableError(
        f"The browser view needs aiohttp ({error}); run pip install aiohttp, or sudo apt install python3-aiohttp."
    ) from error

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Types of the page's files by their endings; others are not served."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Server": "taptr_ros",
}

MOST_VIEWERS = 32
"""Viewers at once."""

MOST_STRANGERS = 32
"""Connections at once that have not said hello yet; the oldest one makes room for another."""

HELLO_TIME = 10.0
"""Seconds within which a viewer must say hello."""

WRONG_TOKEN_DELAY = 1.0
"""Seconds until a wrong token is answered."""

KEEP_ALIVE_TIME = 5.0
"""Seconds for which a connection may wait for its next request."""

CLOSE_TIME = 1.0
"""Seconds for which a viewer may go on sending when its connection is being closed."""

STATUS_PERIOD = 0.25
"""Seconds between two looks whether there is something new to say."""

PULSE_PERIOD = 4.0
"""Seconds between two signs of life, without which the page takes the connection for lost."""

BUSY_COMMANDS = 64
"""Commands of one viewer that may be in work at once."""

CLOSE_WRONG_TOKEN = 4401
"""Code with which the page is told that it needs the token."""

_log = logging.getLogger(__name__)


class ViewServer:
    """Serves the page on an address and a port, 0 for any that is free, in a thread of its own.

    Raises `BackendUnavailableError` if it cannot listen there.
    """

    def __init__(self, sessions: Sessions, gate: Gate, address: str, port: int) -> None:
        self._sessions, self._gate = sessions, gate
        self._page = _page_files()
        self._viewers: set[Connection] = set()
        self._strangers: list[web.Request] = []
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._door: Door | None = None
        self._status: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="view server", daemon=True)
        self._thread.start()
        try:
            self.port = asyncio.run_coroutine_threadsafe(self._listen(address, port), self._loop).result()
        except (OSError, UnicodeError) as error:
            self.stop()
            what = getattr(error, "strerror", None) or error
            raise BackendUnavailableError(
                f"The view cannot listen on {address}, port {port} ({what}); choose another one."
            ) from error
        self._address = address

    @property
    def url(self) -> str:
        """Where to look, with the token, if one is needed."""
        address = address_to_open(self._address)
        host = f"[{address}]" if ":" in address else address
        # What comes after # never leaves the browser: no log and no other server gets to see it.
        return f"http://{host}:{self.port}/" + (f"#token={quote(self._gate.token, '')}" if self._gate.token else "")

    def stop(self) -> None:
        """Close all connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, address: str, port: int) -> int:
        application = web.Application(middlewares=[self._guarded], client_max_size=1024)
        application.router.add_get("/socket", self._socket)
        application.router.add_get("/{name:[a-z_]*[.a-z]*}", self._file)
        # What strangers send is none of the log's business, which they could fill.
        silent = logging.getLogger(f"{__name__}.http")
        silent.setLevel(logging.CRITICAL + 1)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=silent,
            handle_signals=False,
            shutdown_timeout=2.0,
            keepalive_timeout=KEEP_ALIVE_TIME,
        )
        await self._runner.setup()
        self._door = Door(cast(web.Server, self._runner.server))
        self._listener = await self._loop.create_server(self._door, address, port)
        self._status = asyncio.create_task(self._tell())
        return int(self._listener.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        if self._status is not None:
            self._status.cancel()
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*(viewer.close(WSCloseCode.GOING_AWAY, "The server ends.") for viewer in self._viewers))
        if self._runner is not None:
            await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    # Requests.

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self._door is not None:
            self._door.has_asked(request)
        if not self._gate.knows_host(request.headers.get("Host", "")):
            return web.Response(
                status=403,
                text="This name does not stand for this machine; use its address, or start the view with the name "
                "among its host names.\n",
                headers=_HEADERS,
            )
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.reason}\n", headers=_HEADERS)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001  # as aiohttp does, but heard
            _log.exception("A request failed")
            return web.Response(status=500, text="That failed; the log of the view says why.\n", headers=_HEADERS)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"] or "index.html"
        if name not in self._page:
            raise web.HTTPNotFound
        kind, content = self._page[name]
        return web.Response(body=content, headers=_HEADERS | {"Content-Type": kind})

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        origin, host = request.headers.get("Origin", ""), request.headers.get("Host", "")
        if not self._gate.is_own_page(origin, host):
            return web.Response(status=403, text="Only the view's own page may connect.\n", headers=_HEADERS)
        # Pings are answered here, and counted, like all that a viewer sends.
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIME, max_msg_size=MOST_BYTES, heartbeat=20.0, autoping=False, compress=False
        )
        if len(self._strangers) >= MOST_STRANGERS:
            self._hang_up(self._strangers.pop(0))
        self._strangers.append(request)
        try:
            await socket.prepare(request)
            viewer = Connection(socket)
            is_admitted = await self._is_admitted(viewer)
        finally:
            if request in self._strangers:
                self._strangers.remove(request)
        if is_admitted:
            await self._serve(viewer)
        return socket

    @staticmethod
    def _hang_up(request: web.Request) -> None:
        if request.transport is not None:
            request.transport.abort()

    async def _serve(self, viewer: Connection) -> None:
        """Talk with a viewer until it goes."""
        if len(self._viewers) >= MOST_VIEWERS:
            await viewer.close(CLOSE_TOO_MANY, f"{MOST_VIEWERS} look already; that is the most.")
            return
        self._viewers.add(viewer)
        writer = asyncio.create_task(viewer.write())
        try:
            self._attend(viewer)
            await self._listen_to(viewer)
        finally:
            self._viewers.discard(viewer)
            viewer.leave()
            writer.cancel()
            for task in viewer.tasks:
                task.cancel()
            await viewer.close(WSCloseCode.OK, "")

    async def _is_admitted(self, viewer: Connection) -> bool:
        """Return whether the first message is a hello with the token; if not, say why and close."""
        try:
            first = await asyncio.wait_for(viewer.socket.receive(), HELLO_TIME)
            _, command = parse(first.data) if first.type == WSMsgType.TEXT else (0, None)
        except (asyncio.TimeoutError, TaptrError):
            command = None
        if not isinstance(command, Hello):
            await viewer.close(WSCloseCode.POLICY_VIOLATION, "A viewer says hello first.")
            return False
        if not self._gate.admits(command.token):
            await asyncio.sleep(WRONG_TOKEN_DELAY)
            await viewer.close(CLOSE_WRONG_TOKEN, "The token is missing or wrong.")
            return False
        return True

    async def _listen_to(self, viewer: Connection) -> None:
        allowance = Allowance()
        async for message in viewer.socket:
            if allowance.take():
                await viewer.close(CLOSE_TOO_MANY, "These are too many messages at once.")
                return
            if message.type == WSMsgType.PING:
                await viewer.pong(message.data)
                continue
            if message.type == WSMsgType.PONG:
                continue
            if message.type != WSMsgType.TEXT:
                viewer.say({"is": "answer", "request": 0, "refused": "The server reads text only."})
                continue
            try:
                request, command = parse(message.data)
            except ProtocolError as error:
                viewer.say({"is": "answer", "request": 0, "refused": str(error)})
                continue
            if isinstance(command, Ready):
                viewer.has_drawn()
            elif len(viewer.tasks) >= BUSY_COMMANDS:
                viewer.say({"is": "answer", "request": request, "refused": "Wait until the last commands are done."})
            else:
                task = asyncio.create_task(self._do(viewer, request, command))
                viewer.tasks.add(task)
                task.add_done_callback(viewer.tasks.discard)

    async def _do(self, viewer: Connection, request: int, command: Any) -> None:
        """Do what a viewer asks for, and answer."""
        try:
            if isinstance(command, Choose):
                self._choose(viewer, command.name)
                answer: dict[str, Any] = {}
            elif isinstance(command, Hello):
                raise RefusedError("Hello was said before.")
            elif viewer.session is None:
                raise RefusedError(self._sessions.nothing())
            else:
                answer = await viewer.session.do(command)
        except TaptrError as error:
            viewer.say({"is": "answer", "request": request, "refused": str(error)})
        except OSError as error:
            viewer.say({"is": "answer", "request": request, "refused": f"It cannot be written ({error})."})
        except Exception:  # noqa: BLE001  # one command that fails must not end the connection without an answer
            _log.exception("A command of the page failed: %s", command)
            viewer.say({"is": "answer", "request": request, "refused": "That failed; the log of the view says why."})
        else:
            viewer.say({"is": "answer", "request": request, **answer})

    # What viewers are told.

    def _choose(self, viewer: Connection, name: str) -> None:
        sessions = self._sessions.current()
        if name not in sessions:
            raise RefusedError("That tracker is gone; choose another one.")
        viewer.look_at(name, sessions[name])
        self._say_news(viewer)

    def _attend(self, viewer: Connection) -> None:
        """Show a viewer its session, or the first one, if that is gone."""
        sessions = self._sessions.current()
        session = sessions.get(viewer.name)
        if session is None:
            viewer.look_at(*next(iter(sessions.items()), ("", None)))
        elif session is not viewer.session:
            viewer.look_at(viewer.name, session)
        self._say_news(viewer)

    def _say_news(self, viewer: Connection) -> None:
        """Tell a viewer what has changed since it was last told."""
        session = viewer.session
        names = [*self._sessions.current()]
        if session is None:
            status = Status(kind="live", sentence=self._sessions.nothing())
            parameters: list[dict[str, Any]] = []
        else:
            status = session.status()
            parameters = [
                {
                    "name": entry.setting.name,
                    "description": entry.setting.description,
                    "default": entry.setting.default,
                    "limits": entry.setting.limits,
                    "flag": isinstance(entry.setting.default, bool),
                    "whole": isinstance(entry.setting.default, int),
                    "value": entry.value,
                }
                for entry in session.parameters()
            ]
        viewer.say_once({"is": "status", "sessions": names, "session": viewer.name, **dataclasses.asdict(status)})
        viewer.say_once({"is": "parameters", "parameters": parameters})

    async def _tell(self) -> None:
        pulse = time.monotonic()
        while True:
            await asyncio.sleep(STATUS_PERIOD)
            if self._door is not None:
                self._door.close_silent()
            is_pulse = time.monotonic() >= pulse
            if is_pulse:
                pulse = time.monotonic() + PULSE_PERIOD
            for viewer in list(self._viewers):
                try:
                    self._attend(viewer)
                    if is_pulse:
                        viewer.say({"is": "pulse"})
                except Exception:  # noqa: BLE001, PERF203  # the others are told all the same
                    _log.exception("The page cannot be told what has changed")


def _page_files() -> dict[str, tuple[str, bytes]]:
    """Return the type and content of each of the page's files by its name: no name from the network is ever a path."""
    folder = files("taptr_ros.view") / "page"
    found = {}
    for entry in folder.iterdir():
        kind = _KINDS.get("." + entry.name.rpartition(".")[2])
        if kind:
            found[entry.name] = kind, entry.read_bytes()
    if "index.html" not in found:
        raise BackendUnavailableError("The files of the page are missing; install the package again.")
    return found
