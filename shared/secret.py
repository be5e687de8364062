"""A key that can't be shown by accident, its redaction from texts, and what may stand in its place."""

from __future__ import annotations

import hmac
import re
from typing import AnyStr, Never
from urllib.parse import quote

_SHORT = 8
"""Characters. A shorter key is only found as a whole word, since it could be a part of ordinary ones."""
_SHORTEST = 4
_PLACEHOLDER = re.compile(r"[A-Za-z]+(?:[-_ ][A-Za-z]+){0,5}")
"""What local servers are given for a key, such as `lm-studio`: words, which no provider makes keys of."""
_MAX_PLACEHOLDER = 24
_MAX_REPETITIONS = 4
_LONGEST_ESCAPE = 12
"""Bytes of a character that JSON within JSON escapes, and JSON around that once more."""
_JSON_ESCAPED = '"/\\'
"""Characters that JSON has its own escapes for, of those that keys have."""
_REFERENCE = re.compile(r"\s*@Microsoft\.(?:KeyVault|AppConfiguration)\s*\(", re.IGNORECASE)


class Secret:
    """
    A credential whose text only `reveal()` returns.

    `repr`, `str`, formatting and logging show `***`. It can't be pickled, encoded as JSON or used as a dictionary key.
    Two secrets are compared in constant time.
    """

    __slots__ = ("__forms", "__value")

    def __init__(self, value: str) -> None:
        self.__value = value
        self.__forms = _forms(value)

    def reveal(self) -> str:
        """Return the text itself: to authenticate, decode, redact, store, sign or connect. Never to show it."""
        return self.__value

    def may_be_in(self, text: str | bytes) -> bool:
        """
        Return whether a text has the part of the secret that is the same however it is spelled. Most texts have not.

        A key that is a placeholder (see _PLACEHOLDER), or has fewer than four characters, is not secret.
        """
        if not self.__forms:
            return False
        lowered, (core, *encoded) = text.lower(), self.__forms
        return core in lowered if isinstance(lowered, str) else any(form in lowered for form in encoded)

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


def is_reference(text: str) -> bool:
    """Whether a text is a reference to a secret: Azure replaces it in app settings alone, and only if it can."""
    return _REFERENCE.match(text) is not None


def redact(text: AnyStr, secret: Secret) -> AnyStr:
    """
    Return `text` with `***` in place of the secret.

    The secret is also found in another case, as in a host, URL-encoded or JSON-escaped, and in bytes as UTF-16. What is
    not secret stays (see Secret.may_be_in). Takes linear time: to that end, a key that keeps repeating its own
    beginning is only found as it usually is written.
    """
    if not secret.may_be_in(text):
        return text
    key = secret.reveal()
    if isinstance(text, str):
        return _replace_all(text, _usual_spellings(key)) if _repeats(key) else re.sub(_pattern(key), "***", text)
    if _repeats(key):
        return _replace_all(text.decode("latin-1"), _usual_spellings(key)).encode("latin-1")
    text = re.sub(_pattern(key).encode(), b"***", text)
    for encoding in ("utf-16-le", "utf-16-be"):
        text = re.sub(b"(?i)" + re.escape(key.encode(encoding)), b"***", text)
    return text


def longest_spelling(secret: Secret) -> int:
    """Return the bytes that the secret has at most, escaped for JSON within JSON: a chunk may end within it."""
    return _LONGEST_ESCAPE * len(secret.reveal())


def _is_placeholder(key: str) -> bool:
    if len(key) < _SHORT and (key.isdecimal() or key.isalpha()):
        return True  # a number or a word of an answer
    return len(key) <= _MAX_PLACEHOLDER and _PLACEHOLDER.fullmatch(key) is not None


def _repeats(key: str) -> bool:
    """
    Whether a search for the key could walk over a part of a text again and again: it begins at each repetition.

    Without them, two starts that both look promising are at least _SHORT characters apart, or one of them fails soon.
    """
    lowered = key.lower()
    beginning, count, start = lowered[:_SHORT], 0, 0
    while count <= _MAX_REPETITIONS and (start := lowered.find(beginning, start) + 1):
        count += 1
    return count > _MAX_REPETITIONS


def _replace_all(text: str, spellings: set[str]) -> str:
    for spelling in spellings:
        text = text.replace(spelling, "***")
    return text


def _usual_spellings(key: str) -> set[str]:
    escaped = key.replace("\\", r"\\").replace('"', r"\"")
    return {key, key.lower(), quote(key, safe=""), escaped, escaped.replace("/", r"\/")}


def _forms(key: str) -> tuple[str, bytes, bytes, bytes] | None:
    """
    The longest part of the key that is the same however it is spelled, in lower case, and its bytes: a text without it
    does not contain the key. None: the key is not secret.
    """
    if len(key) < _SHORTEST or _is_placeholder(key):
        return None
    core = max(re.findall(r"[A-Za-z0-9]+", key), key=len, default="").lower()
    return core, core.encode(), core.encode("utf-16-le"), core.encode("utf-16-be")


def _pattern(key: str) -> str:
    """A pattern of the key as it is, URL-encoded or JSON-escaped to whatever depth, in any case."""
    # A run of backslashes is only tried at its start: each start within it would walk to its end again.
    first = _spellings(key[0]).replace(r"\\++", r"(?<!\\)\\++")
    if key[0] == "\\":
        first = rf"(?<!\\){first}"
    whole = first + "".join(_spellings(character) for character in key[1:])
    return f"(?i){whole}" if len(key) >= _SHORT else f"(?i)(?<![A-Za-z0-9]){whole}(?![A-Za-z0-9])"


def _spellings(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    escapes = "".join(rf"\\u{unit:04x}" for unit in _utf_16_units(character)).replace(r"\\", r"\\++", 1)
    spelled = [re.escape(character), re.escape(quote(character, safe="")), escapes]
    if character in _JSON_ESCAPED:
        spelled.insert(0, rf"\\++{re.escape(character)}" if character != "\\" else r"\\++")
    return f"(?:{'|'.join(dict.fromkeys(spelled))})"


def _utf_16_units(character: str) -> list[int]:
    data = character.encode("utf-16-be")
    return [int.from_bytes(data[start : start + 2]) for start in range(0, len(data), 2)]
