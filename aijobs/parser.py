"""Every word of the command line. Imports nothing that does work: `--help` is quick, and a command loads its own."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

EXAMPLES = """\
examples:
  python -m aijobs doctor --settings local.settings.json
  python -m aijobs customers add contoso --endpoint https://contoso-ai.openai.azure.com/openai/v1
  python -m aijobs submit jobs.csv --customer contoso
  python -m aijobs watch jobs.csv
  python -m aijobs results jobs.csv --to answers

docs/cli.md describes each."""


class Parser(argparse.ArgumentParser):
    """A parser that repeats nothing of what it does not know: it may be a key."""

    def __init__(self, **options: Any) -> None:
        # Nothing is abbreviated: `--key sk-…` would be taken for --key-file.
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's."""
        asked, rest = self.parse_known_args(args, namespace)
        if rest:
            self._refuse(rest)
        return asked

    def error(self, message: str) -> NoReturn:
        """As argparse's, without the value that it quotes."""
        message = re.sub(r"invalid choice: .* \(choose from", "invalid choice (choose from", message, flags=re.DOTALL)
        super().error(re.sub(r"invalid (\w+) value: .*", r"invalid \1 value", message, flags=re.DOTALL))

    def _refuse(self, rest: Sequence[str]) -> NoReturn:
        named = [word.partition("=")[0] for word in rest if word.startswith("--")]
        if any(name in {"--key", "--api-key"} for name in named):
            self.error("a key is never an argument: it is asked for, or read from stdin or --key-file")
        self.error(f"there is no option {', '.join(named)}" if named else "there are arguments too many")


