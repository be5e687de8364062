"""
The console in a real browser, against the app in its host: what it shows, where its key goes, and what it withstands.

Each test's tab also fails if the page's policy was violated or a request left the page's origin (conftest).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from shared.billing.adjustments import Adjustments
from shared.clock import now
from shared.contract.adjustment import NewAdjustment
from shared.contract.customer import CustomerProfile
from tests.support import console_picture
from tests.support.batch_rows import put_batch
from tests.support.browser import OFFLINE, Tab, json_reply
from tests.support.closable import CORRECTION, DOCUMENT, add_usage, put_profile
from tests.support.closable import MONTH as LAST_MONTH
from tests.support.endpoint import completion, error
from tests.support.harness import Customer
from tests.support.live_server import LiveServer
from tests.support.rows import every_row

pytestmark = pytest.mark.long

KEY = "a-function-key-that-nobody-else-has"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&amp;"
DASH = "\N{EN DASH}"
MONTH = f"{datetime.now(UTC):%Y-%m}"
SETTLED = "document.querySelector('main > section') && !document.querySelector('[aria-busy]')"
CHOSEN_BY_US = {
    *("month", "day", "from", "to", "at", "outcome", "status", "continuation"),
    *("limit", "spent", "reserved", "remaining", "total"),
}
"""Members that are numbers, days or one of our own words. All other texts may be anybody's."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def customer(priced_server: LiveServer) -> Customer:
    """A customer with two answered calls, one call of another model, one without a price, and a job that failed."""
    made = priced_server.harness.customer()
    await made.run(job_id="first", model="gpt-4o")
    made.account.will_answer(completion(usage={"prompt_tokens": 1200, "completion_tokens": 340, "total_tokens": 1540}))
    await made.run(job_id="second", model="gpt-4o")
    made.account.will_answer(completion(model="gpt-6-luna"))
    await made.run(job_id="third", model="gpt-6-luna")
    made.account.will_answer(completion(model=HOSTILE))
    await made.run(job_id="fourth", model=HOSTILE)
    made.account.will_answer(error(400, "invalid_request_error", HOSTILE))
    await made.run(job_id="fifth")
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def console(tab: Tab, priced_server: LiveServer, customer: Customer) -> AsyncIterator[Tab]:
    """The tab, signed in, with the page of the customer."""
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    return tab


async def open_console(tab: Tab, server: LiveServer, customer: str = "") -> None:
    """Load the page."""
    await tab.open(f"{server.url}/api/console#/{customer}")


async def sign_in(tab: Tab, key: str = KEY) -> None:
    """Type a key, and wait until everything is shown."""
    await tab.write(key)
    await tab.press("Enter")
    await tab.wait(SETTLED)


async def api(server: LiveServer, path: str) -> Any:
    """The document that the API has at a path."""
    response = await server.http.get(f"/api/{path}")
    assert 200 == response.status_code
    return response.json()


async def rows(tab: Tab, section: str) -> list[list[str]]:
    """The cells of the rows in a section's first table."""
    script = f"""[...document.querySelectorAll("section[aria-label='{section}'] .scroll:not(details *) tbody tr")]
      .map((row) => [...row.children].map((cell) => cell.innerText.replace(/\\s+/g, " ").trim()))"""
    shown: list[list[str]] = await tab.evaluate(script)
    return shown


async def tiles(tab: Tab) -> dict[str, str]:
    """The large figures, by their names."""
    script = "Object.fromEntries([...document.querySelectorAll('.tiles div')].map((e) => e.innerText.split('\\n')))"
    shown: dict[str, str] = await tab.evaluate(script)
    return shown


async def wait_for(file: Path) -> None:
    """Wait until the browser has written a file."""
    async with asyncio.timeout(15):
        while not file.is_file():  # noqa: ASYNC110, ASYNC240  # the browser says nothing
            await asyncio.sleep(0.05)


async def press_label(tab: Tab, text: str) -> None:
    """Choose what a label names."""
    script = f"[...document.querySelectorAll('label')].find((each) => each.innerText === {json.dumps(text)})"
    await tab.evaluate(f"{script}.click()")


async def press_button(tab: Tab, text: str) -> None:
    """Press the first button with this text or label."""
    script = f"""[...document.querySelectorAll("button")]
      .find((each) => (each.getAttribute("aria-label") ?? each.innerText) === {json.dumps(text)})"""
    await tab.evaluate(f"(() => {{ const button = {script}; button.focus(); button.click(); }})()")


async def test_it_shows_what_the_api_says(console: Tab, priced_server: LiveServer, customer: Customer):
    """Totals, lines by model and jobs with their errors are the API's, to the last decimal."""
    statement = await api(priced_server, f"customers/{customer.name}/usage?by=day,model")
    jobs = (await api(priced_server, f"customers/{customer.name}/jobs"))["jobs"]
    answered = statement["totals"]["answered"]
    models = {
        line["model"]: line for line in statement["lines"] if line["outcome"] == "answered" and "kind" not in line
    }

    shown = await tiles(console)
    assert f"{answered['amount']} USD" == shown["Spend"]
    assert ("4", "4") == (shown["Jobs"], shown["Calls"])
    assert [f"{answered[name]:,}" for name in ("input_tokens", "output_tokens")] == [
        shown[name] for name in ("Input tokens", "Output tokens")
    ]
    lines = await rows(console, "Usage")
    assert ["gpt-6-luna", "gpt-4o", HOSTILE] == [line[0] for line in lines]
    for model, amount, calls, tokens_in, tokens_out in lines:
        line = models[model]
        assert amount == (f"{line['amount']} USD" if "amount" in line else DASH)
        assert (calls, tokens_in, tokens_out) == tuple(
            f"{line[name]:,}" for name in ("calls", "input_tokens", "output_tokens")
        )
    assert [["fifth", "failed"], ["fourth", "succeeded"]] == [row[:2] for row in await rows(console, "Jobs")][:2]
    assert f"request_rejected {jobs[0]['error']['message']}" == (await rows(console, "Jobs"))[0][5]
    assert HOSTILE in await console.text("section[aria-label=Usage] .warning")


