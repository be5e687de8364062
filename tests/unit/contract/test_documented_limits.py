"""The limits and choices that the docs repeat are those of the types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.contract.connection import ConnectionRecord
from shared.contract.embed import EmbedInput
from shared.contract.image import ImageInput
from shared.contract.job import METADATA_LIMIT, Job, Options
from shared.contract.multi_chat import MultiChatInput
from shared.contract.raw import RawInput
from shared.contract.summarize import SummarizeInput
from tests.support.doc_samples import ROOT

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
    """The limits of a number, of a list's length or of a text's, as the docs write them."""
    low = next((schema[name] for name in ("minimum", "minItems") if name in schema), 1)
    high = next(schema[name] for name in ("maximum", "maxItems", "maxLength") if name in schema)
    return f"up to {high}" if "exclusiveMinimum" in schema else f"{low} to {high}"


@pytest.mark.parametrize("field", msgspec.structs.fields(Options), ids=lambda field: field.name)
def test_options_table_has_default_and_limits(field: msgspec.structs.FieldInfo):
    """Each option's row has the default and the limits of its type."""
    default, limits, _ = rows(SUBMIT, "option")[field.name]
    schema = schema_of(Options, field.name)

    assert field.default == msgspec.json.decode(default)
    assert limits == (limits_of(schema) if "maximum" in schema else "")


@pytest.mark.parametrize(
    ("page", "kind", "member"),
    [(SUBMIT, Job, "customer"), (SUBMIT, Job, "job_id"), (ONBOARD, ConnectionRecord, "max_concurrency")],
    ids=["customer", "job_id", "max_concurrency"],
)
def test_tables_have_the_limits(page: Path, kind: type[msgspec.Struct], member: str):
    """A member's row has the limits of its type."""
    assert limits_of(schema_of(kind, member)) in rows(page, "member")[member][-1]


@pytest.mark.parametrize(
    ("page", "kind", "member"),
    [("embed", EmbedInput, "texts"), ("multi_chat", MultiChatInput, "prompts"), ("image", ImageInput, "n")],
    ids=["texts", "prompts", "n"],
)
def test_pages_of_actions_have_the_limits(page: str, kind: type[msgspec.Struct], member: str):
    """The sentence about a member has the limits of its type."""
    text = (ROOT / f"docs/actions/{page}.md").read_text().replace(",", "")

    assert [limits_of(schema_of(kind, member))] == re.findall(
        rf"^`{member}` \w+(?: for)? (\d+ to \d+)", text, re.MULTILINE
    )


@pytest.mark.parametrize(
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


def test_table_has_the_limit_of_metadata():
    """The size of `metadata` is in kilobytes."""
    assert f"up to {METADATA_LIMIT // 1024} KB" in rows(SUBMIT, "member")["metadata"][-1]
