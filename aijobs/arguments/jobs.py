"""The arguments of the commands about jobs: submit, watch, results."""

from __future__ import annotations

from pathlib import Path

from aijobs.arguments.base import Commands, Parser, positive, seconds


def add_submit(commands: Commands) -> None:
    """Add `submit`."""
    parser = commands.add(
        "submit",
        "submit one job, or the jobs in a file",
        "submit.submit",
        "submit jobs.csv",
        'submit --customer contoso --action chat \\\n      --prompt "What is the capital of France?"',
    )
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help="file of jobs: .jsonl, .csv or .json")
    parser.add_argument("--customer", metavar="ID", help="customer of jobs without one")
    parser.add_argument("--action", metavar="ACTION", help="action of jobs without one")
    parser.add_argument("--connection", metavar="NAME", help="connection of jobs without one")
    parser.add_argument("--model", metavar="NAME", help="model of jobs without one")
    single = parser.add_argument_group("one job, without a file")
    single.add_argument("--prompt", metavar="TEXT", help="`input.prompt` of the job")
    single.add_argument("--input", metavar="JSON", help="whole `input` of the job")
    single.add_argument("--job-id", metavar="ID", help="id of the job (default: a new id)")
    many = parser.add_argument_group("a file of jobs")
    many.add_argument("--batch", metavar="NAME", help="prefix of generated job ids (default: the file's name)")
    many.add_argument("--check", action="store_true", help="check the file without submitting it")
    many.add_argument("--at-once", type=positive, default=16, metavar="N", help="concurrent submissions (default: 16)")


def add_watch(commands: Commands) -> None:
    """Add `watch`."""
    parser = commands.add(
        "watch",
        "follow jobs until all of them have ended",
        "watch.watch",
        "watch jobs.csv",
        "watch --customer contoso --once",
    )
    _add_selection(parser)
    parser.add_argument("--once", action="store_true", help="show the current state and exit")
    parser.add_argument("--every", type=seconds, default=2.0, metavar="S", help="seconds between reads (default: 2)")


def add_results(commands: Commands) -> None:
    """Add `results`."""
    parser = commands.add(
        "results", "download results and their blobs", "results.results", "results jobs.csv --to answers"
    )
    _add_selection(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="directory to write to")


def _add_selection(parser: Parser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help="file of jobs that was submitted")
    parser.add_argument("--customer", metavar="ID", help="select a customer's jobs instead of a file's")
    parser.add_argument(
        "--job", action="append", default=[], metavar="ID", help="select this job of the customer; repeatable"
    )
