"""Where a session shows its images: encoded once for all who look, and never faster than each of them can take."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

Make = Callable[[], "bytes | None"]
"""Makes the message of an image, in the stage's thread; None if the image turns out to be none."""


_log = logging.getLogger(__name__)


class Viewer(Protocol):
    """Somebody who looks. Both methods are called by the stage's thread."""

    def can_take(self) -> bool:
        """Return whether the viewer has drawn enough of what it was sent to take another image."""

    def take(self, message: bytes) -> None:
        """Send the message of an image."""


class Stage:
    """Hands the newest image to every viewer that can take one.

    An image that a newer one overtakes is never made, and nothing is made while nobody looks. The session calls `show`
    from any thread and never waits. `on_viewers` is called with their number when somebody comes or goes.
    """

    def __init__(self, name: str, on_viewers: Callable[[int], None] = lambda _: None) -> None:
        self._on_viewers = on_viewers
        self._changed = threading.Condition()
        self._make: Make | None = None
        self._number = 0
        self._message: bytes | None = None
        self._shown: dict[Viewer, int] = {}
        """By viewer: the number of the newest image that it was sent."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"stage {name}", daemon=True)
        self._thread.start()

    @property
    def viewers(self) -> int:
        """How many look."""
        with self._changed:
            return len(self._shown)

    def show(self, make: Make) -> None:
        """Show an image in place of the one before; `make` is called if somebody can take it."""
        with self._changed:
            self._make, self._message = make, None
            self._number += 1
            if self._shown:
                self._changed.notify()

    def add(self, viewer: Viewer) -> None:
        """Let a viewer look, from the image on that is shown now."""
        with self._changed:
            self._shown[viewer] = 0
            count = len(self._shown)
            self._changed.notify()
        self._on_viewers(count)

    def remove(self, viewer: Viewer) -> None:
        """Show nothing more to a viewer."""
        with self._changed:
            known = self._shown.pop(viewer, None)
            count = len(self._shown)
        if known is not None:
            self._on_viewers(count)

    def wake(self) -> None:
        """Look again whether a viewer can take an image."""
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """End the thread, after the image in work."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._waiting())
                if self._stopped:
                    return
                make, number, message = self._make, self._number, self._message
            if message is None and make is not None:
                message = _made(make)
            with self._changed:
                if number == self._number:
                    # Kept for viewers that come later, and made no second time if it is none.
                    self._message = message
                    if message is None:
                        self._make = None
                waiting = self._waiting()
                for viewer in waiting:
                    self._shown[viewer] = number
            if message is not None:
                for viewer in waiting:
                    viewer.take(message)

    def _waiting(self) -> list[Viewer]:
        """Return those who can take the newest image and have not been sent it."""
        if self._make is None:
            return []
        return [viewer for viewer, shown in self._shown.items() if shown < self._number and viewer.can_take()]


def _made(make: Make) -> bytes | None:
    try:
        return make()
    except Exception:  # noqa: BLE001  # one bad image must not keep the next ones back
        _log.exception("An image cannot be shown")
        return None
