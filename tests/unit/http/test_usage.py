"""Which media type a statement has for an `Accept` header."""

from __future__ import annotations

import pytest

from shared.http.problems import Problem
from shared.http.usage import negotiate
from tests.support.rows import every_row

JSON, CSV = "application/json", "text/csv"


@every_row(
    ("accept", "kind"),
    [
        *((text, JSON) for text in ("*/*", "", " ", "application/json", "text/csv, application/json")),
        ("text/csv;q=0.5, */*;q=0.6", JSON),
        ("text/csv;q=0, */*", JSON),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        *((text, CSV) for text in ("text/csv", "Text/CSV; charset=utf-8", "text/*", "text/csv, */*")),
        ("application/*;q=0.1, text/csv;q=0.2", CSV),
        ("text/csv;q=0.5;header=present", CSV),
        ("application/json;q=0, */*", CSV),
    ],
)
def test_accept_decides_between_json_and_csv(accept: str, kind: str):
    """A type has the quality of its most specific range; the highest wins, then the most specific, then JSON."""
    assert kind == negotiate(accept, (JSON, CSV))


@every_row("accept", [",", "text/html", "text/csv;q=0", "text/csv;q=x", "text/csv;q=nan", "application/json-seq"])
def test_other_types_are_not_acceptable(accept: str):
    """406, with the types that are."""
    with pytest.raises(Problem, match=f"{JSON} or {CSV}") as refused:
        negotiate(accept, (JSON, CSV))

    assert (406, "not_acceptable") == (refused.value.status, refused.value.code)
