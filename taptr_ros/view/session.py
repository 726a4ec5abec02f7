"""What the server asks of whoever has images and tracks to show: a live tracker, or a file that is being tracked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from taptr_ros.errors import TaptrError
from taptr_ros.settings import Setting
from taptr_ros.view.protocol import Command
from taptr_ros.view.stage import Stage


class RefusedError(TaptrError):
    """Something that a person asked for and that cannot be done, with the sentence that says why."""


@dataclasses.dataclass(frozen=True)
class Status:
    """What the page says beside the image. Fields that are None are not known, or make no sense here."""

    kind: str
    """`live` or `file`."""
    sentence: str = ""
    """What a person must know now: why there is no image, for instance; empty if all is well."""
    model: str | None = None
    backend: str | None = None
    device: str | None = None
    precision: str | None = None
    rate: float | None = None
    """Images per second that are tracked."""
    latency_p50: float | None = None
    """Milliseconds: of a live tracker from an image's stamp to its tracks, of a file the time in the tracker."""
    latency_p95: float | None = None
    dropped: int | None = None
    """Images that were not tracked."""
    points: int | None = None
    """Points that are tracked."""
    playing: bool | None = None
    frame: int | None = None
    """Number of the frame that is shown, from 0."""
    tracked: int | None = None
    """Frames that were tracked so far."""
    frame_count: int | None = None
    """Frames that the file announces."""
    busy: str = ""
    """What takes a while now: saving, or tracking points that were added in an earlier frame."""


@dataclasses.dataclass(frozen=True)
class ParameterValue:
    """A live parameter of the tracker and its value."""

    setting: Setting
    value: float
    """True and False count as 1 and 0."""


def typed_value(setting: Setting, value: float) -> Any:
    """Return a number of the page as a value of the type that a parameter has."""
    kind = type(setting.default)
    return kind(value) if kind is float else kind(round(value))


class Session(Protocol):
    """One stream of images with its tracks. All methods are called by the server's thread and return at once."""

    stage: Stage
    """Where the session shows its images."""

    def status(self) -> Status:
        """Return what is known now."""

    def parameters(self) -> list[ParameterValue]:
        """Return the live parameters; empty while they are not known."""

    async def do(self, command: Command) -> dict[str, Any]:
        """Do what a person asks for; return what the page is told, `text` being a sentence for the person, if any.

        Raises `TaptrError` with a sentence if it cannot be done.
        """


class Sessions(Protocol):
    """The sessions that there are now."""

    def current(self) -> Mapping[str, Session]:
        """Return the sessions by their names, the one to show first in front."""

    def nothing(self) -> str:
        """Return the sentence for the page while there is no session."""
