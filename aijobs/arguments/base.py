"""What the arguments of all commands share: a parser that repeats no value, and the options that every command has."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_COMMON = "options of every command"


class UsageError(Exception):
    """The command line is invalid. Raised with the parser whose usage helps."""

    def __init__(self, parser: Parser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """A parser whose errors never repeat a value that it rejects: the value may be a key."""

    def __init__(self, **options: Any) -> None:
        # No abbreviations: `--key sk-…` would be read as --key-file.
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse like argparse does, but repeat no value. Exits with 2 after an error, as JSON if `--json` is among."""
        words = sys.argv[1:] if args is None else args
        try:
            parsed, rest = self.parse_known_args(words, namespace)
            if rest:
                getattr(parsed, "parser", self).reject(rest)
        except UsageError as exc:
            exc.parser.print_usage(sys.stderr)
            if "--json" in words:
                from aijobs.report import print_error  # noqa: PLC0415  # few command lines are invalid

                print_error("usage", str(exc))
            self.exit(2, f"{exc.parser.prog}: {exc}\n")
        return parsed

    def format_help(self) -> str:
        """Format the help, with what is special about a command before what is not."""
        self._action_groups.sort(key=lambda group: group.title == _COMMON)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Reject the command line, without the value that argparse quotes."""
        message = re.sub(r"invalid choice: .* \(choose from", "invalid choice (choose from", message, flags=re.DOTALL)
        raise UsageError(self, re.sub(r"invalid (\w+) value: .*", r"invalid \1 value", message, flags=re.DOTALL))

    def reject(self, rest: Sequence[str]) -> NoReturn:
        """Reject arguments that no parser knows."""
        options = [word.partition("=")[0] for word in rest if word.startswith("--")]
        if {"--key", "--api-key"} & set(options):
            self.error("a key can't be an argument; type it when prompted, or use stdin or --key-file")
        if not options:
            self.error("too many arguments")
        near = difflib.get_close_matches(options[0], self._option_string_actions, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.error(f"unknown option: {', '.join(options)}{hint}")


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of the program, or those of a group. Gives each command the options that all of them have."""

    program: str
    subparsers: Any

    @classmethod
    def of(cls, parser: Parser, program: str) -> Commands:
        """Return the commands of a parser, which needs one of them."""
        return cls(program, parser.add_subparsers(title="commands", metavar="COMMAND", required=True))

    def group(self, name: str, summary: str) -> Commands:
        """Add a command that only groups others."""
        return Commands.of(self.subparsers.add_parser(name, help=summary, description=_sentence(summary)), self.program)

    def add(self, name: str, summary: str, run: str, *examples: str, destructive: bool = False) -> Parser:
        """
        Add a command. `run` is `module.function` in this package, an example what follows the program's name.

        A `destructive` command asks for confirmation, unless it is run with `--yes`.
        """
        parser: Parser = self.subparsers.add_parser(
            name, help=summary, description=_sentence(summary), epilog=format_examples(self.program, examples)
        )
        parser.set_defaults(run=run, parser=parser)
        common = parser.add_argument_group(_COMMON)
        if destructive:
            parser.add_argument("--yes", action="store_true", help="don't ask for confirmation")
        common.add_argument(
            "--settings",
            type=Path,
            metavar="FILE",
            help="app settings of the deployment (default: environment variables, or local.settings.json in this "
            "directory or above)",
        )
        common.add_argument("--json", action="store_true", help="print one JSON document")
        return parser


def format_examples(program: str, examples: Sequence[str]) -> str:
    """Return the examples as the end of a help text."""
    title = "example:" if len(examples) == 1 else "examples:"
    return "\n".join((title, *(f"  {program} {example}" for example in examples))) if examples else ""


def positive(text: str) -> int:
    """Return a number of concurrent operations."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 256:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 256")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds between two reads."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.1 <= number <= 3600:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be a number of seconds from 0.1 to 3600")
    return number


def _sentence(summary: str) -> str:
    return f"{summary[:1].upper()}{summary[1:]}."
