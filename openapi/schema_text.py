"""A JSON Schema in a few words, for the page. It leaves patterns out: descriptions say what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openapi.html_text import Html, joined, separated, tag

_RANGES = {
    ("minimum", "maximum"): "",
    ("minItems", "maxItems"): " items",
    ("minLength", "maxLength"): " characters",
}


def schema_text(schema: Mapping[str, Any]) -> Html:
    """The schema's type and its limits. A reference becomes a link to the type."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return tag("a", name, href=f"#type-{name}")
    choices = [each for each in schema.get("anyOf", schema.get("oneOf", ())) if each.get("type") != "null"]
    if choices and "properties" not in schema:
        return choice_text(choices)
    return joined([_type(schema), *_limits(schema)])


def choice_text(schemas: Sequence[Mapping[str, Any]]) -> Html:
    """The schemas with `or` between them."""
    return separated(map(schema_text, schemas), " or ")


def _type(schema: Mapping[str, Any]) -> Html:
    kind = schema.get("type", "anything")
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return separated((tag("code", str(value)) for value in values if value is not None), ", ")
    if kind == "array" and "items" in schema:
        return joined(["list of ", _inner(schema["items"])])
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return joined(["object of ", _inner(schema["additionalProperties"])])
    return joined([kind if isinstance(kind, str) else " or ".join(each for each in kind if each != "null")])


def _inner(schema: Mapping[str, Any]) -> Html:
    """The schema of items; in parentheses if it is a choice, so that the limits of the list are not read as theirs."""
    text = schema_text(schema)
    return joined(["(", text, ")"]) if "anyOf" in schema else text


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    for (lowest, highest), unit in _RANGES.items():
        low, high = schema.get(lowest), schema.get(highest)
        if low is not None and high is not None:
            yield f", {low} to {high}{unit}"
        elif low is not None:
            yield f", at least {low}{unit.removesuffix('s') if low == 1 else unit}"
        elif "exclusiveMinimum" in schema and not unit:
            yield f", above {schema['exclusiveMinimum']}" + ("" if high is None else f", at most {high}")
        elif high is not None:
            yield f", at most {high}{unit}"
