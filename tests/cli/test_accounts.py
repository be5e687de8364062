"""`profile`, `customers suspend`, `adjustments` and `audit`: what the operator records, and who did."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from aijobs.person import person
from aijobs.program import command
from shared.billing.closed_records import ClosedRecord, ClosedRecords
from shared.contract.closed_month import DocumentId
from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer
from tests.support.rows import every_row

CREDIT = "--month 2026-11 --amount 12.5 --description Outage --currency USD"


async def document(cli: CliRunner, line: str) -> dict[str, object]:
    """The document of a command that succeeds."""
    listed: dict[str, object] = json.loads((await cli.expect(f"{line} --json")).out)
    return listed


async def test_members_of_a_profile_are_set_and_cleared(cli: CliRunner, newcomer: Customer):
    """What is not named stays; an address has lines; an external id is added, and removed by an empty one."""
    name = newcomer.name
    await cli.expect(f"profile show {name}", out="has no profile")
    first = f"profile set {name} --legal-name 'Contoso GmbH' --currency EUR --external-id stripe=cus_1"
    await cli.expect(first, err="legal_name", stdin=f"{name}\n", out="Changed the profile")
    await cli.expect(f"profile set {name} --yes --address 'A\\nB' --external-id lago=2 --bill-outcomes answered,lost")
    await cli.expect(f"profile set {name} --yes --external-id stripe= --clear currency", out="currency")
    await cli.expect(f"profile set {name} --legal-name 'Contoso GmbH'", out="Nothing was changed.")

    assert {
        "legal_name": "Contoso GmbH",
        "address": "A\nB",
        "external_ids": {"lago": "2"},
        "bill_outcomes": ["answered", "lost"],
    } == await document(cli, f"profile show {name}")
    shown = (await cli.expect(f"profile show {name}")).text
    assert "lago=2" in shown
    assert "answered, lost" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--currency euro", "`currency` must be an ISO 4217 code"),
        ("--bill-outcomes paid", "`bill_outcomes[0]` must be one of answered, lost, unanswered."),
        ("--external-id stripe", "--external-id must be NAME=ID"),
        ("--notify https://10.0.0.1", "public host"),
        ("--invoice-prefix a/b", "`invoice_prefix` must be 1 to 20"),
    ],
)
async def test_an_invalid_member_is_a_usage_error(cli: CliRunner, newcomer: Customer, options: str, message: str):
    """In the app's own words, and nothing is changed."""
    await cli.expect(f"profile set {newcomer.name} --yes {options}", 2, err=message)

    assert [] == await newcomer.rows()


async def test_a_customer_is_suspended_and_activated(cli: CliRunner, customer: Customer):
    """Its jobs end meanwhile. Twice the same changes nothing, and neither does what nobody confirmed."""
    line = f"customers suspend {customer.name}"
    await cli.expect(line, 1, err="This suspends", out="Nothing was changed.", stdin="no\n")
    await cli.expect(line, out="is suspended. Workers know within 10 seconds", stdin=f"{customer.name}\n")
    await cli.expect(line, out="is suspended already.")
    await cli.expect(f"profile show {customer.name}", out=f"{customer.name} is suspended: its jobs are not run.")
    cli.harness.services.customer_records._recent.pop(customer.name)
    failed = await customer.run()
    await cli.expect(f"customers activate {customer.name} --yes", out="is active.")
    cli.harness.services.customer_records._recent.pop(customer.name)

    assert "customer_suspended" == failed["error"]["code"]
    assert "succeeded" == (await customer.run())["status"]
    entries = (await document(cli, f"audit {customer.name}"))["entries"]
    assert isinstance(entries, list)
    assert [(person(), "state")] * 2 == [(each["by"], each["subject"]) for each in entries]


