#!/usr/bin/env python3
"""Look for what stops the tracker: mutated input, faults of its processes, long streams, and limits.

    python scripts/endurance.py fuzz --cases 1000000
    python scripts/endurance.py short

Results are written as JSON into the folder --out. Exit status 1 if something was found.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from pathlib import Path

# Everything stays on this machine, on a domain of its own.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = os.environ.get("TAPTR_ENDURANCE_DOMAIN", str(1 + os.getpid() % 100))
os.environ["TAPTR_ENDURANCE_DOMAIN"] = os.environ["ROS_DOMAIN_ID"]

from reliability import fuzz


def main() -> int:
    """Run one part and return the exit status."""
    arguments = parse_arguments()
    if arguments.part == "fuzz-process":
        limit = round(arguments.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        fuzz.run_target(arguments.target, arguments.first, arguments.cases, arguments.seed, arguments.folder)
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = fuzz.fuzz(arguments.cases, arguments.seed, arguments.target or [*fuzz.SHARES], arguments.memory)
    (arguments.out / f"{arguments.part}.json").write_text(json.dumps(result, indent=2) + "\n")
    return 1 if result["defects"] else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("fuzz")
    part.add_argument("--out", type=Path, default=Path("endurance"))
    part.add_argument("--cases", type=int, default=1_000_000)
    part.add_argument("--seed", type=int, default=0)
    part.add_argument("--target", action="append", choices=fuzz.SHARES)
    part.add_argument("--memory", type=float, default=6.0)
    part = parts.add_parser("fuzz-process")
    part.add_argument("--target", choices=fuzz.SHARES, required=True)
    for name in ("--first", "--cases", "--seed"):
        part.add_argument(name, type=int, required=True)
    part.add_argument("--folder", type=Path, required=True)
    part.add_argument("--memory", type=float, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
