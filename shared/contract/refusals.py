"""
Why a JSON text was refused, as one sentence that names the member at fault and what would be right.

msgspec names the constraint; the `Meta` on the member's type says what it means. All of this runs after a refusal
only, so it may decode parts of the text again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Raw, UnsetType

from shared.contract.decoding import UNKNOWN

_TIME = "a time with an offset, such as 2026-12-01T09:00:00Z (RFC 3339)"
_KINDS = {
    "str": "a string",
    "bytes": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
    "datetime": _TIME,
}
_ACTUAL = {"float": "a decimal number"}
_UNITS = {"a string": "characters", "a list": "items"}
_LISTS = (list, tuple)
_BASES = {"str": (str,), "int": (int,), "float": (float,), "array": _LISTS}
_MESSAGE = re.compile(r"^(?P<reason>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_CONSTRAINT = re.compile(r"Expected `(?P<kind>\w+)` (?:matching regex|of length|[<>])")
_STEP = re.compile(r"\.(?P<member>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_MISMATCH = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BOM = b"\xef\xbb\xbf"
_NAME_LIMIT = 100
_DEPTH_LIMIT = 8
"""Levels down to which a number out of range is searched for. Each level decodes its part of the text again."""


class _Type(NamedTuple):
    """One type that a member may have, without its `Annotated`, and what the latter says of it."""

    base: Any
    meta: Meta | None


def printable(name: str) -> str:
    """A member's name as the caller wrote it, for a message: cut short, on one line."""
    short = name if len(name) <= _NAME_LIMIT else f"{name[:_NAME_LIMIT]}…"
    return "".join(character if character.isprintable() else "\ufffd" for character in short)


def refusal(error: Exception, data: bytes | Raw, kind: Any, *, at: str, root: str) -> str:
    """
    Why msgspec did not decode `data` as a `kind`.

    `at` is the path of `data` in the whole text, which the sentence calls `root`.
    """
    subject = f"`{at}`" if at else root
    if isinstance(error, msgspec.ValidationError):
        return _of_member(str(error), data, kind, at=at, root=root)
    if isinstance(error, UnicodeDecodeError):
        return f"{subject} is not valid UTF-8 (byte {error.start} of a string)."
    if isinstance(error, RecursionError):
        return f"{subject} is nested too deeply."
    if bytes(data).startswith(_BOM):
        return f"{subject} begins with a byte order mark: leave it out."
    # msgspec calls a string that ends in half a surrogate pair "truncated" as well.
    fault = str(error).replace(
        "Input data was truncated", "it ends too early, or a string contains half a surrogate pair"
    )
    return f"{subject} is not valid JSON: {fault.removeprefix('JSON is malformed: ')}."


def _of_member(message: str, data: bytes | Raw, kind: Any, *, at: str, root: str) -> str:
    match = _MESSAGE.match(message)
    reason, path = (match["reason"], match["path"] or "$") if match else (message, "$")
    if reason.endswith("out of range") and "[...]" in path:
        path, types = printable(_path_of_number(data)), list[_Type]()
    else:
        path, types = _follow(path.removeprefix("$"), data, kind)
    member = (at + path).lstrip(".")
    prefix = f"{member}." if member else ""
    if (unknown := reason.removeprefix("Object contains unknown field ")) != reason:
        hint = _placement_hint(unknown[1:-1], types, data, kind, at=member)
        return f"`{prefix}{printable(unknown[1:-1])}`{UNKNOWN}. {hint}".rstrip()
    if (missing := reason.removeprefix("Object missing required field ")) != reason:
        return f"`{prefix}{missing.strip('`')}` is missing."
    subject, rule = f"`{member}`" if member else root, _rule(reason, types)
    sentence = f"{subject} must be {rule}." if rule else f"{subject}: {reason[:1].lower()}{reason[1:]}."
    return f"{sentence} {_json_hint(reason, path, data, kind, at=at)}".rstrip()


def _placement_hint(name: str, types: list[_Type], data: bytes | Raw, kind: Any, *, at: str) -> str:
    struct = _struct(types)
    if len(name) > _NAME_LIMIT or struct is None or not _is_struct(kind):
        return ""
    from shared.contract.placement import placement_hint  # noqa: PLC0415  # it imports the types of all jobs

    return placement_hint(name, struct, kind, at=at, data=bytes(data))


def _json_hint(reason: str, path: str, data: bytes | Raw, kind: Any, *, at: str) -> str:
    """If a text is an object or a list, and one of the members that may stand in its place takes JSON: which."""
    mismatch = _MISMATCH.match(reason)
    if not mismatch or mismatch[1] != "str" or mismatch[2] not in {"object", "array"}:
        return ""
    parent, _, name = path.rpartition(".")
    struct = _struct(_follow(parent, data, kind)[1])
    if struct is None or not any(each.base is UnsetType for each in _member_types(struct, name)):
        return ""
    return f"JSON belongs in `{f'{at}{parent}.'.lstrip('.')}{json_member(struct)}`."


def json_member(struct: type[msgspec.Struct]) -> str:
    """Return the name of the member that takes any JSON; empty if there is none."""
    return next((each.encode_name for each in msgspec.structs.fields(struct) if Raw in get_args(each.type)), "")


