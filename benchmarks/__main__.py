"""
Measures what this app costs, beside a named peer if there is one (docs/benchmarks.md).

    python -m benchmarks [cold_start] [warm_job] [density] [pickup] [statements] [budgets] [backlog] [batches]
        [responses] [gateways]
        [--rounds N] [--minutes N] [--json FILE]

Runs the named benchmarks, or the first two, each for about a minute, and prints their figures. `cold_start` and
`warm_job` control the runs. What they measure runs in processes of its own (`first_job`, `app_side`, `peer_side`), on
the local stack's parts (`environment`). `density` needs eight minutes, `pickup` three, `statements` three and 2 GB,
`budgets` a few seconds, `backlog` a minute, `batches` three, `responses` two, `gateways` ten minutes; it installs its
peers into a folder of their own.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import backlog, batches, budgets, cold_start, density, pickup, responses, statements, warm_job
from benchmarks.environment import RunFailed
from benchmarks.gateways import comparison as gateways
from local.stack.node import NotInstalled
from local.stack.processes import ProcessFailed

_BENCHMARKS = {
    "cold_start": cold_start,
    "warm_job": warm_job,
    "density": density,
    "pickup": pickup,
    "statements": statements,
    "budgets": budgets,
    "backlog": backlog,
    "batches": batches,
    "responses": responses,
    "gateways": gateways,
}
_DEFAULT = ("cold_start", "warm_job")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures this app beside a peer.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(_BENCHMARKS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the figures to")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="number of measurements of each side, or of records, jobs or messages"
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="length of `density`'s long run")
    parser.add_argument("--without-peers", action="store_true", help="leave out the peers of `gateways`")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(_BENCHMARKS):
        parser.error(f"unknown benchmark: {', '.join(sorted(unknown))}")
    figures: dict[str, object] = {
        "at": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    print(f"{figures['at']}, Python {figures['python']}, {figures['cores']} cores\n")
    for name in arguments.names or _DEFAULT:
        try:
            options = {"peers": not arguments.without_peers} if name == "gateways" else {}
            size = arguments.minutes if name == "density" else arguments.rounds
            figures[name] = result = asyncio.run(_BENCHMARKS[name].measure(*([size] if size else []), **options))
        except (NotInstalled, ProcessFailed, RunFailed) as exc:
            sys.exit(str(exc))
        print(_BENCHMARKS[name].report(result), end="\n\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
