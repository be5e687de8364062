"""Keys come from a prompt, stdin or a file; an invalid one is rejected without being repeated."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from aijobs.diagnostics import CommandError
from aijobs.key_input import read_key
from shared.secret import Secret
from tests.support.cli_runner import Terminal


def end_of_input(_: str) -> str:
    """Ctrl-D at the prompt."""
    raise EOFError


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (io.StringIO(""), "No key was given."),
        (io.StringIO(" \n"), "No key was given."),
        (io.StringIO("a\nb"), "A key must be a single line."),
        (Terminal(""), "No key was given."),
        (None, "No key was given."),
    ],
    ids=["empty", "blank", "two lines", "Ctrl-D", "closed"],
)
def test_invalid_key_is_rejected(monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None, message: str):
    """No input, and more than one line, are not keys."""
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr("getpass.getpass", end_of_input)

    with pytest.raises(CommandError) as error:
        read_key(None, "contoso")

    assert message == str(error.value)


def test_white_space_around_a_key_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The line break after a key is not part of it, whether the key comes from stdin or from a file with a mark."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-1\n"))
    file = tmp_path / "key.txt"
    file.write_bytes(b"\xef\xbb\xbfsk-2\r\n")

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
