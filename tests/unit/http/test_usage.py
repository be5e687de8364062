"""Which media type a statement has for an `Accept` header."""

from __future__ import annotations

import pytest

from shared.http.problems import Problem
from shared.http.usage import negotiate

JSON, CSV = "application/json", "text/csv"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", JSON),
        ("", JSON),
        (" ", JSON),
        (",", None),
        ("application/json", JSON),
        ("text/csv", CSV),
        ("Text/CSV; charset=utf-8", CSV),
        ("text/*", CSV),
        ("application/*;q=0.1, text/csv;q=0.2", CSV),
        ("text/csv;q=0.5, */*;q=0.6", JSON),
        ("text/csv, application/json", JSON),
        ("text/csv, */*", CSV),
        ("text/csv;q=0.5;header=present", CSV),
        ("text/csv;q=0, */*", JSON),
        ("application/json;q=0, */*", CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("text/html", None),
        ("text/csv;q=0", None),
        ("text/csv;q=x", None),
        ("text/csv;q=nan", None),
        ("application/json-seq", None),
    ],
)
def test_accept_decides_between_json_and_csv(accept: str, kind: str | None):
    """A type has the quality of its most specific range; the highest wins, then the most specific, then JSON."""
    if kind is not None:
        assert kind == negotiate(accept)
        return
    with pytest.raises(Problem, match=CSV) as refused:
        negotiate(accept)
    assert (406, "not_acceptable") == (refused.value.status, refused.value.code)
