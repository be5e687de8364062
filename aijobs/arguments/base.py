"""What the arguments of all commands share: a parser that repeats no value, and the options that every command has."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

_COMMON = "options of every command"
_COMMON_OPTIONS = ("--settings", "--json")
_MAX_LINE = 80
_UNKNOWN_COMMAND = re.compile(r"argument COMMAND: invalid choice: (?:'(?P<word>[a-z]{1,16})'|.*)", re.DOTALL)


_is_empty_option = re.compile(r"--[a-z-]+=").fullmatch


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
        self.commands: Mapping[str, Parser] = {}

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse like argparse does, but repeat no value. Exits with 2 after an error, as JSON if `--json` is among."""
        words = sys.argv[1:] if args is None else args
        try:
            self._check_order(words)
            parsed, rest = self.parse_known_args(words, namespace)
            if rest:
                getattr(parsed, "parser", self).reject(rest)
            getattr(parsed, "parser", self).check_texts(parsed, words)
        except UsageError as exc:
            from aijobs.console import warn  # noqa: PLC0415  # few command lines are invalid
            from aijobs.report import print_error  # noqa: PLC0415

            exc.parser.print_usage(sys.stderr)
            if "--json" in words:
                print_error("usage", str(exc))
            warn(f"{exc.parser.prog}: {exc}")
            self.exit(2)
        return parsed

    def format_help(self) -> str:
        """Format the help, with what is special about a command before what is not."""
        self._action_groups.sort(key=lambda group: group.title == _COMMON)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Reject the command line, without the value that argparse quotes."""
        unknown = _UNKNOWN_COMMAND.match(message)
        if unknown:
            raise UsageError(self, self._unknown_command(unknown["word"] or ""))
        message = re.sub(r"invalid choice: .* \(choose from", "invalid choice (choose from", message, flags=re.DOTALL)
        message = re.sub(r"ignored explicit argument .*", "takes no value", message, flags=re.DOTALL)
        raise UsageError(self, re.sub(r"invalid (\w+) value: .*", r"invalid \1 value", message, flags=re.DOTALL))

    def reject(self, rest: Sequence[str]) -> NoReturn:
        """Reject arguments that no parser knows."""
        options = [word.partition("=")[0] for word in rest if word.startswith("--")]
        if {"--key", "--api-key"} & set(options):
            self.error("a key can't be an argument; type it when prompted, or use stdin or --key-file")
        if not options:
            self.error("too many arguments")
        hint = _did_you_mean(options[0], self._option_string_actions)
        self.error(f"unknown option: {', '.join(options)}{hint}")

    def check_texts(self, parsed: Any, words: Sequence[str]) -> None:
        """
        Reject an empty argument, which would mean all or the default to some commands, and a text that is not UTF-8.

        A path may have any bytes.
        """
        if any(not word or _is_empty_option(word) for word in words):
            self.error("an argument is empty, such as a variable of the shell that is not set")
        for name, value in vars(parsed).items():
            texts = value if isinstance(value, list) else [value]
            if any(isinstance(text, str) and not _is_unicode(text) for text in texts):
                action = next(action for action in self._actions if action.dest == name)
                self.error(f"argument {'/'.join(action.option_strings) or action.metavar}: must be UTF-8")

    def _check_order(self, words: Sequence[str]) -> None:
        """Reject an option of every command that precedes the command."""
        parser = self
        for word in words:
            name = word.partition("=")[0]
            if parser.commands and name in _COMMON_OPTIONS:
                raise UsageError(parser, f"{name} belongs after the command")
            if word not in parser.commands:
                return
            parser = parser.commands[word]

    def _unknown_command(self, word: str) -> str:
        """Return what is wrong if there is no such command. A word that can't be a key is repeated."""
        name = f": {word}" if word else ""
        hint = _did_you_mean(word, self.commands) or f"; `{self.prog} --help` lists them"
        return f"unknown command{name}{hint}"


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of the program, or those of a group. Gives each command the options that all of them have."""

    program: str
    subparsers: Any

    @classmethod
    def of(cls, parser: Parser, program: str) -> Commands:
        """Return the commands of a parser, which needs one of them."""
        subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        parser.commands = subparsers.choices
        return cls(program, subparsers)

    def group(self, name: str, summary: str, *examples: str) -> Commands:
        """Add a command that only groups others, with an example of each that is used most."""
        program = f"{self.program} {name}"
        epilog = f"{format_examples(self.program, examples)}\n\n{describe_help(program, examples[0].split()[1])}"
        parser = self.subparsers.add_parser(name, help=summary, description=_sentence(summary), epilog=epilog)
        return Commands.of(parser, self.program)

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
    """Return the examples as the end of a help text, each in lines that fit a terminal and can be copied."""
    title = "example:" if len(examples) == 1 else "examples:"
    lines = [line for example in examples for line in _folded(f"  {program} {example}")]
    return "\n".join((title, *lines)) if examples else ""


def describe_help(program: str, example: str) -> str:
    """Return the sentence that says how to get the help of one command."""
    return f"Each command has its own help, such as:\n  {program} {example} --help"


def _folded(example: str) -> list[str]:
    """Return the lines of an example, broken before options and redirections."""
    first, *parts = re.split(r" (?=--|< )", example)
    lines = [first]
    for part in parts:
        if len(lines[-1]) + len(part) + len("  \\") > _MAX_LINE:
            lines[-1] += " \\"
            lines.append(f"      {part}")
        else:
            lines[-1] += f" {part}"
    return lines


def _did_you_mean(word: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def positive(text: str) -> int:
    """Return a number from 1 to 256."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 256:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 256")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds, between two reads or until a time is over."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.1 <= number <= 3600:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be a number of seconds from 0.1 to 3600")
    return number


def whole(text: str) -> int:
    """Return a whole number."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text)


def day(text: str) -> date:
    """Return a day."""
    with suppress(ValueError):
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):  # Python also reads weeks
            return date.fromisoformat(text)
    raise argparse.ArgumentTypeError("must be a day, such as 2026-11-29")


def amount(text: str) -> float:
    """Return an amount. JSON has neither infinity nor NaN: either would be stored as no amount."""
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text):
        raise argparse.ArgumentTypeError("must be an amount, such as 250 or 99.50")
    return float(text)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _sentence(summary: str) -> str:
    return f"{summary[:1].upper()}{summary[1:]}."
