"""A key that cannot be shown by accident. It knows nothing of where keys come from or go to."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import AnyStr, Never
from urllib.parse import quote

_REDACT_FROM = 8
"""A shorter key would be found in innocent text."""
_ESCAPED = re.compile(r"[^A-Za-z0-9._~-]")
"""What an encoder of JSON may escape, of the characters that keys are made of."""
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
        return _unescaped(_blotted(text, [one.encode() for one in spellings], b"***"), told, b"\\", b"***")
    return _unescaped(_blotted(text, spellings, "***"), told, "\\", "***")


def _unescaped(text: AnyStr, told: str, backslash: AnyStr, stars: AnyStr) -> AnyStr:
    """Without the key as JSON may have it: some encoders escape `/`, and others `+`, `=`, `<` or `&`."""
    if backslash not in text or not _ESCAPED.search(told):
        return text
    spelled = "".join(
        rf"(?:\\?{re.escape(one)}|\\u{ord(one):04x})" if _ESCAPED.match(one) else re.escape(one) for one in told
    )
    return re.sub(spelled.encode() if isinstance(text, bytes) else spelled, stars, text, flags=re.IGNORECASE)


def _blotted(text: AnyStr, spellings: Iterable[AnyStr], stars: AnyStr) -> AnyStr:
    lowered = text.lower()  # most texts hold no key, and this is quicker to find out so
    for spelling in spellings:
        if spelling.lower() in lowered:
            text = re.sub(re.escape(spelling), stars, text, flags=re.IGNORECASE)
    return text
