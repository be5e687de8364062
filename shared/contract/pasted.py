"""Texts as people paste them and tools export them: what came along with a value, and what stands in its place."""

from __future__ import annotations

import re
import string

# Python's white space has neither the byte order mark, which editors and PowerShell write (here also as what it
# becomes if it is read as Latin-1), nor the others that nobody sees.
_EDGES = f"{string.whitespace}\x00\x85\xa0\u2028\u2029\u3000\ufeff\u200b\u2060"
_MISREAD_MARK = "\xef\xbb\xbf"
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u201e": "\u201c"}
_MAX_QUOTES = 4
_is_placeholder = re.compile(r"\$\{.+\}|\$\(.+\)|\{\{.+\}\}|#\{.+\}#?|<[^<>]+>").fullmatch
"""Of a shell, a pipeline, a template, a page of documentation."""


def unquote(text: str) -> str:
    """Return a text without the white space, the byte order mark and the pairs of quotes around it."""
    text = text.strip(_EDGES).removeprefix(_MISREAD_MARK).strip(_EDGES)
    for _ in range(_MAX_QUOTES):
        if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
            text = text[1:-1].strip(_EDGES)
    return text


def is_placeholder(text: str) -> bool:
    """Whether a text only marks where a value belongs."""
    return _is_placeholder(text) is not None
