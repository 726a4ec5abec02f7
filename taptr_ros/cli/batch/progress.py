"""What a batch tells of its recordings: a line for each, how far it is, and a report at the end."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

from tqdm import tqdm

from taptr_ros.cli.batch.inputs import Input
from taptr_ros.cli.batch.rows import Summary

HEADER = ("recording", "location", "outcome", "frames", "points", "rows", "visible", "seconds", "remarks")
"""Columns of the report."""


OUTCOMES = ("tracked", "done before", "failed")

INTERVAL = 30.0
"""Seconds between two lines on how far it is, where stderr is no terminal."""


@dataclasses.dataclass
class Account:
    """What is known of one recording."""

    recording: Input
    outcome: str = ""
    """`tracked`, `done before` or `failed`; empty while it is neither."""
    frames: int = 0
    points: int = 0
    rows: int = 0
    visible: int = 0
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()

    def take(self, result: Summary) -> None:
        """Add a part that is tracked."""
        self.frames += result.frames
        self.points += result.points
        self.rows += result.rows
        self.visible += result.visible
        self.seconds += result.seconds
        self.remarks += result.notices

    @property
    def line(self) -> tuple[Any, ...]:
        """The line of the report."""
        place = (self.recording.name, self.recording.location, self.outcome)
        if self.outcome not in ("tracked", "done before"):
            return (*place, "", "", "", "", "", " ".join(self.remarks))
        numbers = (self.frames, self.points, self.rows, f"{self.share:.4f}", f"{self.seconds:.3f}")
        return (*place, *numbers, " ".join(self.remarks))

    @property
    def share(self) -> float:
        """Share of the rows whose point is seen."""
        return self.visible / self.rows if self.rows else 0.0

    def __str__(self) -> str:
        remarks = f" {' '.join(self.remarks)}" if self.remarks else ""
        if self.outcome == "tracked":
            return (
                f"{self.recording.name}: {self.frames} frames, {self.points} points, {self.share:.0%} visible, "
                f"{self.seconds:.1f} s.{remarks}"
            )
        return f"{self.recording.name}: {self.outcome}.{remarks}"


class Progress:
    """Says what becomes of the recordings: lines on stdout, and how far it is.

    That is a bar where stderr is a terminal, and a line now and then where it is not.
    """

    def __init__(self, accounts: list[Account], *, quiet: bool) -> None:
        self._accounts = accounts
        self._quiet = quiet
        self._started = self._said = time.perf_counter()
        self._frames = self._rows = self._finished = self._failed = 0
        self._bar = tqdm(total=len(accounts), unit="recording", disable=quiet or None, dynamic_ncols=True)

    def take(self, result: Summary) -> None:
        """Count what was tracked."""
        self._frames += result.frames
        self._rows += result.rows
        self._show()

    def finish(self, account: Account) -> None:
        """Say what became of a recording."""
        self._finished += 1
        self._failed += account.outcome == "failed"
        if not self._quiet and account.outcome != "done before":
            _say(str(account))
        self._bar.update()
        self._show()

    def close(self) -> None:
        """Take what shows how far it is from the terminal."""
        self._bar.close()

    def end(self) -> list[Account]:
        """Say what became of all, and return those that failed."""
        of = {outcome: [account for account in self._accounts if account.outcome == outcome] for outcome in OUTCOMES}
        if not self._quiet:
            seconds = time.perf_counter() - self._started
            counts = ", ".join(f"{len(accounts)} {outcome}" for outcome, accounts in of.items())
            rate = self._frames / seconds
            _say(f"{counts}; {self._frames} frames, {self._rows} rows in {seconds:.1f} s ({rate:.1f} frames/s)")
        return of["failed"]

    def _show(self) -> None:
        now = time.perf_counter()
        seconds = now - self._started
        state = f"{self._failed} failed, {self._frames / seconds:.1f} frames/s"
        self._bar.set_postfix_str(state)
        if self._bar.disable and not self._quiet and now - self._said > INTERVAL:
            self._said = now
            left = (len(self._accounts) - self._finished) / max(self._finished, 1) * seconds
            _say(f"{self._finished} of {len(self._accounts)} recordings, {state}, about {left / 60:.0f} min left")


def _say(line: str) -> None:
    """Print a line above the bar, at once: a file of it can be watched."""
    tqdm.write(line)
    sys.stdout.flush()
