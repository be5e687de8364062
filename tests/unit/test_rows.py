"""Tests of many rows: each row is run, and each that fails is named."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path

import pytest

from tests.support.rows import every_row


def test_all_rows_that_fail_are_named():
    """Those after the first one are run as well, and what fails in each is shown with its values."""
    run = list[int]()

    @every_row("number", range(5), ids=["zero", "one", "two", "three", "four"])
    def check(number: int) -> None:
        run.append(number)
        if number == 3:
            with pytest.raises(ValueError, match="never"):
                pass
        assert number != 1

    with pytest.raises(BaseExceptionGroup, match="2 of 5 rows") as raised:
        check()
    assert [0, 1, 2, 3, 4] == run
    assert [["Row one: number=1"], ["Row three: number=3"]] == [each.__notes__ for each in raised.value.exceptions]


def test_a_single_failure_is_raised_as_it_is():
    """So that pytest shows it as any other."""

    @every_row(("a", "b"), [(1, 1), pytest.param(1, 2, id="x"), (3, 3)])
    def check(a: int, b: int) -> None:
        assert a == b

    with pytest.raises(AssertionError) as raised:
        check()
    assert ["Row 1: a=1, b=2"] == raised.value.__notes__


async def test_a_coroutine_is_awaited_for_each_row():
    """Its fixtures remain its parameters, and two tables are multiplied."""
    run = list[tuple[str, int, str]]()

    @every_row("a", "xy")
    @every_row("b", [1, 2])
    async def check(a: str, client: str, *, b: int) -> None:
        run.append((a, b, client))

    assert inspect.iscoroutinefunction(check)
    assert ["client"] == list(inspect.signature(check).parameters)
    await check(client="c")
    assert [("x", 1, "c"), ("x", 2, "c"), ("y", 1, "c"), ("y", 2, "c")] == run


def test_what_a_row_changes_is_gone_in_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Its patches, its files and its log."""

    @every_row("number", range(2))
    def check(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert "ROW" not in os.environ
        assert [] == list(tmp_path.iterdir()) == caplog.messages
        monkeypatch.setenv("ROW", str(number))
        (tmp_path / "file").write_text("x")
        logging.getLogger().error("Something.")

    check(monkeypatch=monkeypatch, tmp_path=tmp_path, caplog=caplog)
    assert "ROW" not in os.environ


@pytest.mark.parametrize(
    ("rows", "message"), [([], "There is no row"), ([pytest.param(1, marks=pytest.mark.long)], "no marks of its own")]
)
def test_a_table_that_would_hold_nothing_is_refused(rows: list[object], message: str):
    """An empty one, or one whose rows are to be left out."""
    with pytest.raises(AssertionError, match=message):
        every_row("a", rows)
