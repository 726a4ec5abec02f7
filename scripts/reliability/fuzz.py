"""Fuzzing: every input is given in a process that is watched, so that a crash or a hang is a result, not an end.

One process takes one target through batches of cases. Before the first batch and after each, a good stream is tracked,
or good files are read, and the numbers must be the same. A case is found again by its target, seed and number.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from reliability.measures import give_back_memory, holdings, peak_memory

NODE_SHARES = {
    "images": 0.16,
    "images, serialized": 0.06,
    "query_points": 0.12,
    "query_points, serialized": 0.06,
    "query_regions, serialized": 0.02,
    "add_points": 0.08,
    "add_regions": 0.02,
    "remove_points": 0.06,
    "remove_points, the service": 0.05,
    "get_tracks": 0.05,
    "clicked_point": 0.08,
    "parameters": 0.05,
    "parameter files": 0.01,
}
COMPRESSED_SHARES = {"compressed images": 0.06, "compressed images, serialized": 0.03}
FILE_SHARES = {
    "points": 0.03,
    "CSV files": 0.03,
    "image files": 0.05,
    "bags, mcap": 0.003,
    "bags, sqlite3": 0.003,
    "bags, compressed": 0.001,
    "videos": 0.002,
    "model files": 0.015,
    "manifests": 0.015,
    "graphs": 0.0003,
    "exported models": 0.0003,
    "networks": 0.0003,
    "checkpoints": 0.003,
    "recipes": 0.003,
    "datasets, pickle": 0.015,
    "datasets, npz": 0.005,
}
DEPTH_SHARES = {"depth images": 0.01, "camera_info": 0.01, "tracks of a tracker": 0.01}
COMPRESSED_DEPTH_SHARES = {"compressed depth images": 0.01}
PAGE_SHARES = {"messages of the page": 0.01}
SHARES = {
    **NODE_SHARES,
    **COMPRESSED_SHARES,
    **DEPTH_SHARES,
    **COMPRESSED_DEPTH_SHARES,
    **FILE_SHARES,
    **PAGE_SHARES,
}
"""Share of all cases that each target gets: as many as its speed allows."""

QUICK = [
    "images",
    "query_points, serialized",
    "add_points",
    "add_regions",
    "compressed images",
    "image files",
    "bags, mcap",
    "manifests",
]
"""Targets of the short form."""

BATCHES = 10
"""Batches that the cases of one target are given in."""
LONGEST_CASE = 1.0
"""Seconds of processor time that one input may take."""
HANG = 30.0
"""Seconds without progress after which a process counts as hanging, on a machine that does other work too."""
MOST_GROWTH = 24.0
"""MiB by which resident memory may rise from the second batch to the last."""
MOST_AT_ONCE = 1024.0
"""MiB that one input may take for a moment: the largest image in a few copies."""
_JOURNAL = struct.Struct("<q")


@dataclasses.dataclass
class TargetResult:
    """What came of the cases of one target."""

    target: str
    cases: int = 0
    """Inputs that were given."""
    taken: int = 0
    """Of these, inputs that were good enough to be used; all others were refused."""
    seconds: float = 0.0
    longest: float = 0.0
    """Most processor time in seconds of one case."""
    good_streams: int = 0
    """Good streams that were tracked in between, with the same numbers each time."""
    growth: float = 0.0
    """MiB by which resident memory rose from the second batch to the last, its largest step left out."""
    more_files: int = 0
    """Open files that came to stay."""
    more_threads: int = 0
    peak: float = 0.0
    """MiB that the process held at most, beyond what it held before the first case."""
    defects: list[str] = dataclasses.field(default_factory=list)


def fuzz(cases: int, seed: int, targets: list[str], memory: float) -> dict[str, Any]:
    """Give about `cases` inputs in all; return what came of them. `memory` is each process's limit in GiB."""
    results = []
    share = sum(SHARES[target] for target in targets)
    for target in targets:
        wanted = max(round(cases * SHARES[target] / share), BATCHES)
        results.append(_watched(target, wanted, seed, memory))
        print(f"{target:32} {_summary(results[-1])}", flush=True)
    return {
        "cases": sum(result.cases for result in results),
        "defects": sum(len(result.defects) for result in results),
        "targets": [dataclasses.asdict(result) for result in results],
    }


def _summary(result: TargetResult) -> str:
    text = (
        f"{result.cases:8} cases, {result.taken:7} taken, {result.seconds:6.1f} s, longest {result.longest:5.2f} s, "
        f"{result.growth:+5.1f} MiB, peak {result.peak:4.0f} MiB, {len(result.defects)} defects"
    )
    return "\n".join([text, *result.defects])