def _struct(types: list[_Type]) -> type[msgspec.Struct] | None:
    return next((each.base for each in types if _is_struct(each.base)), None)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _follow(path: str, data: bytes | Raw, kind: Any) -> tuple[str, list[_Type]]:
    """Msgspec's path with the key of the member at fault in place of each `[...]`, and the types it leads to."""
    followed = ""
    types = list(_types(kind))
    for step in _STEP.finditer(path):
        key: str | int | None = step["member"]
        if step["index"] == "...":
            key, types = _refused_value(data, types)
        elif step["index"]:
            key = int(step["index"])
            types = [
                inner for each in types if get_origin(each.base) in _LISTS for inner in _types(get_args(each.base)[0])
            ]
        else:
            types = [inner for each in types for inner in _member_types(each.base, step["member"])]
        if key is None:
            break
        followed += f"[{key}]" if isinstance(key, int) else f".{printable(key)}"
        data = dict(_items(data)).get(key, Raw(b"null"))
    return followed, types


def _refused_value(data: bytes | Raw, types: list[_Type]) -> tuple[str | int | None, list[_Type]]:
    """The first key of an object whose value is refused, and the types that its values may have."""
    for kind in (get_args(each.base)[1] for each in types if get_origin(each.base) is dict):
        for key, value in _items(data):
            try:
                msgspec.json.decode(value, type=kind)
            except _UNREADABLE:
                return key, list(_types(kind))
    return None, []


def _types(kind: Any) -> Iterator[_Type]:
    if get_origin(kind) is Annotated:
        base, *notes = get_args(kind)
        meta = next((note for note in reversed(notes) if isinstance(note, Meta)), None)
        yield from (_Type(each.base, meta) for each in _types(base))
    elif get_origin(kind) in {Union, UnionType}:
        for inner in get_args(kind):
            yield from _types(inner)
    else:
        yield _Type(kind, None)


def _member_types(kind: Any, name: str) -> Iterator[_Type]:
    if _is_struct(kind):
        for field in msgspec.structs.fields(kind):
            if field.encode_name == name:
                yield from _types(field.type)


def _items(data: bytes | Raw) -> list[tuple[str | int, Raw]]:
    """The members of an object with their names, or of a list with their numbers."""
    with contextlib.suppress(*_UNREADABLE):
        return list(msgspec.json.decode(data, type=dict[str, Raw]).items())
    with contextlib.suppress(*_UNREADABLE):
        return list(enumerate(msgspec.json.decode(data, type=list[Raw])))
    return []


def _path_of_number(data: bytes | Raw, depth: int = 0) -> str:
    """Where a number is out of range: within what may be anything, msgspec names no keys."""
    for key, value in _items(data) if depth < _DEPTH_LIMIT else ():
        try:
            msgspec.json.decode(value)
        except _UNREADABLE:
            return (f"[{key}]" if isinstance(key, int) else f".{key}") + _path_of_number(value, depth + 1)
    return ""


def _rule(reason: str, types: list[_Type]) -> str:
    """What the member must be, or nothing if no type says it."""
    if reason.startswith("Invalid enum value"):
        choices = [str(choice) for each in types if get_origin(each.base) is Literal for choice in get_args(each.base)]
        return f"one of {', '.join(choices)}"
    if reason == "Invalid base64 encoded string":
        return "base64"
    if reason in {"Invalid RFC3339 encoded datetime", "Expected `datetime` with a timezone component"}:
        return _TIME
    if mismatch := _MISMATCH.match(reason):
        expected, actual = mismatch.groups()
        return f"{_either(expected.split(' | '))}, not {_ACTUAL.get(actual) or _KINDS.get(actual, actual)}"
    constraint = _CONSTRAINT.match(reason)
    bases = _BASES.get(constraint["kind"], ()) if constraint else ()
    metas = [each.meta for each in types if each.meta is not None and {each.base, get_origin(each.base)} & {*bases}]
    return (metas[0].description or _limits(_KINDS[constraint["kind"]], metas[0])) if constraint and metas else ""


def _limits(kind: str, meta: Meta) -> str:
    """Such as `a whole number from 0 to 20`, `a number above 0 and at most 480`, `a list of 1 to 1,000 items`."""
    if kind in _UNITS:
        return f"{kind} of {_range(meta.min_length, meta.max_length)} {_UNITS[kind]}"
    if meta.gt is None:
        limits = _range(meta.ge, meta.le)
        return f"{kind} from {limits}" if " to " in limits else f"{kind} of {limits}"
    return f"{kind} above {meta.gt:,}" + ("" if meta.le is None else f" and at most {meta.le:,}")


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at most {high:,}" if low is None else f"at least {low:,}"
    return f"{low:,} to {high:,}"


def _either(kinds: list[str]) -> str:
    if kinds == ["bool"]:
        return _KINDS["bool"]
    if "float" in kinds:
        kinds = [kind for kind in kinds if kind != "int"]
    words = [word for kind in kinds for word in (("true", "false") if kind == "bool" else (_KINDS.get(kind, kind),))]
    *first, last = dict.fromkeys(words)
    return f"{', '.join(first)} or {last}" if first else last
