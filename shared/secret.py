"""A key that can't be shown by accident, and its redaction from texts."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import AnyStr, Never
from urllib.parse import quote

_SHORT = 8
"""Characters. A shorter key is only found as a whole word, since it could be a part of ordinary ones."""
_SHORTEST = 4
_PLACEHOLDER = re.compile(r"[A-Za-z]+(?:[-_ ][A-Za-z]+){0,5}")
"""What local servers are given for a key, such as `lm-studio`: words, which no provider makes keys of."""
_MAX_PLACEHOLDER = 24
# A run of backslashes is only tried at its start: each start within it would walk to its end again.
_JSON_ESCAPE = r"(?<!\\)\\+(?:/|u00(2[013-9a-f]|3[a-f]|40|5[bd-f]|60|7[b-e]))"
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

    The secret is also found in another case, as in a host, URL-encoded or JSON-escaped, and in bytes as UTF-16. A key
    that is a placeholder (see _PLACEHOLDER), or has fewer than four characters, is not secret. Takes linear time.
    """
    key = secret.reveal()
    if not _SHORTEST <= len(key) <= len(text) or _is_placeholder(key):
        return text
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    spellings = dict.fromkeys((key, escaped, quote(key, safe=""), quote(key, safe=_IN_PATHS)))
    if isinstance(text, bytes):
        encoded = [spelling.encode() for spelling in spellings]
        encoded += [key.encode(encoding) for encoding in ("utf-16-le", "utf-16-be")]
        return _replace(
            _unescape(text, key.encode(), _IN_BYTES), encoded, b"***", rb"(?<![A-Za-z0-9])", rb"(?![A-Za-z0-9])"
        )
    return _replace(_unescape(text, key, _IN_TEXT), spellings, "***", r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])")


def _is_placeholder(key: str) -> bool:
    if len(key) < _SHORT and (key.isdecimal() or key.isalpha()):
        return True  # a number or a word of an answer
    return len(key) <= _MAX_PLACEHOLDER and _PLACEHOLDER.fullmatch(key) is not None


def _unescape(text: AnyStr, key: AnyStr, escape: re.Pattern[AnyStr]) -> AnyStr:
    """Return `text` without its JSON escapes, of any depth, if the key is found that way; else `text` itself."""
    if key.isalnum() or not escape.search(text):
        return text
    unescaped = escape.sub(_character, text)
    return unescaped if key.lower() in unescaped.lower() else text


def _character(match: re.Match[AnyStr]) -> AnyStr:
    number, escape = int(match[1] or b"2f", 16), match[0]
    return escape[:0] + (bytes([number]) if isinstance(escape, bytes) else chr(number))


def _replace(text: AnyStr, spellings: Iterable[AnyStr], stars: AnyStr, before: AnyStr, after: AnyStr) -> AnyStr:
    lowered = text.lower()  # most texts contain no key, which this finds out faster than the substitution
    for spelling in spellings:
        if spelling.lower() in lowered:
            pattern = re.escape(spelling)
            pattern = before + pattern + after if len(spelling) < _SHORT else pattern
            text = re.sub(pattern, stars, text, flags=re.IGNORECASE)
    return text
