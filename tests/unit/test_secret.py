"""Only `reveal` shows the text of a secret."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import msgspec
import pytest

from shared.secret import Secret
from tests.support.rows import every_row

MARK = "k3y-MARK-é"


@every_row(
    "show",
    [
        repr,
        str,
        ascii,
        "{}".format,
        "{!r}".format,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!s:>40}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: str([secret]),
        lambda secret: repr({"key": secret}),
        lambda secret: str(ValueError(secret)),
        lambda secret: str(dir(secret)),
    ],
)
def test_printing_and_formatting_do_not_show_it(show):
    """Neither a secret nor anything that contains one is printed with its text."""
    assert "MARK" not in show(Secret(MARK))


def test_logging_shows_stars(caplog: pytest.LogCaptureFixture):
    """A secret in a log line is `***`."""
    logging.getLogger("test_secret").warning("key=%s", Secret(MARK))

    assert ["key=***"] == caplog.messages


@every_row(
    "write",
    [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode, msgspec.to_builtins, hash, vars],
)
def test_it_is_not_written_copied_or_hashed(write):
    """Each of these raises a TypeError, whose message does not contain the text."""
    with pytest.raises(TypeError) as raised:
        write(Secret(MARK))
    assert "MARK" not in str(raised.value)


def test_it_is_its_text():
    """Secrets are revealed and compared by their text, never equal to a text, and false if it is empty."""
    assert MARK == Secret(MARK).reveal()
    assert (True, False) == (Secret(MARK) == Secret(MARK), Secret(MARK) == Secret("other"))
    assert (True, False) == (Secret(MARK) != MARK, Secret("***") == "***")
    assert [False, True] == [bool(Secret("")), bool(Secret("x"))]


def test_it_takes_no_further_attributes():
    """A secret has no attributes that could be set."""
    with pytest.raises(AttributeError):
        Secret(MARK).value = "x"
