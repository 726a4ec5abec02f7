"""Chaos: faults of a running system of camera, tracker and recorder, each a process, and how it comes back.

Where every point is at any time follows from the stamp, so that a track is good or not. For each fault: seconds from
its end to the next good track, tracks that were good before and are not afterwards, and whether bags can be read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy

from reliability import link
from reliability.probe import LONGEST, Probe
from taptr_ros.errors import TaptrError
from taptr_ros.runtime.loading import LUCAS_KANADE
from taptr_ros.sources.bags import BagReader

RATE = 10.0
"""Images per second: slow enough for every machine."""
BEFORE = 2.0
"""Seconds for which all goes well before a fault."""
STOPPED = 3.0
"""Seconds for which a process stands still, or the processor is busy: longer than `gap_seconds`."""
SHORTLY_STOPPED = 1.0
"""The same for Lucas-Kanade, which finds nothing again after a longer gap."""
SETTLED = 15.0
"""Seconds after a fault within which tracks must be good again."""
DISK = "3m"
"""Size of the disk that becomes full."""


@dataclasses.dataclass
class FaultResult:
    """What came of one fault."""

    fault: str
    back_after: float | None = None
    """Seconds from the end of the fault to the next message with a good track; None if there was none."""
    good_before: int = 0
    lost: int = 0
    """Tracks that were good before the fault and are not afterwards."""
    loss_expected: bool = False
    """Whether the fault ends all tracks by its nature: the tracker was killed, or a new stream begins."""
    good_during: float | None = None
    """Share of the images for which tracks came while the link was bad."""
    bag_messages: int | None = None
    """Messages that can be read of the bag which the fault left behind."""
    problem: str = ""


class System:
    """The processes under test."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._model = model
        self.pause = SHORTLY_STOPPED if model == LUCAS_KANADE else STOPPED
        self.clock = folder / "clock"
        self.clock.write_text("0")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._bags = 0

    def start(self, name: str) -> None:
        """Start `camera`, `tracker` or `recorder`."""
        if name == "camera":
            own = [sys.executable, sys.argv[0], "camera", "--clock", str(self.clock)]
            self._run(name, own)
        elif name == "tracker":
            values = {"model": self._model, "threads": 1, "capacity": 64, "memory_slots": 32}
            self._run(name, _node("tracker", values))
        else:
            self._bags += 1
            self._run(name, _node("recorder", {"directory": str(self.bag)}))

    @property
    def bag(self) -> Path:
        """The folder that the newest recorder writes."""
        return self._folder / f"bag_{self._bags}"

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal; one that kills is waited for."""
        self._processes[name].send_signal(number)
        if number is signal.SIGKILL:
            self._processes[name].wait()

    def status(self, name: str) -> int | None:
        """Return the exit status of a process, None while it runs."""
        return self._processes[name].poll()

    def log(self, name: str) -> str:
        """Return what a process has said."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def end(self) -> dict[str, int]:
        """Interrupt all processes; return their exit statuses."""
        statuses = {}
        for name, process in self._processes.items():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGINT if name != "camera" else signal.SIGKILL)
            try:
                statuses[name] = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                statuses[name] = process.wait()
        return statuses

    def _run(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603


Cause = Callable[[System, Probe, FaultResult], None]
"""Causes a fault and returns when it is over; not every one needs all three."""


def _node(name: str, values: dict[str, Any]) -> list[str]:
    words = [word for key, value in values.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
    return [sys.executable, "-m", f"taptr_ros.nodes.{name}_node", "--ros-args", "-r", "__ns:=/chaos", *words]


def chaos(model: str, rounds: int, seed: int, faults: list[str]) -> dict[str, Any]:
    """Cause every fault `rounds` times, in an order drawn from the seed; return what came of them."""
    rng = np.random.default_rng(seed)
    results: list[FaultResult] = []
    with tempfile.TemporaryDirectory(prefix="taptr_chaos_") as name, _ros():
        system = System(Path(name), model)
        probe = Probe()
        try:
            for process in ("camera", "tracker", "recorder"):
                system.start(process)
            for _ in range(rounds):
                for fault in rng.permutation([fault for fault in faults if fault in FAULTS]).tolist():
                    results.append(_cause(fault, system, probe))
                    print(_line(results[-1]), flush=True)
            last = FaultResult("an interrupt of all, at the end")
            statuses = system.end()
            if statuses["tracker"] or statuses["recorder"]:
                last.problem = f"exit statuses {statuses}"
            last.bag_messages = _messages_of(system.bag)
            results.append(last)
        finally:
            system.end()
            probe.node.destroy_node()
    for fault in faults:
        if fault in LINKS:
            results.append(_link(fault, model, seed))
            print(_line(results[-1]), flush=True)
    failed = [result for result in results if result.problem or (result.lost and not result.loss_expected)]
    return {"model": model, "defects": len(failed), "faults": [dataclasses.asdict(result) for result in results]}


def _line(result: FaultResult) -> str:
    back = "-" if result.back_after is None else f"{result.back_after:.2f} s"
    return f"{result.fault:34} back after {back:8} lost {result.lost}/{result.good_before}  {result.problem}"


@contextlib.contextmanager
def _ros() -> Iterator[None]:
    rclpy.init(args=[])
    try:
        yield
    finally:
        rclpy.try_shutdown()


def _cause(fault: str, system: System, probe: Probe) -> FaultResult:
    result = FaultResult(fault, loss_expected=fault in ENDS_TRACKS)
    try:
        if not probe.good(0.9, time.monotonic() - 1.0):
            probe.ask()
        if not probe.wait(lambda: probe.good(0.9), LONGEST):
            result.problem = "it does not run well before the fault"
            return result
        probe.wait(lambda: False, BEFORE)
        before = set(probe.judged[-1][2])
        result.good_before = len(before)
        FAULTS[fault](system, probe, result)
        ended = time.monotonic()
        if result.loss_expected:
            probe.ask(after=probe.judged[-1][1] if fault == "kill -9 tracker" else 0)
            before = set()
            is_back: Callable[[], bool] = lambda: probe.good(0.5, ended)  # noqa: E731
        else:
            is_back = lambda: probe.judged[-1][0] > ended and bool(probe.judged[-1][2] & before)  # noqa: E731
        if probe.wait(is_back, LONGEST):
            result.back_after = probe.judged[-1][0] - ended
        else:
            result.problem = "no good track any more"
        probe.wait(lambda: before <= probe.judged[-1][2] and probe.judged[-1][0] > ended, SETTLED)
        result.lost = result.good_before if result.loss_expected else len(before - probe.judged[-1][2])
    except TimeoutError as error:
        result.problem = str(error)
    return result


def _messages_of(bag: Path) -> int:
    """Return how many messages of both topics can be read of a bag; -1 if it cannot be read at all."""
    count = 0
    try:
        reader = BagReader(bag)
        for topic in reader.topics:
            with contextlib.suppress(TaptrError):  # raised at the damaged end, after all that can be read
                for _ in reader.messages(topic):
                    count += 1
    except TaptrError:
        return -1
    return count


def _kill(name: str) -> Cause:
    def cause(system: System, probe: Probe, result: FaultResult) -> None:  # noqa: ARG001
        system.send(name, signal.SIGKILL)
        if name == "recorder":
            result.bag_messages = _messages_of(system.bag)
            if result.bag_messages < 1:
                result.problem = f"the bag of a recorder that was killed: {result.bag_messages} messages"
        system.start(name)

    return cause


def _stop(name: str) -> Cause:
    def cause(system: System, probe: Probe, result: FaultResult) -> None:  # noqa: ARG001
        system.send(name, signal.SIGSTOP)
        probe.wait(lambda: False, system.pause)
        system.send(name, signal.SIGCONT)

    return cause


def _step_clock(seconds: float) -> Cause:
    def cause(system: System, probe: Probe, result: FaultResult) -> None:  # noqa: ARG001
        offset = int(system.clock.read_text()) + round(seconds * 1e9)
        replaced = system.clock.with_suffix(".new")
        replaced.write_text(str(offset))
        replaced.replace(system.clock)
        if seconds < -1:
            # The tracks end with the first image of the new clock; what comes before it is still good.
            newest = probe.judged[-1][1]
            probe.wait(lambda: probe.judged[-1][1] < newest, LONGEST)

    return cause


def _hog(system: System, probe: Probe, result: FaultResult) -> None:  # noqa: ARG001
    count = 2 * (os.cpu_count() or 1)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    probe.wait(lambda: False, system.pause)
    for hog in hogs:
        hog.kill()
        hog.wait()


def _fill_disk(system: System, probe: Probe, result: FaultResult) -> None:  # noqa: ARG001
    """Record onto a disk that becomes full, in a mount namespace of its own."""
    with tempfile.TemporaryDirectory(prefix="taptr_disk_") as name:
        disk, kept = Path(name) / "disk", Path(name) / "kept"
        disk.mkdir()
        recorder = " ".join(f"'{word}'" for word in _node("recorder", {"directory": str(disk / "bag")}))
        script = (
            f"mount -t tmpfs -o size={DISK} tmpfs '{disk}' || exit 99; {recorder}; status=$?; "
            f"cp -r '{disk}/bag' '{kept}'; exit $status"
        )
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: S603
        probe.wait(lambda: process.poll() is not None, LONGEST)
        if process.poll() is None:
            process.kill()
        said = process.communicate()[0].decode(errors="replace")
        if process.returncode == 99 or "unshare" in said:
            result.problem = f"no disk of its own can be made here: {said.strip()[:100]}"
            return
        result.bag_messages = _messages_of(kept)
        if process.returncode != 1 or "cannot be written" not in said or "Traceback" in said:
            result.problem = f"the recorder ended with status {process.returncode}: {said.strip()[-300:]}"
        elif result.bag_messages < 1:
            result.problem = f"{result.bag_messages} messages can be read of the bag"


FAULTS: dict[str, Cause] = {
    "kill -9 camera": _kill("camera"),
    "kill -9 tracker": _kill("tracker"),
    "kill -9 recorder": _kill("recorder"),
    "camera stopped": _stop("camera"),
    "tracker stopped": _stop("tracker"),
    "recorder stopped": _stop("recorder"),
    "clock back by 0.3 s": _step_clock(-0.3),
    "clock on by 5 s": _step_clock(5.0),
    "clock back by 5 s": _step_clock(-5.0),
    "processor busy": _hog,
    "disk full": _fill_disk,
}
"""What goes wrong, by name."""

ENDS_TRACKS = ("kill -9 tracker", "clock back by 5 s")
"""Faults after which all tracks are gone: a clock that goes back further than `late_tolerance` is a new stream."""

LINKS: dict[str, tuple[float, float, bool]] = {
    "1 % loss, best effort": (0.01, 0.0, False),
    "10 % loss, best effort": (0.1, 0.0, False),
    "10 % loss, reliable": (0.1, 0.0, True),
    "30 % loss, reliable": (0.3, 0.0, True),
    "delay of 100 ms, 1 % loss": (0.01, 0.1, False),
    "no link for 3 s": (1.0, 0.0, False),
}
"""Share of packets that are lost, delay in seconds, and whether images are sent reliably."""

LINK_FAULT = 8.0
"""Seconds for which a link is bad."""


def _link(fault: str, model: str, seed: int) -> FaultResult:
    loss, delay, reliable = LINKS[fault]
    result = FaultResult(fault)
    if not link.namespaces_permitted() or shutil.which("ip") is None:
        result.problem = "network namespaces are not permitted here"
        return result
    own = [sys.executable, sys.argv[0]]
    more = ["--reliable"] if reliable else []
    commands = [[*own, "camera", "--compressed", *more], [*own, "link-probe", "--model", model, *more]]
    with link.joined(commands, seed) as (cable, (_, watcher)):
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        for line in watcher.stdout:
            if line.startswith("ready"):
                cable.loss, cable.delay = loss, delay
                time.sleep(STOPPED if loss == 1.0 else LINK_FAULT)
                cable.loss, cable.delay = 0.0, 0.0
                watcher.stdin.write("over\n")
                watcher.stdin.flush()
            elif line.startswith("{"):
                return FaultResult(**{**json.loads(line), "fault": fault})
    result.problem = "the probe ended early"
    return result


def watch_link(model: str, *, reliable: bool) -> None:
    """Run tracker and probe at one end of the cable, and print what came of the fault as JSON."""
    result = FaultResult("")
    values = {"model": model, "threads": 1, "capacity": 64, "memory_slots": 32, "compressed": True}
    command = _node("tracker", values)
    if reliable:
        command += ["-p", "qos_overrides./chaos/image.subscription.reliability:=reliable"]
    with tempfile.TemporaryFile() as log, _ros():
        tracker = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
        probe = Probe()
        try:
            probe.ask()
            if not probe.wait(lambda: probe.good(0.9), LONGEST):
                result.problem = "it does not run well before the fault"
            probe.wait(lambda: False, BEFORE)
            before = set(probe.judged[-1][2])
            result.good_before = len(before)
            started = time.monotonic()
            print("ready", flush=True)
            probe.wait(_line_has_come, LONGEST)
            ended = time.monotonic()
            during = sum(1 for when, _, good in probe.judged if started < when < ended and good)
            if probe.wait(lambda: probe.judged[-1][0] > ended and bool(probe.judged[-1][2]), LONGEST):
                result.back_after = probe.judged[-1][0] - ended
            else:
                result.problem = "no good track any more"
            probe.wait(lambda: before <= probe.judged[-1][2], SETTLED)
            result.lost = len(before - probe.judged[-1][2])
            result.good_during = during / ((ended - started) * RATE)
        except TimeoutError as error:
            result.problem = str(error)
        finally:
            tracker.kill()
            tracker.wait()
            probe.node.destroy_node()
    print(json.dumps(dataclasses.asdict(result)), flush=True)


def _line_has_come() -> bool:
    """Return whether there is a line on standard input."""
    return bool(select.select([sys.stdin], [], [], 0.0)[0])
