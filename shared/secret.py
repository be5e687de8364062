"""A key that cannot be shown by accident. It knows nothing of where keys come from or go to."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import AnyStr, Never
from urllib.parse import quote

_REDACT_FROM = 8
"""A shorter key would be found in innocent text."""
_JSON_ESCAPE = r"\\+(?:/|u00(2[013-9a-f]|3[a-f]|40|5[bd-f]|60|7[b-e]))"
"""Of what keys are made of beside letters and digits; not the quote and the backslash, without which JSON is none."""
_IN_TEXT = re.compile(_JSON_ESCAPE, re.IGNORECASE)
_IN_BYTES = re.compile(_JSON_ESCAPE.encode(), re.IGNORECASE)
_IN_PATHS = "!$&'()*+,;=:@"


class Secret:
    """
    A credential whose text is given only to who asks for it by name: `reveal()`.

    `repr`, `str`, formatting and logging show `***`; it can't be pickled, copied into JSON or used
    as a dictionary's key. Two secrets compare equal in constant time.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The text itself, for an authentication header and nothing else."""
        return self.__value

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.reveal().encode())

    __hash__ = None  # type: ignore[assignment]  # a dictionary of secrets would have to hash the key itself

    def __reduce__(self) -> Never:
        raise TypeError("A secret is not pickled.")


def redact(text: AnyStr, secret: Secret) -> AnyStr:
    """`text` with three stars for the secret, in whatever case: a host is written in lower case, a path encoded."""
    told = secret.reveal()
    if not _REDACT_FROM <= len(told) <= len(text):
        return text
    spellings = dict.fromkeys((told, quote(told, safe=""), quote(told, safe=_IN_PATHS)))
    if isinstance(text, bytes):
        return _blotted(_plain(text, told.encode(), _IN_BYTES), [one.encode() for one in spellings], b"***")
    return _blotted(_plain(text, told, _IN_TEXT), spellings, "***")


def _plain(text: AnyStr, told: AnyStr, escape: re.Pattern[AnyStr]) -> AnyStr:
    """`text` without its JSON escapes (one level or more), where the key is found so; else `text` itself."""
    if told.isalnum() or not escape.search(text):
        return text
    plain = escape.sub(_character, text)
    return plain if told.lower() in plain.lower() else text


def _character(found: re.Match[AnyStr]) -> AnyStr:
    number, all_of_it = int(found[1] or b"2f", 16), found[0]
    return all_of_it[:0] + (bytes([number]) if isinstance(all_of_it, bytes) else chr(number))


def _blotted(text: AnyStr, spellings: Iterable[AnyStr], stars: AnyStr) -> AnyStr:
    lowered = text.lower()  # most texts hold no key, and this is quicker to find out so
    for spelling in spellings:
        if spelling.lower() in lowered:
            text = re.sub(re.escape(spelling), stars, text, flags=re.IGNORECASE)
    return text
