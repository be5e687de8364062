"""`exports`: over the real Storage, vault and HTTP, what was sent, what was refused or is in doubt, and decisions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from aijobs.export_checks import check_exports
from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.billing.closed_records import ERASED_KEY
from shared.billing.outbox import PARTITION
from shared.clock import now
from shared.contract.customer import CustomerProfile
from shared.contract.price_book import decode_price_book
from shared.exports import delivery, sending
from shared.exports.export_status import ExportStatus
from shared.services import Services, build
from shared.settings import read_settings
from shared.storage.base import Row
from shared.upstream.messages import Response
from tests.support.billing_receivers import KEY, Stripe, answer, serve_system
from tests.support.cli_runner import CliRunner
from tests.support.endpoint import Endpoint
from tests.support.exporting import WHSEC
from tests.support.harness import Customer, Harness, open_harness
from tests.support.rows import every_row


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stripe() -> AsyncIterator[tuple[Stripe, str]]:
    """Stripe on loopback, and its URL."""
    system = Stripe(now)
    async with serve_system(system) as url:
        yield system, url


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="harness")
async def _harness(
    azurite: Azurite, vault: Vault, endpoint: Endpoint, stripe: tuple[Stripe, str]
) -> AsyncIterator[Harness]:
    """The app's services with two exports: to Stripe, and to a queue that nobody has made."""
    exports = [
        {"name": "stripe", "kind": "stripe", "event_name": "ai_tokens", "value": "total_tokens", "url": stripe[1]},
        {"name": "events", "kind": "cloudevents", "queue": "nobody-has-made-it"},
    ]
    async with open_harness(azurite, vault, endpoint, USAGE_EXPORTS=json.dumps(exports)) as harness:
        harness.put_secret("export--stripe", KEY)
        yield harness


@pytest_asyncio.fixture(loop_scope="session")
async def system(stripe: tuple[Stripe, str], harness: Harness) -> Stripe:
    """Stripe, which has counted nothing yet, knows everybody and has not refused a key lately."""
    system = stripe[0]
    await harness.services.table.delete([Row(PARTITION, "~stripe", {})])
    system.counted.clear()
    system.refused.clear()
    system.answers.clear()
    return system


async def add_profile(services: Services, customer: Customer, **ids: str) -> None:
    """Give a customer external ids."""
    profile = CustomerProfile(external_ids=ids)
    await services.customer_records.change(
        customer.name, lambda record: record.with_profile(profile), by="test", subject="profile"
    )


async def document(cli: CliRunner, line: str) -> Any:
    """Return the JSON document of a command that succeeds."""
    return json.loads((await cli.expect(f"{line} --json")).out)


@pytest.mark.long
async def test_a_job_reaches_the_billing_system(cli: CliRunner, customer: Customer, system: Stripe):
    """The way from a job's own transaction to the receiver's sum, over HTTP. What waits is listed with its reason."""
    services = cli.harness.services
    result = await customer.run()
    await services.wake_jobs()
    assert 0 == system.sum()
    listed = await document(cli, f"exports list {customer.name} --export stripe")
    assert [("waiting", "The customer's profile has no external id for this export.")] == [
        (each["state"], each["reason"]) for each in listed["events"]
    ]

    await add_profile(services, customer, stripe="cus_1")
    await services.wake_jobs()

    assert [("cus_1", result["usage"]["total_tokens"])] == [(owner, value) for _, owner, value in system.counted]
    status = await document(cli, f"exports status --customer {customer.name}")
    sent, waiting = status["exports"]
    assert (1, f"{system.sum()}", 0) == (sent["sent"], sent["value"], sent["waiting"])
    assert (0, 1) == (waiting["sent"], waiting["waiting"])
    (event,) = (await document(cli, f"exports list {customer.name}"))["events"]
    assert ("events", "waiting") == (event["export"], event["state"])


async def test_refused_events_are_sent_again(cli: CliRunner, customer: Customer, system: Stripe):
    """`list` shows the receiver's reason; after `retry`, they are sent with their own id. No key is anywhere."""
    services = cli.harness.services
    await add_profile(services, customer, stripe="cus_2")
    system.refused.add("cus_2")
    await customer.run()
    await services.wake_jobs()
    result = await cli.expect(f"exports list {customer.name} --state refused")
    assert "No such customer: 'cus_2'" in result.out
    (event,) = (await document(cli, f"exports list {customer.name} --state refused"))["events"]

    system.refused.clear()
    missing = await cli.run(f"exports retry stripe {customer.name} --event u_0")
    assert (1, "0 events") == (missing.code, missing.out[:8])
    await cli.expect(f"exports retry stripe {customer.name} --event {event['id']}", out="1 event will be sent")
    await services.wake_jobs()
    assert [event["id"]] == [each for each, _, _ in system.counted]
    assert KEY not in result.text + repr(await customer.rows())