async def test_all_customers_have_a_line(tab: Tab, priced_server: LiveServer, customer: Customer):
    """The first page has what each customer used, as the API says it, and leads to the customer."""
    await priced_server.harness.customer().run()  # of a single customer, the page would be the first
    await open_console(tab, priced_server)
    await sign_in(tab)
    usage = await api(priced_server, f"usage?month={MONTH}")
    (line,) = [line for line in usage["lines"] if line["customer"] == customer.name]
    shown = {row[0]: row[1:4] for row in await rows(tab, "Usage by customer")}

    assert shown.keys() == {line["customer"] for line in usage["lines"]}
    assert [f"{line['amount']} USD", "4", "4"] == shown[customer.name]
    by_model = {row[0]: row[2] for row in await rows(tab, "By day and model")}
    calls = sum(each["calls"] for each in usage["lines"])
    assert ("1", calls) == (by_model["gpt-6-luna"], sum(int(number.replace(",", "")) for number in by_model.values()))
    assert await tab.evaluate("Boolean(document.querySelector('section[aria-label=\"By day and model\"] canvas'))")
    await tab.evaluate(f"document.querySelector('main a[href*={json.dumps(customer.name)}]').click()")
    await tab.wait(f"document.querySelector('h1')?.innerText === {json.dumps(customer.name)}")
    await tab.wait(SETTLED)
    assert f"{customer.name}, {MONTH} {DASH} Console" == await tab.evaluate("document.title")


async def test_many_customers_are_added_up_on_demand(tab: Tab, priced_server: LiveServer, customer: Customer):
    """Beyond twenty, statements are read when the reader asks for it; amounts of two currencies are not added."""
    line = {"records": 1, "calls": 1, "unreported": 0, "jobs": 1, "lost": 0, "unanswered": 2, "unpriced": 0}
    names = [f"customer-{number}" for number in range(21)]
    lines = [
        line | {"customer": name, "amount": f"{number}.25", "currency": "EUR" if number % 2 else "USD"}
        for number, name in enumerate(names)
    ]
    statement = await api(priced_server, f"customers/{customer.name}/usage?by=day,model")
    euros = json.dumps(statement).replace('"USD"', '"EUR"')
    tab.replacements["/api/usage?"] = json_reply(200, json.dumps({"lines": lines}).encode())
    for number, name in enumerate(names):
        body = euros if number % 2 else json.dumps(statement)
        tab.replacements[f"/{name}/usage"] = json_reply(200, body.encode())
    await open_console(tab, priced_server)
    await sign_in(tab)
    if await tab.text("h1") != "All customers":  # there is a single one
        await tab.evaluate("location.hash = '#/'")
    await tab.wait(f"{SETTLED} && document.querySelector('main').innerText.includes('these 21 customers')")

    assert "Spend\n102.50 EUR" in await tab.text(".tiles")
    assert "Spend\n112.75 USD" in await tab.text(".tiles")
    assert [] == [each for each in tab.requests if "/customer-0/usage" in each["url"]]
    await press_button(tab, "Add up the statements of these 21 customers")
    await tab.wait(f"{SETTLED} && document.querySelector('section[aria-label=\"By day and model\"] canvas')")
    shown = await tab.text("section[aria-label='By day and model']")
    assert "different currencies (EUR, USD)" in shown
    assert "Amount" not in shown
    assert ["gpt-6-luna", "21", "231", "147"] in await rows(tab, "By day and model")


def hostile(document: Any) -> Any:
    """The document with HOSTILE in place of every text that isn't ours."""
    if isinstance(document, dict):
        return {name: value if is_ours(name) else hostile(value) for name, value in document.items()}
    if isinstance(document, list):
        return [hostile(each) for each in document]
    return HOSTILE if isinstance(document, str) else document


def is_ours(name: str) -> bool:
    """Whether a member's text is a number, a time or one of our own words."""
    return name in CHOSEN_BY_US or name.endswith(("amount", "_at", "_start"))


BUDGETS = {
    "budgets": [
        {"name": "a", "limit": "10", "unit": "USD", "period": "day", "enforce": "hard", "owner": "operator"}
        | {"connection": "default", "model": "m", "period_start": "2026-11-29T00:00:00Z", "thresholds": [50]}
        | {"spent": "4.50", "reserved": "1", "remaining": "4.50"}
    ]
}
STATEMENTS = {
    "statements": [
        {"month": "2026-10", "number": "A-1", "closed_at": "2026-11-01T00:31:00.000Z", "currency": "USD"}
        | {"total": "10.00", "files": {name: {"size": 1, "sha256": "0"} for name in ("json", "csv", "html")}}
    ]
}
BATCHES = {
    "batches": [
        {"batch": "b", "state": "waiting", "model": "m", "operation": "o", "lines": 1, "answered": 0, "failed": 0}
        | {"opened_at": "2026-11-29T00:00:00Z", "cancel_at": "2026-11-30T00:00:00Z", "late": True}
        | {"provider_id": "p", "provider_status": "s", "error": "provider says"}
    ]
}
CALLBACK = {"status": "failed", "attempts": 7, "error": "receiver says"}