def _watched(target: str, cases: int, seed: int, memory: float) -> TargetResult:
    """Run a target in a process of its own; what a crash or a hang leaves out is given to a new one."""
    total = TargetResult(target)
    first = 0
    with tempfile.TemporaryDirectory(prefix="taptr_fuzz_") as name:
        folder = Path(name)
        journal = folder / "journal"
        while first < cases:
            journal.write_bytes(_JOURNAL.pack(-1))
            command = [sys.executable, sys.argv[0], "fuzz-process", "--target", target, "--seed", str(seed)]
            command += ["--first", str(first), "--cases", str(cases), "--folder", name, "--memory", str(memory)]
            environment = {**os.environ, "OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603
                hung = _wait(process, journal)
            reached = _JOURNAL.unpack(journal.read_bytes())[0]
            if not hung and process.returncode == 0:
                _join(total, TargetResult(**json.loads((folder / "result.json").read_text())))
                break
            how = "hung" if hung else f"ended with status {process.returncode}"
            lines = (folder / "log").read_text(errors="replace").strip().splitlines()[-4:]
            total.defects.append(f"{target}, seed {seed}, case {reached}: {how}. {' | '.join(lines)}")
            total.cases += max(reached + 1 - first, 0)
            if reached < first or len(total.defects) > 20:
                break
            first = reached + 1
    return total


def _join(total: TargetResult, part: TargetResult) -> None:
    for name in ("cases", "taken", "seconds", "good_streams", "growth", "more_files", "more_threads", "defects"):
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.longest, total.peak = max(total.longest, part.longest), max(total.peak, part.peak)


def _wait(process: subprocess.Popen[bytes], journal: Path) -> bool:
    """Wait for a process; kill it, and return True, if it makes no progress."""
    reached, since = b"", time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)
        now = journal.read_bytes()
        if now != reached:
            reached, since = now, time.monotonic()
        elif time.monotonic() - since > HANG:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
    return False


def run_target(target: str, first: int, cases: int, seed: int, folder: Path) -> None:
    """Give the cases first..cases-1 of a target, in this process, and write the result into the folder."""
    number = list(SHARES).index(target)
    # A folder of its own: the process before this one may have left files behind.
    subject = _subject(target, Path(tempfile.mkdtemp(dir=folder)))
    give = subject.targets[target]
    result = TargetResult(target)
    expected = subject.good_stream()
    held = []
    before_all = peak_memory()
    began = time.monotonic()
    with (folder / "journal").open("r+b") as file, mmap.mmap(file.fileno(), _JOURNAL.size) as journal:
        for batch in np.array_split(np.arange(first, cases), BATCHES):
            for case in batch.tolist():
                _JOURNAL.pack_into(journal, 0, case)
                before = time.process_time()
                try:
                    result.taken += give(np.random.default_rng([seed, number, case]))
                except Exception:  # noqa: BLE001  # whatever comes is a result
                    where = " | ".join(line.strip() for line in traceback.format_exc().splitlines()[-5:])
                    _note(result, f"{target}, seed {seed}, case {case}: {where}")
                taken = time.process_time() - before
                result.longest = max(result.longest, taken)
                result.cases += 1
                if taken > LONGEST_CASE:
                    _note(result, f"{target}, seed {seed}, case {case}: took {taken:.1f} s")
            if subject.good_stream() == expected:
                result.good_streams += 1
            else:
                _note(result, f"{target}, seed {seed}, cases up to {case}: a good stream has other numbers")
            give_back_memory()
            held.append(holdings())
    result.seconds = time.monotonic() - began
    second, last = held[1], held[-1]
    # One step is no growth: libraries keep their largest buffer. The peak counts it.
    steps = np.diff([entry.memory for entry in held[1:]])
    result.growth = float(steps.sum() - max(steps.max(), 0.0))
    result.more_files, result.more_threads = last.files - second.files, last.threads - second.threads
    result.peak = peak_memory() - before_all
    if result.peak > MOST_AT_ONCE:
        _note(result, f"{target}, seed {seed}: an input took {result.peak:.0f} MiB for a moment")
    if result.growth > MOST_GROWTH:
        _note(result, f"{target}, seed {seed}: resident memory rose by {result.growth:.0f} MiB")
    if result.more_files > 0 or result.more_threads > 0:
        _note(result, f"{target}, seed {seed}: {result.more_files} files, {result.more_threads} threads came to stay")
    (folder / "result.json").write_text(json.dumps(dataclasses.asdict(result)))
    subject.close()


def _note(result: TargetResult, defect: str) -> None:
    """Keep a defect, of each kind the first ones only."""
    if len(result.defects) < 20:
        result.defects.append(defect)


def _subject(target: str, folder: Path) -> Any:
    if target in FILE_SHARES:
        from reliability.fuzz_files import FuzzedFiles

        return FuzzedFiles(folder, target)
    if target in DEPTH_SHARES or target in COMPRESSED_DEPTH_SHARES:
        from reliability.fuzz_depth import FuzzedDepth

        return FuzzedDepth(compressed=target in COMPRESSED_DEPTH_SHARES)
    if target in PAGE_SHARES:
        from reliability.fuzz_page import FuzzedPage

        return FuzzedPage(folder)
    from reliability.fuzz_nodes import FuzzedNode

    return FuzzedNode(compressed=target in COMPRESSED_SHARES)
