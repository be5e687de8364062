"""JSON bytes to a frozen Struct, or one sentence that names the member at fault and what would be right."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from shared.errors import InvalidJob

T = TypeVar("T")

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON, or not JSON of the type."""

UNKNOWN = " is not a known member"
"""What stands behind the name of an unknown member in a refusal."""
MAX_CONTAINERS = 200_000
"""Lists and objects in one JSON text. Three bytes each, as Python objects they take twenty times as much memory."""
MAX_FOREIGN_CONTAINERS = 2_000_000
"""
As MAX_CONTAINERS, in a provider's JSON, where they take up to 0.4 GB in Python. Logprobs fill 64 MiB with fewer.
"""
MAX_MEMBERS = 500_000
"""Members of all objects in one JSON text."""
MAX_FOREIGN_MEMBERS = 3_000_000
"""As MAX_MEMBERS, in a provider's JSON."""
MAX_FOREIGN_VALUES = 6_000_000
"""Values of all lists and objects in a provider's JSON. 64 MiB of floats of full length are fewer."""
_CONDENSED_BYTES = 1024 * 1024
_OPAQUE = frozenset({"choices", "embeddings", "events", "json", "prompt_filter_results", "text"})
"""Members of outputs that only whoever gets the result looks into."""
_MAX_SHORT = 16 * 1024
# A text, or an object with objects in it.
_SHORT_VALUE = re.compile(rb'\s{0,99}+:\s{0,99}+("[^"\\]*+"|\{(?:[^{}]|\{[^{}]*+\})*+\})')
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
# A pair of surrogates, any other escape but of a code unit, or half a pair.
_ESCAPED_TEXT = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_STRING_OR_MARKS = re.compile(rb'"[^"]*"?|([^"]+)')


def decode(data: bytes | msgspec.Raw, kind: type[T], *, at: str = "", root: str = "The job") -> T:
    """
    `data` as a `kind`. `at` is the path of `data` in the whole text; `root` is what messages call that text.

    Raises InvalidJob, whose message begins with the path of the member at fault.
    """
    excess = find_excess(bytes(data), containers=MAX_CONTAINERS, members=MAX_MEMBERS)
    if excess:
        raise InvalidJob(f"{f'`{at}`' if at else root} contains more than {excess}.")
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as exc:
        from shared.contract.refusals import refusal  # noqa: PLC0415  # most texts are not refused

        # A traceback of a thousand frames helps nobody.
        cause = None if isinstance(exc, RecursionError) else exc
        raise InvalidJob(refusal(exc, data, kind, at=at, root=root)) from cause


def json_value(data: bytes) -> Any:
    """
    The value of a JSON text that somebody else wrote, such as a provider. Raises one of UNREADABLE.

    What was paid for is kept through odd bytes: a byte order mark, control characters in a string, broken UTF-8, and
    NaN or Infinity, which become None. Half a surrogate pair, which is left if a text was cut within a character, is
    read as U+FFFD.
    """
    excess = find_foreign_excess(data)
    if excess:
        raise msgspec.DecodeError(f"The JSON has more than {excess}.")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _lenient_value(data)


def _lenient_value(data: bytes) -> Any:
    import json  # noqa: PLC0415  # hardly any text needs it

    text = data.decode(json.detect_encoding(data), errors="replace")
    if _HALF.search(data):
        text = _ESCAPED_TEXT.sub(lambda match: match[1] or r"\ufffd", text)
    try:
        return json.loads(text.removeprefix("\ufeff"), strict=False, parse_constant=lambda _: None)
    except ValueError as exc:
        raise msgspec.DecodeError(str(exc)) from None


def json_object(data: bytes) -> dict[str, Any]:
    """As `json_value`, the object in `data`; an empty one if `data` is not an object."""
    try:
        value = json_value(data)
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}


def json_size(value: Any) -> int:
    """Return how many bytes of JSON a value is."""
    return len(msgspec.json.encode(value))


def condensed(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object whose lists, objects and long texts are JSON text, which goes on as it is."""
    return {
        name: msgspec.Raw(msgspec.json.encode(item))
        if isinstance(item, (list, dict)) or (isinstance(item, str) and len(item) > _CONDENSED_BYTES)
        else item
        for name, item in value.items()
    }


def decode_condensed(data: bytes | msgspec.Raw) -> Any:
    """
    Return the value of JSON that the app has written: a step, or the outcome of a job.

    What nothing looks into stays JSON text if it is long, in the value and in its `output`.
    """
    text = bytes(data)
    if len(text) <= _CONDENSED_BYTES or not text.startswith(b"{"):
        return msgspec.json.decode(text)
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return {
        name: decode_condensed(member) if name == "output" else _decode_member(name, member)
        for name, member in members.items()
    }


def _decode_member(name: str, data: msgspec.Raw) -> Any:
    is_opaque = name in _OPAQUE and len(bytes(data)) > _CONDENSED_BYTES
    return data if is_opaque else msgspec.json.decode(data)


def find_foreign_excess(data: bytes) -> str:
    """Return what a provider's JSON has more of than it may, as `find_excess`."""
    if _has_more(data, b",", MAX_FOREIGN_VALUES):
        return f"{MAX_FOREIGN_VALUES:,} values"
    return find_excess(data, containers=MAX_FOREIGN_CONTAINERS, members=MAX_FOREIGN_MEMBERS)


def find_members(data: bytes, names: Iterable[str]) -> dict[str, Any]:
    """
    Return members of a provider's JSON, each as it stands last in it and at whatever depth. Decodes nothing else.

    Those that can't be read so are left out.
    """
    members: dict[str, Any] = {}
    for name in names:
        quoted = b'"%b"' % name.encode()
        start = data.rfind(quoted) + len(quoted)
        match = _SHORT_VALUE.match(data, start, start + _MAX_SHORT) if start >= len(quoted) else None
        if match:
            with contextlib.suppress(*UNREADABLE):
                members[name] = msgspec.json.decode(match[1])
    return members


def find_excess(data: bytes, *, containers: int, members: int) -> str:
    """
    Return what JSON has more of than it may, in words; empty if nothing. Decodes nothing, and takes linear time.

    As Python objects, lists, objects and members take many times the memory of their text.
    """
    if _has_more(data, b"[{", containers):
        return f"{containers:,} lists and objects"
    return f"{members:,} members" if _has_more(data, b":", members) else ""


def _has_more(data: bytes, marks: bytes, limit: int) -> bool:
    """Whether there are more than `limit` of these characters outside strings."""
    if len(data) <= limit or sum(data.count(mark) for mark in marks) <= limit:
        return False
    # A text may be full of them. Without its escapes a string ends at the next quote; without the two quotes of what
    # now is empty, or stands side by side, each quote that is left still begins or ends a string.
    others = bytes(set(range(256)) - {*marks, *b'"'})
    rest = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, others).replace(b'""', b"")
    number = 0
    for match in _STRING_OR_MARKS.finditer(rest):
        number += len(match[1] or b"")
        if number > limit:
            return True
    return False
