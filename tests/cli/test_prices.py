"""`prices`: import, set, list, export and check, on a deployment of its own and sources on this machine."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest
from aiohttp import web

from aijobs.arguments.prices import PROCESSING, RATES, SCOPES
from shared.contract import price_book
from shared.contract.customer import CustomerProfile
from shared.contract.price_book import PriceBook, decode_price_book
from shared.contract.usage import DeploymentScope, Processing
from tests.support.cli_runner import ROOT, CliResult, CliRunner
from tests.support.endpoint import completion
from tests.support.harness import Harness
from tests.support.price_sources import FILES, PriceServer, recorded
from tests.support.rows import every_row

NO = "no\n"
BOOK = {
    "currency": "USD",
    "prices": [
        {"provider": "azure_openai", "model": "gpt-4o-2024-11-20", "input": "2.50", "output": "10"},
        {"provider": "openai", "model": "gpt-4o*", "input": 2.5, "output": 10, "source": "mine"},
    ],
    "markups": [{"percent": "10"}],
}


@pytest.fixture
def harness(own_table: Harness) -> Harness:
    """A deployment without a price book."""
    return own_table


async def current(cli: CliRunner) -> PriceBook | None:
    """The book in use."""
    published = await cli.harness.services.price_books.current()
    return None if published is None else published.book


async def document(cli: CliRunner, line: str, code: int = 0) -> dict[str, Any]:
    """The document of a command."""
    result = await cli.run(f"{line} --json")
    assert code == result.code, result.text
    parsed: dict[str, Any] = json.loads(result.out)
    return parsed


async def succeed(cli: CliRunner, line: str) -> CliResult:
    """Run a command without a question, which succeeds."""
    result = await cli.run(f"{line} --yes")
    assert 0 == result.code, result.text
    return result


async def test_file_becomes_the_book(cli: CliRunner):
    """A file replaces the whole book, and the export is the same book, which imports without a change."""
    cli.write("prices.json", json.dumps(BOOK))

    imported = await succeed(cli, "prices import prices.json")
    exported = await cli.run("prices export")
    cli.write("again.json", exported.out)
    again = await document(cli, "prices import again.json")
    smaller = BOOK | {"prices": BOOK["prices"][:1], "markups": []}  # type: ignore[index]
    cli.write("smaller.json", json.dumps(smaller))
    await succeed(cli, "prices import smaller.json")

    assert "Published. Workers use it within a minute." in imported.out
    assert decode_price_book(json.dumps(BOOK).encode()) == decode_price_book(exported.out.encode())
    assert (False, []) == (again["published"], again["changes"])
    assert json.loads(exported.out)["prices"][1]["input"] == "2.5"
    assert decode_price_book(json.dumps(smaller).encode()) == await current(cli)


async def test_question_shows_the_changes(cli: CliRunner):
    """The changes are on stderr before the question, and nothing is published until their number is typed."""
    cli.write("prices.json", json.dumps(BOOK))

    refused = await cli.run("prices import prices.json", stdin=NO)
    assert (1, None) == (refused.code, await current(cli))
    assert "Nothing was published." in refused.out
    assert "input 2.5, output 10" in " ".join(refused.err.split())
    assert "This changes what calls cost: 3 changes, in USD. Deployment: http" in " ".join(refused.err.split())
    assert "Type the number of changes to continue: " in refused.err

    accepted = await cli.run("prices import prices.json", stdin="3\n")
    assert (0, "Published. Workers use it within a minute.\n") == (accepted.code, accepted.out)
    assert 2 == len((await current(cli) or PriceBook(currency="USD")).prices)


async def test_check_only_shows(cli: CliRunner, sources: PriceServer):
    """`--check` shows what would change and asks nothing, for a file, a source and a price."""
    cli.write("prices.json", json.dumps(BOOK))
    price = "prices set m --provider openai --input 2"

    for line in ("prices import prices.json", "prices import litellm", price):
        result = await cli.run(f"{line} --check")
        assert (0, "") == (result.code, result.err)
        assert "Nothing was published." in result.out
        assert "added" in result.out
    assert await current(cli) is None
    assert 1 == len(sources.queries)


@pytest.mark.parametrize("name", ["azure", *(pytest.param(name, marks=pytest.mark.long) for name in FILES)])
async def test_source_is_imported(cli: CliRunner, sources: PriceServer, name: str):
    """A source's prices hold from today on; what was left out is listed. The same again is no change."""
    first = await document(cli, f"prices import {name} --yes")
    book = await current(cli)
    again = await document(cli, f"prices import {name} --yes")

    assert book is not None
    assert first["published"] is True
    assert len(book.prices) == len(first["changes"]) > 30
    assert {"added"} == {change["change"] for change in first["changes"]}
    today = datetime.now(UTC).date()
    assert {today} == {price.effective_from for price in book.prices}
    assert len(first["left_out"]) > 3
    assert all(entry["name"] and entry["reason"] for entry in first["left_out"])
    assert (False, []) == (again["published"], again["changes"])
    assert (2 if name == "azure" else 1) * 2 == len(sources.queries)


