"""Statements as CSV: the same lines as in JSON, and no cell that a spreadsheet reads as a formula."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.billing.statement_csv import encode_csv
from shared.billing.statements import Statements
from shared.contract.statement import Statement, StatementLine, StatementTotals, UsageTotals
from tests.support.rows import every_row
from tests.support.statement_samples import JOBS, NOVEMBER_DAYS, dimensions, records_of, table_of


def statement(**members: str) -> Statement:
    """Return a statement of one line with these dimensions."""
    sums = {"records": 1, "calls": 1, "unreported": 0, "jobs": 0}
    line = StatementLine(source="s", provider="p", billed_to="customer", outcome="answered", **sums, **members)
    total = UsageTotals(**sums)
    totals = StatementTotals(answered=total, lost=total, unanswered=total)
    days = {"from_": "2026-11-01", "to": "2026-11-30"}
    return Statement(customer="acme", month="2026-11", **days, by=list(members), totals=totals, lines=[line])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) if isinstance(value, tuple | list) else str(value)


@settings(max_examples=60)
@given(jobs=st.lists(JOBS, max_size=6), by=dimensions)
async def test_csv_has_the_lines_of_the_json(jobs: list[tuple[Any, ...]], by: list[str]):
    """A CSV reader gets the statement's lines back, with a quote before some cells; no cell begins like a formula."""
    statement = await Statements(await table_of(records_of(jobs))).read("acme", *NOVEMBER_DAYS, by)

    text = encode_csv(statement).decode()

    assert text.endswith("\r\n")
    expected = [{name: _text(value) for name, value in line.items()} for line in msgspec.to_builtins(statement.lines)]
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    cells = [{name: value.removeprefix("'") for name, value in line.items()} for line in lines]
    for line, row in zip(expected, cells, strict=True):
        assert line | dict.fromkeys(row.keys() - line.keys(), "") == row
    assert [] == [
        cell
        for line in csv.reader(io.StringIO(text, newline=""))
        for cell in line
        if cell.lstrip()[:1] in {*"=+-@\uff1d\uff0b\uff0d\uff20"} or cell[:1] in {"\t", "\r", "\n"}
    ]


@every_row("first", ["", " ", "\t", "\u200b", "\ufeff", "\u202e", "\u00a0\u2066", "\x00\u200e "])
@every_row("formula", ["=1+1", "+1", "-1", "@a", "\uff1d1"])
def test_formula_after_invisible_characters_is_quoted(first: str, formula: str):
    """A spreadsheet may ignore characters that don't print, so a formula after them is quoted too."""
    (_, line) = csv.reader(io.StringIO(encode_csv(statement(model=first + formula)).decode()))

    assert f"'{first}{formula}" == line[0]


@every_row("model", ["gpt-4o", "\u200bgpt=4", "a=1", "\u202e"])
def test_other_names_are_not_quoted(model: str):
    """A text that can't be a formula is not quoted."""
    (_, line) = csv.reader(io.StringIO(encode_csv(statement(model=model)).decode()))

    assert model == line[0]
