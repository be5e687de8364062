"""What a person sees who has a small window, ends the input, or mistypes."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest

from aijobs.console import confirmed, show, table
from aijobs.diagnostics import Refused
from aijobs.key_input import read_key
from aijobs.parser import make_parser


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_numbers_are_whole_in_any_window(monkeypatch: pytest.MonkeyPatch, columns: int):
    """A table with numbers is rather wider than the window than cut: a number that was cut is another number."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    names = [f"number {index}" for index in range(6)]

    show(
        table(
            ("model", "provider", *names), [("gpt-4o-mini", "azure_openai", *[1_234_567] * 6)], right=frozenset(names)
        )
    )

    assert 6 == shown.getvalue().count("1,234,567")
    assert "gpt-4o-mini" in shown.getvalue()
    assert "azure_openai" in shown.getvalue()


@pytest.mark.parametrize("stdin", [Terminal(""), io.StringIO(""), None], ids=["Ctrl-D", "empty", "closed"])
def test_input_that_ends_is_no_key_and_no_yes(monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None):
    """Whoever ends the input, or closed it before, gets a sentence, and nothing is done."""
    monkeypatch.setattr(sys, "stdin", stdin)

    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", ended)

    with pytest.raises(Refused, match="No key was given"):
        read_key(None, "contoso")
    assert not confirmed("All of contoso is deleted.", "contoso")


@pytest.mark.parametrize(
    "words",
    [
        "sk-secret",
        "customers sk-secret",
        "customers add a --auth sk-secret",
        "customers add a --max-concurrency sk-secret",
    ],
)
def test_nothing_that_was_mistyped_is_repeated(words: str):
    """What stands in the place of something else may be a key."""
    with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit):
        make_parser().parse_args(words.split())

    assert "secret" not in said.getvalue()
    assert "invalid" in said.getvalue()
