"""What the page and its server say to each other, and the check of everything that the page says.

The page sends JSON objects as text: `do` names the command, `request` is a number that the answer repeats, and the
other keys are those of the command's class. The server sends JSON objects with the key `is`, and images as bytes:

    4 bytes   length of the JSON that follows, little endian
    JSON      the header: stamp, size, and one list for each column of the tracks
    the rest  the image as JPEG

Stamps and ids have 64 bits, more than a number of JavaScript holds, and travel as strings of digits.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from taptr_ros.errors import TaptrError
from taptr_ros.tracking.states import Tracks, TrackState

MOST_BYTES = 1 << 18
"""Bytes that a message of the page may have."""

MOST_POINTS = 4096
"""Points, or ids, in one message of the page: a person chooses fewer."""

MOST_SIDE = 64
"""Points per side of a grid that the page may ask for."""

LARGEST = 1e6
"""Coordinates of larger size are no pixels."""

MOST_CHARACTERS = 256
"""Longest string in a message of the page."""

Number = float


class ProtocolError(TaptrError, ValueError):
    """A message that the page never sends."""


@dataclasses.dataclass(frozen=True)
class Command:
    """Something that a person asks for."""


@dataclasses.dataclass(frozen=True)
class Hello(Command):
    """The first message of a viewer, with the token, empty if none is needed."""

    token: str


@dataclasses.dataclass(frozen=True)
class Ready(Command):
    """The viewer has drawn an image and can take another one."""


@dataclasses.dataclass(frozen=True)
class Choose(Command):
    """Show another session, by its name."""

    name: str


@dataclasses.dataclass(frozen=True)
class Add(Command):
    """Track points, chosen in the image with a stamp."""

    points: tuple[tuple[Number, Number], ...]
    """(x, y) in ROS pixels of the image."""
    stamp: int


@dataclasses.dataclass(frozen=True)
class AddGrid(Command):
    """Track side x side points spread over an image."""

    side: int
    stamp: int


@dataclasses.dataclass(frozen=True)
class AddBox(Command):
    """Choose points on the body in a box and track them as a group."""

    box: tuple[Number, Number, Number, Number]
    """Left, top, right and bottom in ROS pixels."""
    stamp: int


@dataclasses.dataclass(frozen=True)
class Remove(Command):
    """End tracks."""

    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Clear(Command):
    """End all tracks; the stream goes on."""


@dataclasses.dataclass(frozen=True)
class Undo(Command):
    """Bring back the tracks that `Remove` or `Clear` ended last."""


@dataclasses.dataclass(frozen=True)
class Reset(Command):
    """End all tracks and begin a new stream; a file starts again."""


@dataclasses.dataclass(frozen=True)
class Set(Command):
    """Give a live parameter of the tracker another value."""

    name: str
    value: Number


@dataclasses.dataclass(frozen=True)
class Play(Command):
    """Go on through a file."""


@dataclasses.dataclass(frozen=True)
class Pause(Command):
    """Stop at the frame that is shown."""


@dataclasses.dataclass(frozen=True)
class Step(Command):
    """Go one frame on."""


@dataclasses.dataclass(frozen=True)
class Seek(Command):
    """Show a frame that was tracked, by its number from 0."""

    frame: int


@dataclasses.dataclass(frozen=True)
class Save(Command):
    """Write what was tracked: `npz`, `csv` or `overlay`."""

    what: str


def parse(text: str) -> tuple[int, Command]:
    """Return the number and the command of a message; raise `ProtocolError` with a sentence if it is none."""
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("The message is not JSON.") from error
    if not isinstance(message, dict):
        raise ProtocolError("The message is not a JSON object.")
    name = message.pop("do", None)
    if not isinstance(name, str) or name not in _COMMANDS:
        raise ProtocolError("The message names no command.")
    request = _whole(message.pop("request", 0), "request", 2**53)
    kind, readers = _COMMANDS[name]
    if message.keys() != readers.keys():
        raise ProtocolError(f"The command {name} has the keys {', '.join(readers) or '(none)'}.")
    return request, kind(**{key: reader(message[key], key) for key, reader in readers.items()})


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _whole(value: Any, key: str, end: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < end:
        raise ProtocolError(f"{key} is not a whole number from 0 to {end - 1}.")
    return value


def _side(value: Any, key: str) -> int:
    side = _whole(value, key, MOST_SIDE + 1)
    if not side:
        raise ProtocolError(f"{key} is 0; use 1 or more.")
    return side


def _frame(value: Any, key: str) -> int:
    return _whole(value, key, 2**53)


def _digits(value: Any, key: str) -> int:
    """Read a number of 64 bits from a string of digits."""
    if not (isinstance(value, str) and 0 < len(value) <= 20 and value.isascii() and value.isdigit()):
        raise ProtocolError(f"{key} is not a string of digits.")
    return _whole(int(value), key, 2**64)


def _stamp(value: Any, key: str) -> int:
    return _whole(_digits(value, key), key, 2**63)


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ProtocolError(f"{key} is not a number.")
    return float(value) if abs(value) < 1e300 else math.copysign(1e300, value)


def _pixel(value: Any, key: str) -> float:
    number = _number(value, key)
    if abs(number) > LARGEST:
        raise ProtocolError(f"{key} has a number beyond {LARGEST:g}, which is no pixel.")
    return number


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS or not value.isprintable():
        raise ProtocolError(f"{key} is not a string of at most {MOST_CHARACTERS} characters.")
    return value


def _list(value: Any, key: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolError(f"{key} is not a list of at most {most} entries.")
    return value


def _points(value: Any, key: str) -> tuple[tuple[float, float], ...]:
    points = [_list(point, key, 2) for point in _list(value, key, MOST_POINTS)]
    if not points or any(len(point) != 2 for point in points):
        raise ProtocolError(f"{key} is not a list of pairs of numbers.")
    return tuple((_pixel(x, key), _pixel(y, key)) for x, y in points)


def _box(value: Any, key: str) -> tuple[float, float, float, float]:
    sides = [_pixel(side, key) for side in _list(value, key, 4)]
    if len(sides) != 4 or not (sides[0] < sides[2] and sides[1] < sides[3]):
        raise ProtocolError(f"{key} is not left, top, right and bottom of a box.")
    return sides[0], sides[1], sides[2], sides[3]


def _ids(value: Any, key: str) -> tuple[int, ...]:
    return tuple(_digits(entry, key) for entry in _list(value, key, MOST_POINTS))


_COMMANDS: dict[str, tuple[Callable[..., Command], Mapping[str, Callable[[Any, str], Any]]]] = {
    "hello": (Hello, {"token": _text}),
    "ready": (Ready, {}),
    "choose": (Choose, {"name": _text}),
    "add": (Add, {"points": _points, "stamp": _stamp}),
    "add_grid": (AddGrid, {"side": _side, "stamp": _stamp}),
    "add_box": (AddBox, {"box": _box, "stamp": _stamp}),
    "remove": (Remove, {"ids": _ids}),
    "clear": (Clear, {}),
    "undo": (Undo, {}),
    "reset": (Reset, {}),
    "set": (Set, {"name": _text, "value": _number}),
    "play": (Play, {}),
    "pause": (Pause, {}),
    "step": (Step, {}),
    "seek": (Seek, {"frame": _frame}),
    "save": (Save, {"what": _text}),
}
"""By name: the class of each command, and what reads each of its keys."""


def frame_message(
    jpeg: bytes,
    width: int,
    height: int,
    stamp: int,
    tracks: Tracks | None,
    *,
    number: int | None = None,
    past: Sequence[Tracks] | None = None,
) -> bytes:
    """Return an image with its tracks as the page gets it.

    `width` and `height` are those of the image in whose pixels the tracks are; the JPEG may be smaller. `tracks` is
    None for an image without tracks. `number` is that of a file's frame. `past` are the tracks of the frames before,
    oldest first, for the trails of a frame that does not follow on the one that was shown before.
    """
    header: dict[str, Any] = {"is": "frame", "stamp": str(stamp), "width": width, "height": height, "number": number}
    if tracks is not None:
        header["tracks"] = _columns(tracks)
    if past is not None:
        header["past"] = [_columns(earlier) for earlier in past]
    head = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return len(head).to_bytes(4, "little") + head + jpeg


def _columns(tracks: Tracks) -> dict[str, Any]:
    """Return the tracks that the page draws or tells of; positions to a hundredth of a pixel."""
    finite = np.asarray(np.isfinite(tracks.xy).all(axis=1))
    xy = np.where(finite[:, None], tracks.xy, 0.0).round(2)
    state = np.where(finite, tracks.state, TrackState.LOST)
    columns: dict[str, Any] = {
        "stream": tracks.stream,
        "id": list(map(str, tracks.ids.tolist())),
        "x": _short(xy[:, 0], 2),
        "y": _short(xy[:, 1], 2),
        "state": state.tolist(),
        "visibility": _short(np.nan_to_num(tracks.visibility), 3),
        "confidence": _short(np.nan_to_num(tracks.confidence), 3),
        "group": tracks.group.tolist(),
    }
    return columns


def _short(values: Any, digits: int) -> list[float]:
    return [round(value, digits) for value in values.tolist()]