async def test_markup_in_every_field_is_text(tab: Tab, priced_server: LiveServer, customer: Customer):
    """Names, models, job ids, codes, messages, currencies: whatever has markup in it, the page shows it as text."""
    of_customer = f"customers/{customer.name}"
    jobs = await api(priced_server, f"{of_customer}/jobs")
    documents = {
        "customers?": await api(priced_server, "customers"),
        "usage?": await api(priced_server, "usage"),
        f"{of_customer}/usage": await api(priced_server, f"{of_customer}/usage?by=day,model"),
        f"{of_customer}/jobs": {"jobs": [job | {"callback": CALLBACK} for job in jobs["jobs"]]},
        f"{of_customer}/budgets": BUDGETS,
        f"{of_customer}/batches": BATCHES,
        f"{of_customer}/statements": STATEMENTS,
    }
    replies = {path: json_reply(200, json.dumps(hostile(document)).encode()) for path, document in documents.items()}
    tab.replacements |= {f"/api/{path}": reply for path, reply in replies.items()}
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    shown = {name: await tab.text(f"section[aria-label={name}]") for name in SECTIONS}
    await tab.evaluate("location.hash = '#/'")
    await tab.wait(f"document.querySelector('h1').innerText === 'All customers' && {SETTLED}")
    shown["All"] = await tab.text("main")

    # In usage the currency, models and reasons; of each of 5 jobs its id, action, model and callback's error.
    assert [True] * 6 == [shown[name].count(HOSTILE) >= least for name, least in EXPECTED.items()], [
        shown[n].count(HOSTILE) for n in shown
    ]
    assert 0 == await tab.evaluate("document.querySelectorAll('img, main script, [onerror]').length")
    assert 2 == await tab.evaluate("document.scripts.length")


SECTIONS = ("Usage", "Budgets", "Batches", "Jobs", "Statements")
EXPECTED = {"Usage": 8, "Budgets": 8, "Batches": 6, "Jobs": 20, "Statements": 2, "All": 2}


async def test_a_customer_in_the_address_is_text(tab: Tab, priced_server: LiveServer):
    """An address that anybody can send to somebody names no customer but the text in it; the app has none such."""
    await open_console(tab, priced_server, "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E/../../usage")
    await sign_in(tab)

    assert "<img src=x onerror=alert(1)>/../../usage" == await tab.text("h1")
    assert "There is no such customer." in await tab.text("section[aria-label=Usage]")
    assert 0 == await tab.evaluate("document.querySelectorAll('img').length")


@every_row("address", ["..", ".", "%2E%2E", "%E0%A4%A", "?month=2026-99", "?month=0099-05", "x?month=%3Cb%3E"])
async def test_an_address_that_is_none(tab: Tab, priced_server: LiveServer, customer: Customer, address: str):
    """It leads to all customers or to the current month, and nowhere else in the API."""
    if tab.requests:
        await tab.restart()
    await open_console(tab, priced_server, address)
    await sign_in(tab)
    paths = {each["url"].removeprefix(priced_server.url).partition("?")[0].partition("#")[0] for each in tab.requests}

    assert {"/api/console", "/api/customers"} <= paths
    assert [] == [path for path in paths if not path.startswith(("/api/customers", "/api/usage", "/api/console"))]
    assert "x" == await tab.text("h1") or f"/api/customers/{customer.name}/usage" in paths
    queries = [parse_qs(urlsplit(each["url"]).query) for each in tab.requests]
    assert {MONTH} == {month for query in queries for month in query.get("month", [])}


async def test_the_key_is_a_header_and_nothing_else(console: Tab):
    """It is in the header of each request to the API, and in no address, storage, cookie or element."""
    await press_button(console, "Refresh")
    await console.wait(SETTLED)
    requests = [each for each in console.requests if "/api/console" not in each["url"]]
    everywhere = """JSON.stringify([
      location.href, history.state, document.cookie, {...localStorage}, {...sessionStorage},
      await indexedDB.databases(), await caches.keys(), performance.getEntries().map((each) => each.name),
      document.documentElement.outerHTML, [...document.querySelectorAll("input")].map((each) => each.value)])"""

    assert len(requests) > 8
    assert {KEY} == {each["headers"].get("x-functions-key") for each in requests}
    assert {"GET"} == {each["method"] for each in requests}
    forbidden = {"cookie", "referer", "authorization"}
    headers = [pair for each in requests for pair in each["headers"].items()]
    assert [] == [name for name, value in headers if value and name.lower() in forbidden]
    assert KEY not in json.dumps([each["url"] for each in console.requests])
    assert KEY not in await console.evaluate(f"(async () => {everywhere})()")


async def test_a_token_is_sent_as_a_bearer_token(tab: Tab, priced_server: LiveServer, customer: Customer):
    """A pasted token goes into `Authorization`, once with its scheme, and no key is sent."""
    await open_console(tab, priced_server, customer.name)
    await tab.evaluate("document.querySelectorAll('input[name=kind]')[1].click()")
    await tab.evaluate("document.querySelector('#credential').focus()")
    await sign_in(tab, "Bearer eyJh.eyJz.c2ln")
    requests = [each["headers"] for each in tab.requests if "/api/console" not in each["url"]]

    assert {"Bearer eyJh.eyJz.c2ln"} == {headers.get("Authorization") for headers in requests}
    assert [] == [headers for headers in requests if "x-functions-key" in headers]


@pytest.mark.parametrize("how", ["signing out", "leaving", "a 401"])
async def test_the_key_is_forgotten(console: Tab, priced_server: LiveServer, how: str):
    """Signing out, leaving the page and coming back, or a key that no longer holds: the form, and no data."""
    if how == "signing out":
        await press_button(console, "Sign out")
    elif how == "leaving":
        await console.open(f"{priced_server.url}/api/docs")
        await console.evaluate("history.back()")
    else:
        console.replacements["/usage"] = json_reply(401, b"")
        await press_button(console, "Refresh")
    await console.wait("document.querySelector('form.card')")
    before = len(console.requests)
    await console.evaluate("location.hash = '#/contoso'")

    assert "gpt-4o" not in await console.text("body")
    assert "" == await console.evaluate("document.querySelector('#credential').value")
    assert ("doesn't accept this key" in await console.text("main")) is (how == "a 401")
    assert before == len(console.requests)


