"""JSON bytes to a frozen Struct, or one sentence that names the member and what would be right."""

from __future__ import annotations

import contextlib
import re
from typing import Any, TypeVar

import msgspec

from shared.errors import InvalidJob

T = TypeVar("T")

CUSTOMER_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*"
JOB_ID_PATTERN = r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}"
"""Without `.` and `..`: an id is a part of paths, where these would lead out of the customer's own."""

NAME_RULE = "1 to 50 lower-case letters, digits and single hyphens, starting and ending in a letter or digit"
"""What `is_name` asks for, in words."""

_is_name = re.compile(CUSTOMER_PATTERN).fullmatch
_is_job_id = re.compile(JOB_ID_PATTERN).fullmatch

_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_QUOTED = re.compile(r"`([^`]*)`")
_SHOWN_LIMIT = 100
_DEEPEST_NAMED = 8
"""Levels down to which a number is looked for, each of which decodes its part of the text again."""
_BOM = b"\xef\xbb\xbf"

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, or none of the type."""

MOST_OPENED = 200_000
"""Lists and objects in one text. Three bytes each, as Python's they take twenty times as much memory."""
_MARKS = b'"[{'
_NO_MARKS = bytes(set(range(256)) - set(_MARKS))
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
# A pair of surrogates, any other escape but of a code unit, or half a pair.
_ESCAPED = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_STRING_OR_OPENED = re.compile(rb'"[^"]*"?|([^"]+)')


def decode(data: bytes | msgspec.Raw, kind: type[T], *, at: str = "") -> T:
    """
    `data` as a `kind`. `at` is the path of `data` within the job, for the message.

    Raises InvalidJob, whose message begins with the path of the member at fault.
    """
    if is_crowded(bytes(data), MOST_OPENED):
        raise InvalidJob(f"{_subject(at)} holds more than {MOST_OPENED:,} lists and objects.")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as exc:
        raise InvalidJob(_say(_placed(str(exc), data), at)) from exc
    except UnicodeDecodeError as exc:
        raise InvalidJob(f"{_subject(at)} is not valid UTF-8 (byte {exc.start} of a string).") from exc
    except RecursionError:
        # `from None`: a traceback of a thousand frames helps nobody.
        raise InvalidJob(f"{_subject(at)} is nested too deeply.") from None
    except msgspec.DecodeError as exc:
        if bytes(data).startswith(_BOM):
            raise InvalidJob(f"{_subject(at)} begins with a byte order mark: leave it out.") from exc
        raise InvalidJob(f"{_subject(at)} is not valid JSON: {_plain(str(exc))}.") from exc


def json_value(data: bytes) -> Any:
    """
    What JSON says that is not ours, such as a provider's. Raises one of UNREADABLE.

    Half a surrogate pair, where a text was cut within a character, is read as U+FFFD.
    """
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        if not _HALF.search(data):
            raise
        return msgspec.json.decode(_ESCAPED.sub(lambda found: found[1] or rb"\ufffd", data))


def json_object(data: bytes) -> dict[str, Any]:
    """As `json_value`, the object that it is; an empty one where it is none."""
    try:
        said = json_value(data)
    except UNREADABLE:
        return {}
    return said if isinstance(said, dict) else {}


def is_crowded(data: bytes, most: int) -> bool:
    """Whether JSON holds more than `most` lists and objects. Found out without decoding it, in time linear."""
    if data.count(b"[") + data.count(b"{") <= most:
        return False
    # A text may be full of brackets. Without its escapes a string ends at the next quote; without the two quotes
    # of what now is empty, or stands side by side, each quote that is left still begins or ends a string, and
    # between two strings something is opened: the loop is short.
    marks = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_MARKS).replace(b'""', b"")
    opened = 0
    for found in _STRING_OR_OPENED.finditer(marks):
        opened += len(found[1] or b"")
        if opened > most:
            return True
    return False


def is_name(text: object) -> bool:
    """Whether `text` is a customer id or connection name (NAME_RULE)."""
    return isinstance(text, str) and len(text) <= 50 and _is_name(text) is not None  # noqa: PLR2004


def is_job_id(text: object) -> bool:
    """Whether `text` is a job id: letters, digits, `.`, `_`, `-`, 1 to 100 characters, not `.` or `..`."""
    return isinstance(text, str) and _is_job_id(text) is not None


def shown(name: str) -> str:
    """A caller's own name for a member, as a message can bear it: cut short, on one line."""
    short = name if len(name) <= _SHOWN_LIMIT else f"{name[:_SHOWN_LIMIT]}…"
    return "".join(character if character.isprintable() else "\ufffd" for character in short)


def _subject(at: str) -> str:
    return f"`{at}`" if at else "The job"


def _plain(text: str) -> str:
    # msgspec calls a string that ends in half a surrogate pair "truncated" as well.
    text = text.replace("Input data was truncated", "it ends too early, or a string holds half a character")
    return text.removeprefix("JSON is malformed: ")


def _placed(message: str, data: bytes | msgspec.Raw) -> str:
    # msgspec writes `[...]` for the keys of an object that may hold anything; a number is the one thing refused there.
    what, _, path = message.partition(" - at ")
    if not what.endswith("out of range") or "[...]" not in path:
        return message
    return f"{what} - at `${_path_of_number(data)}`"


def _path_of_number(data: bytes | msgspec.Raw, depth: int = 0) -> str:
    parts: list[tuple[str, msgspec.Raw]] = []
    with contextlib.suppress(msgspec.ValidationError):
        parts = [(f".{key}", part) for key, part in msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items()]
    with contextlib.suppress(msgspec.ValidationError):
        parts = [(f"[{at}]", part) for at, part in enumerate(msgspec.json.decode(data, type=list[msgspec.Raw]))]
    for name, part in parts if depth < _DEEPEST_NAMED else ():
        try:
            msgspec.json.decode(part)
        except msgspec.ValidationError:
            return name + _path_of_number(part, depth + 1)
    return ""


def _say(message: str, at: str) -> str:
    match = _AT.match(message)
    what, path = (match["what"], match["path"] or "$") if match else (message, "$")
    member = shown((at + path.removeprefix("$")).lstrip("."))
    if (unknown := what.removeprefix("Object contains unknown field ")) != what:
        name = shown(unknown[1:-1])
        return f"`{member}.{name}` is not a known member." if member else f"`{name}` is not a known member."
    if (missing := what.removeprefix("Object missing required field ")) != what:
        name = missing.strip("`")
        return f"`{member}.{name}` is missing." if member else f"`{name}` is missing."
    return f"{_subject(member)}: {_in_words(what)}."


def _in_words(what: str) -> str:
    def words(found: re.Match[str]) -> str:
        kinds = found[1].split(" | ")
        return " or ".join(_KINDS.get(kind, f"`{kind}`") for kind in kinds)

    text = _QUOTED.sub(words, what)
    return text[:1].lower() + text[1:]
