"""The parser of the command line. Imports no SDK, so `--help` is quick: a command loads its own."""

from __future__ import annotations

import argparse
import sys

from aijobs.arguments.accounts import add_adjustments, add_audit, add_profile
from aijobs.arguments.base import Commands, Parser, describe_help, format_examples
from aijobs.arguments.budgets import add_budgets
from aijobs.arguments.closing import add_close_month
from aijobs.arguments.customers import add_customers
from aijobs.arguments.events import add_provider_events, add_templates, add_webhooks
from aijobs.arguments.exports import add_export_focus, add_exports
from aijobs.arguments.jobs import add_callbacks, add_cancel, add_resubmit, add_results, add_submit, add_watch
from aijobs.arguments.operations import (
    add_batches,
    add_doctor,
    add_erase,
    add_export,
    add_import,
    add_poison,
    add_usage,
    add_verify,
)
from aijobs.arguments.prices import add_prices
from aijobs.arguments.reconciliation import add_reconcile

_EXAMPLES = (
    "doctor",
    "customers test contoso",
    "submit jobs.csv",
    "watch jobs.csv",
    "results jobs.csv --to answers",
)
_EPILOG = """

Settings come from --settings FILE, else from environment variables, else from
local.settings.json in this directory or above. docs/cli.md describes every
command and what all of them have in common."""


class _VersionAction(argparse.Action):
    """Prints the program's version and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from aijobs.version import project_version  # noqa: PLC0415  # importlib.metadata takes as long as all the rest

        sys.stdout.write(f"aijobs {project_version()}\n")
        parser.exit()


def make_parser(program: str = "aijobs") -> Parser:
    """
    Return the parser of all commands. Each command sets `run` to `module.function` in this package.

    `program` is what starts the program, for the examples in the help.
    """
    parser = Parser(
        prog=program,
        description="Operate a deployment of Customer AI Jobs.",
        epilog=f"{format_examples(program, _EXAMPLES)}\n\n{describe_help(program, 'watch')}{_EPILOG}",
    )
    parser.add_argument("-V", "--version", action=_VersionAction, nargs=0, help="show the version and exit")
    commands = Commands.of(parser, program)
    add_doctor(commands)
    add_verify(commands)
    add_customers(commands)
    add_profile(commands)
    add_submit(commands)
    add_watch(commands)
    add_results(commands)
    add_resubmit(commands)
    add_cancel(commands)
    add_callbacks(commands)
    add_webhooks(commands)
    add_provider_events(commands)
    add_templates(commands)
    add_usage(commands)
    add_prices(commands)
    add_reconcile(commands)
    add_budgets(commands)
    add_adjustments(commands)
    add_audit(commands)
    add_close_month(commands)
    add_exports(commands)
    add_export_focus(commands)
    add_batches(commands)
    add_poison(commands)
    add_export(commands)
    add_import(commands)
    add_erase(commands)
    return parser