PROBLEM = {"type": "about:blank", "title": "T", "code": "c"}
REFUSALS = {
    "no role": (
        json_reply(403, json.dumps(PROBLEM | {"detail": "The token lacks the role."}).encode()),
        "The token lacks the role.",
    ),
    "missing": (json_reply(404, b""), "The app has no such route, or nothing there."),
    "busy": (
        json_reply(429, json.dumps(PROBLEM | {"detail": "Too many."}).encode(), **{"Retry-After": "5"}),
        "Too many. Try again in 5 s.",
    ),
    "down": (json_reply(503, b"<html>"), "The app responded with HTTP 503."),
    "offline": (OFFLINE, "The app can't be reached. Check the network, then try again."),
    "not JSON": (json_reply(200, b"<html>", "text/html"), "The app's response is not JSON."),
}


@every_row("reply", REFUSALS)
async def test_a_part_that_fails_says_why(tab: Tab, priced_server: LiveServer, customer: Customer, reply: str):
    """The section has a sentence and tries again if asked to; the others are shown."""
    if tab.requests:
        await tab.restart()
    response, sentence = REFUSALS[reply]
    tab.replacements[f"{customer.name}/jobs"] = response
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    failed, others = await tab.text("section[aria-label=Jobs]"), await tab.text("section[aria-label=Usage]")
    del tab.replacements[f"{customer.name}/jobs"]
    await tab.evaluate("document.querySelector('section[aria-label=Jobs] .note button').click()")
    await tab.wait("document.querySelectorAll('section[aria-label=Jobs] tbody tr').length === 5")

    assert sentence in failed
    assert "gpt-4o" in others


@every_row(
    ("key", "reply", "sentence"),
    [
        ("wrong", json_reply(401, b""), "The app doesn't accept this key."),
        ("wrong", OFFLINE, "The app can't be reached."),
        ("eyJh.eyJz.c2ln", None, "This is an access token and no function key"),
        ("two words", None, "This is not a valid function key: it has a space"),
        ("schlüssel", None, "This is not a valid function key: it has a space"),
    ],
)
async def test_a_key_that_is_refused(tab: Tab, priced_server: LiveServer, key: str, reply: Any, sentence: str):
    """The form says why, and takes another key."""
    if tab.requests:
        await tab.restart()
    if reply is not None:
        tab.replacements["/api/customers"] = reply
    await open_console(tab, priced_server)
    await tab.write(key)
    await tab.press("Enter")
    await tab.wait(f"document.querySelector('main').innerText.includes({json.dumps(sentence)})")
    tab.replacements.clear()
    await tab.evaluate(
        "document.querySelector('#credential').value = ''; document.querySelector('#credential').focus()"
    )
    await sign_in(tab)

    assert await tab.text("h1") not in {"", "Customer AI Jobs"}


async def test_a_token_without_the_list_of_customers(tab: Tab, priced_server: LiveServer, customer: Customer):
    """Who may not list customers can still look at one; what its roles don't allow says so."""
    denied = json_reply(403, json.dumps(PROBLEM | {"detail": "The token lacks the role Billing.Read."}).encode())
    tab.replacements |= {"/api/customers?": denied, "/usage": denied}
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)

    assert "lacks the role Billing.Read" in await tab.text("section[aria-label=Usage]")
    assert 5 == len(await rows(tab, "Jobs"))


async def test_a_caller_tied_to_a_customer_gets_its_page(tab: Tab, priced_server: LiveServer, customer: Customer):
    """The list has that customer alone, so its page is the first."""
    only = {"customers": [{"customer": customer.name}]}
    tab.replacements["/api/customers?"] = json_reply(200, json.dumps(only).encode())
    await open_console(tab, priced_server)
    await sign_in(tab)

    assert customer.name == await tab.text("h1")


async def test_without_a_price_book_it_shows_counts(tab: Tab, priced_server: LiveServer, customer: Customer):
    """It says that there are no amounts, and the chart and the lines are of calls and tokens."""
    money = {"amount", "currency", "unpriced", "saved", "list_amount"}

    def counts(document: Any) -> Any:
        if isinstance(document, dict):
            return {name: counts(value) for name, value in document.items() if name not in money}
        return [counts(each) for each in document] if isinstance(document, list) else document

    statement = counts(await api(priced_server, f"customers/{customer.name}/usage?by=day,model"))
    tab.replacements[f"{customer.name}/usage"] = json_reply(200, json.dumps(statement).encode())
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    shown = await tab.text("section[aria-label=Usage]")

    assert "no price book" in shown
    assert "Amount" not in shown
    assert "Spend" not in shown
    assert ["gpt-4o", "2", "1,211", "347"] in await rows(tab, "Usage")


async def test_who_a_customer_is(tab: Tab, priced_server: LiveServer):
    """Below its id is its legal name, as text, and whether it is suspended."""
    customer = priced_server.harness.customer()
    profile = {"legal_name": f"Contoso {HOSTILE}", "currency": "USD"}
    for path, body in (("profile", profile), ("state", {"state": "suspended"})):
        assert (await priced_server.http.put(f"/api/customers/{customer.name}/{path}", json=body)).is_success
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    await tab.wait("!document.querySelector('h1 + p').hidden")

    assert f"Contoso {HOSTILE} suspended" == await tab.text("h1 + p")


async def test_nothing_yet(tab: Tab, priced_server: LiveServer):
    """A customer without usage, jobs, budgets and statements has a sentence for each."""
    customer = priced_server.harness.customer()
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    shown = await tab.text("main")

    assert "Nothing was used in " in shown
    assert "price book" not in shown  # there is one
    assert "This customer has no jobs on record." in shown
    assert "This customer has no budget" in shown
    assert "No month is closed yet." in shown


