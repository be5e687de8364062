"""The commands and options of the command line. Imports no SDK, so `--help` is quick: a command loads its own."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

_EXAMPLES = """\
examples:
  {prog} doctor --settings local.settings.json
  {prog} customers test contoso
  {prog} submit jobs.csv --customer contoso
  {prog} watch jobs.csv
  {prog} results jobs.csv --to answers

docs/cli.md describes every command."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors never repeat a value that it rejects: the value may be a key."""

    def __init__(self, **options: Any) -> None:
        # No abbreviations: `--key sk-…` would be read as --key-file.
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse like argparse does, but reject unknown arguments without repeating them."""
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            self._reject(rest)
        return parsed

    def error(self, message: str) -> NoReturn:
        """Exit like argparse does, without the value that argparse quotes."""
        message = re.sub(r"invalid choice: .* \(choose from", "invalid choice (choose from", message, flags=re.DOTALL)
        super().error(re.sub(r"invalid (\w+) value: .*", r"invalid \1 value", message, flags=re.DOTALL))

    def _reject(self, rest: Sequence[str]) -> NoReturn:
        options = [word.partition("=")[0] for word in rest if word.startswith("--")]
        if {"--key", "--api-key"} & set(options):
            self.error("a key can't be an argument; type it when prompted, or use stdin or --key-file")
        self.error(f"unknown option: {', '.join(options)}" if options else "too many arguments")


class _VersionAction(argparse.Action):
    """Prints the program's version and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from aijobs.version import project_version  # noqa: PLC0415  # importlib.metadata takes as long as all the rest

        sys.stdout.write(f"aijobs {project_version()}\n")
        parser.exit()


