"""The limits and choices that the docs repeat are those of the types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.contract.connection import ConnectionRecord
from shared.contract.job import Job, Options
from shared.contract.raw import RawInput
from shared.contract.summarize import SummarizeInput
from tests.support.doc_samples import ROOT
from tests.support.rows import every_row

SUBMIT = ROOT / "docs/submit.md"
ONBOARD = ROOT / "docs/onboard.md"


def schema_of(kind: type[msgspec.Struct], member: str) -> dict[str, Any]:
    """The JSON Schema of a member; of several types that it may have, the one that is not null."""
    _, schemas = msgspec.json.schema_components([kind])
    schema: dict[str, Any] = schemas[kind.__name__]["properties"][member]
    return next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)


def rows(page: Path, first_column: str) -> dict[str, list[str]]:
    """The rows of the table whose first column has that name, by their first cell, without commas."""
    (table,) = re.findall(rf"^\| {first_column} \|.*\n\|[- |]+\n((?:\|.*\n)+)", page.read_text(), re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.replace(",", "").splitlines()]
    return {first.strip("`"): others for first, *others in cells}


def limits_of(schema: Mapping[str, Any]) -> str:
    """The limits of a number, or of a text's length, as the docs write them."""
    low, high = schema.get("minimum", 1), schema.get("maximum", schema.get("maxLength"))
    return f"up to {high}" if "exclusiveMinimum" in schema else f"{low} to {high}"


@every_row("field", msgspec.structs.fields(Options), ids=lambda field: field.name)
def test_options_table_has_default_and_limits(field: msgspec.structs.FieldInfo):
    """Each option has one row, with the default and the limits of its type; there is no other row."""
    assert set(Options.__struct_fields__) == set(rows(SUBMIT, "option"))
    default, limits, _ = rows(SUBMIT, "option")[field.name]
    schema = schema_of(Options, field.name)

    assert getattr(Options(), {"deadline_s": "lasts_s"}.get(field.name, field.name)) == msgspec.json.decode(default)
    assert limits == (limits_of(schema) if "maximum" in schema else "")


@pytest.mark.parametrize("member", ["customer", "job_id"])
def test_table_has_the_limits(member: str):
    """The row of a job's member has the limits of its type."""
    assert limits_of(schema_of(Job, member)) in rows(SUBMIT, "member")[member][-1]


@every_row(
    ("page", "kind", "member"),
    [
        (ROOT / "docs/actions/raw.md", RawInput, "method"),
        (ROOT / "docs/actions/raw.md", RawInput, "response_type"),
        (ROOT / "docs/actions/summarize.md", SummarizeInput, "style"),
        (ONBOARD, ConnectionRecord, "provider"),
        (ONBOARD, ConnectionRecord, "auth"),
    ],
    ids=["method", "response_type", "style", "provider", "auth"],
)
def test_tables_have_the_choices(page: Path, kind: type[msgspec.Struct], member: str):
    """A member's row names the values that its type allows, and no other."""
    allowed = {value for value in schema_of(kind, member)["enum"] if value is not None}
    cell = rows(page, "member")[member][-1]

    assert allowed == set(re.findall(r"`(\w+)`", re.split("default:|;", cell)[0]))