async def test_a_call_without_an_answer_lacks_no_price(tab: Tab, priced_server: LiveServer):
    """It is not certain, which the page says; that a price or the price book is missing, it doesn't."""
    customer = priced_server.harness.customer()
    customer.account.will_answer(error(408, "timeout"))
    await customer.run(model="gpt-4o", options={"max_retries": 0})
    statement = await api(priced_server, f"customers/{customer.name}/usage?by=day,model")
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    shown = await tab.text("section[aria-label=Usage]")

    assert ["unanswered"] == [each["outcome"] for each in statement["unpriced"]]
    assert "1 call had no answer" in shown
    assert ("no price" in shown, "price book" in shown) == (False, False)


async def test_the_sums_of_thousands(tab: Tab, priced_server: LiveServer):
    """What many customers used is added up exactly and soon; what nobody reported is no 0."""
    line = {"day": f"{MONTH}-01", "outcome": "answered", "records": 1, "calls": 1, "amount": "0.000001"}
    models = [f"model-{number % 1000}" for number in range(30_000)]
    statement = {"totals": {name: {"records": 0, "calls": 0, "jobs": 0} for name in ("answered", "lost", "unanswered")}}
    statement["totals"]["answered"] |= {"currency": "USD", "unpriced": 0}
    for name, lines in (("many", models), ("much", ["m"] * 30_000)):
        body = json.dumps(statement | {"lines": [line | {"model": model} for model in lines]}).encode()
        tab.replacements[f"/{name}/usage"] = json_reply(200, body)
    await open_console(tab, priced_server, "much")
    await sign_in(tab)
    much = await rows(tab, "Usage")
    await press_label(tab, "Tokens")
    readout = await tab.text("section[aria-label=Usage] details")
    await tab.evaluate("location.hash = '#/many'")
    await tab.wait(f"document.querySelector('h1')?.innerText === 'many' && {SETTLED}")

    assert [["m", "0.030000 USD", "30,000", DASH, DASH]] == much
    assert "0" not in readout.splitlines()
    assert 1000 == len(await rows(tab, "Usage"))


async def test_a_document_that_comes_late_opens_over_no_other_page(
    tab: Tab, priced_server: LiveServer, billed: Customer, customer: Customer
):
    """Whoever has gone on sees no document of another customer, also if it was open before."""
    await open_console(tab, priced_server, billed.name)
    await sign_in(tab)
    path = f"/statements/{LAST_MONTH}"
    tab.replacements[path] = json_reply(200, b"<p>late</p>", "text/html") | {"after_s": 0.5}
    await tab.evaluate("document.querySelector('.actions .primary').click()")
    await tab.evaluate(f"location.hash = '#/{customer.name}'")
    await asyncio.sleep(0.8)
    assert await tab.evaluate("document.querySelector('dialog') === null")
    await tab.evaluate("history.back()")
    await tab.wait(f"document.querySelector('h1')?.innerText === '{billed.name}' && {SETTLED}")
    del tab.replacements[path]
    await tab.evaluate("document.querySelector('.actions .primary').click()")
    await tab.wait("document.querySelector('dialog')")
    await tab.evaluate("history.forward()")
    await tab.wait(f"document.querySelector('h1')?.innerText === '{customer.name}' && {SETTLED}")
    assert await tab.evaluate("document.querySelector('dialog') === null")


async def test_statements_that_nobody_waits_for_are_not_read(tab: Tab, priced_server: LiveServer):
    """Adding up ends when the reader goes on, and at the first statement that can't be read."""
    names = [f"customer-{number}" for number in range(60)]
    line = {"records": 1, "calls": 1, "unreported": 0, "jobs": 1, "lost": 0, "unanswered": 0, "unpriced": 0}
    body = json.dumps({"lines": [line | {"customer": name} for name in names]}).encode()
    tab.replacements["/api/usage?"] = json_reply(200, body)
    failing = json_reply(503, b"{}")
    tab.replacements["/customer-"] = failing | {"after_s": 0.1}
    await open_console(tab, priced_server)
    await sign_in(tab)
    if await tab.text("h1") != "All customers":  # there is a single one
        await tab.evaluate("location.hash = '#/'")
    await tab.wait(f"{SETTLED} && document.querySelector('main').innerText.includes('these 60 customers')")
    await press_button(tab, "Add up the statements of these 60 customers")
    await tab.wait("document.querySelector('section[aria-label=\"By day and model\"] .note.error')")
    await asyncio.sleep(0.4)
    failed = statements_read(tab)
    statement = {"totals": {name: {"records": 0} for name in ("answered", "lost", "unanswered")}, "lines": []}
    tab.replacements["/customer-"] = json_reply(200, json.dumps(statement).encode()) | {"after_s": 0.1}
    await press_button(tab, "Try again")
    await tab.evaluate("location.hash = '#/nobody'")
    await asyncio.sleep(0.6)

    assert 3 == failed
    assert statements_read(tab) - failed <= 3


def statements_read(tab: Tab) -> int:
    """How many statements the page has asked for."""
    return sum("/customer-" in each["url"] and "/usage" in each["url"] for each in tab.requests)


