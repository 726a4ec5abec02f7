#!/usr/bin/env python3
"""Look for what stops the tracker: mutated input, faults of its processes, long streams, and limits.

    python scripts/endurance.py short                       # a little of everything, in a minute
    python scripts/endurance.py fuzz --cases 1000000        # mutated messages, requests, parameters and files
    python scripts/endurance.py chaos --rounds 3            # processes killed and stopped, disks full, packets lost
    python scripts/endurance.py endurance                   # the frames of eight hours, as fast as they are taken
    python scripts/endurance.py endurance --model MODEL --frames 20000
    python scripts/endurance.py limits                      # the largest of everything, and what is beyond

Results are written as JSON into the folder --out. Exit status 1 if something was found. Traffic stays on this machine:
nodes find each other on the loopback interface, or in network namespaces that are made for it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

# Everything stays on this machine, on a domain of its own.
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ["ROS_DOMAIN_ID"] = os.environ.get("TAPTR_ENDURANCE_DOMAIN", str(1 + os.getpid() % 100))
os.environ["TAPTR_ENDURANCE_DOMAIN"] = os.environ["ROS_DOMAIN_ID"]

from reliability import chaos, fuzz, fuzz_live, limits, link, long_run

from taptr_ros.runtime.loading import TAPTR_SMALL


def main() -> int:
    """Run one part and return the exit status."""
    arguments = parse_arguments()
    if arguments.part == "fuzz-process":
        limit = round(arguments.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        fuzz.run_target(arguments.target, arguments.first, arguments.cases, arguments.seed, arguments.folder)
        return 0
    if getattr(arguments, "cable", None) is not None:
        link.plug_in(arguments.cable, arguments.address)
    if arguments.part == "camera":
        from reliability import camera

        camera.run(chaos.RATE, arguments.clock, compressed=arguments.compressed, reliable=arguments.reliable)
        return 0
    if arguments.part == "link-probe":
        chaos.watch_link(arguments.model, reliable=arguments.reliable)
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.part == "chaos":
        faults = arguments.fault or [*chaos.FAULTS, *chaos.LINKS]
        result = chaos.chaos(arguments.model, arguments.rounds, arguments.seed, faults)
    elif arguments.part == "limits":
        result = limits.limits(arguments.model)
    elif arguments.part == "short":
        result = short(arguments.seed)
    elif arguments.part == "endurance":
        result = long_run.long_run(
            arguments.model,
            arguments.frames,
            60 * arguments.minutes,
            arguments.interval,
            points=arguments.points,
            memory_slots=arguments.memory,
        )
    else:
        result = fuzz.fuzz(arguments.cases, arguments.seed, arguments.target or [*fuzz.SHARES], arguments.memory)
        if arguments.live:
            result["live"] = fuzz_live.fuzz_live(arguments.live, arguments.seed)
            result["cases"] += result["live"]["cases"]
            result["defects"] += len(result["live"]["defects"])
    (arguments.out / f"{arguments.part}.json").write_text(json.dumps(result, indent=2) + "\n")
    return 1 if result["defects"] else 0


def short(seed: int) -> dict[str, Any]:
    """Run a little of everything, in about a minute on a machine that has nothing else to do."""
    parts = {
        "fuzz": fuzz.fuzz(3000, seed, fuzz.QUICK, 6.0),
        "live": fuzz_live.fuzz_live(1200, seed),
        "chaos": chaos.chaos(TAPTR_SMALL, 1, seed, ["kill -9 camera", "tracker stopped", "kill -9 recorder"]),
        # So short a run tells what grows; its times tell more of other programs.
        "endurance": long_run.long_run("lucas_kanade", 4000, 240.0, 500, time_tolerance=2.0),
    }
    parts["live"]["defects"] = len(parts["live"]["defects"])
    return {"defects": sum(part["defects"] for part in parts.values()), **parts}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("fuzz")
    part.add_argument("--out", type=Path, default=Path("endurance"))
    part.add_argument("--cases", type=int, default=1_000_000)
    part.add_argument("--seed", type=int, default=0)
    part.add_argument("--target", action="append", choices=fuzz.SHARES)
    part.add_argument("--memory", type=float, default=6.0, help="GiB that a process may take")
    part.add_argument("--live", type=int, default=20_000, help="messages over DDS besides; 0 sends none")
    part = parts.add_parser("chaos")
    part.add_argument("--out", type=Path, default=Path("endurance"))
    part.add_argument("--model", default="taptr_small")
    part.add_argument("--rounds", type=int, default=3)
    part.add_argument("--seed", type=int, default=0)
    part.add_argument("--fault", action="append", choices=[*chaos.FAULTS, *chaos.LINKS])
    part = parts.add_parser("endurance")
    part.add_argument("--out", type=Path, default=Path("endurance"))
    part.add_argument("--model", default="lucas_kanade")
    part.add_argument("--frames", type=int, default=long_run.HOURS_8)
    part.add_argument("--minutes", type=float, default=240.0)
    part.add_argument("--interval", type=int, default=5000)
    part.add_argument("--points", type=int, default=24, help="most points at once, 64 or fewer")
    part.add_argument("--memory", type=int, default=16, help="memory slots per track")
    part = parts.add_parser("limits")
    part.add_argument("--out", type=Path, default=Path("endurance"))
    part.add_argument("--model", default="taptr_small")
    part = parts.add_parser("short")
    part.add_argument("--out", type=Path, default=Path("endurance"))
    part.add_argument("--seed", type=int, default=0)
    part = parts.add_parser("camera")
    part.add_argument("--clock", type=Path)
    part.add_argument("--compressed", action="store_true")
    part.add_argument("--reliable", action="store_true")
    part.add_argument("--cable", type=int)
    part.add_argument("--address")
    part = parts.add_parser("link-probe")
    part.add_argument("--model", default="taptr_small")
    part.add_argument("--reliable", action="store_true")
    part.add_argument("--cable", type=int)
    part.add_argument("--address")
    part = parts.add_parser("fuzz-process")
    part.add_argument("--target", choices=fuzz.SHARES, required=True)
    for name in ("--first", "--cases", "--seed"):
        part.add_argument(name, type=int, required=True)
    part.add_argument("--folder", type=Path, required=True)
    part.add_argument("--memory", type=float, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