def make_parser(prog: str = "aijobs") -> Parser:
    """Return the parser of all commands. Each command sets `run` to `module.function` in this package."""
    parser = Parser(
        prog=prog,
        description="Operate a deployment of Customer AI Jobs.",
        epilog=_EXAMPLES.format(prog=prog),
    )
    parser.add_argument("-V", "--version", action=_VersionAction, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_doctor(commands)
    _add_customers(commands)
    _add_submit(commands)
    _add_watch(commands)
    _add_results(commands)
    _add_usage(commands)
    _add_poison(commands)
    _add_export(commands)
    _add_erase(commands)
    return parser


def _add_command(commands: Any, name: str, summary: str, run: str = "") -> Parser:
    parser: Parser = commands.add_parser(name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.")
    if run:
        parser.set_defaults(run=run)
    return parser


def _add_settings(*parsers: Parser) -> None:
    for parser in parsers:
        parser.add_argument(
            "--settings",
            type=Path,
            metavar="FILE",
            help="app settings: local.settings.json, the output of `az functionapp config appsettings list`, or "
            "NAME=value lines (default: environment variables)",
        )


def _add_doctor(commands: Any) -> None:
    parser = _add_command(commands, "doctor", "check a deployment from this machine", "doctor.doctor")
    _add_settings(parser)


def _add_customers(commands: Any) -> None:
    parser = _add_command(commands, "customers", "manage customers' connections in Key Vault")
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = _add_command(inner, "add", "test a connection and store it", "customers.add")
    bind = _add_command(inner, "bind", "let a keyless connection use the app's identity", "customers.bind")
    rotate = _add_command(inner, "rotate", "replace the key of a connection", "customers.rotate")
    test = _add_command(inner, "test", "test a connection with a small call", "customers.test")
    remove = _add_command(inner, "remove", "remove a customer's connections", "customers.remove")
    listing = _add_command(inner, "list", "list customers and their connections", "vault_listing.list_all")
    for each in (add, bind, rotate, test, remove):
        each.add_argument("customer", metavar="CUSTOMER", help="customer id")
    listing.add_argument("customer", metavar="CUSTOMER", nargs="?", help="show this customer's connections in detail")
    for each in (add, bind, rotate, test):
        each.add_argument("--connection", default="default", metavar="NAME", help="connection name (default: default)")
    remove.add_argument("--connection", metavar="NAME", help="remove only this connection (default: all)")
    for each in (bind, remove):
        each.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    _add_connection_members(add)
    add.add_argument("--replace", action="store_true", help="replace the whole connection if it exists")
    for each in (add, rotate):
        each.add_argument("--key-file", type=Path, metavar="FILE", help="file that holds the key and nothing else")
        each.add_argument("--no-test", action="store_true", help="store the connection without testing it")
    for each in (add, rotate, test):
        each.add_argument("--model", metavar="NAME", help="model to test with (default: the connection's own)")
    _add_settings(add, bind, rotate, test, remove, listing)


def _add_connection_members(parser: Parser) -> None:
    parser.add_argument("--endpoint", metavar="URL", help="endpoint as the portal shows it (optional for OpenAI)")
    parser.add_argument(
        "--provider",
        choices=("azure_openai", "foundry", "openai"),
        help="needed only if the endpoint's host doesn't identify the provider",
    )
    parser.add_argument("--auth", choices=("api_key", "entra"), default="api_key", help="default: api_key")
    parser.add_argument("--scope", metavar="SCOPE", help="scope of the Entra token")
    parser.add_argument("--tenant-id", metavar="ID", help="tenant of the Entra token")
    parser.add_argument("--api-version", metavar="VERSION", help="API version to send to the endpoint")
    parser.add_argument("--organization", metavar="ID", help="OpenAI organization")
    parser.add_argument("--project", metavar="ID", help="OpenAI project")
    parser.add_argument("--default-model", metavar="NAME", help="model of jobs without one")
    parser.add_argument(
        "--deployment-scope",
        choices=("global", "data_zone", "regional"),
        metavar="SCOPE",
        help="global, data_zone or regional: where the deployment processes data, on which its price depends",
    )
    parser.add_argument("--max-concurrency", type=int, metavar="N", help="concurrent calls per worker")
    parser.add_argument("--monthly-budget", type=float, metavar="AMOUNT", help="budget of the connection per month")


def _add_submit(commands: Any) -> None:
    parser = _add_command(commands, "submit", "submit one job, or the jobs in a file", "submit.submit")
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
    many.add_argument("--at-once", type=_positive, default=16, metavar="N", help="concurrent submissions (default: 16)")
    _add_settings(parser)


def _add_selection(parser: Parser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help="file of jobs that was submitted")
    parser.add_argument("--customer", metavar="ID", help="select a customer's jobs instead of a file's")
    parser.add_argument(
        "--job", action="append", default=[], metavar="ID", help="select this job of the customer; repeatable"
    )


def _add_watch(commands: Any) -> None:
    parser = _add_command(commands, "watch", "follow jobs until all of them have ended", "watch.watch")
    _add_selection(parser)
    parser.add_argument("--once", action="store_true", help="show the current state and exit")
    parser.add_argument("--every", type=_seconds, default=2.0, metavar="S", help="seconds between reads (default: 2)")
    _add_settings(parser)


def _add_results(commands: Any) -> None:
    parser = _add_command(commands, "results", "download results and their blobs", "results.results")
    _add_selection(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="directory to write to")
    _add_settings(parser)


def _add_usage(commands: Any) -> None:
    parser = _add_command(commands, "usage", "show a customer's monthly statement", "usage.usage")
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
    parser.add_argument("--month", metavar="YYYY-MM", help="month of the statement (default: the current month)")
    parser.add_argument(
        "--by",
        metavar="NAMES",
        help="group by these, separated by commas: month, day, model, action, connection (default: model, or "
        "all but month with --csv)",
    )
    parser.add_argument("--csv", action="store_true", help="print CSV, the same as the HTTP route returns")
    _add_settings(parser)


def _add_poison(commands: Any) -> None:
    parser = _add_command(commands, "poison", "list or retry the jobs in the poison queue")
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _add_command(inner, "list", "list the poison queue's messages and their last errors", "poison.list_all")
    retry = _add_command(inner, "retry", "move jobs from the poison queue back to the jobs queue", "poison.retry")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("--message", metavar="ID", help="retry this message; `poison list` shows the ids")
    which.add_argument("--customer", metavar="ID", help="retry this customer's jobs")
    which.add_argument("--all", action="store_true", help="retry all jobs")
    _add_settings(listing, retry)


def _add_export(commands: Any) -> None:
    parser = _add_command(commands, "export", "write all data of a customer to a directory", "export.export")
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="new or empty directory")
    _add_settings(parser)


def _add_erase(commands: Any) -> None:
    summary = "permanently delete all data of a customer, including usage"
    parser = _add_command(commands, "erase", summary, "export.erase")
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
    parser.add_argument("--yes", action="store_true", help="delete without asking for confirmation")
    _add_settings(parser)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 256:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 256")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.1 <= number <= 3600:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be a number of seconds from 0.1 to 3600")
    return number