async def test_budgets_have_what_is_left(tab: Tab, priced_server: LiveServer):
    """Each budget is a card with the API's numbers; one that is spent says so."""
    customer = priced_server.harness.customer()
    month = {"limit": "12.50", "unit": "USD", "period": "month", "thresholds": [50]}
    day = {"limit": "1", "unit": "jobs", "period": "day", "enforce": "soft", "model": "gpt-4o"}
    for name, budget in (("month", month), ("daily-jobs", day)):
        path = f"/api/customers/{customer.name}/budgets/{name}"
        assert (await priced_server.http.put(path, json=budget)).is_success
    await customer.run(model="gpt-4o")
    budgets = (await api(priced_server, f"customers/{customer.name}/budgets"))["budgets"]
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    cards = await tab.evaluate("[...document.querySelectorAll('.cards li')].map((each) => each.innerText)")

    assert ["daily-jobs", "month"] == [budget["name"] for budget in budgets]
    assert Decimal(budgets[1]["spent"]) > 0
    for budget, card in zip(budgets, cards, strict=True):
        for title, member in (("Limit", "limit"), ("Spent", "spent"), ("Reserved", "reserved"), ("Left", "remaining")):
            assert f"{title}\n{budget[member]} {budget['unit']}" in card
        assert f"Since {budget['period_start'][:10]}" in card
    assert ("exhausted" in cards[0], "only model gpt-4o" in cards[0], "soft" in cards[0]) == (True, True, True)
    assert "exhausted" not in cards[1]


async def test_batches_are_shown_if_there_are_any(tab: Tab, priced_server: LiveServer):
    """State, lines, the provider's status and the last error of each; a customer without batches has no section."""
    customer = priced_server.harness.customer()
    path, table = f"customers/{customer.name}/batches", priced_server.harness.services.table
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    is_hidden = "document.querySelector('section[aria-label=Batches]').hidden"
    assert await tab.evaluate(is_hidden)
    sent = {"provider_status": "in_progress", "provider_id": "batch_7", "error": "Once more."}
    for number in range(12):
        await put_batch(table, customer.name, now() - timedelta(hours=number), lines=1000, state="waiting", **sent)
    await put_batch(table, customer.name, now() + timedelta(minutes=1), lines=3, answered=2, failed=1, state="done")
    await press_button(tab, "Refresh")
    await tab.wait("document.querySelectorAll('section[aria-label=Batches] tbody tr').length === 10")

    assert not await tab.evaluate(is_hidden)
    shown, documents = await rows(tab, "Batches"), (await api(priced_server, path))["batches"]
    assert [each["batch"] for each in documents[:10]] == [row[0] for row in shown]
    assert [["done", "gpt-5.5 chat/completions", "3 2 answered 1 failed"]] == [row[1:4] for row in shown[:1]]
    assert ["waiting", "1,000", "in_progress batch_7 Once more."] == [shown[1][column] for column in (1, 3, 5)]
    await press_button(tab, "Older batches")
    await tab.wait("document.querySelectorAll('section[aria-label=Batches] tbody tr').length === 13")


async def test_jobs_have_pages_and_a_filter(tab: Tab, priced_server: LiveServer):
    """Older jobs are added below, the focus goes to the first of them, and the last page has no button."""
    customer = priced_server.harness.customer()
    for number in range(22):
        await customer.run(job_id=f"job-{number}")
    customer.account.will_answer(error(400, "bad", "No."))
    await customer.run(job_id="failing")
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    first = await rows(tab, "Jobs")
    await press_button(tab, "Older jobs")
    await tab.wait("document.querySelectorAll('section[aria-label=Jobs] tbody tr').length === 23")
    ids = [row[0] for row in await rows(tab, "Jobs")]

    assert 20 == len(first)
    assert ["failing", *(f"job-{number}" for number in reversed(range(22)))] == ids
    assert "job-2" == await tab.evaluate("document.activeElement.children[0].innerText")
    assert "Older jobs" not in await tab.text("section[aria-label=Jobs]")
    await tab.evaluate(
        "(() => { const s = document.querySelector('section[aria-label=Jobs] select'); s.value = 'failed';"
        "s.dispatchEvent(new Event('change')); })()"
    )
    await tab.wait("document.querySelectorAll('section[aria-label=Jobs] tbody tr').length === 1")
    assert "failing" == (await rows(tab, "Jobs"))[0][0]


async def test_the_last_choice_is_shown(tab: Tab, priced_server: LiveServer, customer: Customer):
    """A response that comes late, to what the reader no longer wants, changes nothing."""
    late = {
        "jobs": [{"job_id": "late", "customer": "c", "status": "failed", "attempts": 1, "submitted_at": "2026-11-01"}]
    }
    await open_console(tab, priced_server, customer.name)
    await sign_in(tab)
    tab.replacements["status=failed"] = json_reply(200, json.dumps(late).encode()) | {"after_s": 0.5}
    for status in ("failed", "succeeded"):
        await tab.evaluate(
            "(() => { const s = document.querySelector('section[aria-label=Jobs] select'); "
            f"s.value = '{status}'; s.dispatchEvent(new Event('change')); }})()"
        )
    await tab.wait(SETTLED)
    await asyncio.sleep(0.8)

    assert {"succeeded"} == {row[1] for row in await rows(tab, "Jobs")}


async def test_months(console: Tab, customer: Customer):
    """The arrows, the list and the browser's own "back" go from month to month; a later one than now there is not."""
    await press_button(console, "Previous month")
    await console.wait(f"location.hash.includes('month=') && !location.hash.includes('{MONTH}')")
    await console.wait(f"{SETTLED} && document.querySelector('main').innerText.includes('Nothing was used in')")
    assert customer.name in await console.evaluate("location.hash")
    assert "Previous month" == await console.evaluate("document.activeElement.getAttribute('aria-label')")
    await console.evaluate("history.back()")
    await console.wait(f"{SETTLED} && document.querySelector('main').innerText.includes('gpt-4o')")

    assert await console.evaluate("document.querySelector('[aria-label=\"Next month\"]').disabled")


