"""Statements over HTTP."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.endpoint import completion
from tests.support.harness import Customer, Harness
from tests.support.http_client import HttpResponse, send
from tests.support.rows import every_row

JSON, CSV = "application/json", "text/csv"


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
        (today, "b", "unanswered", 0, None, None),
    ] == [
        tuple(line.get(name) for name in ("day", "model", "outcome", "calls", "input_tokens", "output_tokens"))
        for line in statement["lines"]
    ]
    assert (2, 22, 1, 0) == (
        statement["totals"]["answered"]["calls"],
        statement["totals"]["answered"]["input_tokens"],
        statement["totals"]["unanswered"]["records"],
        statement["totals"]["unanswered"]["calls"],
    )
    assert {"month"}.isdisjoint(statement["lines"][0])


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
    assert [f"'{model}", "key_vault", "azure_openai", "customer", "answered"] == line[:5]
    assert ("1", "11", "7") == tuple(line[header.index(name)] for name in ("calls", "input_tokens", "output_tokens"))


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


@every_row(
    ("name", "value"),
    [
        *(("month", text) for text in ("", "2026-13", "2026-11\n", "u`")),
        *(("by", text) for text in ("", "hour", "day,", "day;model", "Day")),
        *(("from", text) for text in ("", "2026-11", "2026-11-01")),
        *(("to", text) for text in ("", "2026-11-30")),
    ],
)
async def test_an_invalid_query_is_refused(customer: Customer, name: str, value: str):
    """400 with the parameter's name."""
    refused = await get(customer, **{name: value})

    refused.assert_problem(400, "invalid_request", f"`{name}`")


async def test_usage_is_read_of_any_days(customer: Customer):
    """The first and the last day are included; all customers have a line of the same days."""
    await customer.run()
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)

    statement = (await get(customer, **{"from": f"{yesterday}", "to": f"{today}"}, by="day")).json
    before = (await get(customer, **{"from": f"{yesterday}", "to": f"{yesterday}"})).json
    everybody = (await send(customer.harness, "GET", "usage", query={"from": f"{today}", "to": f"{today}"})).json

    assert (f"{yesterday}", f"{today}", None) == (statement["from"], statement["to"], statement.get("month"))
    assert [(f"{today}", 1)] == [(line["day"], line["calls"]) for line in statement["lines"]]
    assert [] == before["lines"]
    assert [1] == [line["calls"] for line in everybody["lines"] if line["customer"] == customer.name]


@pytest.mark.parametrize("name", ["No", "a--b", "x" * 51, "..", "ü"])
async def test_an_invalid_customer_id_is_not_found(harness: Harness, name: str):
    """404, for a statement and for a list."""
    for what in ("usage", "jobs", "connections"):
        assert 404 == (await send(harness, "GET", f"customers/{name}/{what}")).status
