"""The members of what is stored, by name."""

from __future__ import annotations

from typing import Any

import msgspec


def member_names(kind: Any) -> list[str]:
    """Return each member of a type and of the types within, and each value of those that are one of some words."""
    schema = msgspec.json.schema(kind)
    names: set[str] = set()

    def visit(part: Any, path: str) -> None:
        if isinstance(part, list):
            for each in part:
                visit(each, path)
        if not isinstance(part, dict):
            return
        if "$ref" in part:
            visit(schema["$defs"][part["$ref"].rpartition("/")[2]], path)
        names.update(f"{path}={value}" for value in part.get("enum", ()))
        for name, member in part.get("properties", {}).items():
            names.add(f"{path}.{name}".lstrip("."))
            visit(member, f"{path}.{name}".lstrip("."))
        for inner in ("anyOf", "items", "additionalProperties"):
            visit(part.get(inner), path)

    visit(schema, "")
    return sorted(names)
