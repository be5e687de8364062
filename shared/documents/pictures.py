"""
The pictures of pages that have no text: where they are in a document's text, and how many there may be. Pure.

A picture's anchor is one character of its own, which the text has nowhere else.
"""

from __future__ import annotations

import re

MAX_PICTURES = 50
"""Of a job's documents together."""
MAX_PICTURE_BYTES = 16 * 1024 * 1024
"""Likewise."""
PNG = b"\x89PNG\r\n\x1a\n"
_FIRST = 0xF0000
ANCHORS = re.compile(f"[{chr(_FIRST)}-{chr(_FIRST + MAX_PICTURES - 1)}]")
"""The anchors of pictures in a text."""


def anchor(index: int) -> str:
    """Return the anchor of the picture with that index."""
    return chr(_FIRST + index)


def index_of(character: str) -> int:
    """Return the index of the picture whose anchor this is."""
    return ord(character) - _FIRST


def numbered_from(first: int, count: int, text: str) -> str:
    """Return a document's text with its `count` pictures numbered from `first` on, and no other character of theirs."""
    new: dict[int, str | None] = {_FIRST + index: None for index in range(MAX_PICTURES)}
    return text.translate(new | {_FIRST + index: anchor(first + index) for index in range(count)})
