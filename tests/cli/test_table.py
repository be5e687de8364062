"""Tables and sentences in windows of any width: no id is folded, and no line is wider than it has to be."""

from __future__ import annotations

import io
import os
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from aijobs.console import print_text, terminal_size
from aijobs.table import Table, make_table
from aijobs.wrapping import wrap
from tests.support.cli_runner import Terminal
from tests.support.rows import every_row

WIDTHS = st.integers(20, 200)
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x9FFF, categories=("L", "N")), min_size=1, max_size=110)
SENTENCES = st.lists(WORDS, max_size=12).map(" ".join)


def shown(table: Table, width: int | None) -> list[str]:
    """The lines of a table as texts."""
    return [line.plain for line in table.lines(width)]


@given(WIDTHS, st.lists(st.tuples(WORDS, WORDS, st.integers(0, 10**9), SENTENCES), min_size=1, max_size=5))
@example(23, [("0", "0", 0, "0")])
@example(50, [("a", "b", 0, "x" * 40 + " y"), ("a", "b", 0, "short text")])
@example(50, [("a", "b", 0, "x" * 45 + " y")])
@example(30, [("a" * 25, "b" * 25, 0, "x" * 25 + " y")])
def test_no_cell_is_cut_and_no_line_is_wider_than_its_widest_cell(width: int, rows: list[tuple[str, str, int, str]]):
    """In any window each cell is whole, and a line beyond the window consists of one cell or one word of prose."""
    table = make_table(("customer", "job", "calls", "reason"), rows, numeric=frozenset({"calls"}), prose="reason")

    lines = shown(table, width)
    words = " ".join(lines).split()

    for row in rows:
        assert all(word in words for word in (row[0], row[1], f"{row[2]:,}", *row[3].split()))
    assert [] == [line for line in lines if cell_len(line) > width and len(line.split()) > 1]
    assert [] == [line for line in lines if line != line.rstrip()]


@given(st.lists(st.tuples(WORDS, WORDS, SENTENCES), min_size=1, max_size=5))
def test_a_pipe_gets_one_line_a_row(rows: list[tuple[str, str, str]]):
    """Without a window each row is one line with all its cells, whatever its width."""
    lines = shown(make_table(("customer", "job", "reason"), rows, prose="reason"), None)

    assert ["customer", "job", "reason"] == lines[0].split()
    assert [[*row[:2], *row[2].split()] for row in rows] == [line.split() for line in lines[1:]]


def test_wide_table_says_once_what_is_the_same():
    """Empty columns and those with one value leave a table that is too wide, the widest first."""
    rows = [("contoso", f"job-{number}", "azure_openai", "", number) for number in range(2)]
    table = make_table(("customer", "job", "provider", "tier", "calls"), rows, numeric=frozenset({"calls"}))

    assert "customer  job    provider      tier  calls" == shown(table, None)[0]
    assert "customer  job    provider      calls" == shown(table, 80)[0]
    assert ["provider: azure_openai", "customer  job    calls", "contoso   job-0      0"] == shown(table, 30)[:3]


def test_outlier_does_not_change_the_other_rows():
    """A cell that is much wider than the others takes more lines of its own row, and what follows it stays aligned."""
    rows = [("contoso", f"job-{number}", "failed", "5m", "The endpoint refused the key.") for number in range(8)]
    rows[2] = ("contoso", "j" * 100, "running", "1s", "")
    rows[5] = ("c" * 50, "job-5", "failed", "2m", "The endpoint refused the key. It may be another's, or have expired.")
    table = make_table(("customer", "job", "status", "time", "reason"), rows, prose="reason")

    assert [
        "customer  job    status   time  reason",
        "contoso   job-0  failed   5m    The endpoint refused the key.",
        "contoso   job-1  failed   5m    The endpoint refused the key.",
        "contoso",
        "j" * 100,
        "                 running  1s",
        "contoso   job-3  failed   5m    The endpoint refused the key.",
        "contoso   job-4  failed   5m    The endpoint refused the key.",
        "c" * 50,
        "          job-5  failed   2m    The endpoint refused the key.",
        "                                It may be another's, or have",
        "                                expired.",
        "contoso   job-6  failed   5m    The endpoint refused the key.",
        "contoso   job-7  failed   5m    The endpoint refused the key.",
    ] == shown(table, 62)