@pytest.mark.long
async def test_import_of_a_region_and_day(cli: CliRunner, sources: PriceServer):
    """The region is part of the request, and prices hold from the day that is named."""
    await succeed(cli, "prices import azure --region swedencentral --effective-from 2026-08-15 --default-scope global")

    shown = await document(cli, "prices list gpt-4o-2024-11-20 --provider foundry --day 2026-08-15")
    before = await document(cli, "prices list gpt-4o-2024-11-20 --provider foundry --day 2026-08-14")
    assert (
        "serviceName eq 'Foundry Models' and priceType eq 'Consumption' and armRegionName eq 'swedencentral'"
        == (sources.queries[0]["$filter"])
    )
    amounts = {
        (price.get("deployment_scope"), price.get("processing", "standard")): price["input"]
        for price in shown["prices"]
    }
    batch = {("global", "batch"): "1.25", ("data_zone", "batch"): "1.375", (None, "batch"): "1.25"}
    standard = {("global", "standard"): "2.5", ("data_zone", "standard"): "2.75", ("regional", "standard"): "3.025"}
    assert {**batch, **standard, (None, "standard"): "2.5"} == amounts
    assert [] == before["prices"]


async def test_large_change_needs_force(cli: CliRunner, sources: PriceServer):
    """A price that changes by more than half is refused even with `--yes`; with `--force` it is as any other."""
    await succeed(cli, "prices import litellm --effective-from 2026-11-01")
    changed = recorded("litellm.json")
    changed["gpt-5.4"]["input_cost_per_token"] = Decimal("0.00001")
    changed["whisper-1"]["input_cost_per_second"] = Decimal("0.00012")
    sources.answers["/litellm"] = lambda: web.Response(text=json.dumps(changed, default=float))
    line = "prices import litellm --effective-from 2026-11-15 --yes"

    refused = await cli.run(line)
    only_checked = await cli.run(f"{line} --check")
    shown = await document(cli, line, code=1)
    before = await current(cli)
    accepted = await document(cli, f"{line} --force")
    after = await current(cli)

    assert 1 == refused.code
    sentence = "Check them, then use --force: more than half is changed for openai gpt-5.4."
    assert f"Nothing was published. {sentence}" in refused.text
    assert "It would need --force: more than half is changed for openai gpt-5.4." in only_checked.text
    assert re.search(r"input 2\.5 -> 10 \(\+300%\)", refused.text)
    assert shown["published"] is False
    assert accepted["published"] is True
    large = {
        change["old"]["model"]: (change["old"]["input"], change["new"]["input"])
        for change in accepted["changes"]
        if change["more_than_half"]
    }
    assert {"gpt-5.4": ("2.5", "10")} == large
    assert before != after
    assert after is not None
    days = [
        (f"{price.input:f}", price.effective_from, price.effective_to)
        for price in after.prices
        if (price.provider, price.model, price.tier, price.processing) == ("openai", "gpt-5.4", None, "standard")
        and not price.min_input_tokens
    ]
    assert [("2.5", date(2026, 11, 1), date(2026, 11, 15)), ("10", date(2026, 11, 15), None)] == days


async def test_own_prices_survive_imports(cli: CliRunner, sources: PriceServer):
    """A price that was set, for all or for a customer, stays through the imports of all sources."""
    await succeed(cli, "prices set gpt-5.4 --provider openai --input 1.5 --output 9 --effective-from 2026-11-01")
    await succeed(cli, "prices set gpt-5.4 --provider openai --customer contoso --input 1 --output 6")
    for name in FILES:
        await succeed(cli, f"prices import {name}")

    shown = await document(cli, "prices list gpt-5.4 --provider openai")
    standard = {
        (price.get("customer"), price["input"], price.get("source"))
        for price in shown["prices"]
        if not price.keys() & {"service_tier", "processing", "min_input_tokens"}
    }
    assert {(None, "1.5", None), ("contoso", "1", None)} == standard
    others = {price.get("source") for price in shown["prices"] if "min_input_tokens" in price}
    assert {"genai-prices"} == others  # the first that was imported has the rest
    assert 2 == len(sources.queries)


