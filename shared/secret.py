"""A key that can't be shown by accident, and its redaction from texts."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import AnyStr, Never
from urllib.parse import quote

_REDACT_FROM = 8
"""Characters. A shorter key would match ordinary text."""
_JSON_ESCAPE = r"\\+(?:/|u00(2[013-9a-f]|3[a-f]|40|5[bd-f]|60|7[b-e]))"
"""Characters of keys besides letters and digits; not the quote and the backslash, which JSON itself needs."""
_IN_TEXT = re.compile(_JSON_ESCAPE, re.IGNORECASE)
_IN_BYTES = re.compile(_JSON_ESCAPE.encode(), re.IGNORECASE)
_IN_PATHS = "!$&'()*+,;=:@"


class Secret:
    """
    A credential whose text only `reveal()` returns.

    `repr`, `str`, formatting and logging show `***`. It can't be pickled, encoded as JSON or used as a dictionary key.
    Two secrets are compared in constant time.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the text itself: to authenticate, decode, redact, store, sign or connect. Never to show it."""
        return self.__value

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.reveal().encode())

    __hash__ = None  # type: ignore[assignment]  # a hash would be made of the key itself

    def __reduce__(self) -> Never:
        raise TypeError("A secret can't be pickled.")


def redact(text: AnyStr, secret: Secret) -> AnyStr:
    """
    Return `text` with `***` in place of the secret.

    The secret is also found in another case, as in a host, and URL-encoded or JSON-escaped.
    """
    key = secret.reveal()
    if not _REDACT_FROM <= len(key) <= len(text):
        return text
    spellings = dict.fromkeys((key, quote(key, safe=""), quote(key, safe=_IN_PATHS)))
    if isinstance(text, bytes):
        encoded = [spelling.encode() for spelling in spellings]
        return _replace(_unescape(text, key.encode(), _IN_BYTES), encoded, b"***")
    return _replace(_unescape(text, key, _IN_TEXT), spellings, "***")


def _unescape(text: AnyStr, key: AnyStr, escape: re.Pattern[AnyStr]) -> AnyStr:
    """Return `text` without its JSON escapes, of any depth, if the key is found that way; else `text` itself."""
    if key.isalnum() or not escape.search(text):
        return text
    unescaped = escape.sub(_character, text)
    return unescaped if key.lower() in unescaped.lower() else text


def _character(match: re.Match[AnyStr]) -> AnyStr:
    number, escape = int(match[1] or b"2f", 16), match[0]
    return escape[:0] + (bytes([number]) if isinstance(escape, bytes) else chr(number))


def _replace(text: AnyStr, spellings: Iterable[AnyStr], stars: AnyStr) -> AnyStr:
    lowered = text.lower()  # most texts contain no key, which this finds out faster than the substitution
    for spelling in spellings:
        if spelling.lower() in lowered:
            text = re.sub(re.escape(spelling), stars, text, flags=re.IGNORECASE)
    return text