def test_prose_stays_in_its_column():
    """Prose that has room is wrapped beside its row; a URL without room has a line of its own, and is whole."""
    url = f"https://learn.microsoft.com/{'x' * 32}"
    rows = [("queue jobs", "ok", "It is empty."), ("models", "warning", f"Two of them will be retired. Source: {url}")]

    assert [
        "check                finding",
        "queue jobs  ok       It is empty.",
        "models      warning  Two of them will be retired. Source:",
        f"          {url}",
    ] == shown(make_table(("check", "", "finding"), rows, prose="finding"), 70)


def test_prose_without_room_is_below_in_every_row():
    """If the other columns leave no room, the prose of all rows is below them, and so is its name."""
    rows = [("contoso", "j" * 20, "Short."), ("contoso", "k" * 20, "This is a longer sentence.")]

    assert [
        "customer  job",
        "    error",
        *(f"contoso   {'j' * 20}", "    Short."),
        *(f"contoso   {'k' * 20}", "    This is a longer sentence."),
    ] == shown(make_table(("customer", "job", "error"), rows, prose="error"), 36)


def test_rows_of_long_ids_have_a_line_for_each():
    """What does not fit beside an id follows below it, under its own header."""
    row = (
        "c" * 50,
        "j" * 100,
        "failed",
        "5m",
        "The endpoint refused the key. It may have been revoked, or be another's.",
    )
    other = (f"d{row[0][1:]}", f"k{row[1][1:]}", *row[2:])
    table = make_table(("customer", "job", "status", "time", "reason"), [row, other], prose="reason")

    assert [
        "customer",
        "    job",
        "    status  time",
        "    reason",
        *("c" * 50, f"    {'j' * 100}", "    failed  5m", f"    {row[-1]}"),
        *(other[0], f"    {other[1]}", "    failed  5m", f"    {row[-1]}"),
    ] == shown(table, 80)


def test_single_row_has_a_line_for_each_column():
    """A single row that does not fit is a record, in which only what is wider than the window starts a line."""
    row = (
        "c" * 50,
        "j" * 100,
        "failed",
        None,
        "The endpoint refused the key. It may have been revoked, or be another's.",
    )
    table = make_table(("customer", "job", "status", "time", "reason"), [row], prose="reason")

    assert [
        f"customer  {'c' * 50}",
        "job",
        "j" * 100,
        "status    failed",
        "reason    The endpoint refused the key. It may have been revoked, or be",
        "          another's.",
    ] == shown(table, 80)


def test_cells_do_not_reach_the_terminal_as_commands():
    """Control characters in a cell or a sentence are replaced."""
    table = make_table(("job", "error"), [("a\x1b[2J", "b\r\nc\x9b")], prose="error")

    assert "\x1b" not in (text := " ".join(shown(table, 80)))
    assert "\x9b" not in text
    assert "\n" not in text


@given(SENTENCES, WIDTHS, st.integers(0, 8))
def test_sentences_are_wrapped_between_words(text: str, width: int, indent: int):
    """Every word is whole, and a line beyond the window has one word."""
    lines = wrap(text, width, indent=indent)

    assert text.split() == " ".join(lines).split()
    assert [] == [line for line in lines if cell_len(line) > width and len(line.split()) > 1]


def test_command_in_a_sentence_can_be_copied():
    """What is between backticks stays in one line if a line has room for it, and is broken as other words if not."""
    text = "The customer has a secret. `python -m aijobs webhooks rotate contoso` makes a new one."

    assert [
        "The customer has a secret.",
        "`python -m aijobs webhooks rotate contoso`",
        "makes a new one.",
    ] == wrap(text, 45)
    assert max(map(len, wrap(text, 20))) <= 20
    assert [text] == wrap(text, None)


@every_row(("columns", "lines"), [("80", 2), ("200", 1), ("", 2), ("none", 2)])
def test_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str, lines: int):
    """COLUMNS sets the width, else the terminal does, else it is 80; a pipe has none."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    print_text(["word " * 20])
    monkeypatch.setattr(sys, "stdout", pipe := io.StringIO())
    print_text(["word " * 20])

    assert (lines, 1) == (terminal.getvalue().count("\n"), pipe.getvalue().count("\n"))


def test_size_is_read_from_the_terminal(monkeypatch: pytest.MonkeyPatch):
    """Without COLUMNS and LINES, the terminal behind the stream knows its size; one without a size has 80 x 24."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)

    assert (80, 24) == terminal_size(io.StringIO())
    assert os.terminal_size((80, 24)) == terminal_size(Terminal())
