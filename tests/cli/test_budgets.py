"""`budgets`: a customer's budgets on the command line."""

from __future__ import annotations

import json

import pytest

from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer


async def test_a_budget_is_set_listed_and_deleted(cli: CliRunner, newcomer: Customer):
    """It asks before each change."""
    name = newcomer.name
    await cli.expect(f"budgets list {name}", out="has no budgets")
    line = f"budgets set {name} main --limit 500.50 --unit USD --period month --model gpt-4o --threshold 90"
    await cli.expect(line, 1, stdin="no\n", out="Nothing was changed.")
    await cli.expect(line, stdin=f"{name}\n", out="has the budget main")

    (listed,) = json.loads((await cli.expect(f"budgets list {name} --json")).out)["budgets"]
    assert ("500.5", "USD", [90], "500.5") == tuple(
        listed[member] for member in ("limit", "unit", "thresholds", "remaining")
    )
    await cli.expect(f"budgets list {name}", out="model gpt-4o")
    await cli.expect(f"budgets delete {name} main --yes", out="Deleted the budget main")
    await cli.expect(f"budgets delete {name} main --yes", 1, err="has no budget main")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("main --limit x --unit USD --period month", "`limit`"),
        ("main --limit 1 --unit usd --period month", "`unit` must be an ISO 4217 code"),
        ("Main --limit 1 --unit USD --period month", "The budget's name must be"),
    ],
)
async def test_an_invalid_budget_is_a_usage_error(cli: CliRunner, newcomer: Customer, options: str, message: str):
    """In the app's own words, and nothing is changed."""
    await cli.expect(f"budgets set {newcomer.name} {options} --yes", 2, err=message)

    assert [] == await newcomer.rows()
