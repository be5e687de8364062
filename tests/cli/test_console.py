"""The terminal: tables in any window, and confirmations that have to be typed."""

from __future__ import annotations

import io
import sys

import pytest

from aijobs.console import confirm, make_table, print_table
from tests.support.cli_runner import Terminal


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_numbers_are_whole_in_any_window(monkeypatch: pytest.MonkeyPatch, columns: int):
    """A table with numbers is wider than the window rather than cut: a number that is cut is another number."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", stdout := Terminal())
    names = [f"number {index}" for index in range(6)]
    row = ("gpt-4o-mini", "azure_openai", *[1_234_567] * 6)

    print_table(make_table(("model", "provider", *names), [row], numeric=frozenset(names)))

    assert 6 == stdout.getvalue().count("1,234,567")
    assert "gpt-4o-mini" in stdout.getvalue()
    assert "azure_openai" in stdout.getvalue()


@pytest.mark.parametrize(
    ("stdin", "confirmed"),
    [
        (io.StringIO("contoso\n"), True),
        (io.StringIO("\n"), False),
        (io.StringIO("yes\n"), False),
        (io.StringIO("fabrikam\n"), False),
        (io.StringIO(""), False),
        (Terminal(""), False),
        (None, False),
    ],
    ids=["name", "blank", "yes", "another name", "empty", "Ctrl-D", "closed"],
)
def test_only_the_customers_name_confirms(monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None, confirmed: bool):
    """Anything but the customer's name, and input that ends, confirms nothing."""
    monkeypatch.setattr(sys, "stdin", stdin)

    assert confirmed == confirm("All of contoso is deleted.", "contoso")
