"""A token of the app's identity."""

from __future__ import annotations

from typing import NamedTuple

from shared.secret import Secret

_RENEW_S = 300
"""Seconds before it expires that a token is renewed, as azure-core has it."""
RETRY_S = 30
"""Seconds between two requests to renew a token that is still valid, as azure-identity has it."""
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
    # The platform keeps tokens, too, so that a new one may be about to expire, and the next request bring it again.
    renew_in_s = life_s / 2 if life_s >= _HALVED_S else max(life_s - _RENEW_S, RETRY_S)
    return Token(Secret(text), expires_on, now + renew_in_s)


def is_token(text: str) -> bool:
    """Whether a text can be a token in a header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
