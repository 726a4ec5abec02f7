"""The course of a batch: which recordings are handed out, and what becomes of the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taptr_ros.cli.batch.dataset import Dataset
from taptr_ros.cli.batch.files import stem
from taptr_ros.cli.batch.inputs import Input
from taptr_ros.cli.batch.pieces import Part
from taptr_ros.cli.batch.progress import HEADER, Account, Progress
from taptr_ros.cli.batch.work import Cut, DoneBefore, Failed, Outcome, Task, Tracked
from taptr_ros.cli.interrupts import held_interrupt

if TYPE_CHECKING:
    from taptr_ros.cli.batch.crew import Crew, Lost


def track_all(chosen: Sequence[Input], crew: Crew, dataset: Dataset, *, quiet: bool) -> list[Account]:
    """Track all recordings that the dataset does not have yet, and return the accounts of those that failed.

    An interrupt ends it after the result in work and is raised then.
    """
    accounts = {recording.name: Account(recording) for recording in chosen}
    progress = Progress(list(accounts.values()), quiet=quiet)
    tasks = deque(Task(recording, dataset.keys(stem(recording.name))) for recording in chosen)
    missing: dict[str, int] = {}  # parts of a recording that are to come
    try:
        with held_interrupt() as interrupt:
            for result in crew.results(tasks):
                if interrupt.came:
                    break
                if result is None:
                    continue
                task, outcome = result
                account = accounts[task.recording.name]
                if _take(account, task, outcome, tasks, missing, dataset):
                    progress.finish(account)
                if isinstance(outcome, Tracked):
                    progress.take(outcome.summary)
    finally:
        progress.close()
        dataset.write_report(HEADER, [account.line for account in accounts.values()])
    return progress.end()


def _take(
    account: Account,
    task: Task,
    outcome: Outcome | Lost,
    tasks: deque[Task],
    missing: dict[str, int],
    dataset: Dataset,
) -> bool:
    """Take what came of a task; return whether the recording is finished by it."""
    name = task.recording.name
    if account.outcome == "failed":  # by another part
        return False
    if isinstance(outcome, DoneBefore):
        dataset.forget(stem(name), but=outcome.key)
        account.take(dataset.summary(stem(name), outcome.key, Part.whole()))
        account.outcome = "done before"
        return True
    if isinstance(outcome, Cut):
        dataset.forget(stem(name), but=outcome.key)
        parts = []
        for part in outcome.parts:
            if dataset.has(stem(name), outcome.key, part):
                account.take(dataset.summary(stem(name), outcome.key, part))
            else:
                parts.append(part)
        # Before other recordings: this one has just been read, and is finished soon.
        cut = [Task(task.recording, part=part, key=outcome.key, states=outcome.states) for part in parts]
        tasks.extendleft(reversed(cut))
        missing[name] = len(parts)
        account.outcome = "" if parts else "done before"
        return not parts
    if not isinstance(outcome, Tracked):
        account.outcome, account.remarks = "failed", (outcome.sentence,)
        for other in [other for other in tasks if other.recording == task.recording]:
            tasks.remove(other)
        if isinstance(outcome, Failed) and outcome.key:
            dataset.forget(stem(name))  # rows of other parts, or of what it was before
        return True
    dataset.forget(stem(name), but=outcome.key)
    dataset.add(outcome.files)
    account.take(outcome.summary)
    missing[name] = missing.get(name, 1) - 1
    if missing[name]:
        return False
    account.outcome = "tracked"
    return True
