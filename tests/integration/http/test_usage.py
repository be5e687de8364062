"""Statements over HTTP, from real Storage."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.http.auth import Caller
from shared.http.messages import Request
from shared.http.problems import Problem
from tests.support.endpoint import completion
from tests.support.harness import Customer, Harness
from tests.support.http_client import HttpResponse, send

JSON, CSV = "application/json", "text/csv"


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer of one test."""
    return harness.customer()


async def get(customer: Customer, *, headers: dict[str, str] | None = None, **query: str) -> HttpResponse:
    """The customer's statement."""
    return await send(customer.harness, "GET", f"customers/{customer.name}/usage", query=query, headers=headers)


async def test_a_statement_has_what_the_jobs_consumed(customer: Customer):
    """The default is the current month; other customers' jobs are not in it."""
    other = customer.harness.customer()
    customer.account.will_answer(completion(), completion(), completion(after_s=30))
    for model in ("a", "b"):
        await customer.run(model=model)
    await customer.run(model="b", options={"timeout_s": 1.5, "max_retries": 0})
    await other.run()
    statement = (await get(customer)).json

    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert (customer.name, today[:7]) == (statement["customer"], statement["month"])
    assert ["day", "model", "action", "connection"] == statement["by"]
    assert [
        (today, "a", "answered", 1, 11, 7),
        (today, "b", "answered", 1, 11, 7),
        (today, "b", "unanswered", 0, 0, 0),
    ] == [
        tuple(line[name] for name in ("day", "model", "outcome", "calls", "input_tokens", "output_tokens"))
        for line in statement["lines"]
    ]
    assert (2, 22, 1, 0) == (
        statement["totals"]["answered"]["calls"],
        statement["totals"]["answered"]["input_tokens"],
        statement["totals"]["unanswered"]["records"],
        statement["totals"]["unanswered"]["calls"],
    )
    assert {"month"}.isdisjoint(statement["lines"][0])


async def test_by_chooses_the_labels_of_lines(customer: Customer):
    """`by` names the members of the lines beside those that are always there."""
    for model in ("a", "b"):
        await customer.run(model=model)
    statement = (await get(customer, by="action,month")).json

    (line,) = statement["lines"]
    assert (["month", "action"], 2, "chat") == (statement["by"], line["calls"], line["action"])
    assert {"day", "model", "connection"}.isdisjoint(line)


@pytest.mark.parametrize("month", ["2019-01", "9999-12"])
async def test_a_month_without_usage_is_empty(customer: Customer, month: str):
    """200 without lines and with totals of 0; as CSV, the header row alone."""
    document, file = await get(customer, month=month), await get(customer, month=month, headers={"accept": CSV})

    assert (200, [], 0) == (document.status, document.json["lines"], document.json["totals"]["answered"]["records"])
    assert (200, 1) == (file.status, file.body.count(b"\r\n"))


async def test_csv_is_a_file(customer: Customer):
    """It has a name, a header row and the lines; a model that looks like a formula is quoted."""
    model = '=HYPERLINK("http://x","y")'
    await customer.run(model=model)
    file = await get(customer, month=f"{datetime.now(UTC):%Y-%m}", by="model", headers={"accept": CSV})
    header, line = csv.reader(io.StringIO(file.body.decode()))

    assert "text/csv; charset=utf-8; header=present" == file.media_type
    name = f"usage-{customer.name}-{datetime.now(UTC):%Y-%m}.csv"
    assert f'attachment; filename="{name}"' == file.headers["Content-Disposition"]
    assert ["model", "source", "provider"] == header[:3]
    assert [f"'{model}", "key_vault", "azure_openai", "customer", "answered", "1"] == line[:6]


async def test_a_statement_has_an_etag(customer: Customer):
    """With it, the response is 304 until there is more usage; JSON and CSV have tags of their own."""
    await customer.run()
    tags = {kind: (await get(customer, headers={"accept": kind})).headers["ETag"] for kind in (JSON, CSV)}
    unchanged = await get(customer, headers={"if-none-match": tags[JSON]})
    await customer.run()
    changed = await get(customer, headers={"if-none-match": tags[JSON]})

    assert tags[JSON] != tags[CSV]
    assert (304, b"", 200) == (unchanged.status, unchanged.body, changed.status)
    assert "Accept" == changed.headers["Vary"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"month": text}, "month")
        for text in (
            "",
            "2026",
            "2026-13",
            "2026-00",
            "26-11",
            "2026-1",
            "2026-11-01",
            "\uff12026-11",
            "2026-11\n",
            "u`",
        )
    ]
    + [({"by": text}, "by") for text in ("", "hour", "day,", "day;model", "Day")],
)
async def test_an_invalid_query_is_refused(customer: Customer, query: dict[str, str], name: str):
    """400 with the parameter's name."""
    refused = await get(customer, **query)

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert f"`{name}`" in refused.json["detail"]


async def test_a_statement_in_no_accepted_type_is_refused(customer: Customer):
    """406 as a problem."""
    refused = await get(customer, headers={"accept": "image/png"})

    assert (406, "application/problem+json") == (refused.status, refused.media_type)
    assert CSV in refused.json["detail"]


@pytest.mark.parametrize("name", ["No", "a--b", "x" * 51, "..", "ü"])
async def test_an_invalid_customer_id_is_not_found(harness: Harness, name: str):
    """404."""
    assert 404 == (await send(harness, "GET", f"customers/{name}/usage")).status


async def test_a_tied_token_reads_its_customers_statement_alone(customer: Customer):
    """Another customer's statement is not found, whether the customer exists or not."""
    read: Any = customer.harness.services.http.handlers["read_usage"]
    request = Request("GET", "", {"customer": customer.name})

    assert 200 == (await read(request, Caller(frozenset({"Billing.Read"}), customer.name))).status
    with pytest.raises(Problem) as refused:
        await read(request, Caller(frozenset({"Billing.Read"}), "another"))
    assert 404 == refused.value.status
