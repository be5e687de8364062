"""`close-month`: a job for each customer closes its month, or corrects it, after a question."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from shared.contract.customer import CustomerProfile
from tests.support.cli_runner import CliRunner
from tests.support.closable import MONTH, add_credit, add_usage, publish_prices, put_profile
from tests.support.harness import Harness


@pytest.fixture
async def harness(own_documents: Harness) -> Harness:
    """A deployment with prices, and two customers with usage in the last month, one of them without a price."""
    services = own_documents.services
    await publish_prices(services.table, services.blobs, container=services.settings.statements_container)
    await add_usage(services.table, "contoso")
    await add_usage(services.table, "fabrikam", model="gpt-new")
    await add_usage(services.table, "idle", month="2020-01")
    return own_documents


async def document(cli: CliRunner, line: str, code: int = 0) -> dict[str, Any]:
    """Return the document of a command."""
    result = await cli.run(f"{line} --json")
    assert code == result.code, result.text
    parsed: dict[str, Any] = json.loads(result.out)
    return parsed


async def run_jobs(cli: CliRunner) -> dict[str, str]:
    """Run all queued jobs; return their statuses by customer."""
    bodies = await cli.queued()
    results = [json.loads(await cli.harness.deliver(body) or b"{}") for body in bodies]
    return {result["customer"]: result["status"] for result in results}


async def test_a_month_is_closed_once_it_is_typed(cli: CliRunner):
    """The question names the month and the number of customers; anything else queues nothing."""
    line = "close-month"
    await cli.expect(line, 1, out="Nothing was queued.", err=f"This closes {MONTH} for 2 customers.", stdin="contoso\n")
    assert [] == await cli.queued()
    await cli.expect(line, out="Queued: 2.", err="never changes", stdin=f"{MONTH}\n")

    assert {"contoso": "succeeded", "fabrikam": "failed"} == await run_jobs(cli)
    again = await document(cli, f"close-month --month {MONTH} --yes")
    assert (MONTH, 1, 0, 1, 0) == tuple(again[name] for name in ("month", "queued", "running", "closed", "failed"))
    assert [("contoso", "closed"), ("fabrikam", "queued")] == [
        (each["customer"], each["state"]) for each in again["customers"]
    ]


async def test_check_shows_what_is_missing_and_changes_nothing(cli: CliRunner):
    """What each month comes to, the models without a price and why; the exit code says that one can't be closed."""
    checked = await document(cli, "close-month --check", 1)
    text = (await cli.run("close-month --check")).text

    assert [
        {"customer": "contoso", "state": "ready", "total": "3.00", "currency": "USD"},
        {"customer": "fabrikam", "state": "unpriced", "total": "0.00", "currency": "USD"},
    ] == [{name: each[name] for name in each if name != "unpriced"} for each in checked["customers"]]
    ((missing,),) = [each["unpriced"] for each in checked["customers"] if "unpriced" in each]
    assert ("gpt-new", 1) == (missing["model"], missing["records"])
    assert "no price holds for gpt-new" in missing["reason"]
    assert "fabrikam: no price for 1 record of gpt-new: no price holds for gpt-new" in text
    assert [] == await cli.queued()


async def test_a_customers_month_is_closed_without_what_has_no_price(cli: CliRunner):
    """If the operator says so; the customer's id is what is typed."""
    await cli.expect("close-month --customer fabrikam --allow-unpriced", out="Queued: 1.", stdin="fabrikam\n")

    assert {"fabrikam": "succeeded"} == await run_jobs(cli)
    (line,) = (await document(cli, "close-month --check --customer fabrikam"))["customers"]
    assert ("closed", "fabrikam-0001", "0.00") == (line["state"], line["number"], line["total"])


async def test_a_correction_is_of_those_that_are_closed(cli: CliRunner):
    """With `--correct` nobody else's month is closed, and a customer whose month is open is an error."""
    await cli.expect("close-month --customer contoso --yes")
    await run_jobs(cli)
    await add_credit(cli.harness.services.table, "contoso")

    await cli.expect("close-month --correct --customer fabrikam --yes", 1, err="is not closed")
    checked = await document(cli, "close-month --correct --check")
    await cli.expect(
        "close-month --correct", out="Queued: 1.", err=f"This corrects {MONTH} for 1 customer.", stdin=MONTH
    )

    assert [("ready", "-1.00")] == [(each["state"], each["total"]) for each in checked["customers"]]
    assert {"contoso": "succeeded"} == await run_jobs(cli)
    after = await document(cli, "close-month --correct --check")
    assert ["nothing_to_correct"] == [each["state"] for each in after["customers"]]


async def test_cancelling_a_customers_jobs_leaves_its_month_alone(cli: CliRunner):
    """What the customer has queued is cancelled; the job that closes its month is not."""
    await cli.expect("close-month --customer contoso --yes")

    cancelled = await document(cli, "cancel --customer contoso --yes")

    assert {"cancelled": 0, "other": {"closes_month": 1}} == cancelled
    assert {"contoso": "succeeded"} == await run_jobs(cli)


async def test_a_month_that_is_not_over_is_refused(cli: CliRunner):
    """So is an invalid month, before anything is read."""
    await cli.expect("close-month --month 2999-01 --yes", 1, err="2999-01 can't be closed yet")
    await cli.expect("close-month --month 2026-13 --yes", 2, err="--month must be a month")
    await cli.expect("close-month --customer A_B --yes", 2, err="The customer's id must be")
    for option in ("--yes", "--check"):  # misspelled
        await cli.expect(f"close-month --customer contosso {option}", 1, err="no record of a customer contosso")


async def test_a_month_of_nobody_has_nothing_to_close(cli: CliRunner):
    """No question is put."""
    await cli.expect("close-month --month 2020-02", out="There is nothing to close in 2020-02.")


@pytest.mark.long
async def test_focus_has_a_closed_month_as_it_was_closed(cli: CliRunner):
    """
    Neither a new price nor a new profile changes what the invoice says; an open month goes by both. Each line of the
    closed one names its document.
    """
    services = cli.harness.services
    line = f"export-focus contoso --month {MONTH}"
    open_month = (await cli.expect(line)).out
    await cli.expect("close-month --customer contoso --yes")
    await run_jobs(cli)
    await publish_prices(services.table, services.blobs, "99", container=services.settings.statements_container)
    await put_profile(services.table, "contoso", CustomerProfile(bill_outcomes=("lost",)))

    closed = (await cli.expect(line)).out
    before, after = (list(csv.DictReader(text.splitlines())) for text in (open_month, closed))
    assert ",answered," in closed
    assert {""} == {row["InvoiceId"] for row in before}
    (invoice,) = {row.pop("InvoiceId") for row in after}
    assert invoice
    assert [{name: text for name, text in row.items() if name != "InvoiceId"} for row in before] == after
