"""`reconcile`: our records beside a provider's bill, on a deployment of its own; each difference has a name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.billing.rollups import Rollups
from shared.billing.usage import UNANSWERED, Call
from shared.billing.usage_records import RecordLabels, usage_rows, with_closed_job
from shared.contract.price_book import decode_price_book
from shared.contract.result import ConnectionLabel
from shared.contract.usage import NO_USAGE, Usage
from tests.support.cli_runner import CliRunner
from tests.support.harness import Harness
from tests.support.openai_costs import ADMIN_KEY, CostServer, open_cost_server

DAY = date(2026, 10, 14)
MODEL = "gpt-4o-2024-08-06"
MONTH = "--month 2026-10"
BOOK = {
    "currency": "USD",
    "prices": [
        {"provider": provider, "model": "gpt-4o*", "input": "2.50", "output": "10"}
        for provider in ("openai", "foundry")
    ]
    + [{"provider": "openai", "model": "gpt-4o*", "input": "2", "output": "10", "customer": "special"}],
    "markups": [{"percent": "50", "per_job": "1"}],
    "rates": [{"from": "USD", "to": "EUR", "rate": "0.5"}],
}


@pytest.fixture
def harness(own_table: Harness) -> Harness:
    """A deployment of the test's own."""
    return own_table


@pytest_asyncio.fixture(loop_scope="session")
async def costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CostServer]:
    """OpenAI's costs."""
    monkeypatch.setenv("OPENAI_ADMIN_KEY", ADMIN_KEY)
    async with open_cost_server(tmp_path, monkeypatch) as server:
        yield server


async def publish(harness: Harness) -> None:
    """Publish the price book."""
    await harness.services.price_books.publish(decode_price_book(json.dumps(BOOK).encode()), replaces=None, by="test")


async def add(
    harness: Harness, customer: str, job: str, *calls: Call, provider: str = "openai", billed_to: str = "operator"
) -> None:
    """Record calls of a job."""
    label = ConnectionLabel(
        name="default",
        source="static" if billed_to == "operator" else "key_vault",
        provider=provider,
        billed_to=billed_to,
    )
    at = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
    rows = usage_rows(RecordLabels(customer, job, "chat", "gpt-4o", label), calls, at)
    for row in with_closed_job(RecordLabels(customer, job, "chat", "gpt-4o", label), rows, NO_USAGE, at):
        await harness.services.table.insert(row)


def call(model: str | None = MODEL, tokens: int = 1_000_000) -> Call:
    """Return a call of a model."""
    return Call(Usage(calls=1, input_tokens=tokens, output_tokens=0), model)


async def document(cli: CliRunner, line: str, code: int) -> dict[str, Any]:
    """Return the document of a command."""
    result = await cli.run(f"{line} --json")
    assert code == result.code, result.text
    parsed: dict[str, Any] = json.loads(result.out)
    return parsed


