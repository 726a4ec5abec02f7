"""Who gets in: the token, the names under which the server may be called, and how much a viewer may say."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import secrets
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from taptr_ros.errors import InvalidConfigError

SHORTEST_TOKEN = 12
"""Characters that a token of one's own must have."""

MESSAGES_PER_SECOND = 200.0
"""Messages that a viewer may send in the long run: an answer to every image, and a person's commands."""

BURST = 400.0
"""Messages that a viewer may send at once."""


def is_loopback(address: str) -> bool:
    """Return whether an address to listen on can be reached from this machine only."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def address_to_open(address: str) -> str:
    """Return what to open in a browser for an address to listen on; for all addresses, one that others can reach."""
    try:
        parsed = ipaddress.ip_address(address or "0.0.0.0")  # noqa: S104
    except ValueError:
        return address
    if not parsed.is_unspecified:
        return address
    is_ipv6 = parsed.version == 6
    family, elsewhere = (socket.AF_INET6, "2001:db8::1") if is_ipv6 else (socket.AF_INET, "192.0.2.1")
    # The address from which this machine would send to others. Nothing is sent.
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((elsewhere, 9))
        return str(probe.getsockname()[0])
    return socket.gethostname()


def read_token(path: str) -> str:
    """Return the token in a file, its first line; raise `InvalidConfigError` if there is none to use."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfigError(f"The token file {path} cannot be read ({error}); name a text file.") from error
    token = lines[0].strip() if lines else ""
    if len(token) < SHORTEST_TOKEN or not token.isprintable():
        raise InvalidConfigError(
            f"The token file {path} has no token of at least {SHORTEST_TOKEN} characters in its first line; make one "
            "with: openssl rand -hex 16"
        )
    return token


class Gate:
    """Decides who may see and steer.

    On a loopback address everybody on this machine may, unless a token is given; on any other address whoever has the
    token: the one given, or a new one. `names` are further names under which browsers may call the server.
    """

    def __init__(self, address: str, token: str | None, names: Iterable[str] = ()) -> None:
        self.token = token or (None if is_loopback(address) else secrets.token_urlsafe(18))
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own}.local", *(name.lower() for name in names if name)}

    def admits(self, token: str) -> bool:
        """Return whether this is the token, or none is needed; takes the same time for every wrong one."""
        return self.token is None or hmac.compare_digest(self.token.encode(), token.encode("utf-8", "replace"))

    def knows_host(self, host: str) -> bool:
        """Return whether a Host header names this server.

        Another page can make a browser take a name of its own for this machine's address, but neither an address nor
        one of the names that stand for this machine.
        """
        try:
            address = urlsplit(f"//{host}")
            name = address.hostname or ""
        except ValueError:
            return False
        if "@" in host or address.netloc != host:  # more than a name and a port
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def is_own_page(self, origin: str, host: str) -> bool:
        """Return whether an Origin header names a page of the server that the Host header names."""
        scheme, separator, rest = origin.partition("://")
        return bool(separator) and scheme in ("http", "https") and rest.lower() == host.lower() and rest != ""


class Allowance:
    """How many messages a viewer may still send: so many per second, and a number at once."""

    def __init__(self) -> None:
        self._left = BURST
        self._since = time.monotonic()

    def take(self) -> bool:
        """Count a message; return whether it was one too many."""
        now = time.monotonic()
        self._left = min(BURST, self._left + MESSAGES_PER_SECOND * (now - self._since)) - 1.0
        self._since = now
        return self._left < 0.0