async def test_everything_is_reached_by_keyboard(console: Tab):
    """Tab reaches each control in its order, with a visible focus; the arrow keys read days from the chart."""
    controls = "[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]')]"
    visible = (
        f"{controls}.filter((e) => !e.disabled && e.checkVisibility() && (e.type !== 'radio' || e.checked)).length"
    )
    expected = await console.evaluate(visible)
    await console.evaluate("document.activeElement.blur()")
    await console.evaluate("window.reached = new Set(); window.unmarked = []")
    for _ in range(expected + 3):
        await console.press("Tab")
        await console.evaluate(
            "(() => { const e = document.activeElement; if (e === document.body) return; reached.add(e);"
            "if (getComputedStyle(e).outlineStyle === 'none') unmarked.push(e.outerHTML); })()"
        )

    assert expected == await console.evaluate(
        "[...reached].filter((e) => e.tabIndex >= 0 && e.id !== 'content').length"
    )
    assert [] == await console.evaluate("unmarked")
    await console.evaluate("document.querySelector('.chart').focus()")
    await console.press("End")
    await console.wait("document.querySelector('.readout').innerText.includes(': ')")
    last = await console.text(".readout")
    day = datetime.now(UTC).day
    await console.press("Home")
    await console.press("ArrowRight", day - 1)
    assert MONTH in last
    assert f"{MONTH}-{day:02}" in await console.text(".readout")
    assert "gpt-6-luna" in await console.text(".readout")


@pytest.mark.parametrize("page", ["sign-in", "customer", "all"])
async def test_it_fits_a_phone(tab: Tab, priced_server: LiveServer, page: str):
    """At 400 pixels nothing has to be scrolled sideways, whatever the length of names; and text isn't tiny."""
    customer = priced_server.harness.customer()
    long = "m" * 120
    customer.account.will_answer(completion(model=long), error(400, "bad", "n" * 300))
    await customer.run(model=long, job_id="j" * 100)
    await customer.run(job_id="failed")
    await tab.resize(400, 800)
    await open_console(tab, priced_server, customer.name if page == "customer" else "")
    if page != "sign-in":
        await sign_in(tab)

    assert [400, True] == await tab.evaluate("[document.documentElement.scrollWidth, innerWidth === 400]")
    assert [] == await tab.evaluate(TOO_WIDE)


TOO_WIDE = """[...document.querySelectorAll("main *, header *")]
  .filter((e) => e.checkVisibility() && !e.closest(".sr, details, .u-wrap, thead"))
  .filter((e) => e.getBoundingClientRect().right > 401 || e.getBoundingClientRect().left < -1)
  .map((e) => e.outerHTML.slice(0, 200))"""
CONTRAST = """(() => {
  const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const style = (e) => getComputedStyle(e);
  const isSolid = (colour) => colour.length === 3 || colour[3] > 0;
  const behind = (e) => { for (; e; e = e.parentElement) { const c = numbers(style(e).backgroundColor);
    if (isSolid(c)) return c; } };
  const ratio = (e) => { const pair = [light(numbers(style(e).color)), light(behind(e) ?? [255, 255, 255])];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05); };
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !e.disabled)
    .filter((e) => [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((e) => [ratio(e), e.outerHTML.slice(0, 120)]).filter(([ratio]) => ratio < 4.5);
})()"""


@every_row("scheme", ["light", "dark"])
async def test_both_colour_schemes_can_be_read(console: Tab, scheme: str):
    """The page follows the reader's preference; each text has WCAG's contrast of 4.5 to 1."""
    await console.emulate(scheme=scheme)
    background = await console.evaluate("getComputedStyle(document.body).backgroundColor")

    assert ("rgb(245, 246, 248)" if scheme == "light" else "rgb(15, 19, 24)") == background
    assert [] == await console.evaluate(CONTRAST)


async def test_it_prints(console: Tab):
    """On paper it is light, also for readers who prefer dark, and has no controls."""
    await console.emulate(scheme="dark", media="print")

    assert "rgb(255, 255, 255)" == await console.evaluate("getComputedStyle(document.body).backgroundColor")
    assert [] == await console.evaluate(CONTRAST)
    shown = "[...document.querySelectorAll('button, input, select')].filter((e) => e.checkVisibility()).length"
    assert 0 == await console.evaluate(shown)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def billed(priced_server: LiveServer) -> Customer:
    """A customer with a closed month and a correction; its name and the credit's description have markup in them."""
    services = priced_server.harness.services
    made = priced_server.harness.customer()
    await put_profile(services.table, made.name, CustomerProfile(legal_name=f"Fabrikam {HOSTILE}"))
    await add_usage(services.table, made.name)
    assert await services.closing.close(made.name, DOCUMENT)
    new = NewAdjustment(id="a", month=LAST_MONTH, amount="-1", currency="USD", description=f"Goodwill {HOSTILE}")
    await Adjustments(services.table).add(made.name, new, by="ann")
    assert await services.closing.close(made.name, CORRECTION)
    return made


async def test_statements_are_listed_and_opened(tab: Tab, priced_server: LiveServer, billed: Customer):
    """Each document is a row; it opens as its page looks, in a frame in which nothing runs, and Escape closes it."""
    listed = (await api(priced_server, f"customers/{billed.name}/statements"))["statements"]
    await open_console(tab, priced_server, billed.name)
    await sign_in(tab)

    assert [(each["number"], f"{each['total']} USD") for each in listed] == [
        (row[0], row[2]) for row in await rows(tab, "Statements")
    ]
    assert [LAST_MONTH, f"{LAST_MONTH} correction 1"] == [row[1] for row in await rows(tab, "Statements")]
    page = "document.querySelector('dialog iframe')?.contentDocument"
    for each, text in zip(listed, ("gpt-5.5", f"Goodwill {HOSTILE}"), strict=True):
        await press_button(tab, f"Open {each['number']}")
        await tab.wait(f"{page}?.querySelector('h1')?.innerText.includes('{each['number']}')")
        shown = await tab.evaluate(f"{page}.body.innerText")
        assert text in shown
        assert f"Fabrikam {HOSTILE}" in shown
        assert 0 == await tab.evaluate(f"{page}.querySelectorAll('img, script').length")
        assert "0px 0px 24px" == await tab.evaluate(f"getComputedStyle({page}.querySelector('h1')).margin")
        await tab.press("Escape")
        await tab.wait("!document.querySelector('dialog')")
    assert f"Open {listed[1]['number']}" == await tab.evaluate("document.activeElement.getAttribute('aria-label')")


