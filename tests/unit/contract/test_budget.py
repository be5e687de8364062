"""Budgets: what is refused, and how the refusal says what would be right."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from shared.contract.budget import Budget, decode_budget
from shared.errors import InvalidJob
from tests.support.rows import every_row


def decode(**members: Any) -> Budget:
    """Decode a monthly budget of 100 dollars with these members."""
    return decode_budget(json.dumps({"limit": "100", "unit": "USD", "period": "month", **members}).encode())


def test_a_budget_has_defaults() -> None:
    """It is hard, has three thresholds, covers all connections and models, and is the operator's."""
    budget = decode()

    assert Budget(limit=Decimal(100), unit="USD", period="month") == budget
    assert ("hard", [50, 80, 100], None, None, "operator") == (
        budget.enforce,
        budget.thresholds,
        budget.connection,
        budget.model,
        budget.owner,
    )


@every_row("limit", ["0", "-0", "0.00", "0e9999999"])
def test_zero_is_zero(limit: str) -> None:
    """Without a sign, places or an exponent."""
    assert "0" == str(decode(limit=limit).limit)


@pytest.mark.parametrize("limit", ["100.50", "100.5", "1.0050e2"])
def test_a_limit_is_exact(limit: Any) -> None:
    """However the string is written."""
    assert Decimal("100.5") == decode(limit=limit).limit


def test_a_budget_survives_its_own_json() -> None:
    """What is stored is read again as it was."""
    budget = decode(limit="1e3", thresholds=[120, 50], notify="https://contoso.com/budget", enforce="soft")

    assert budget == decode_budget(msgspec.json.encode(budget))
    assert [50, 120] == budget.thresholds


@every_row(
    ("members", "message"),
    [
        ({"limit": None}, "`limit` must"),
        *(({"limit": number}, "`limit` must be a decimal string") for number in (0, 100, 100.5, -1)),
        ({"limit": "-1"}, "`limit` must be a number, 0 or more."),
        ({"limit": "NaN"}, "`limit` must be a number, 0 or more."),
        ({"limit": "Infinity"}, "`limit` must be a number, 0 or more."),
        *(({"limit": text}, "`limit` must be a decimal string") for text in ("1_000", " 5", "\uff15")),
        *(({"limit": f"1e{sign}9999999"}, "`limit` must be below 1,000,000,000") for sign in ("", "-")),
        *(({"limit": f"1e{sign}9999999", "unit": "jobs"}, "`limit` must be a whole number") for sign in ("", "-")),
        ({"limit": f"999999999.{'0' * 30}1"}, "`limit` must be below 1,000,000,000"),
        ({"limit": "1e9"}, "`limit` must be below 1,000,000,000"),
        ({"limit": "1e-16"}, "`limit` must be below 1,000,000,000 and have at most 15 places."),
        ({"limit": "0.5", "unit": "jobs"}, "`limit` must be a whole number of jobs"),
        (
            {"limit": "1e16", "unit": "tokens"},
            "`limit` must be a whole number of tokens, at most 1,000,000,000,000,000",
        ),
        ({"unit": "usd"}, "`unit` must be an ISO 4217 code such as USD, `tokens` or `jobs`."),
        ({"unit": "calls"}, "`unit` must be an ISO 4217 code such as USD, `tokens` or `jobs`."),
        ({"period": "week"}, "`period`"),
        ({"enforce": "firm"}, "`enforce`"),
        ({"thresholds": [0]}, "`thresholds[0]` must be a whole percentage, 1 to 1000."),
        ({"thresholds": [50, 50]}, "`thresholds` has the same percentage twice."),
        ({"thresholds": [*range(1, 7)]}, "`thresholds` must be a list of at most 5 items."),
        ({"notify": "contoso.com"}, "`notify` must be an https URL"),
        ({"connection": "no_name"}, "`connection` must be 1 to 50 lower-case letters"),
        ({"spent": "1"}, "`spent` is not a known member."),
    ],
)
def test_what_is_refused(members: dict[str, Any], message: str) -> None:
    """The refusal names the member and what would be right."""
    with pytest.raises(InvalidJob) as raised:
        decode(**members)

    assert str(raised.value).startswith(message)