def verdicts(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what the lines of a document say."""
    names = ("item", "verdict", "ours", "theirs", "difference")
    return [tuple(line.get(name) for name in names) for line in body["lines"]]


async def test_a_bill_that_agrees_has_no_difference(cli: CliRunner, costs: CostServer):
    """
    Of all customers, what the operator pays, before markup; other days, accounts and providers are not compared. The
    same is so once the days are rolled up.
    """
    await publish(cli.harness)
    await add(cli.harness, "a", "1", call(), UNANSWERED)
    await add(cli.harness, "b", "1", call(), call("gpt-4o-mini"))
    await add(cli.harness, "b", "2", call(), billed_to="customer")
    await add(cli.harness, "b", "3", call(), provider="foundry")
    costs.costs = {(DAY, f"{MODEL}, input", "p"): 5.0000001, (DAY, "gpt-4o-mini, input", "p"): 2.5}

    for _ in range(2):
        body = await document(cli, f"reconcile openai {MONTH}", 0)
        assert ("7.500000", "7.500000", "USD", []) == (body["ours"], body["theirs"], body["currency"], body["unpriced"])
        assert [("gpt-4o-2024-08-06", "equal"), ("gpt-4o-mini", "equal")] == [line[:2] for line in verdicts(body)]
        for customer in ("a", "b"):
            while await Rollups(cli.harness.services.table).advance(customer, ()):
                pass

    shown = await cli.run(f"reconcile openai {MONTH}", columns=200)
    assert "In 2026-10: our records 7.500000 USD, the bill 7.500000 USD, a difference of 0.000000 USD." in shown.out
    assert "All 2 lines agree." in shown.out
    assert ADMIN_KEY not in shown.text


async def test_a_customers_own_price_is_not_the_operators(cli: CliRunner, costs: CostServer):
    """What the provider charges the operator is the same for all customers; for one's own account it is its price."""
    await publish(cli.harness)
    await add(cli.harness, "special", "1", call())
    await add(cli.harness, "special", "2", call(), billed_to="customer")
    costs.costs = {(DAY, f"{MODEL}, input", "p"): 2.5}

    operators = await document(cli, f"reconcile openai {MONTH}", 0)
    customers = await document(cli, f"reconcile openai {MONTH} --customer special", 1)

    assert ("2.500000", "2.000000") == (operators["ours"], customers["ours"])


async def test_every_difference_is_named(cli: CliRunner, costs: CostServer):
    """What only one side has, what differs, and what has no price: each with the names that both sides have."""
    await publish(cli.harness)
    await add(cli.harness, "a", "1", call(), call("gpt-4o-mini"), call("o9"), call("gpt-4o-audio"))
    costs.costs = {
        (DAY, f"{MODEL}, input", "p"): 2.5,
        (DAY, f"{MODEL}, output", "p"): 0.25,
        (DAY, "gpt-4o-mini, input", "p"): 2.505,
        (DAY, "web search tool calls", "p"): 1,
        (DAY, "nothing", "p"): 0,
    }

    body = await document(cli, f"reconcile openai {MONTH}", 1)

    assert [
        (MODEL, "differs", "2.500000", "2.750000", "0.250000"),
        ("gpt-4o-audio", "only_ours", "2.500000", None, "-2.500000"),
        ("gpt-4o-mini", "equal", "2.500000", "2.505000", "0.005000"),
        ("nothing", "equal", None, "0.000000", "0.000000"),
        ("o9", "only_ours", "0.000000", None, "0.000000"),
        ("web search tool calls", "only_theirs", None, "1.000000", "1.000000"),
    ] == verdicts(body)
    (first, *_) = body["lines"]
    assert ([MODEL], [f"{MODEL}, input", f"{MODEL}, output"]) == (first["our_names"], first["their_names"])
    assert ["no price holds for o9 on 2026-10-14 (provider openai, processing standard)"] == body["unpriced"]
    strict = await document(cli, f"reconcile openai {MONTH} --tolerance 0", 1)
    assert "differs" in {line[1] for line in verdicts(strict) if line[0] == "gpt-4o-mini"}
    shown = await cli.run(f"reconcile openai {MONTH}", columns=250)
    for words in ("only in our records; 1 record of o9; 1 without a price", "only in the bill; billed as web search"):
        assert words in shown.text
    assert "No price: no price holds for o9" in shown.out


async def test_a_customer_has_a_bill_of_its_own(cli: CliRunner, costs: CostServer):
    """With `--customer`, what that customer pays itself, in the currency of its bill."""
    await publish(cli.harness)
    await add(cli.harness, "a", "1", call(), billed_to="customer")
    await add(cli.harness, "a", "2", call())
    await add(cli.harness, "b", "1", call(), billed_to="customer")
    costs.costs, costs.currency = {(DAY, f"{MODEL}, input", "p"): 1.25}, "eur"

    body = await document(cli, f"reconcile openai --customer a --from {DAY} --to {DAY}", 0)

    assert ("a", "1.250000", "EUR") == (body["customer"], body["ours"], body["currency"])


async def test_azure_is_compared_by_resource(cli: CliRunner, tmp_path: Path):
    """A resource is the first label of the endpoint's host; a connection that is gone is named as such."""
    await publish(cli.harness)
    customer = cli.harness.customer()
    await add(cli.harness, customer.name, "1", call(), call(tokens=2_000_000), provider="foundry", billed_to="customer")
    await add(cli.harness, "gone", "1", call(), provider="foundry", billed_to="customer")
    account = "/subscriptions/0/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts"
    file = tmp_path / "costs.csv"
    file.write_text(
        "Date,ResourceId,MeterName,CostInBillingCurrency,BillingCurrency\n"
        f"10/14/2026,{account}/127,gpt 4o Inp,7.50,USD\n10/14/2026,{account}/speech,TTS,3,USD\n"
    )

    body = await document(cli, f"reconcile azure {file} {MONTH} --customer {customer.name}", 1)
    other = await document(cli, f"reconcile azure {file} {MONTH} --customer gone", 1)

    assert [
        ("127", "equal", "7.500000", "7.500000", "0.000000"),
        ("speech", "only_theirs", None, "3.000000", "3.000000"),
    ] == verdicts(body)
    assert ("connection gone/default", "only_ours") == verdicts(other)[1][:2]


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("reconcile openai --month 2026-13", 2, "--month must be a month"),
        ("reconcile openai --tolerance -1", 2, "--tolerance"),
        ("reconcile openai --customer A_B", 2, "lower-case letters"),
        ("reconcile azure nothing.csv", 1, "nothing.csv"),
        ("reconcile openai", 1, "no price book"),
    ],
)
async def test_what_is_missing_is_named(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, line: str, code: int, sentence: str
):
    """An invalid command line exits with 2, and anything else that is missing with 1, before a key is asked for."""
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)

    result = await cli.run(line)

    assert code == result.code
    assert sentence in result.err


async def test_the_key_is_read_from_stdin_or_a_file(cli: CliRunner, costs: CostServer, monkeypatch: pytest.MonkeyPatch):
    """If the variable is not set; a wrong key is never shown."""
    await publish(cli.harness)
    monkeypatch.delenv("OPENAI_ADMIN_KEY")
    file = cli.directory / "key.txt"
    file.write_text("sk-wrong-0123456789")

    right = await cli.run(f"reconcile openai {MONTH}", stdin=f"{ADMIN_KEY}\n")
    wrong = await cli.run(f"reconcile openai {MONTH} --key-file {file}")

    assert (0, 1) == (right.code, wrong.code)
    assert "neither our records nor the bill have anything" in right.out
    assert "answered 401: it does not accept the key for this." in wrong.err
    assert "sk-wrong" not in wrong.text
    assert 2 == len(costs.queries)
