"""
Texts as models take them: about how many tokens one has, and how a long one comes apart. Pure.

No tokenizer is asked: a deployment's name says nothing about its model, and so nothing about its
tokenizer, and loading one costs more than a whole cold start. What is needed is a bound that seldom
fails, and a caller who can cut again where it did.
"""

from __future__ import annotations

import re
import unicodedata

# Models' tokenizers are byte-pair encoders over UTF-8. English comes to 4 characters a token and more
# (platform.openai.com/tokenizer), code and tables to about 3; beyond ASCII fewer bytes are merged, and
# rare CJK characters are 2 tokens. Counted in sixths of a token, a character weighs by its bytes:
# ASCII 1/3 of a token, accents and Cyrillic 1, CJK 1.5, emoji 2.
_SIXTHS = 6
_ASCII_BYTE = 2
_OTHER_BYTE = 3
_ASCII = bytes(range(128))

SMALLEST_LIMIT = 2
"""Tokens: any character fits."""

# Each begins where it can only begin, and never looks back over what it has read: linear in any text.
_BORDERS = (
    re.compile(r"\r?\n[^\S\r\n]*\r?\n|\u2029"),  # paragraphs
    re.compile(r"\r\n|[\n\r\v\f\x85\u2028]"),  # lines
    re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？｡]+[」』”’）]*"),  # noqa: RUF001  # sentences
    re.compile(r"\s+|\u200b"),  # words
)
_JOINER = "\u200d"
_LONGEST_CLUSTER = 32
"""Characters that a cut goes back to spare what is seen as one; real ones are shorter."""


def estimate_tokens(text: str) -> int:
    """
    How many tokens `text` has at most, for ordinary text and any model; about a third more than it
    really has in English. No bound for what is no language, such as random digits.
    """
    return -(-_weight(text) // _SIXTHS)


def split(text: str, limit_tokens: int) -> list[str]:
    """
    `text` as consecutive parts of at most `limit_tokens` estimated tokens; joined they are `text` again.

    A part ends at the last paragraph border that leaves it at least half full, or else line border, or
    sentence, or word, or else where it is full, but not within what is seen as one character. So there
    are at most about twice as many parts as there have to be. Raises ValueError below SMALLEST_LIMIT.
    """
    if limit_tokens < SMALLEST_LIMIT:
        raise ValueError(f"A part takes at least {SMALLEST_LIMIT} tokens.")
    parts, start = [], 0
    while start < len(text):
        full = _reach(text, start, limit_tokens * _SIXTHS)
        end = full if full == len(text) else _border(text, start, full)
        parts.append(text[start:end])
        start = end
    return parts


def _weight(text: str) -> int:
    if text.isascii():
        return len(text) * _ASCII_BYTE
    data = text.encode("utf-8", "surrogatepass")
    other = len(data.translate(None, _ASCII))
    return (len(data) - other) * _ASCII_BYTE + other * _OTHER_BYTE


def _reach(text: str, start: int, room: int) -> int:
    """The furthest end of a part that begins at `start`. Each look is at half of the one before: linear."""
    low, high = start, min(len(text), start + room // _ASCII_BYTE)
    middle = high  # the whole of it first: for ASCII that settles it
    while low < high:
        weight = _weight(text[low:middle])
        if weight <= room:
            low, room = middle, room - weight
        else:
            high = middle - 1
        middle = (low + high + 1) // 2
    return low


def _border(text: str, start: int, full: int) -> int:
    half = start + (full - start + 1) // 2
    for border in _BORDERS:
        ends = [found.end() for found in border.finditer(text, max(start, half - 1), full)]
        if ends and ends[-1] > start:
            return ends[-1]
    for end in range(full, max(start, full - _LONGEST_CLUSTER), -1):
        if not _holds_together(text[end - 1], text[end]):
            return end
    return full


def _holds_together(before: str, after: str) -> bool:
    """Whether two characters are seen as one: the common part of Unicode's rules (unicode.org/reports/tr29)."""
    return (
        _JOINER in {before, after}
        or unicodedata.category(after).startswith("M")
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # the skin of an emoji
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
    )
