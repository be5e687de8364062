"""A secret shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import msgspec
import pytest

from shared.secret import Secret

MARK = "k3y-MARK-é"


@pytest.mark.parametrize(
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
def test_no_way_of_printing_shows_it(show):
    """Printing, formatting and what holds a secret show three stars."""
    assert "MARK" not in show(Secret(MARK))


def test_logging_shows_stars(caplog: pytest.LogCaptureFixture):
    """A log line with a secret in it has none."""
    logging.getLogger("test_secret").warning("key=%s", Secret(MARK))

    assert ["key=***"] == caplog.messages


@pytest.mark.parametrize(
    "write",
    [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode, msgspec.to_builtins, hash, vars],
)
def test_it_is_not_written_copied_or_hashed(write):
    """What would carry the key elsewhere raises, and does not show it either."""
    with pytest.raises(TypeError) as raised:
        write(Secret(MARK))
    assert "MARK" not in str(raised.value)


def test_it_is_revealed_by_name():
    """`reveal` gives the text as it is."""
    assert MARK == Secret(MARK).reveal()


def test_secrets_compare_by_their_text_and_with_nothing_else():
    """Two secrets of one text are equal; a secret is no text."""
    assert Secret(MARK) == Secret(MARK)
    assert Secret(MARK) != Secret("other")
    assert Secret(MARK) != MARK
    assert Secret("***") != "***"


def test_an_empty_secret_is_false():
    """Whether there is one can be asked without revealing it."""
    assert [False, True] == [bool(Secret("")), bool(Secret("x"))]


def test_it_takes_no_further_attributes():
    """Nothing can be hung on a secret, nor its text be set anew by its name."""
    with pytest.raises(AttributeError):
        Secret(MARK).value = "x"
