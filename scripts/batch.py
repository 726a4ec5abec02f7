#!/usr/bin/env python3
"""Show that `taptr batch` loses and doubles nothing, and measure what it costs.

    python scripts/batch.py cluster    # a node and the command itself are killed; the rows are those of taptr track
    python scripts/batch.py kills      # processes of all kinds are killed at random moments, and every run goes on
    python scripts/batch.py times      # time per recording against a loop without Ray, and speed-up on two cores
    python scripts/batch.py memory     # memory of a worker over many recordings

Each prints JSON. The cluster is one of two nodes on this machine, of one core each.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported

import ray
from ray.cluster_utils import Cluster

from taptr_ros.cli import main as taptr
from taptr_ros.cli.batch.crew import Crew, connected
from taptr_ros.cli.batch.dataset import Dataset
from taptr_ros.cli.batch.driver import track_all
from taptr_ros.cli.batch.inputs import Input, recordings
from taptr_ros.cli.batch.model import Model, Share
from taptr_ros.cli.batch.work import Outcome, Plan, Task, Tracked, TrackingWorker
from taptr_ros.runtime.loading import model_checksum
from taptr_ros.tracking.config import TrackerConfig

HEIGHT, WIDTH = 120, 160
LONG = 12
"""Recordings of many frames."""
PATIENCE = 300.0
"""Seconds after which a run that makes no progress is given up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASURED)
    parser.add_argument("--recordings", type=int, help="how many (default: 60, 12, 200, 500)")
    parser.add_argument("--frames", type=int, help="of each (default: 40, 40, 120, 10)")
    parser.add_argument("--kills", type=int, default=40, help="how many")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no new dataset is begun for kills")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and kinds of kills")
    parser.add_argument("--repeats", type=int, default=3, help="of a time, of which the median counts")
    parser.add_argument("--model", default="lucas_kanade")
    parser.add_argument("--grid", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taptr_batch_") as folder:
        print(json.dumps(MEASURED[arguments.what](arguments, Path(folder)), indent=1))


def cluster(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill a node when a third is done and the command when two thirds are, start it again, and compare all rows."""
    count = arguments.recordings or 60
    videos = write_videos(folder / "videos", count, arguments.frames or 40)
    out = folder / "out"
    common = ["--grid", str(arguments.grid), "--model", arguments.model, "--threads", "1"]
    machines = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20}, connect=False
    )
    second = machines.add_node(num_cpus=1, object_store_memory=100 << 20)
    machines.wait_for_nodes()
    command = [sys.executable, "-m", "taptr_ros", "batch", str(folder / "videos" / "*.avi"), *common]
    command += ["--out", str(out), "--address", machines.address]
    try:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as first:  # noqa: S603
            wait_for(lambda: done(out) >= count // 3, first)
            machines.remove_node(second, allow_graceful=False)
            at_node = done(out)
            wait_for(lambda: done(out) >= 2 * count // 3, first)
            os.kill(first.pid, signal.SIGKILL)
        at_command = done(out)
        again = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    finally:
        machines.shutdown()
    differences = compare(out, videos, common, folder)
    return {
        "recordings": count,
        "done when the node was killed": at_node,
        "done when the command was killed": at_command,
        "the second run": again.stdout.strip().splitlines()[-1],
        "rows": pq.read_table(out / "tracks").num_rows,
        "recordings whose rows are not those of taptr track": differences,
    }


def kills(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill processes at random moments, start the command again each time, and compare with a run that was left alone.

    Every other dataset has pieces and npz files too. A dataset that is complete is compared, and a new one begun.
    """
    count = arguments.recordings or 12
    write_videos(folder / "videos", count, arguments.frames or 40)
    common = ["--grid", str(arguments.grid), "--model", arguments.model, "--threads", "1"]
    plans: tuple[list[str], ...] = ([], ["--every", "0.5", "--npz"])
    commands, wholes, durations = [], [], []
    for number, options in enumerate(plans):
        command = [sys.executable, "-m", "taptr_ros", "batch", str(folder / "videos" / "*.avi"), *common, *options]
        commands.append(command)
        started = time.monotonic()
        subprocess.run([*command, "--out", str(folder / f"whole{number}")], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        durations.append(time.monotonic() - started)
        wholes.append(content(folder / f"whole{number}"))
    generator = np.random.default_rng(arguments.seed)
    killed = dict.fromkeys(VICTIMS, 0)
    statuses: dict[str, int] = {}
    wrong: list[str] = []
    datasets = left = 0
    end = time.monotonic() + 60 * arguments.minutes
    while sum(killed.values()) < arguments.kills and time.monotonic() < end:
        out, which = folder / f"out{datasets}", datasets % len(plans)
        while True:
            kind = str(generator.choice(list(VICTIMS)))
            with subprocess.Popen([*commands[which], "--out", str(out)], stdout=subprocess.DEVNULL) as process:  # noqa: S603
                ours = victim = None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(generator.uniform(0.3, 1.1) * durations[which])
                if process.poll() is None and (victim := chosen_victim(process.pid, kind)):
                    ours = descendants(process.pid)
                    os.kill(victim, signal.SIGKILL)
                    killed[kind] += 1
                status = process.wait(PATIENCE)
            ended = f"{kind if victim else 'nothing'}: {status}"
            statuses[ended] = statuses.get(ended, 0) + 1
            time.sleep(2.0)
            left += sum(Path(f"/proc/{process}/exe").exists() for process in ours or ())
            if status == 0:
                break
        datasets += 1
        if content(out) != wholes[which]:
            wrong.append(f"{out.name} {common + plans[which]}")
    return {
        "killed": killed,
        "how the commands ended": statuses,
        "datasets": datasets,
        "datasets that differ": wrong,
        "processes left": left,
    }


VICTIMS = {"command": "", "worker": "ray::", "raylet": "raylet/raylet", "control": "gcs_server"}
"""What is killed, and what its command line has."""


def chosen_victim(command: int, kind: str) -> int | None:
    """Return a process of a kind that descends from the command, or is it; None if there is none yet."""
    if kind == "command":
        return command
    for process in descendants(command):
        with contextlib.suppress(OSError):
            if VICTIMS[kind] in Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")[:200]:
                return process
    return None


def content(out: Path) -> dict[str, Any]:
    """Return the rows of a dataset in order, and the names of all its files."""
    rows = sorted(map(repr, pq.read_table(out / "tracks").to_pylist()))
    return {"rows": rows, "files": sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))}


def compare(out: Path, videos: list[Path], common: list[str], folder: Path) -> list[str]:
    """Return the names of the videos whose rows are not, to the bit and each once, those of `taptr track`."""
    table = pq.read_table(out / "tracks")
    names = np.array(table["recording"].to_pylist(), str)
    columns = {name: np.array(table[name]) for name in table.column_names}
    wrong = sorted(set(names.tolist()) - {video.name for video in videos})
    for video in videos:
        taptr(["track", str(video), *common, "--quiet", "--overwrite", "--out", str(folder / "alone.npz")])
        own = {name: column[names == video.name] for name, column in columns.items()}
        with np.load(folder / "alone.npz") as alone:
            order = np.lexsort((own["id"], own["frame"]))
            same = len(order) == alone["state"].size
            expected = {"x": alone["xy"][..., 0], "y": alone["xy"][..., 1]}
            expected |= {name: alone[name] for name in ("visibility", "confidence", "state")}
            same = same and all(
                np.array_equal(own[name][order], values.reshape(-1)) for name, values in expected.items()
            )
            same = same and np.array_equal(own["stamp"][order], np.repeat(alone["stamps"], len(alone["ids"])))
        if not same:
            wrong.append(video.name)
    return wrong


def times(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure what Ray adds to a recording, with recordings of one frame, and the speed-up with longer ones.

    Processor time is that of this process and of all that Ray starts: on a machine that does something else too, it
    tells more than the time that passes.
    """
    count = arguments.recordings or 200
    short = recordings([str(video) for video in write_videos(folder / "short", count, 1)], 1)
    long = recordings([str(video) for video in write_videos(folder / "long", LONG, arguments.frames or 120)], 1)
    plan = plan_of(arguments)
    found: dict[str, list[tuple[float, float]]] = {}
    for repeat in range(arguments.repeats):
        for name, chosen in (("short", short), ("long", long)):
            found.setdefault(f"{name}, loop", []).append(in_a_loop(chosen, plan, folder / f"{name}{repeat}"))
            for workers in (1, 2):
                out = folder / f"{name}{repeat}{workers}"
                found.setdefault(f"{name}, {workers} workers", []).append(on_ray(chosen, plan, out, workers))
    passed, used = ({name: statistics.median(t[i] for t in all_) for name, all_ in found.items()} for i in (0, 1))
    return {
        "recordings": {"short": count, "long": LONG},
        "seconds passed": {name: [round(time_, 3) for time_, _ in all_] for name, all_ in found.items()},
        "seconds of processors": {name: [round(time_, 3) for _, time_ in all_] for name, all_ in found.items()},
        "milliseconds that Ray adds to a recording": 1e3 * (passed["short, 1 workers"] - passed["short, loop"]) / count,
        "of processors": 1e3 * (used["short, 1 workers"] - used["short, loop"]) / count,
        "speed-up with one worker and with two": [
            round(passed["long, loop"] / passed[f"long, {workers} workers"], 2) for workers in (1, 2)
        ],
        "recordings of one frame per second with two workers": count / passed["short, 2 workers"],
    }


def on_ray(chosen: list[Input], plan: Plan, out: Path, workers: int) -> tuple[float, float]:
    """Return the seconds that pass, and those of processors, from when the workers are ready."""
    with connected(None):
        crew = ReadyCrew(functools.partial(TrackingWorker, plan), Share(1, 0, 0), most=workers, is_alone=True)
        crew.wait()
        with Dataset(out, {}, ()) as dataset:
            started, used = time.perf_counter(), processor_seconds()
            track_all(chosen, crew, dataset, quiet=True)
            return time.perf_counter() - started, processor_seconds() - used


def processor_seconds() -> float:
    """Return the processor time so far of this process and of those that descend from it and are alive."""
    ticks = descendants(os.getpid())
    return sum(ticks.values()) / os.sysconf("SC_CLK_TCK")


def descendants(ancestor: int) -> dict[int, int]:
    """Return the processor time, in ticks of the clock, of a process and of all living ones that descend from it."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            process = int(path.parent.name)
            parents[process], ticks[process] = int(fields[1]), int(fields[11]) + int(fields[12])

    def is_ours(process: int) -> bool:
        return process == ancestor or (process in parents and is_ours(parents[process]))

    return {process: time_ for process, time_ in ticks.items() if is_ours(process)}


class ReadyCrew(Crew):
    """A crew whose workers are ready before the time is taken."""

    def wait(self) -> None:
        self._grow(1 << 20)
        while self._loading:
            (reference,), _ = ray.wait(list(self._loading), num_returns=1)
            self._loaded(reference)


def in_a_loop(chosen: list[Input], plan: Plan, out: Path) -> tuple[float, float]:
    """Return the seconds, passed and of processors, that the same work takes in this process, without Ray."""
    worker = TrackingWorker(plan)
    assert not worker.load()
    with Dataset(out, {}, ()) as dataset:
        started, used = time.perf_counter(), processor_seconds()
        for recording in chosen:
            outcome = worker.work(Task(recording))
            assert isinstance(outcome, Tracked), outcome
            dataset.add(outcome.files)
        return time.perf_counter() - started, processor_seconds() - used


def memory(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Note the memory of one worker after each of many recordings."""
    count = arguments.recordings or 500
    chosen = recordings([str(video) for video in write_videos(folder / "v", count, arguments.frames or 10)], 1)
    plan = plan_of(arguments)
    notes = folder / "memory.csv"

    class NotingWorker(TrackingWorker):
        def work(self, task: Task) -> Outcome:
            outcome = super().work(task)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            with notes.open("a", newline="") as file:
                csv.writer(file).writerow([os.getpid(), pages * resource.getpagesize()])
            return outcome

    with connected(None), Dataset(folder / "out", {}, ()) as dataset:
        crew = Crew(functools.partial(NotingWorker, plan), Share(1, 0, 0), most=1, is_alone=True)
        failed = track_all(chosen, crew, dataset, quiet=True)
    with notes.open(newline="") as file:
        lines = [(int(process), int(size)) for process, size in csv.reader(file)]
    megabytes = [round(size / 1e6, 1) for _, size in lines]
    steps = [0, len(megabytes) // 50, len(megabytes) // 10, len(megabytes) // 2, len(megabytes) - 1]
    return {
        "recordings": len(megabytes),
        "failed": len(failed),
        "processes": len({process for process, _ in lines}),
        "megabytes after recording": {step + 1: megabytes[step] for step in steps},
        "of this process": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1),
    }


def plan_of(arguments: argparse.Namespace) -> Plan:
    model = Model(arguments.model, model_checksum(arguments.model), None, "cpu", None, 1, "auto")
    return Plan(arguments.grid, None, 1, None, None, None, model, TrackerConfig(), ())


def write_videos(folder: Path, count: int, frames: int) -> list[Path]:
    """Write videos of a texture that moves another way in each."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    noise = cv2.GaussianBlur(generator.integers(0, 256, (600, 800, 3)).astype(np.float32), (0, 0), 3)
    texture = cv2.normalize(noise, np.empty_like(noise), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    paths = []
    for number in range(count):
        path = folder / f"{number:04d}.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (WIDTH, HEIGHT))
        corner, step = generator.uniform(200, 300, 2), generator.uniform(-1.5, 1.5, 2)
        for frame in range(frames):
            x, y = (corner + step * frame).astype(int)
            writer.write(texture[y : y + HEIGHT, x : x + WIDTH])
        writer.release()
        paths.append(path)
    return paths


def done(out: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return len(list((out / "tracks").iterdir()))
    return 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end or process.poll() is not None:
            raise SystemExit(f"The command ended or makes no progress (status {process.poll()}).")
        time.sleep(0.02)


MEASURED = {"cluster": cluster, "kills": kills, "times": times, "memory": memory}

if __name__ == "__main__":
    main()
