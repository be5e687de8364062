"""
Split long texts into parts by an estimate of their tokens. Pure.

There is no tokenizer here: a deployment's name doesn't say which model it runs, so the right tokenizer is unknown, and
loading one takes longer than a whole cold start. An upper bound that rarely fails is enough, because a caller whose
part is refused as too long can split it again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Models' tokenizers are byte-pair encoders over UTF-8. English has 4 or more characters a token
# (platform.openai.com/tokenizer), code and tables about 3. Beyond ASCII fewer bytes are merged, and rare CJK characters
# take 2 tokens. A character's weight, in sixths of a token, follows from its bytes: ASCII 1/3 of a token, accented and
# Cyrillic letters 1, CJK 1.5, emoji 2.
_WEIGHT_PER_TOKEN = 6
_ASCII_BYTE_WEIGHT = 2
_OTHER_BYTE_WEIGHT = 3
_ASCII = bytes(range(128))

MIN_LIMIT = 2
"""Tokens. Every character fits."""

# In the order of preference. None of them backtracks, so that searching takes linear time for any text.
_BOUNDARIES = (
    re.compile(r"\r?\n[^\S\r\n]*\r?\n|\u2029"),  # paragraphs
    re.compile(r"\r\n|[\n\r\v\f\x85\u2028]"),  # lines
    re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？｡]+[」』”’）]*"),  # noqa: RUF001  # sentences
    re.compile(r"\s+|\u200b"),  # words
)
_HEADINGS = re.compile(r"\n(?=#{1,6} |\[(?:Page|Slide) [0-9])")
"""Where the sections and pages of a document begin, as `shared/documents/` marks them."""
PICTURE_TOKENS = 1_500
"""
Of a page as a picture, drawn 1,536 pixels high: OpenAI's models count up to 1,600, Claude 2,200. So eight of them are
a part.
"""
_ZERO_WIDTH_JOINER = "\u200d"
_MAX_CLUSTER_LENGTH = 32
"""Characters. A longer grapheme cluster may be split; real ones are shorter."""


def estimate_tokens(text: str, anchors: re.Pattern[str] | None = None) -> int:
    """
    Return an upper bound of the tokens in `text`, for natural language and any model.

    `anchors`: the characters that pictures are sent for. For English it is about a third above the real number.
    It is no bound for text such as random digits.
    """
    return -(-_weight(text, anchors) // _WEIGHT_PER_TOKEN)


def split(
    text: str, limit_tokens: int, *, at_headings: bool = False, anchors: re.Pattern[str] | None = None
) -> list[str]:
    """
    Return consecutive parts of `text`, each of at most `limit_tokens` estimated tokens. Joined, they are `text`.

    A part ends at the last boundary in its second half: of a paragraph, else of a line, a sentence or a word; with
    `at_headings` before a heading, if there is one. Without any boundary it ends where it is full, but not within a
    grapheme cluster. So there are at most about twice as many parts as necessary. A picture has more tokens than its
    anchor, and alone it may exceed the limit. Raises ValueError if `limit_tokens` is below MIN_LIMIT.
    """
    if limit_tokens < MIN_LIMIT:
        raise ValueError(f"`limit_tokens` must be at least {MIN_LIMIT}.")
    boundaries = (_HEADINGS, *_BOUNDARIES) if at_headings else _BOUNDARIES
    parts, start = [], 0
    while start < len(text):
        full = max(start + 1, _longest_end(text, start, limit_tokens * _WEIGHT_PER_TOKEN, anchors))
        end = full if full == len(text) else _boundary(text, start, full, boundaries)
        parts.append(text[start:end])
        start = end
    return parts


def _weight(text: str, anchors: re.Pattern[str] | None = None) -> int:
    if text.isascii():
        return len(text) * _ASCII_BYTE_WEIGHT
    data = text.encode("utf-8", "surrogatepass")
    other = len(data.translate(None, _ASCII))
    pictures = len(anchors.findall(text)) if anchors else 0
    weight = (len(data) - other) * _ASCII_BYTE_WEIGHT + other * _OTHER_BYTE_WEIGHT
    return weight + pictures * PICTURE_TOKENS * _WEIGHT_PER_TOKEN


def _longest_end(text: str, start: int, max_weight: int, anchors: re.Pattern[str] | None) -> int:
    """Return the end of the longest part from `start` that weighs at most `max_weight`: a bisection in linear time."""
    low, high = start, min(len(text), start + max_weight // _ASCII_BYTE_WEIGHT)
    middle = high  # for ASCII the first check is the last
    while low < high:
        weight = _weight(text[low:middle], anchors)
        if weight <= max_weight:
            low, max_weight = middle, max_weight - weight
        else:
            high = middle - 1
        middle = (low + high + 1) // 2
    return low


def _boundary(text: str, start: int, full: int, boundaries: Sequence[re.Pattern[str]]) -> int:
    half = start + (full - start + 1) // 2
    for pattern in boundaries:
        positions = [match.end() for match in pattern.finditer(text, max(start, half - 1), full)]
        if positions and positions[-1] > start:
            return positions[-1]
    for end in range(full, max(start, full - _MAX_CLUSTER_LENGTH), -1):
        if not _is_one_cluster(text[end - 1], text[end]):
            return end
    return full


def _is_one_cluster(before: str, after: str) -> bool:
    """Return whether two characters belong to one grapheme cluster, by the common rules of unicode.org/reports/tr29."""
    return (
        _ZERO_WIDTH_JOINER in {before, after}
        or unicodedata.category(after).startswith("M")
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones of emoji
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
    )
