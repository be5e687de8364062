"""
    python -m benchmarks [cold_start] [warm_job] [--rounds N] [--json FILE]

Runs the benchmarks named, or both, each for about a minute, and prints what they found.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import cold_start, warm_job
from benchmarks.stage import RunFailed
from local.stack.node import NotInstalled
from local.stack.processes import ProcessFailed

_BENCHMARKS = {"cold_start": cold_start, "warm_job": warm_job}


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures this app beside a peer.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(_BENCHMARKS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures as well")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each side is measured; fewer say less")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(_BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    figures: dict[str, object] = {
        "at": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    print(f"{figures['at']}, Python {figures['python']}, {figures['cores']} cores\n")
    for name in asked.names or _BENCHMARKS:
        try:
            figures[name] = found = asyncio.run(_BENCHMARKS[name].measure(*([asked.rounds] if asked.rounds else [])))
        except (NotInstalled, ProcessFailed, RunFailed) as exc:
            sys.exit(str(exc))
        print(_BENCHMARKS[name].report(found), end="\n\n", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
