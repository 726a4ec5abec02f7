"""The course of a batch: which recordings are handed out, and what becomes of the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taptr_ros.cli.batch.dataset import Dataset
from taptr_ros.cli.batch.files import stem
from taptr_ros.cli.batch.inputs import Input
from taptr_ros.cli.batch.progress import HEADER, Account, Progress
from taptr_ros.cli.batch.work import Cut, DoneBefore, Outcome, Task, Tracked
from taptr_ros.cli.interrupts import held_interrupt

if TYPE_CHECKING:
    from taptr_ros.cli.batch.crew import Crew, Lost


def track_all(chosen: Sequence[Input], crew: Crew, dataset: Dataset, *, quiet: bool) -> list[Account]:
    """Track all recordings that the dataset does not have yet, and return the accounts of those that failed.

    An interrupt ends it after the result in work and is raised then.
    """
    accounts = {recording.name: Account(recording) for recording in chosen}
    progress = Progress(list(accounts.values()), quiet=quiet)
    tasks = deque(Task(recording, frozenset(dataset.done(stem(recording.name)))) for recording in chosen)
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
                    progress.take(outcome.frames)
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
    if isinstance(outcome, DoneBefore):
        dataset.forget_others(stem(name), outcome.key)
        account.outcome = "done before"
        return True
    if isinstance(outcome, Cut):
        done = dataset.done(stem(name)).get(outcome.key, frozenset())
        parts = [part for part in outcome.parts if part.number not in done]
        tasks.extend(Task(task.recording, part=part, key=outcome.key) for part in parts)
        missing[name] = len(parts)
        if parts:
            return False
        dataset.forget_others(stem(name), outcome.key)
        account.outcome = "done before"
        return True
    if not isinstance(outcome, Tracked):
        first = account.outcome != "failed"
        account.outcome, account.remarks = "failed", (outcome.sentence,)
        return first
    dataset.forget_others(stem(name), outcome.key)
    dataset.add(outcome.files)
    account.take(outcome)
    missing[name] = missing.get(name, 1) - 1
    if missing[name] or account.outcome == "failed":
        return False
    account.outcome = "tracked"
    return True
