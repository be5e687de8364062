"""The arguments of the commands about jobs: submit, watch, results, cancel, resubmit, callbacks."""

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
        'submit --customer contoso --action chat --prompt "What is the capital of France?"',
    )
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help="file of jobs: .jsonl, .csv or .json")
    _add_defaults(parser)
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
        "results",
        "download results and their blobs",
        "results.results",
        "results jobs.csv --to answers",
        "results jobs.csv --to answers --failed",
    )
    _add_selection(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="directory to write to (required)")
    parser.add_argument("--failed", action="store_true", help="download only failed results, into failed.jsonl")


def add_cancel(commands: Commands) -> None:
    """Add `cancel`."""
    parser = commands.add(
        "cancel",
        "cancel jobs that have not started",
        "cancel.cancel",
        "cancel jobs.csv",
        "cancel --customer contoso --job order-4711",
        destructive=True,
    )
    _add_selection(parser)


def add_resubmit(commands: Commands) -> None:
    """Add `resubmit`."""
    parser = commands.add(
        "resubmit",
        "submit the failed jobs of a file again, under new ids",
        "resubmit.resubmit",
        "resubmit jobs.csv",
        "resubmit jobs.csv --code rate_limited --code timeout",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="file of jobs that was submitted")
    parser.add_argument(
        "--code", action="append", default=[], metavar="CODE", help="only jobs that failed with this code; repeatable"
    )
    _add_defaults(parser)
    parser.add_argument(
        "--at-once", type=positive, default=16, metavar="N", help="concurrent submissions (default: 16)"
    )


def add_callbacks(commands: Commands) -> None:
    """Add the group of commands about callbacks."""
    group = commands.group(
        "callbacks", "list or resend the callbacks of jobs", "callbacks list jobs.csv", "callbacks resend jobs.csv"
    )
    listing = group.add(
        "list",
        "list the callbacks of jobs that have ended",
        "callbacks.list_all",
        "callbacks list jobs.csv",
        "callbacks list --customer contoso",
    )
    resend = group.add(
        "resend",
        "send callbacks again that have failed or wait for a try",
        "callbacks.resend",
        "callbacks resend jobs.csv",
        "callbacks resend --customer contoso --job order-4711",
    )
    for each in (listing, resend):
        _add_selection(each)
    resend.add_argument("--delivered", action="store_true", help="send callbacks that were delivered as well")


def _add_defaults(parser: Parser) -> None:
    parser.add_argument("--customer", metavar="ID", help="customer of jobs without one")
    parser.add_argument("--action", metavar="ACTION", help="action of jobs without one")
    parser.add_argument("--connection", metavar="NAME", help="connection of jobs without one")
    parser.add_argument("--model", metavar="NAME", help="model of jobs without one")


def _add_selection(parser: Parser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help="file of jobs that was submitted")
    parser.add_argument("--customer", metavar="ID", help="select a customer's jobs instead of a file's")
    parser.add_argument(
        "--job", action="append", default=[], metavar="ID", help="select this job of the customer; repeatable"
    )