async def test_an_adjustment_is_added_once(cli: CliRunner, newcomer: Customer):
    """The same line again adds nothing; an id of its own adds the same again, and has one content."""
    name = newcomer.name
    line = f"adjustments credit {name} {CREDIT}"
    await cli.expect(line, 1, err="This credits", out="Nothing was added.", stdin="no\n")
    await cli.expect(line, out="Added the credit credit-", stdin=f"{name}\n")
    await cli.expect(f"{line} --yes", out="Nothing was added")
    await cli.expect(f"{line} --yes --id second", out="Added the credit second of -12.50 USD")
    await cli.expect(
        f"adjustments debit {name} {CREDIT} --yes --id second", 1, err="belongs to another credit or debit"
    )
    await cli.expect(f"adjustments debit {name} {CREDIT.replace('2026-11', '2026-10')} --yes")

    listed = await document(cli, f"adjustments list {name} --month 2026-11")
    everything = await cli.expect(f"adjustments list {name}")
    assert isinstance(listed["adjustments"], list)
    assert ["-12.50", "-12.50"] == [each["amount"] for each in listed["adjustments"]]
    assert "12.50  USD" in everything.out
    await cli.expect("adjustments list nobody", out="has no credits and debits")


@every_row(
    ("line", "message"),
    [
        ("credit {} --month 2026-13 --amount 1 --description x --currency USD", "--month must be a month"),
        ("credit {} --month 2020-01 --amount 1 --description x --currency USD", "nothing is added to 2020-01 any more"),
        ("credit {} --month 2026-11 --amount 0 --description x --currency USD", "other than 0"),
        ("credit {} --month 2026-11 --amount -1 --description x --currency USD", "amount"),
        ("credit {} --month 2026-11 --amount 1e3 --description x --currency USD", "must be an amount"),
        ("list {} --month 2026", "--month must be a month"),
    ],
)
async def test_an_invalid_adjustment_is_a_usage_error(cli: CliRunner, newcomer: Customer, line: str, message: str):
    """Nothing is added."""
    await cli.expect(f"adjustments {line.format(newcomer.name)}", 2, err=message)

    assert [] == await newcomer.rows()


async def test_a_credit_to_a_closed_month_says_what_comes_of_it(cli: CliRunner, newcomer: Customer):
    """Nothing does so by itself: it waits for a correction, whose command the message has."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    record = ClosedRecord(newcomer.name, DocumentId("2026-10"), 1, "C-1", at, "USD", "3.00", "0" * 64)
    await ClosedRecords(cli.harness.services.table).insert(record)
    line = f"adjustments credit {newcomer.name} --amount 1 --description x --currency USD --yes"
    closed = await cli.expect(f"{line} --month 2026-10")
    correct = command(f"close-month --month 2026-10 --customer {newcomer.name} --correct")

    assert f"next correction, which {correct} makes." in " ".join(closed.out.split())
    assert "closed" not in (await cli.expect(f"{line} --month 2026-10")).out
    assert "closed" not in (await cli.expect(f"{line} --month 2026-11")).out


async def test_a_currency_is_the_customers(cli: CliRunner, newcomer: Customer):
    """Without one anywhere, it has to be named; with the profile's, another one is refused."""
    line = f"adjustments credit {newcomer.name} --month 2026-11 --amount 1 --description x --yes"
    await cli.expect(line, 1, err="use --currency")
    await cli.expect(f"profile set {newcomer.name} --currency EUR --yes")

    await cli.expect(f"{line} --currency USD", 2, err="must be EUR")
    await cli.expect(line, out="-1.00 EUR")


async def test_audit_shows_the_newest_first(cli: CliRunner, newcomer: Customer):
    """As many as are asked for, each with what differs."""
    name = newcomer.name
    await cli.expect(f"audit {name}", out="Nothing was changed")
    for currency in ("EUR", "USD", "CHF"):
        await cli.expect(f"profile set {name} --yes --currency {currency}")

    shown = await cli.expect(f"audit {name} --limit 2", out="There are earlier changes")
    assert ["USD -> CHF", "EUR -> USD"] == [
        line.partition("currency ")[2].strip() for line in shown.out.splitlines() if "->" in line
    ]
    await cli.expect(f"audit {name} --limit 0", 2, err="--limit must be 1 or more")
