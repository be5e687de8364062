"""The samples of docs/bill.md: its statement is a real one, and its price book prices what it can."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from shared.contract.documents import StatementLine
from tests.support.doc_samples import blocks
from tests.support.endpoint import completion
from tests.support.harness import Harness
from tests.support.http_client import send

PAGE = "docs/bill.md"


async def test_statement_is_as_shown(harness: Harness):
    """Three calls and one that was cut short have the page's statement, in JSON and in CSV."""
    customer = harness.customer()  # under another name: the table is shared with other tests
    for _ in range(3):
        await customer.run()
    customer.account.will_answer(completion(after_s=30))
    await customer.run(options={"timeout_s": 1.5, "max_retries": 0})
    month = f"{datetime.now(UTC):%Y-%m}"
    json_request, json_response, csv_request = blocks(PAGE, "http")
    (csv_body,) = blocks(PAGE, "csv")

    for request, shown in ((json_request, json_response.partition("\n\n")[2]), (csv_request, csv_body)):
        first_line, accept = request.strip().splitlines()
        path, _, query = first_line.split()[1].removeprefix("/api/").replace("2026-11", month).partition("?")
        response = await send(
            harness,
            "GET",
            path.replace("contoso", customer.name),
            query=dict(pair.split("=") for pair in query.split("&")),
            headers=dict([accept.lower().split(": ")]),
        )
        body = response.body.decode().replace(month, "2026-11").replace(customer.name, "contoso")
        if response.media_type == "application/json":
            assert json.loads(shown) == json.loads(body)
        else:
            assert shown == body.replace("\r\n", "\n")


def test_price_book_makes_a_bill():
    """Each day has its own price, cached tokens have theirs, and only answered calls are billed."""
    first, second = 0.6 * 2.5 + 0.4 * 1.25 + 1, 0.6 * 2 + 0.4 * 1 + 0.8
    lines = [
        line(day="2026-11-14"),
        line(day="2026-11-15"),
        line(day="2026-11-15", billed_to="operator"),
        line(day="2026-11-15", outcome="lost"),
    ]

    assert pytest.approx(first + second) == bill(lines, "customer")
    assert pytest.approx(second) == bill(lines, "operator")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"unreported": 1, "images": 2}, "1 calls of 'gpt-4o' on 2026-11-15 came without tokens, with 2 images"),
        ({"model": "my-deployment"}, "no price of 'my-deployment' on 2026-11-15"),
        ({"day": "2025-12-31"}, "no price of 'gpt-4o' on 2025-12-31"),
        ({"day": msgspec.UNSET}, "by=day,model"),
        ({"model": msgspec.UNSET}, "by=day,model"),
    ],
)
def test_line_without_a_price_is_an_error(members: dict[str, Any], message: str):
    """A line that has no price raises an error; it is never billed as zero."""
    with pytest.raises(ValueError, match=message):
        bill([line(**({"day": "2026-11-15"} | members))], "customer")


def test_bill_is_for_one_account():
    """The account is required, and must be one of the two."""
    with pytest.raises(ValueError, match="'customer' or 'operator', not 'contoso'"):
        bill([], "contoso")
    with pytest.raises(TypeError, match="billed_to"):
        sample()["bill"]({"lines": []})


def sample() -> dict[str, Any]:
    """Return the names that the page's sample defines."""
    (block,) = blocks(PAGE, "python")
    names: dict[str, Any] = {}
    exec(block, names)
    return names


def bill(lines: list[StatementLine], billed_to: str) -> float:
    """Return the price of these lines by the page's sample."""
    amount: float = sample()["bill"]({"lines": msgspec.to_builtins(lines)}, billed_to)
    return amount


def line(**members: Any) -> StatementLine:
    """Return a line of a statement with these members."""
    dimensions = {"source": "key_vault", "provider": "openai", "billed_to": "customer", "outcome": "answered"}
    tokens = {"input_tokens": 1_000_000, "cached_tokens": 400_000, "output_tokens": 100_000, "reasoning_tokens": 0}
    others = {"model": "gpt-4o", "records": 1, "calls": 1, "unreported": 0, "images": 0}
    return StatementLine(**(dimensions | tokens | others | members))