async def test_set_ends_the_price_before(cli: CliRunner):
    """A new price for the same calls ends the old one on its day, and the table says by how much it changes."""
    await succeed(cli, "prices set m --provider openai --input 2 --output 8 --effective-from 2026-11-01")

    changed = await succeed(cli, "prices set m --provider openai --input 1.5 --output 8 --effective-from 2026-11-15")
    refused = await cli.run("prices set m --provider openai --input 9 --output 8 --yes")

    assert "input 2 -> 1.5 (-25%)" in changed.text
    assert (1, 1) == (refused.code, refused.text.count("use --force"))
    book = await current(cli)
    assert book is not None
    assert [(date(2026, 11, 1), date(2026, 11, 15)), (date(2026, 11, 15), None)] == [
        (price.effective_from, price.effective_to) for price in book.prices
    ]


@every_row(
    ("line", "sentence", "code"),
    [
        ("prices set m --provider openai", "The price has no price: set at least one of input, cached", 2),
        ("prices set a*b --provider openai --input 1", "`model` can have a `*` only at its end", 2),
        ("prices set m --provider openai --input 1.0000000000000001", "`input` must be a number below", 2),
        (
            "prices set m --provider openai --input 1 --effective-from 2026-11-02 --effective-to 2026-11-01",
            "`effective_to` must be later than `effective_from`",
            2,
        ),
        ("prices set m --provider openai --input 1 --customer A_B", "The customer's id must be", 2),
        ("prices set m --provider openai --input -1", "--input", 2),
        ("prices set m --provider openai --input 1e3", "must be an amount, such as 2.50", 2),
        ("prices set m --provider openai --input 1 --effective-from tomorrow", "must be a day, such as 2026-11-29", 2),
        ("prices list --day 2026-W48-7", "must be a day, such as 2026-11-29", 2),
        ("prices set m --input 1", "--provider", 2),
        ("prices import azure --region 'Sweden Central'", "must be the name of a region", 2),
        ("prices import litellm --region swedencentral", "--region is for azure.", 2),
        ("prices import prices.json --effective-from 2026-11-01", "--effective-from, --region and", 2),
        ("prices import azur", "azur: No such file or directory. SOURCE is a file, or azure, genai-prices", 1),
        ("prices list", "There is no price book yet. Import one with `aijobs prices import`", 1),
        ("prices export", "There is no price book yet.", 1),
        ("prices check", "There is no price book yet.", 1),
        ("prices check --month 2026-13", "--month must be a month, such as 2026-11.", 2),
    ],
)
async def test_invalid_command_says_what_is_right(cli: CliRunner, line: str, sentence: str, code: int):
    """An option or price that is invalid is an error that names it, before anything is read or published."""
    result = await cli.run(line)

    assert code == result.code
    assert sentence in " ".join(result.err.split())


def test_options_are_those_of_the_contract():
    """Each amount, deployment scope and processing of a price has its option."""
    assert price_book.RATES == tuple(name.replace("-", "_") for name in RATES)
    assert (get_args(DeploymentScope), get_args(Processing)) == (SCOPES, PROCESSING)


async def test_invalid_file_is_named(cli: CliRunner):
    """A file that is no price book is named with its fault, and nothing is published."""
    twice = {"currency": "USD", "prices": [BOOK["prices"][0], BOOK["prices"][0]]}  # type: ignore[index]
    for text, sentence in (
        ("nothing", "prices.json: "),
        (json.dumps(BOOK | {"colour": 1}), "colour"),
        (json.dumps(twice), "`prices[0]` and `prices[1]` are for the same calls, and their days overlap."),
    ):
        cli.write("prices.json", text)
        result = await cli.run("prices import prices.json --yes")
        assert (1, None) == (result.code, await current(cli))
        assert sentence in " ".join(result.err.split())


async def test_file_may_have_a_byte_order_mark(cli: CliRunner):
    """Editors and PowerShell begin a file with one."""
    cli.write("prices.json", f"\ufeff{json.dumps(BOOK)}")

    await succeed(cli, "prices import prices.json")

    assert await current(cli) == decode_price_book(json.dumps(BOOK).encode())


async def test_source_that_fails_changes_nothing(cli: CliRunner, sources: PriceServer):
    """A source that does not answer, or has no prices, is one sentence, and the book stays."""
    await succeed(cli, "prices set m --provider openai --input 2")
    for answer, sentence in (
        (lambda: web.Response(status=500), "127.0.0.1 answered 500. Try again later."),
        (lambda: web.Response(text="{}"), "litellm has no price that a price book can have."),
        (lambda: web.Response(text="[]"), "LiteLLM's file is not a JSON object of models."),
    ):
        sources.answers["/litellm"] = answer
        result = await cli.run("prices import litellm --yes")
        assert 1 == result.code
        assert sentence in " ".join(result.err.split())
    assert 1 == len((await current(cli) or PriceBook(currency="USD")).prices)


