"""Ctrl-C, SIGTERM or SIGHUP in a long command: it ends after the frame in work, so that its results can be written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupt:
    """Whether an interrupt came."""

    def __init__(self) -> None:
        self.came = False


@contextlib.contextmanager
def held_interrupt() -> Iterator[Interrupt]:
    """Note the first interrupt instead of raising `KeyboardInterrupt` wherever the program is; a second one raises.

    Raised inside a library, a `KeyboardInterrupt` may be lost. At the end of the block, the first one is raised.
    """
    interrupt = Interrupt()

    def note(_number: int, _frame: FrameType | None) -> None:
        if interrupt.came:
            raise KeyboardInterrupt
        interrupt.came = True

    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # signals go to the main thread
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    # A terminal or connection that closes; whoever starts a command with nohup wants it to go on then.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if interrupt.came:
        raise KeyboardInterrupt
