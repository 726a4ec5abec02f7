"""A server of the page for tests: with a session of their own, or as the command starts it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taptr_ros.view.protocol import Command
from taptr_ros.view.session import ParameterValue, Session, Status
from taptr_ros.view.stage import Stage

TIMEOUT = 30.0


def wait_until(condition: Callable[[], Any], seconds: float = TIMEOUT) -> Any:
    """Wait until a condition is true and return it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
    return value


class Still:
    """A session that shows what a test tells it to, and notes what it is asked for."""

    def __init__(self) -> None:
        self.stage = Stage("test")
        self.asked: list[Command] = []
        self.sentence = ""

    def status(self) -> Status:
        return Status(kind="live", sentence=self.sentence)

    def parameters(self) -> list[ParameterValue]:
        return []

    async def do(self, command: Command) -> dict[str, Any]:
        self.asked.append(command)
        return {"text": "done"}


class Named:
    """Sessions by name, as the server asks for them."""

    def __init__(self, **sessions: Session) -> None:
        self.sessions: dict[str, Session] = sessions

    def current(self) -> dict[str, Session]:
        return self.sessions

    def nothing(self) -> str:
        return "There is nothing to see."


@contextlib.contextmanager
def view_process(source: Path, *arguments: str) -> Iterator[str]:
    """Run `taptr view` on a source; yield the address that it prints. It must end with status 0 and no traceback."""
    command = [sys.executable, "-m", "taptr_ros", "view", str(source), "--port", "0", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            address = re.search(r"http://\S+", line)
            assert address is not None, line + process.stdout.read()
            yield address[0]
        finally:
            process.send_signal(signal.SIGINT)
            log = process.communicate(timeout=TIMEOUT)[0]
    assert process.returncode == 0, log
    assert "Traceback" not in log, log