async def test_source_in_another_currency_is_refused(cli: CliRunner, sources: PriceServer):
    """The sources are in dollars: a book in another currency can't take their prices."""
    cli.write("prices.json", json.dumps(BOOK | {"currency": "EUR"}))
    await succeed(cli, "prices import prices.json")

    result = await cli.run("prices import litellm --yes")

    assert (1, []) == (result.code, sources.queries)
    assert "The prices of litellm are in USD, and the price book's are in EUR." in result.text
    cli.write("prices.json", json.dumps(BOOK))
    other = await cli.run("prices import prices.json --yes")
    assert (1, 1) == (other.code, other.text.count("the currency, from EUR to USD"))


async def test_book_of_somebody_else_is_not_replaced(cli: CliRunner, monkeypatch: pytest.MonkeyPatch):
    """If another book was published while the question was open, the command says so, and that book stays."""
    cli.write("prices.json", json.dumps(BOOK))
    await succeed(cli, "prices import prices.json")
    books = cli.harness.services.price_books
    mine = await books.current()
    assert mine is not None
    await books.publish(PriceBook(currency="EUR"), replaces=mine, by="somebody")

    async def seen_before(_: object) -> object:
        return mine

    with monkeypatch.context() as patched:
        patched.setattr(type(books), "current", seen_before)
        result = await cli.run("prices set m --provider openai --input 2 --yes")

    assert 1 == result.code
    assert "Somebody else has just published a price book. Run the command again." in result.text
    assert PriceBook(currency="EUR") == await current(cli)


async def test_list_shows_what_holds(cli: CliRunner):
    """Only the prices of the day, the model with its prefixes, the provider and the customer are listed."""
    await succeed(cli, "prices set gpt-4o* --provider openai --input 2.5 --output 10 --effective-from 2026-11-01")
    await succeed(cli, "prices set gpt-4o* --provider openai --customer contoso --input 2 --effective-from 2026-11-10")
    await succeed(cli, "prices set gpt-4o-mini --provider openai --input 0.15 --effective-from 2026-11-01")

    async def inputs(options: str) -> list[str]:
        return [price["input"] for price in (await document(cli, f"prices list {options}"))["prices"]]

    assert ["2.5", "2", "0.15"] == await inputs("--day 2026-11-20")
    assert ["2.5", "0.15"] == await inputs("--day 2026-11-09")
    assert [] == await inputs("--day 2026-10-31")
    assert ["2.5", "2"] == await inputs("gpt-4o-2024-11-20 --day 2026-11-20")
    assert ["2.5", "2", "0.15"] == await inputs("gpt-4o-mini --day 2026-11-20")
    assert ["2.5"] == await inputs("gpt-4o --customer fabrikam --day 2026-11-20")
    assert [] == await inputs("--provider anthropic --day 2026-11-20")
    shown = await cli.run("prices list --day 2026-11-20", columns=80)
    assert "In USD per million tokens" in shown.out
    assert "No price holds for this on 2026-11-20." in (await cli.run("prices list x --day 2026-11-20")).out


async def test_export_to_a_file(cli: CliRunner):
    """The export is written to a new file, and never over one that exists."""
    await succeed(cli, "prices set m --provider openai --input 2")

    written = await cli.run("prices export --to prices.json")
    again = await cli.run("prices export --to prices.json")

    assert (0, "1 price in prices.json.\n") == (written.code, written.out)
    assert await current(cli) == decode_price_book((cli.directory / "prices.json").read_bytes())
    assert (1, True) == (again.code, "prices.json exists already" in again.text)


async def test_check_names_what_has_no_price(cli: CliRunner):
    """Each model of the month is priced by something, or has a reason; the exit code tells them apart."""
    customer = cli.harness.customer()
    await customer.run()
    month = f"{datetime.now(UTC):%Y-%m}"
    (record,) = [row for row in await customer.usage() if row["outcome"] == "answered"]
    provider, model = record["provider"], record["answered_by"]
    await succeed(cli, "prices set another --provider openai --input 2")

    shown = await document(cli, "prices check", code=1)
    text = await cli.run("prices check", columns=80)
    assert [] == shown["priced"]
    (entry,) = shown["unpriced"]
    assert (provider, model, 1, [customer.name]) == tuple(
        entry[name] for name in ("provider", "model", "records", "customers")
    )
    assert f"no price holds for {model}" in entry["reason"]
    assert f"{month}-" not in entry["reason"]
    assert "1 record without a price." in text.out

    await succeed(cli, f"prices set {model} --provider {provider} --input 2 --output 8")
    shown = await document(cli, "prices check")
    assert ([], month) == (shown["unpriced"], shown["month"])
    assert [(model, 1, "2")] == [(each["model"], each["records"], each["price"]["input"]) for each in shown["priced"]]
    past = f"{datetime.now(UTC) - timedelta(days=70):%Y-%m}"
    assert f"Nobody has used a model in {past}." in (await cli.run(f"prices check --month {past}")).out