async def test_an_open_month_is_a_page_too(console: Tab, customer: Customer):
    """The usage opens as the API's page of it, which prints well."""
    spend = (await tiles(console))["Spend"]
    await press_button(console, "Open the usage as a page")
    page = "document.querySelector('dialog iframe')?.contentDocument"
    await console.wait(f"{page}?.querySelector('h1')")
    shown = await console.evaluate(f"{page}.body.innerText")

    assert spend in shown
    assert customer.name in shown
    assert HOSTILE in shown


async def test_nothing_runs_in_a_statement(tab: Tab, priced_server: LiveServer, billed: Customer):
    """A page that is not as the app writes it runs no script, loads nothing and leads nowhere, whatever it has."""
    attack = """<!doctype html><title>x</title><script>parent.stolen = 1</script>
      <img src=/api/health onerror="alert(1)">
      <style>body { color: rgb(1, 2, 3); background: url(/api/health) }</style><body onload="alert(2)">
      <svg onload="alert(3)"></svg><iframe src="/api/docs"></iframe><form action="/api/jobs" method="post">
      <button id="send">Send</button></form><a id="out" href="/api/docs" target="_top">out</a> <p>Shown.</p>"""
    tab.replacements[f"/statements/{LAST_MONTH}"] = json_reply(200, attack.encode(), "text/html")
    await open_console(tab, priced_server, billed.name)
    await sign_in(tab)
    requests = len(tab.requests)
    await tab.evaluate("document.querySelector('.actions .primary').click()")
    page = "document.querySelector('dialog iframe')?.contentDocument"
    await tab.wait(f"{page}?.querySelector('p')?.innerText === 'Shown.'")
    for element in ("#send", "#out"):
        await tab.evaluate(f"{page}.querySelector('{element}').click()")
    await asyncio.sleep(0.3)

    assert ["/statements/" in each["url"] for each in tab.requests[requests:] if "blob:" not in each["url"]] == [True]
    assert await tab.evaluate("location.pathname === '/api/console' && window.stolen === undefined")
    assert "rgb(1, 2, 3)" == await tab.evaluate(f"getComputedStyle({page}.body).color")
    assert [] == tab.dialogs
    assert tab.errors
    tab.errors.clear()  # the browser's own reports of what it has blocked


async def test_statements_are_saved(tab: Tab, priced_server: LiveServer, billed: Customer, tmp_path: Path):
    """Each file has the API's bytes."""
    await open_console(tab, priced_server, billed.name)
    await sign_in(tab)
    await tab.save_files_to(tmp_path)
    (number, *_), _ = await rows(tab, "Statements")
    for ending, media_type in (("json", "application/json"), ("csv", "text/csv"), ("html", "text/html")):
        await press_button(tab, f"Save {number} as {ending.upper()}")
        file = tmp_path / f"statement-{billed.name}-{LAST_MONTH}.{ending}"
        await wait_for(file)
        path = f"/api/customers/{billed.name}/statements/{LAST_MONTH}"
        assert (await priced_server.http.get(path, headers={"Accept": media_type})).content == file.read_bytes()


async def test_the_picture_of_the_docs(tab: Tab, tmp_path: Path):
    """It can be drawn again, in the size of the one that is committed."""
    await console_picture.draw(tab, tmp_path / "console.png")
    drawn, committed = (file.read_bytes() for file in (tmp_path / "console.png", console_picture.PICTURE))

    assert drawn[:24] == committed[:24]  # the signature and the size
    assert len(committed) < 200_000


async def test_saving_a_file(console: Tab, priced_server: LiveServer, customer: Customer, tmp_path: Path):
    """The statement is saved as CSV: the API's bytes, requested with the key in the header."""
    await console.save_files_to(tmp_path)
    await press_button(console, "CSV")
    file = tmp_path / f"usage-{customer.name}-{MONTH}.csv"
    await console.wait("document.querySelector('#announcer').innerText.includes(' is saved.')")
    await wait_for(file)
    headers = {"Accept": "text/csv"}
    path = f"/api/customers/{customer.name}/usage?month={MONTH}&by=day,model"

    assert (await priced_server.http.get(path, headers=headers)).content == file.read_bytes()


async def test_a_file_of_many_customers_has_all_pages(tab: Tab, priced_server: LiveServer, tmp_path: Path):
    """The app sends a thousand customers at a time: the page saves all of them, with the headings once."""
    tab.replacements["continuation=b"] = json_reply(200, b"customer,calls\r\nc,3\r\n", "text/csv")
    link = f'<?month={MONTH}&continuation=b>; rel="next"'
    first = json_reply(200, b'customer,calls\r\na,1\r\n"b\n",2\r\n', "text/csv", Link=link)
    await open_console(tab, priced_server)
    await sign_in(tab)
    if await tab.text("h1") != "All customers":  # there is a single one
        await tab.evaluate("location.hash = '#/'")
    await tab.wait(f"document.querySelector('h1')?.innerText === 'All customers' && {SETTLED}")
    tab.replacements["/api/usage?"] = first
    await tab.save_files_to(tmp_path)
    await press_button(tab, "CSV")
    file = tmp_path / f"usage-{MONTH}.csv"
    await wait_for(file)

    assert b'customer,calls\r\na,1\r\n"b\n",2\r\nc,3\r\n' == file.read_bytes()
