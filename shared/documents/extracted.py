"""What is read of a document, and how the process that reads it says so. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, get_args

from shared.documents.kinds import MEDIA_TYPES, Kind, Problem
from shared.documents.pictures import MAX_PICTURE_BYTES, MAX_PICTURES, PNG
from shared.documents.text_builder import MAX_TEXT_BYTES

MAX_HEAD_BYTES = 64 * 1024
MAX_OUTPUT_BYTES = MAX_TEXT_BYTES + MAX_PICTURE_BYTES + MAX_HEAD_BYTES
_MAX_PAGES = 1 << 24
"""No format counts more."""
_RANGES = re.compile("[0-9, -]+")
TOO_MUCH = 77
"""The exit code of the process if it needs more memory than a document may take."""


class Extracted(NamedTuple):
    """A document's text."""

    kind: Kind
    text: str
    pages: int | None = None
    """Or slides; None: the format has none."""
    pages_without_text: str | None = None
    """The numbers of those that have pictures, but no text, such as "3-5, 8"."""
    pictures: tuple[bytes, ...] = ()
    """Of these pages, as PNG, if they were asked for. `pictures.anchor` is where they are in the text."""


def encode(result: Extracted | Problem) -> bytes:
    """Return what `decode` reads: a line of JSON, the pictures, and the text."""
    if isinstance(result, str):
        return json.dumps({"problem": result}).encode() + b"\n"
    sizes = [len(picture) for picture in result.pictures]
    head = {"kind": result.kind, "pages": result.pages, "pages_without_text": result.pages_without_text, "sizes": sizes}
    # Half a pair of surrogates, which JSON and UTF-8 can't hold, becomes a question mark.
    text = result.text.encode("utf-8", "replace")
    return b"".join((json.dumps(head).encode(), b"\n", *result.pictures, text))


def decode(output: bytes) -> Extracted | Problem:
    """Return what `encode` was given. Raises ValueError otherwise: a document may have taken over what reads it."""
    line, end, rest = output.partition(b"\n")
    try:
        value: Any = json.loads(line) if end and len(line) < MAX_HEAD_BYTES else None
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("The output has no head.")  # noqa: TRY004  # one error for all that is wrong
    head: dict[str, Any] = value
    if "problem" in head:
        if head["problem"] not in get_args(Problem):
            raise ValueError("The problem is unknown.")
        problem: Problem = head["problem"]
        return problem
    kind: Any = head.get("kind")
    pages, without = head.get("pages"), head.get("pages_without_text")
    is_valid = (
        (isinstance(kind, str) and kind in MEDIA_TYPES)
        and (pages is None or (isinstance(pages, int) and 0 <= pages <= _MAX_PAGES))
        and (without is None or (isinstance(without, str) and _RANGES.fullmatch(without)))
    )
    if not is_valid:
        raise ValueError("The head is invalid.")
    pictures, text = _split(rest, head.get("sizes"))
    return Extracted(kind, text.decode(), pages, without, pictures)


def _split(data: bytes, sizes: Any) -> tuple[tuple[bytes, ...], bytes]:
    """Return the pictures of these sizes, and the text after them. Raises ValueError."""
    if not isinstance(sizes, list) or len(sizes) > MAX_PICTURES:
        raise ValueError("The sizes are invalid.")
    pictures, start = [], 0
    for size in sizes:
        if not isinstance(size, int) or size < len(PNG) or not data.startswith(PNG, start):
            raise ValueError("A picture is none.")
        pictures.append(data[start : start + size])
        start += size
    if start > min(len(data), MAX_PICTURE_BYTES) or len(data) - start > MAX_TEXT_BYTES:
        raise ValueError("The pictures or the text are too large.")
    return tuple(pictures), data[start:]


def ranges(numbers: list[int]) -> str | None:
    """Return ascending numbers in words, such as "3-5, 8"; None if there are none."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return text[: MAX_HEAD_BYTES // 2] or None
