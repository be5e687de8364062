"""Statements as CSV: which cells are quoted, so that no spreadsheet reads them as a formula."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest

from shared.billing.statement_csv import encode_csv
from shared.contract.documents import Statement, StatementLine, StatementTotals, UsageTotals


def statement(**members: str) -> Statement:
    """A statement of one line with these labels."""
    sums = msgspec.structs.asdict(UsageTotals())
    line = StatementLine(source="s", provider="p", billed_to="customer", outcome="answered", **sums, **members)
    totals = StatementTotals(answered=UsageTotals(), lost=UsageTotals(), unanswered=UsageTotals())
    return Statement(customer="acme", month="2026-11", by=list(members), totals=totals, lines=[line])


@pytest.mark.parametrize("first", ["", " ", "\t", "\u200b", "\ufeff", "\u202e", "\u00a0\u2066", "\x00\u200e "])
@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@a", "\uff1d1"])
def test_a_formula_is_quoted_behind_invisible_characters(first: str, formula: str):
    """A spreadsheet may ignore what does not print: whatever precedes a formula, the cell becomes text."""
    (_, line) = csv.reader(io.StringIO(encode_csv(statement(model=first + formula)).decode()))

    assert f"'{first}{formula}" == line[0]


@pytest.mark.parametrize("model", ["gpt-4o", "\u200bgpt=4", "a=1", "\u202e"])
def test_other_names_are_not_quoted(model: str):
    """A text that can't be a formula has no quote in front of it."""
    (_, line) = csv.reader(io.StringIO(encode_csv(statement(model=model)).decode()))

    assert model == line[0]
