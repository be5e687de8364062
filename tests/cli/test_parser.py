"""The words of the command line: mistakes in them, and the help."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from aijobs.parser import make_parser

KEY = "sk-secret"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "required: COMMAND"),
        (KEY, "invalid choice"),
        (f"customers {KEY}", "invalid choice"),
        (f"customers add a --auth {KEY}", "invalid choice"),
        (f"customers add a --max-concurrency {KEY}", "invalid int value"),
        (f"customers add a --key {KEY}", "a key can't be an argument"),
        (f"customers add a --api-key={KEY}", "a key can't be an argument"),
        (f"customers add a {KEY}", "too many arguments"),
        (f"customers add a -k {KEY}", "too many arguments"),
        ("customers add a --endpont x", "unknown option: --endpont"),
        ("submit jobs.csv --at-once 0", "must be a whole number from 1 to 256"),
        ("watch jobs.csv --every never", "must be a number of seconds from 0.1 to 3600"),
        ("poison retry", "required"),
    ],
)
def test_mistake_is_explained_without_the_key(capsys: pytest.CaptureFixture[str], line: str, message: str):
    """A mistake exits with 2, and a value in the wrong place, which may be a key, is not repeated."""
    with pytest.raises(SystemExit) as exit_info:
        make_parser().parse_args(line.split())

    assert 2 == exit_info.value.code
    stderr = capsys.readouterr().err
    assert message in stderr
    assert KEY not in stderr


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


def test_help_explains_every_argument_in_80_columns(monkeypatch: pytest.MonkeyPatch):
    """Every command has a help text for each argument, and none is wider than a small terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    every = list(parsers(make_parser("python -m aijobs")))

    unexplained = [
        (parser.prog, action.dest)
        for parser in every
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    wide = [line for parser in every for line in parser.format_help().splitlines() if len(line) > 80]
    assert (17, [], []) == (len(every), unexplained, wide)