@pytest.mark.long
async def test_check_names_what_has_no_rate(cli: CliRunner):
    """A price counts as missing if its currency has no rate into the customer's."""
    customer = cli.harness.customer()
    await customer.run()
    (record,) = [row for row in await customer.usage() if row["outcome"] == "answered"]
    await succeed(cli, f"prices set {record['answered_by']} --provider {record['provider']} --input 2 --output 8")
    await cli.harness.services.customer_records.change(
        customer.name, lambda old: old.with_profile(CustomerProfile(currency="EUR")), by="test", subject="profile"
    )

    (entry,) = (await document(cli, "prices check", code=1))["unpriced"]

    assert "no rate from USD to EUR holds" == entry["reason"]


async def test_rounding_of_a_statement_is_named(cli: CliRunner):
    """The line that makes up for the total's rounding is no model's."""
    customer = cli.harness.customer()
    await customer.run()
    (record,) = [row for row in await customer.usage() if row["outcome"] == "answered"]
    await succeed(cli, f"prices set {record['answered_by']} --provider {record['provider']} --input 2 --output 8")

    shown = await cli.run(f"usage {customer.name}", columns=80)

    assert "kind" in shown.out
    assert 1 == shown.out.count("rounding")
    assert "USD" in shown.out


async def test_what_has_no_price_is_not_free(cli: CliRunner):
    """A statement's line without a price has no amount, and the sum says what it leaves out."""
    customer = cli.harness.customer()
    await customer.run()
    await succeed(cli, "prices set another --provider openai --input 2")

    shown = (await cli.run(f"usage {customer.name}")).out

    _, header, row, *_ = shown.splitlines()
    assert (["no", "price", "amount"], ["1", "1", "-"]) == (header.split()[-3:], row.split()[-3:])
    assert "Answered: no amount. Without a price: 1 record." in shown


async def test_check_leaves_unanswered_calls_out(cli: CliRunner):
    """A call without an answer has no tokens: it is not missing a price."""
    customer = cli.harness.customer()
    customer.account.will_answer(completion(after_s=30))
    await customer.run(options={"timeout_s": 1.5, "max_retries": 0})
    assert ["unanswered"] == [row["outcome"] for row in await customer.usage()]
    await succeed(cli, "prices set m --provider openai --input 2")

    assert [] == (await document(cli, "prices check"))["unpriced"]


@pytest.mark.long
async def test_everything_fits_80_columns(cli: CliRunner, sources: PriceServer):
    """Long names and many prices: no line of a terminal is wider than 80 columns unless it is one word."""
    await cli.harness.customer().run()
    name = "c" * 50
    lines = [
        "prices import azure --yes",
        "prices import genai-prices --yes",
        f"prices set {'m' * 60}* --provider {'p' * 30} --customer {name} --input 2.123456 --output 8 --tier priority",
        f"prices set {'m' * 60}* --provider {'p' * 30} --customer {name} --input 2.2 --output 8 --tier priority",
        "prices list --provider foundry",
        f"prices list --customer {name}",
        "prices check",
        "prices import litellm --check",
    ]
    for line in lines:
        result = await cli.run(line, stdin="1\n", columns=80)
        assert result.code in {0, 1}, result.text
        printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", f"{result.out}\n{result.err}").splitlines()
        assert [] == [each for each in printed if len(each) > 80 and len(each.split()) > 1], line
    assert sources.queries


@pytest.mark.long
async def test_page_about_billing_can_be_followed(cli: CliRunner, sources: PriceServer):
    """The commands of docs/prices.md succeed in their order, and then the month is priced."""
    await cli.harness.customer().run()
    page = (ROOT / "docs/prices.md").read_text()
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if kind:
            continue
        for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
            words = line.removeprefix("python -m aijobs ")
            result = await cli.run(words if words.startswith(("prices check", "prices export")) else f"{words} --yes")
            assert 0 == result.code, (line, result.text)
    assert 3 == len(sources.queries)
    assert 0 < len((await document(cli, "prices check"))["priced"])
