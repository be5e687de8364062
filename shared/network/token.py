"""A token of the app's identity."""

from __future__ import annotations

from typing import NamedTuple

from shared.secret import Secret

RENEW_S = 300
"""Seconds before it expires that a token is renewed, as azure-core has it."""
_HALVED_S = 7200
"""A token that is valid for so long is renewed after half of its time, as azure-identity has it."""


class Token(NamedTuple):
    """A token. Times are Unix seconds."""

    value: Secret
    expires_on: float
    renew_on: float


def new_token(text: str, expires_on: float, now: float) -> Token:
    """Return a token that was requested `now`, with the time to renew it."""
    life_s = expires_on - now
    return Token(Secret(text), expires_on, now + life_s / 2 if life_s >= _HALVED_S else expires_on - RENEW_S)


def is_token(text: str) -> bool:
    """Whether a text can be a token in a header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
