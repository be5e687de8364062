"""Keys and confirmations that are read from the terminal."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TextIO

import pytest

from aijobs.confirmation import is_confirmed
from aijobs.console import can_redraw, print_text, terminal_size
from aijobs.diagnostics import CommandError
from aijobs.key_input import read_key
from aijobs.report import Verbatim
from shared.secret import Secret
from shared.settings import read_settings
from tests.support.cli_runner import Terminal
from tests.support.rows import every_row


@every_row(
    ("stdin", "confirmed"),
    [
        (io.StringIO("contoso\n"), True),
        (io.StringIO("\n"), False),
        (io.StringIO("yes\n"), False),
        (io.StringIO("fabrikam\n"), False),
        (io.StringIO(""), False),
        (Terminal(""), False),
        (None, False),
        (io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"), False),
    ],
    ids=["name", "blank", "yes", "another name", "empty", "Ctrl-D", "closed", "not UTF-8"],
)
def test_only_the_customers_name_confirms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: TextIO | None, confirmed: bool
):
    """Anything but the customer's name, and input that ends, confirms nothing. The question names the deployment."""
    monkeypatch.setattr(sys, "stdin", stdin)

    settings = read_settings({"JobStorage": "AccountName=a;AccountKey=a2V5"})
    args = argparse.Namespace(yes=False)

    assert confirmed == is_confirmed(args, settings, "All of contoso is deleted.", "contoso")
    assert (
        "All of contoso is deleted.\nDeployment: a/jobs\nType the customer's id to continue: "
        == capsys.readouterr().err
    )


def end_of_input(_: str) -> str:
    """Ctrl-D at the prompt."""
    raise EOFError


@every_row(
    ("stdin", "message"),
    [
        (io.StringIO(""), "No key was given."),
        (io.StringIO(" \n"), "No key was given."),
        (io.StringIO("a\nb"), "A key must be a single line."),
        (Terminal(""), "No key was given."),
        (None, "No key was given."),
        (
            io.TextIOWrapper(io.BytesIO("sk-1\n".encode("utf-16")), encoding="utf-8"),
            "The key is not UTF-8 text, such as a file that PowerShell wrote as UTF-16.",
        ),
        (io.StringIO("sk-\udcff"), "The key is not UTF-8 text."),
    ],
    ids=["empty", "blank", "two lines", "Ctrl-D", "closed", "UTF-16", "surrogate"],
)
def test_invalid_key_is_rejected(monkeypatch: pytest.MonkeyPatch, stdin: TextIO | None, message: str):
    """No input, and more than one line, are not keys."""
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr("getpass.getpass", end_of_input)

    with pytest.raises(CommandError) as error:
        read_key(None, "contoso")

    assert message == str(error.value)


@every_row("form", ["{}\n", "\ufeff{}\r\n", '"{}"', " '{}'\n"], ids=ascii)
def test_what_is_around_a_key_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str):
    """A line break, a byte order mark and quotes are not part of a key, whether from stdin or from a file."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(form.format("sk-1")))
    file = tmp_path / "key.txt"
    file.write_text(form.format("sk-2"), encoding="utf-8")

    assert [Secret("sk-1"), Secret("sk-2")] == [read_key(None, "contoso"), read_key(file, "contoso")]


@pytest.mark.parametrize(("data", "message"), [(None, "No such file"), (b"\xff\xfe", "not UTF-8")])
def test_name_of_a_key_file_is_not_repeated(tmp_path: Path, data: bytes | None, message: str):
    """A file that can't be read is not named, since its name may be the key."""
    file = tmp_path / "sk-secret"
    if data is not None:
        file.write_bytes(data)

    with pytest.raises(CommandError, match=message) as error:
        read_key(file, "contoso")

    assert "secret" not in str(error.value)


def test_terminal_obeys_nothing_in_a_document(monkeypatch: pytest.MonkeyPatch):
    """A document goes into a pipe as it is, and into a terminal without control characters."""
    text = "a\t\x1b[31m,\u200d\n"
    for stream, printed in ((io.StringIO(), text), (Terminal(), "a \ufffd[31m,\ufffd\n")):
        monkeypatch.setattr(sys, "stdout", stream)

        print_text([Verbatim(text)])

        assert printed == stream.getvalue()


@every_row(("variable", "columns"), [("40", 40), ("0", 80), ("-1", 80), ("wide", 80), ("9" * 5000, 80)])
def test_width_that_is_no_width_is_ignored(monkeypatch: pytest.MonkeyPatch, variable: str, columns: int):
    """COLUMNS overrides the width if it is one."""
    monkeypatch.setenv("COLUMNS", variable)

    assert columns == terminal_size(io.StringIO()).columns


@pytest.mark.parametrize(("term", "can"), [("xterm", True), ("dumb", False)])
def test_only_a_cursor_that_moves_redraws(monkeypatch: pytest.MonkeyPatch, term: str, can: bool):
    """In an editor's terminal, the views of `watch` would pile up."""
    monkeypatch.setenv("TERM", term)

    assert (can, False) == (can_redraw(Terminal()), can_redraw(io.StringIO()))
