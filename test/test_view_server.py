"""The server of the page, as pages and strangers reach it over the network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import string
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp, of the extra `view`, is not installed")

import aiohttp
from view_client import Named, Still, wait_until

from taptr_ros.errors import BackendUnavailableError
from taptr_ros.view import door, protocol
from taptr_ros.view import server as view_server
from taptr_ros.view.connection import CLOSE_TOO_MANY
from taptr_ros.view.gate import Gate
from taptr_ros.view.server import CLOSE_WRONG_TOKEN, MOST_STRANGERS, ViewServer

TOKEN = "correct horse battery"  # noqa: S105
FUZZED_MESSAGES = 5000


@pytest.fixture
def still() -> Iterator[Still]:
    still = Still()
    yield still
    still.stage.stop()


@pytest.fixture
def server(still: Still) -> Iterator[ViewServer]:
    server = ViewServer(Named(tracker=still), Gate("127.0.0.1", None), "127.0.0.1", 0)
    yield server
    server.stop()


@pytest.fixture
def locked(still: Still) -> Iterator[ViewServer]:
    server = ViewServer(Named(tracker=still), Gate("127.0.0.1", TOKEN), "127.0.0.1", 0)
    yield server
    server.stop()


class Page:
    """What the page does, by hand."""

    def __init__(self, client: Any, server: ViewServer, **headers: str) -> None:
        self.client, self.server = client, server
        self.headers = {"Origin": f"http://127.0.0.1:{server.port}"} | headers

    async def open(self, token: str = "") -> Any:
        url = f"http://127.0.0.1:{self.server.port}/socket"
        opened = await self.client.ws_connect(url, headers=self.headers, max_msg_size=0)
        await opened.send_json({"do": "hello", "token": token})
        return opened


def run(server: ViewServer, act: Callable[[Page], Awaitable[Any]], **headers: str) -> Any:
    async def all_of_it() -> Any:
        async with aiohttp.ClientSession() as client:
            return await act(Page(client, server, **headers))

    return asyncio.run(asyncio.wait_for(all_of_it(), 60.0))


async def receive(opened: Any, kind: str) -> dict[str, Any]:
    """Return the next text of a kind."""
    while True:
        message = await opened.receive(timeout=20.0)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type == aiohttp.WSMsgType.TEXT:
            text: dict[str, Any] = json.loads(message.data)
            if text["is"] == kind:
                return text


async def close_code(opened: Any) -> int:
    while (message := await opened.receive(timeout=20.0)).type != aiohttp.WSMsgType.CLOSE:
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
    return int(message.data)


def test_the_page_is_served_with_its_own_files_only(server: ViewServer) -> None:
    async def act(page: Page) -> None:
        async def get(path: str) -> Any:
            return await page.client.get(f"http://127.0.0.1:{server.port}{path}")

        index = await get("/")
        text = await index.text()
        assert index.status == 200
        assert "<!doctype html>" in text
        policy = index.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        for name, kind in (("main.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")):
            found = await get(f"/{name}")
            assert (found.status, found.headers["Content-Type"].partition(";")[0]) == (200, kind)
            assert found.headers["X-Content-Type-Options"] == "nosniff"
            body = await found.text()
            assert "http://" not in body.replace("http://www.w3.org/2000/svg", "")
            assert "https://" not in body
        for name in ("/server.py", "/../server.py", "/%2e%2e/server.py", "/page/main.js", "/main.js/", "/__init__.py"):
            assert (await get(name)).status == 404, name
        assert (await page.client.post(f"http://127.0.0.1:{server.port}/", data=b"x")).status == 405

    run(server, act)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "evil.example@127.0.0.1", "127.0.0.1/evil.example", ""]
)
def test_another_name_for_this_machine_is_refused(server: ViewServer, host: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b" 403 " in answer.partition(b"\r\n")[0] or b" 400 " in answer.partition(b"\r\n")[0]
    assert b"doctype" not in answer


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:1"])
def test_another_page_cannot_connect(server: ViewServer, origin: str) -> None:
    async def act(page: Page) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await page.open()
        return int(error.value.status)

    assert run(server, act, Origin=origin) == 403


def test_commands_reach_the_session_and_are_answered(server: ViewServer, still: Still) -> None:
    async def act(page: Page) -> None:
        opened = await page.open()
        status = await receive(opened, "status")
        assert (status["sessions"], status["session"], status["kind"]) == (["tracker"], "tracker", "live")
        await opened.send_json({"do": "clear", "request": 7})
        assert await receive(opened, "answer") == {"is": "answer", "request": 7, "text": "done"}
        await opened.send_str("{}")
        assert "names no command" in (await receive(opened, "answer"))["refused"]
        await opened.send_bytes(b"\0")
        assert "text only" in (await receive(opened, "answer"))["refused"]
        await opened.send_json({"do": "choose", "name": "other", "request": 8})
        assert "gone" in (await receive(opened, "answer"))["refused"]
        still.sentence = "Look out."
        while (await receive(opened, "status"))["sentence"] != "Look out.":
            pass

    run(server, act)
    assert still.asked == [protocol.Clear()]
    wait_until(lambda: still.stage.viewers == 0)


def test_images_come_as_fast_as_the_viewer_draws(server: ViewServer, still: Still) -> None:
    async def act(page: Page) -> None:
        opened = await page.open()
        while not still.stage.viewers:
            await asyncio.sleep(0.01)
        made: list[int] = []

        def show(number: int) -> None:
            still.stage.show(lambda: made.append(number) or b"%d" % number)  # type: ignore[func-returns-value]

        got = []
        for number in range(20):
            show(number)
            while len(made) < min(number + 1, 2):
                await asyncio.sleep(0.01)
        while len(got) < 2:
            message = await opened.receive(timeout=20.0)
            if message.type == aiohttp.WSMsgType.BINARY:
                got.append(int(message.data))
        assert got == [0, 1]  # so many may be on their way
        assert made == [0, 1]  # and no others were encoded

        async def draw_and_get() -> int:
            await opened.send_json({"do": "ready"})
            while (message := await opened.receive(timeout=20.0)).type != aiohttp.WSMsgType.BINARY:
                pass
            return int(message.data)

        # That took long: from now on an image waits until the one before it is drawn, and is the newest one then.
        await opened.send_json({"do": "ready"})
        assert await draw_and_get() == 19
        await asyncio.sleep(0.05)
        show(20)
        show(21)
        assert await draw_and_get() == 21
        assert made == [0, 1, 19, 21]
        # That was fast: two may be on their way again.
        await opened.send_json({"do": "ready"})
        for number in (22, 23):
            show(number)
            while (message := await opened.receive(timeout=20.0)).type != aiohttp.WSMsgType.BINARY:
                pass
            assert int(message.data) == number

    run(server, act)


def test_a_viewer_that_does_not_read_holds_up_nobody(still: Still) -> None:
    """The server ends although an image is on its way to it."""
    server = ViewServer(Named(tracker=still), Gate("127.0.0.1", None), "127.0.0.1", 0)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(
            f"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nOrigin: http://127.0.0.1:{server.port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert deaf.recv(4096).startswith(b"HTTP/1.1 101 ")
        hello = b'{"do":"hello","token":""}'
        deaf.sendall(bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello)  # a text, masked with zeros
        wait_until(lambda: still.stage.viewers == 1)
        still.stage.show(lambda: bytes(20_000_000))
        time.sleep(0.5)
        began = time.monotonic()
        server.stop()
    assert time.monotonic() - began < 15.0


@pytest.mark.parametrize("address", ["a..b", "a" * 64 + ".example"])
def test_an_address_that_is_none_is_refused(still: Still, address: str) -> None:
    with pytest.raises(BackendUnavailableError, match="cannot listen on"):
        ViewServer(Named(tracker=still), Gate(address, TOKEN), address, 0)
    assert "view server" not in {thread.name for thread in threading.enumerate()}


def test_a_viewer_can_choose_another_session(still: Still) -> None:
    other = Still()
    server = ViewServer(Named(first=still, second=other), Gate("127.0.0.1", None), "127.0.0.1", 0)

    async def act(page: Page) -> None:
        opened = await page.open()
        assert (await receive(opened, "status"))["session"] == "first"
        await opened.send_json({"do": "choose", "name": "second", "request": 1})
        assert (await receive(opened, "status"))["session"] == "second"
        assert (still.stage.viewers, other.stage.viewers) == (0, 1)
        await opened.send_json({"do": "clear", "request": 2})
        await receive(opened, "answer")

    try:
        run(server, act)
        wait_until(lambda: other.asked == [protocol.Clear()])
        assert still.asked == []
    finally:
        server.stop()
        other.stage.stop()


def test_without_a_session_the_page_says_so() -> None:
    sessions = Named()
    server = ViewServer(sessions, Gate("127.0.0.1", None), "127.0.0.1", 0)
    still = Still()

    async def act(page: Page) -> None:
        opened = await page.open()
        assert (await receive(opened, "status"))["sentence"] == "There is nothing to see."
        await opened.send_json({"do": "clear", "request": 1})
        assert (await receive(opened, "answer"))["refused"] == "There is nothing to see."
        sessions.sessions = {"tracker": still}
        while (await receive(opened, "status"))["session"] != "tracker":
            pass
        sessions.sessions = {}
        while (await receive(opened, "status"))["session"]:
            pass

    try:
        run(server, act)
    finally:
        server.stop()
        still.stage.stop()


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_a_wrong_token_shows_nothing(locked: ViewServer, still: Still, token: str) -> None:
    async def act(page: Page) -> None:
        opened = await page.open(token)
        message = await opened.receive(timeout=20.0)  # nothing comes before the close
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, CLOSE_WRONG_TOKEN)

    run(locked, act)
    assert still.stage.viewers == 0


def test_the_token_opens(locked: ViewServer) -> None:
    async def act(page: Page) -> None:
        assert (await receive(await page.open(TOKEN), "status"))["session"] == "tracker"

    run(locked, act)
    assert locked.url.endswith("#token=correct%20horse%20battery")


def test_without_hello_nothing_is_shown(locked: ViewServer, still: Still) -> None:
    async def act(page: Page) -> int:
        opened = await page.client.ws_connect(f"http://127.0.0.1:{locked.port}/socket", headers=page.headers)
        await opened.send_json({"do": "clear"})
        return await close_code(opened)

    assert run(locked, act) == aiohttp.WSCloseCode.POLICY_VIOLATION
    assert still.asked == []


def test_too_large_and_too_many_messages_end_a_connection(server: ViewServer) -> None:
    async def large(page: Page) -> int:
        opened = await page.open()
        await opened.send_str(" " * (protocol.MOST_BYTES + 1))
        return await close_code(opened)

    async def many(page: Page) -> int:
        opened = await page.open()
        for _ in range(2000):
            await opened.send_str('{"do":"ready"}')
        return await close_code(opened)

    assert run(server, large) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert run(server, many) == CLOSE_TOO_MANY


def test_pings_are_counted_like_messages(server: ViewServer) -> None:
    async def flood(page: Page) -> int:
        opened = await page.open()
        await opened.ping(b"there?")
        assert (await receive(opened, "status"))["session"] == "tracker"
        for _ in range(2000):
            await opened.ping()
        return await close_code(opened)

    async def instead_of_hello(page: Page) -> int:
        opened = await page.client.ws_connect(f"http://127.0.0.1:{server.port}/socket", headers=page.headers)
        await opened.ping()
        return await close_code(opened)

    assert run(server, flood) == CLOSE_TOO_MANY
    assert run(server, instead_of_hello) == aiohttp.WSCloseCode.POLICY_VIOLATION


def test_whoever_says_nothing_keeps_nobody_out(server: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(door, "FIRST_REQUEST_TIME", 2.0)
    strangers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    try:
        for stranger in strangers:
            with contextlib.suppress(ConnectionError):
                stranger.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        run(server, _is_alive)
        for stranger in strangers:
            stranger.settimeout(10.0)
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(100) == b""  # closed, without an answer
    finally:
        for stranger in strangers:
            stranger.close()


def test_whoever_says_no_hello_keeps_nobody_out(locked: ViewServer) -> None:
    async def act(page: Page) -> None:
        url = f"http://127.0.0.1:{locked.port}/socket"
        strangers = [await page.client.ws_connect(url, headers=page.headers) for _ in range(MOST_STRANGERS + 5)]
        viewer = await page.open(TOKEN)
        assert (await receive(viewer, "status"))["session"] == "tracker"
        gone = [(await stranger.receive(timeout=20.0)).type for stranger in strangers[:6]]
        assert aiohttp.WSMsgType.TEXT not in gone
        await strangers[-1].send_json({"do": "hello", "token": TOKEN})
        assert (await receive(strangers[-1], "status"))["session"] == "tracker"

    run(locked, act)


def test_so_many_can_look_and_no_more(server: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_server, "MOST_VIEWERS", 2)

    async def act(page: Page) -> int:
        present = [await page.open() for _ in range(2)]
        for viewer in present:
            await receive(viewer, "status")
        return await close_code(await page.open())

    assert run(server, act) == CLOSE_TOO_MANY


def test_there_is_a_sign_of_life_while_nothing_happens(server: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_server, "PULSE_PERIOD", 0.3)

    async def act(page: Page) -> None:
        opened = await page.open()
        for _ in range(3):
            assert await receive(opened, "pulse") == {"is": "pulse"}

    run(server, act)


def test_a_port_in_use_is_said(server: ViewServer, still: Still) -> None:
    with pytest.raises(BackendUnavailableError, match=f"port {server.port}"):
        ViewServer(Named(tracker=still), Gate("127.0.0.1", None), "127.0.0.1", server.port)


def rubbish(random_: random.Random) -> str | bytes:
    """A message that the page would not send: random, or a good one with something wrong in it."""
    good: list[dict[str, Any]] = [
        {"do": "add", "points": [[1, 2]], "stamp": "3", "request": 1},
        {"do": "add_grid", "side": 4, "stamp": "3"},
        {"do": "add_box", "box": [0, 0, 9, 9], "stamp": "3"},
        {"do": "remove", "ids": ["1", "2"]},
        {"do": "set", "name": "lost_after", "value": 3},
        {"do": "seek", "frame": 3},
        {"do": "save", "what": "npz"},
        {"do": "choose", "name": "tracker"},
        {"do": "hello", "token": "x"},
        {"do": "play"},
    ]
    values: list[Any] = [
        None,
        True,
        -1,
        2**70,
        1e308,
        "",
        "\0",
        "../../etc/passwd",
        [],
        {},
        [[]],
        [[1, 2, 3]],
        "9" * 40,
    ]
    kind = random_.randrange(5)
    if kind == 0:
        return random_.randbytes(random_.randrange(200))
    if kind == 1:
        return "".join(random_.choices(string.printable + "\u2028\U0001f600\x7f", k=random_.randrange(200)))
    message = dict(random_.choice(good))
    if kind == 2:
        message[random_.choice([*message, "more"])] = random_.choice(values)
    elif kind == 3:
        message.pop(random_.choice([*message]))
    text = json.dumps(message)
    if kind == 4:
        place = random_.randrange(len(text))
        text = text[:place] + random_.choice(['"', "[", "{", "}", "NaN", "1e999", "\\ud800", ""]) + text[place + 1 :]
    return text


def test_rubbish_by_the_thousand_changes_nothing(server: ViewServer, still: Still) -> None:
    random_ = random.Random(15)

    async def act(page: Page) -> int:
        sent = 0
        while sent < FUZZED_MESSAGES:
            opened = await page.open()
            for _ in range(200):  # fewer than would end the connection for their number
                message = rubbish(random_)
                await (opened.send_bytes(message) if isinstance(message, bytes) else opened.send_str(message))
                sent += 1
            await opened.close()
        return sent

    assert run(server, act) >= FUZZED_MESSAGES
    # What was no rubbish came through, and only in the form that was checked.
    for command in still.asked:
        assert isinstance(command, protocol.Command)
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(random_.randbytes(random_.randrange(1, 300)))
    for line in (
        "GET / HTTP/1.1\r\nHost: " + "a" * 10_000,
        "GET /" + "a" * 10_000,
        "\r\n" * 100,
        "GET /socket HTTP/1.1",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(line.encode() + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5.0)
            connection.recv(100)
    began = time.monotonic()
    run(server, _is_alive)
    assert time.monotonic() - began < 5.0
    wait_until(lambda: still.stage.viewers == 0)


async def _is_alive(page: Page) -> None:
    opened = await page.open()
    assert (await receive(opened, "status"))["session"] == "tracker"