def make_parser() -> Parser:
    """All commands. Each sets `run`, `module.function` of this package."""
    parser = Parser(
        prog="python -m aijobs",
        description="Commands for who operates Customer AI Jobs.",
        epilog=EXAMPLES,
        add_help=True,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _customers(_add(commands, "customers", "customers' connections in Key Vault"))
    _submit(_add(commands, "submit", "submit one job, or the jobs of a JSONL, CSV or JSON file", "submit.submit"))
    _watch(_add(commands, "watch", "what becomes of jobs", "watch.watch"))
    _results(_add(commands, "results", "download results and blobs of jobs", "results.results"))
    _usage(_add(commands, "usage", "a customer's statement of a month", "usage.usage"))
    _poison(_add(commands, "poison", "jobs that the host gave up"))
    doctor = _add(
        commands, "doctor", "find what is wrong with a deployment, as it is reached from here", "doctor.doctor"
    )
    _settings(doctor)
    _data(commands)
    return parser


def _add(commands: Any, name: str, does: str, run: str = "") -> Parser:
    parser: Parser = commands.add_parser(name, help=does, description=f"{does[:1].upper()}{does[1:]}.")
    if run:
        parser.set_defaults(run=run)
    return parser


def _settings(*parsers: Parser) -> None:
    for parser in parsers:
        parser.add_argument(
            "--settings",
            type=Path,
            metavar="FILE",
            help="the app's settings: local.settings.json, what `az functionapp config appsettings list` prints, or "
            "NAME=value lines; without it, environment variables",
        )


def _customers(parser: Parser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add = _add(commands, "add", "keep a connection of a customer", "customers.add")
    rotate = _add(commands, "rotate", "give a connection a new key", "customers.rotate")
    test = _add(commands, "test", "try a connection with a small call", "customers.test")
    remove = _add(commands, "remove", "remove a customer's connections", "customers.remove")
    listed = _add(commands, "list", "customers and their connections", "vault_listing.list_all")
    for each in (add, rotate, test, remove):
        each.add_argument("customer", metavar="NAME")
    listed.add_argument("customer", metavar="NAME", nargs="?", help="this customer's connections, with their settings")
    for each in (add, rotate, test):
        each.add_argument("--connection", default="default", metavar="C", help="default, if left out")
    remove.add_argument("--connection", metavar="C", help="this one alone; all of them, if left out")
    remove.add_argument("--yes", action="store_true", help="do not ask for the customer's name again")
    add.add_argument("--endpoint", metavar="URL", help="what the portal shows; may be left out for OpenAI")
    add.add_argument("--provider", choices=("azure_openai", "foundry", "openai"), help="where the host does not tell")
    add.add_argument("--auth", choices=("api_key", "entra"), default="api_key", help="api_key, if left out")
    for name in ("scope", "tenant-id", "api-version", "organization", "project", "default-model"):
        add.add_argument(f"--{name}", metavar=name.rpartition("-")[2].upper())
    add.add_argument("--max-concurrency", type=int, metavar="N", help="calls at once on a worker")
    add.add_argument("--monthly-budget", type=float, metavar="AMOUNT")
    add.add_argument("--replace", action="store_true", help="put it in the place of one that is there, whole")
    for each in (add, rotate):
        each.add_argument("--key-file", type=Path, metavar="FILE", help="a file that holds the key and nothing else")
        each.add_argument("--no-test", action="store_true", help="keep it without trying it first")
    for each in (add, rotate, test):
        each.add_argument("--model", metavar="M", help="the model to try; the connection's own, if left out")
    _settings(add, rotate, test, remove, listed)


def _submit(parser: Parser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help="jobs: .jsonl, .csv or .json")
    parser.add_argument("--customer", metavar="NAME", help="customer of jobs that name none")
    parser.add_argument("--action", metavar="ACTION", help="action of jobs that name none")
    parser.add_argument("--connection", metavar="C", help="connection of jobs that name none")
    parser.add_argument("--model", metavar="M", help="model of jobs that name none")
    one = parser.add_argument_group("one job, without a file")
    one.add_argument("--prompt", metavar="TEXT", help="the `input.prompt` of a chat or an image")
    one.add_argument("--input", metavar="JSON", help="the whole `input`")
    one.add_argument("--job-id", metavar="ID", help="a new one, if left out")
    many = parser.add_argument_group("a file")
    many.add_argument(
        "--batch", metavar="NAME", help="begins the ids of jobs without one; the file's name, if left out"
    )
    many.add_argument("--check", action="store_true", help="read and check the file, and send nothing")
    many.add_argument("--at-once", type=_positive, default=16, metavar="N", help="jobs on their way at once; 16")
    _settings(parser)


def _targets(parser: Parser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help="a file that was submitted")
    parser.add_argument("--customer", metavar="NAME", help="in place of a file: a customer's jobs")
    parser.add_argument(
        "--job", action="append", default=[], metavar="ID", help="this one of the customer's; repeatable"
    )
    _settings(parser)


def _watch(parser: Parser) -> None:
    _targets(parser)
    parser.add_argument("--once", action="store_true", help="say how it stands, and end")
    parser.add_argument("--every", type=_seconds, default=2.0, metavar="S", help="seconds between looks; 2")


def _results(parser: Parser) -> None:
    _targets(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="where they are written")


def _usage(parser: Parser) -> None:
    parser.add_argument("customer", metavar="CUSTOMER")
    parser.add_argument("--month", metavar="YYYY-MM", help="this month, if left out")
    parser.add_argument("--by", metavar="NAMES", help="of month, day, model, action, connection, commas between; model")
    parser.add_argument("--csv", action="store_true", help="the same lines as the HTTP route gives for text/csv")
    _settings(parser)


def _poison(parser: Parser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    listed = _add(commands, "list", "what stands in the poison queue, and why", "poison.list_all")
    retry = _add(commands, "retry", "put jobs of the poison queue back into the jobs queue", "poison.retry")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("--message", metavar="ID", help="this message, as `poison list` names it")
    which.add_argument("--customer", metavar="NAME", help="this customer's")
    which.add_argument("--all", action="store_true", help="all of them")
    _settings(listed, retry)


def _data(commands: Any) -> None:
    export = _add(commands, "export", "write everything that is kept of a customer into a directory", "export.export")
    export.add_argument("customer", metavar="CUSTOMER")
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new or empty directory")
    erase = _add(commands, "erase", "delete everything that is kept of a customer, usage too, for good", "export.erase")
    erase.add_argument("customer", metavar="CUSTOMER")
    erase.add_argument("--yes", action="store_true", help="do not ask for the customer's name again")
    _settings(export, erase)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 256:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("a whole number from 1 to 256 is wanted")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.1 <= number <= 3600:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("seconds from 0.1 to 3600 are wanted")
    return number