async def make_doubt(cli: CliRunner, customer: Customer, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Have two jobs' events be in doubt, of which Stripe has counted the first."""
    services = cli.harness.services
    await add_profile(services, customer, stripe="cus_3")
    client, exchange = services.client, services.client.exchange

    async def lose_answer(*arguments: Any, **options: Any) -> Response:
        response = await exchange(*arguments, **options)
        return replace(response, status=502, body=b"")

    async def answer_502(*_: Any, **__: Any) -> Response:
        return Response(502, {}, b"", None)

    for exchange_so in (lose_answer, answer_502):
        await customer.run()
        monkeypatch.setattr(client, "exchange", exchange_so)
        await services.wake_jobs()
        monkeypatch.undo()
    with monkeypatch.context() as patch:
        for module in (sending, delivery):
            patch.setattr(module, "now", lambda: now() + timedelta(hours=25))
        await services.wake_jobs()
    listed = (await document(cli, f"exports list {customer.name} --state in_doubt"))["events"]
    assert 2 == len(listed)
    return listed


async def test_doubts_are_resolved_by_the_receivers_total(
    cli: CliRunner, customer: Customer, system: Stripe, monkeypatch: pytest.MonkeyPatch
):
    """A total that fits no choice, or more than one, is refused with what it could be; one that fits decides."""
    listed = await make_doubt(cli, customer, monkeypatch)
    value = int(listed[0]["value"])
    line = f"exports resolve stripe {customer.name}"

    wrong = await cli.run(f"{line} --total {value + 1}")
    assert f"It would be 0 if it has none of them, {2 * value} if it has all." in wrong.err
    ambiguous = await cli.run(f"{line} --total {value}")
    assert "More than one choice of the events in doubt makes that total." in ambiguous.err
    assert "--from and --to must include" in (await cli.run(f"{line} --total {value} --to 2020-01-01")).err
    declined = await cli.run(f"{line} --total {2 * value}", stdin="no\n")
    assert (1, "Nothing was decided.\n") == (declined.code, declined.out)

    (taken,) = [each["id"] for each in listed if each["id"] in {event for event, _, _ in system.counted}]
    await cli.expect(f"{line} --received --event {taken}", stdin=customer.name)
    decided = await cli.expect(f"{line} --total {value} --json", stdin=customer.name)
    assert ([], 1) == (json.loads(decided.out)["received"], len(json.loads(decided.out)["not_received"]))
    await cli.harness.services.wake_jobs()

    assert 2 * value == system.sum()
    assert 0 == system.doubles
    status = (await document(cli, f"exports status --customer {customer.name}"))["exports"][0]
    assert (2, f"{2 * value}", 0) == (status["sent"], status["value"], status["in_doubt"])
    await cli.expect(f"{line} --received", out=f"No event of {customer.name} is in doubt at stripe.")
    audit = await document(cli, f"audit {customer.name}")
    decisions = [each["after"]["decision"] for each in audit["entries"] if each["subject"] == "export stripe"]
    assert ["not_received", "received"] == decisions


async def test_a_failing_export_is_named(cli: CliRunner, customer: Customer, system: Stripe):
    """`status` exits with 1 and says what is wrong; `doctor` says so, too. Neither shows the key."""
    services = cli.harness.services
    await add_profile(services, customer, stripe="cus_4")
    await customer.run()
    system.key = "another"
    try:
        await services.wake_jobs()
        result = await cli.run("exports status")
        assert (1, True) == (result.code, "The receiver refused the key (401)." in result.out)
        (outcome, *_) = await check_exports(services)
        assert ("export stripe", "error") == (outcome.check, outcome.verdict)
        assert "The receiver refused the key (401)." in outcome.message
        assert KEY not in result.text + outcome.message
    finally:
        system.key = KEY


@every_row(
    ("line", "words"),
    [
        ("exports list --export nothing", "USAGE_EXPORTS has no export of that name."),
        ("exports retry nothing", "USAGE_EXPORTS has no export of that name."),
        ("exports status --month 2026-13", "--month must be a month, such as 2026-11."),
        ("exports resolve stripe acme", "one of the arguments --total --received --not-received is required"),
        ("exports resolve stripe acme --total x", "must be a number, such as 4711"),
        ("exports resolve stripe acme --total 1 --event u_1", "--event and --total exclude each other"),
        ("exports resolve events acme --total 1", "--total: the export events has no `value`"),
        ("exports resolve stripe acme --received --event u_1", "An event that you named is not in doubt."),
        ("exports list A_B", "The customer's id must be"),
    ],
)
async def test_wrong_lines(cli: CliRunner, line: str, words: str):
    """Each says what would be right."""
    result = await cli.run(line)

    assert result.code in (1, 2)
    assert words in result.text


async def test_a_month_as_focus(cli: CliRunner, customer: Customer):
    """A new file with a row for what has a price, and how many records have none; stdout gets the same CSV."""
    line = f"export-focus {customer.name} --month {now():%Y-%m}"
    assert "There is no price book" in (await cli.run(line)).err
    await customer.run()
    books = cli.harness.services.price_books
    book = {"currency": "USD", "prices": [], "models": [], "markups": []}
    await books.publish(decode_price_book(json.dumps(book).encode()), replaces=None, by="test")

    written = await cli.expect(f"{line} --to focus.csv --json")
    printed = await cli.expect(line)

    counts = {"rows": 0, "left_out": 1, "erased_customers": 0}
    assert counts | {"month": f"{now():%Y-%m}", "file": "focus.csv"} == json.loads(written.out)
    assert printed.out == (cli.directory / "focus.csv").read_text().replace("\r\n", "\n")
    assert "Left out: 1 record without a price." in printed.err
    assert (1, True) == ((again := await cli.run(f"{line} --to focus.csv")).code, "focus.csv exists." in again.err)
    assert 2 == (await cli.run(f"{line} --json")).code
    assert 2 == (await cli.run("export-focus --month 2026-13")).code
    assert "are no longer kept (RETAIN_USAGE_MONTHS)" in (await cli.run("export-focus --month 2020-01")).err
    await cli.harness.services.table.insert(Row(customer.name, ERASED_KEY, {"at": now()}))
    assert "Left out: the usage of 1 customer that was erased." in (await cli.expect(line)).err


async def test_a_key_that_a_receiver_quotes_is_nowhere(
    cli: CliRunner, customer: Customer, system: Stripe, caplog: pytest.LogCaptureFixture
):
    """Neither in reasons, rows, the audit trail and documents nor in logs, however the key is written."""
    services = cli.harness.services
    await add_profile(services, customer, stripe="cus_5")
    quoted = f"{KEY} {KEY.upper()} {quote(KEY, safe='')}"
    system.answers = [
        answer(400, {"error": {"message": f"Bad key {quoted}"}}, x_key=KEY)
    ] * 5  # other customers' events may be due
    await customer.run()
    await services.wake_jobs()
    listed = await cli.expect(f"exports list {customer.name} --json")
    assert "Bad key *** *** ***" in listed.out
    system.answers = [answer(401, {"error": {"message": quoted}})] * 5
    await cli.expect(f"exports retry stripe {customer.name}")
    await services.wake_jobs()
    texts = [
        listed.text,
        (await cli.run("exports status --json")).text,
        repr(await check_exports(services)),
        (await cli.run(f"audit {customer.name} --json")).text,
        repr([row async for row in services.table.scan("~outbox", "", "~")]),
        repr(await customer.rows()),
        caplog.text,
    ]

    assert [] == [text for text in texts if KEY.lower() in text.lower() or "MARKED-KEY" in text]


@pytest.mark.long
async def test_a_connection_test_is_exported_like_a_job(cli: CliRunner, customer: Customer, system: Stripe):
    """Its token is on the customer's statement, and so it is at the billing system, from the command line as well."""
    await add_profile(cli.harness.services, customer, stripe="cus_6")
    await cli.expect(f"customers test {customer.name} --model gpt-4o")
    await cli.harness.services.wake_jobs()

    assert [18] == [value for _, owner, value in system.counted if owner == "cus_6"]


SOUND = "It has a secret, and no error is on record."
CHECKED = {
    "absent": ("stripe", None, "The secret export--absent doesn't exist."),
    "spaced": ("stripe", "two words", "The secret export--spaced is not a key: one word of ASCII characters."),
    "first": ("stripe", "sk_test_1", SOUND),
    "twin": ("stripe", "sk_test_1", "It has the same key as the export first: "),
    "unsigned": (
        "cloudevents",
        "sk_test_2",
        "The secret export--unsigned is not a signing secret: `whsec_` and base64",
    ),
    "signed": ("cloudevents", WHSEC, SOUND),
}
"""By the export's name, its kind and secret, and what is said about it."""


async def test_doctor_checks_the_secrets_of_exports(cli: CliRunner):
    """Before anything is sent: what is wrong with the secret, in words that don't have it."""
    stripe = {"kind": "stripe", "event_name": "x", "value": "calls"}
    for name, (_, secret, _) in CHECKED.items():
        if secret is not None:
            cli.harness.put_secret(f"export--{name}", secret)
    entries = [
        {"name": name, **(stripe if kind == "stripe" else {"kind": kind, "url": f"https://{name}.contoso.com"})}
        for name, (kind, _, _) in CHECKED.items()
    ]
    services = build(read_settings({**cli.harness.environment, "USAGE_EXPORTS": json.dumps(entries)}))
    try:
        findings = {each.check: each for each in await check_exports(services)}
    finally:
        await services.close()

    for name, (_, _, words) in CHECKED.items():
        finding = findings[f"export {name}"]
        assert finding.message.startswith(words)
        assert ("ok" if words == SOUND else "error") == finding.verdict
    assert not [secret for _, secret, _ in CHECKED.values() if secret and secret in repr(findings)]


async def test_doctor_names_a_lag_and_a_missing_queue(cli: CliRunner):
    """A record that waits for more than an hour is a warning; a queue that nobody has made is an error."""
    status = ExportStatus("events", now(), now() - timedelta(hours=3))
    await cli.harness.services.table.delete([status.row()])
    await cli.harness.services.table.insert(status.row())
    document = json.loads((await cli.run("doctor --json")).out)

    findings = {(each["check"], each["verdict"]): each["message"] for each in document["findings"]}
    assert "is 3h old" in findings["export events", "warning"]
    assert "USAGE_EXPORTS" in findings["queue nobody-has-made-it", "error"]
