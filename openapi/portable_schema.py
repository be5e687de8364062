"""
Schemas in the form that code generators and validators read, whatever their language.

Generators read less of JSON Schema than validators do: a value without a type, an object that doesn't say that it is
open, or a choice between parts of an object makes them leave a type out, or make one that nobody can fill.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def portable(schema: Any) -> Any:
    r"""
    The schema with patterns in JSON Schema's dialect, with types for all constants, and with open objects that say so.

    ECMA-262, in which JSON Schema's patterns are written, has no `\Z`; its `$` matches at the end alone.
    """
    if isinstance(schema, list):
        return [portable(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: portable(value) for name, value in schema.items()}
    if isinstance(pattern := inner.get("pattern"), str):
        inner["pattern"] = pattern.replace(r"\Z", "$")
    if all(isinstance(value, str) for value in inner.get("enum", [inner.get("const")])):
        inner = {"type": "string"} | inner
    if inner.get("type") == "object" and "properties" not in inner:
        inner = inner | {"additionalProperties": inner.get("additionalProperties", True)}
    return inner


def exactly_one(first: str, second: str, *others: str) -> Schema:
    """
    The keywords for an object that has one of these members, not null, and none of the others.

    Not `oneOf`: generators make a union of it, whose types have nothing but that member.
    """
    if not others:
        return {"if": _has(first), "then": {"not": _has(second)}, "else": _has(second)}
    null = {name: {"type": "null"} for name in (second, *others)}
    return {"if": _has(first), "then": {"properties": null}, "else": exactly_one(second, *others)}


def _has(member: str) -> Schema:
    return {"required": [member], "properties": {member: {"not": {"type": "null"}}}}


def default_text(member: Mapping[str, Any]) -> str:
    """
    The sentence that names the default of a member of a request; empty if it has none, or one that is not a value.

    A sentence, not the keyword: some generators have the client send every default, others require such a member.
    """
    default = member.get("default")
    if default is None or isinstance(default, dict):
        return ""
    text = str(default).lower() if isinstance(default, bool) else default
    return f"The default is `{text:g}`." if isinstance(text, float) else f"The default is `{text}`."
