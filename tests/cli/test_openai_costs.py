"""Reading OpenAI's costs: every day and line item once, from that host alone, and every failure in one sentence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from aijobs import openai_costs
from aijobs.openai_costs import URL, read_costs
from aijobs.price_sources.base import SourceError
from shared.billing.periods import Days
from shared.secret import Secret
from tests.support.openai_costs import ADMIN_KEY, CostServer, open_cost_server
from tests.support.rows import every_row

NOVEMBER = Days.of_month("2026-11")
KEY = Secret(ADMIN_KEY)


@pytest_asyncio.fixture(loop_scope="session")
async def costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CostServer]:
    """The endpoint."""
    async with open_cost_server(tmp_path, monkeypatch) as server:
        yield server


def test_address_is_that_of_openai():
    """Https, at OpenAI's own host."""
    url = httpx.URL(URL)

    assert ("https", "api.openai.com", "/v1/organization/costs") == (url.scheme, url.host, url.path)


@pytest.mark.parametrize("page_days", [1, 7, 31])
async def test_every_day_and_item_is_read_once(costs: CostServer, page_days: int):
    """However many days a page has; line items of a model are added up, and days before and after are not read."""
    costs.page_days = page_days
    for day in (date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 30), date(2026, 12, 1)):
        costs.costs |= {(day, "gpt-4o-2024-08-06, input", "p"): 0.1, (day, "gpt-4o-2024-08-06, output", "p"): "0.20"}
    costs.costs[date(2026, 11, 14), "web search tool calls", "q"] = 1e-06

    read, currency = await read_costs(NOVEMBER, KEY)

    model = "gpt-4o-2024-08-06"
    assert {
        (date(2026, 11, 1), model): (Decimal("0.30"), {f"{model}, input", f"{model}, output"}),
        (date(2026, 11, 14), "web search tool calls"): (Decimal("0.000001"), {"web search tool calls"}),
        (date(2026, 11, 30), model): (Decimal("0.30"), {f"{model}, input", f"{model}, output"}),
    } == {key: (each.amount, each.names) for key, each in read.items()}
    assert "USD" == currency
    assert -(-30 // page_days) == len(costs.queries)


async def test_one_project_is_read(costs: CostServer):
    """Only the costs of the projects that are named."""
    day = NOVEMBER.first
    costs.costs = {(day, "a, input", "p"): 1, (day, "b, input", "q"): 2, (day, "c, input", "r"): 3}

    read, _ = await read_costs(NOVEMBER, KEY, ["p", "r"])

    assert {(day, "a"), (day, "c")} == read.keys()


def page(**members: Any) -> Callable[[], web.Response]:
    """A page with one bucket, but for some members."""
    result = {"amount": {"value": 1, "currency": "usd"}, "line_item": None}
    bucket = {"start_time": 1793491200, "results": [result]}
    body: dict[str, Any] = {"data": [bucket], "has_more": False, "next_page": None}
    for path, value in members.items():
        target: Any = body
        *parents, name = path.split("__")
        for parent in parents:
            target = target[int(parent)] if parent.isdecimal() else target[parent]
        if value is None:
            del target[name]
        else:
            target[name] = value
    return lambda: web.json_response(body)


HUGE_TIME = '{"data": [{"start_time": 1e999999999, "results": []}], "has_more": false}'
"""A whole number of a gigabyte."""


@every_row(
    ("answer", "sentence"),
    [
        (lambda: web.Response(status=403), "answered 403: it does not accept the key for this."),
        (lambda: web.Response(status=429), "answered 429. Try again later."),
        (
            lambda: web.Response(status=302, headers={"Location": "https://example.com/"}),
            "redirects to another address",
        ),
        (lambda: web.Response(text="<html>"), "is not valid JSON"),
        (lambda: web.json_response([]), "`has_more` is missing"),
        (page(has_more=True), "`next_page` is not a text"),
        (page(data=None), "`data` is missing"),
        (page(data={}), "`data` is not a list"),
        (page(data__0__start_time="x"), "`start_time` is not a number"),
        (page(data__0__start_time=10**18), "`start_time` is not a time"),
        (lambda: web.Response(text=HUGE_TIME), "`start_time` is not a time"),
        (page(data__0__results=None), "`results` is missing"),
        (page(data__0__results__0__amount=None), "`amount` is missing"),
        (page(data__0__results__0__amount__value="much"), "`amount.value` is not a number"),
        (page(data__0__results__0__amount__value="1e999999"), "`amount.value` is not a number"),
        (page(data__0__results__0__amount__value=-1e200), "`amount.value` is not a number"),
        (page(data__0__results__0__amount__value=[]), "`amount.value` is not a number"),
        (page(data__0__results__0__amount__currency=5), "`currency` or `line_item` is not a text"),
    ],
)
async def test_other_answers_are_refused(costs: CostServer, answer: Callable[[], web.Response], sentence: str):
    """One sentence says what is wrong, without the key, after one request."""
    costs.queries.clear()
    costs.answer_with = answer

    with pytest.raises(SourceError) as raised:
        await read_costs(NOVEMBER, KEY)

    assert sentence in str(raised.value)
    assert ADMIN_KEY not in str(raised.value)
    assert 1 == len(costs.queries)


async def test_a_wrong_key_is_not_repeated(costs: CostServer):
    """Neither one that OpenAI refuses, nor one that no header can have."""
    for key in ("sk-proj-wrong", "sk-ümlaut", "sk-\x00"):
        with pytest.raises(SourceError) as raised:
            await read_costs(NOVEMBER, Secret(key))
        assert key not in str(raised.value)
    assert 1 == len(costs.queries)


async def test_two_currencies_are_refused(costs: CostServer):
    """Amounts of two currencies can't be added up."""
    result = {"line_item": "a", "amount": {"value": 1, "currency": "usd"}}
    other = {"line_item": "a", "amount": {"value": 1, "currency": "eur"}}
    bucket = {"start_time": 1793491200, "results": [result, other]}
    costs.answer_with = lambda: web.json_response({"data": [bucket], "has_more": False})

    with pytest.raises(SourceError, match="EUR, USD"):
        await read_costs(Days(NOVEMBER.first, NOVEMBER.first + timedelta(days=40)), KEY)
    assert openai_costs.PROVIDERS == {"openai"}


@pytest.mark.parametrize(("value", "amount"), [("0E-6176", 0), (-1.5, Decimal("-1.5")), ("1e-30", Decimal("1e-30"))])
async def test_every_amount_is_exact(costs: CostServer, value: Any, amount: Decimal):
    """A zero with any exponent, a refund, and as many digits as there are."""
    costs.costs[NOVEMBER.first, "a, input", "p"] = value
    costs.costs[NOVEMBER.first, "a, output", "p"] = 10**14

    read, _ = await read_costs(NOVEMBER, KEY)

    with localcontext(prec=100):
        assert {amount + 10**14} == {each.amount for each in read.values()}


@pytest.mark.usefixtures("costs")
async def test_the_last_day_of_all_is_read():
    """There is no day after it."""
    assert ({}, "USD") == await read_costs(Days(date(9999, 12, 31), date(9999, 12, 31)), KEY)
