"""
What identifies a line at its provider. Pure.

`00012` within a batch whose file is known to be ours; `{batch}_00012` where nothing else at the provider says so.
"""

from __future__ import annotations

import re

from shared.jobs.lines import custom_id

_FULL = re.compile(r"([0-9]{14}-[0-9a-f]{8})_([0-9]{5})", re.ASCII)
_SHORT = re.compile(r"[0-9]{1,9}", re.ASCII)


def full_id(batch_id: str, number: int) -> str:
    """Return what identifies a line among those of all batches."""
    return f"{batch_id}_{custom_id(number)}"


def batch_of(text: str | None) -> str:
    """Return the batch that such an id names; empty if it is none of ours."""
    match = _FULL.fullmatch(text or "")
    return match[1] if match else ""


def number_of(text: str | None, batch_id: str) -> int:
    """Return the number of the batch's line that an id names, in either form; -1 if it names none."""
    if match := _FULL.fullmatch(text or ""):
        return int(match[2]) if match[1] == batch_id else -1
    return int(text) if text and _SHORT.fullmatch(text) else -1
