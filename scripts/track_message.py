#!/usr/bin/env python3
"""Writes the fields of a track into msg/TrackedPoint.msg, from the columns in taptr_ros/tracking/states.py.

scripts/track_message.py            # brings the message up to date
scripts/track_message.py --check    # changes nothing; status 1 if it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from taptr_ros.tracking.states import COLUMNS

MESSAGE = Path(__file__).resolve().parent.parent / "msg" / "TrackedPoint.msg"

KINDS = {"f4": "float32", "u1": "uint8", "u4": "uint32", "u8": "uint64"}
"""ROS's names of the types of columns."""


def main() -> int:
    old = MESSAGE.read_text()
    # The constants come before, after the last empty line the fields.
    head, _, _ = old.rstrip("\n").rpartition("\n\n")
    new = f"{head}\n\n{fields()}"
    if "--check" in sys.argv[1:]:
        if new != old:
            print(f"{MESSAGE.name} is out of date; run scripts/track_message.py.", file=sys.stderr)
        return int(new != old)
    MESSAGE.write_text(new)
    return 0


def fields() -> str:
    """Return the lines of all fields."""
    lines = [
        (f"{KINDS[column.dtype.str[1:]]} {name}", meaning)
        for column in COLUMNS
        for name, meaning in column.message.items()
    ]
    width = max(len(declaration) for declaration, _ in lines) + 4
    return "".join(f"{declaration:<{width}} # {meaning}\n" for declaration, meaning in lines)


if __name__ == "__main__":
    sys.exit(main())
