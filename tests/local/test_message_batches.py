"""Anthropic's batches at the local endpoint, as its official client sees them, and what goes wrong on request."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal

import httpx
import pytest

from local.provider.faults import LOST, BatchFault, CallFault
from local.provider.journal import Prices
from local.stack.customers import demo_customers, onboard, vault_client, with_patient_claude
from local.stack.stack import PATIENT_CLAUDE, add_accounts
from tests.support.sdks import anthropic


def params(prompt="Hello", **more):
    """Return the body of a call."""
    return {"model": "claude-m", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}], **more}


def requests(count=10):
    """Return the lines of a batch."""
    return [{"custom_id": f"line-{number}", "params": params(f"prompt {number}")} for number in range(count)]


@pytest.fixture
def claude(endpoint):
    """An account of Anthropic's."""
    return endpoint.account(style="anthropic", prices=Prices(Decimal(4), Decimal(8)))


@pytest.fixture
async def client(claude):
    """The official client with the account's key."""
    async with anthropic.AsyncAnthropic(
        api_key=claude.key, base_url=claude.endpoint_url, max_retries=0, timeout=10
    ) as made:
        yield made


async def read(client, batch_id):
    """Return the results of a batch, by the ids of its lines."""
    return [(each.custom_id, each.result) async for each in await client.messages.batches.results(batch_id)]


@pytest.mark.long
async def test_batch_with_the_official_client(endpoint, claude, client):
    """Create, wait, read, delete; each call costs half of what a direct one does."""
    batch = await client.messages.batches.create(requests=requests())
    states = [batch.processing_status]
    while batch.processing_status != "ended":
        assert (10, 0, None) == (batch.request_counts.processing, batch.request_counts.succeeded, batch.results_url)
        await endpoint.advance(0.25)
        batch = await client.messages.batches.retrieve(batch.id)
        states.append(batch.processing_status)
    results = await read(client, batch.id)
    direct = await client.messages.create(**params("direct"))
    deleted = await client.messages.batches.delete(batch.id)

    assert ["in_progress", "ended"] == list(dict.fromkeys(states))
    assert [f"Echo: prompt {n}" for n in range(10)] == [each.message.content[0].text for _, each in results]
    assert {"batch"} == {each.message.usage.service_tier for _, each in results}
    assert ("standard", "end_turn") == (direct.usage.service_tier, direct.stop_reason)
    assert [each.message.id for _, each in results] == [each.request_id for each in claude.journal.billed("batch")]
    assert (batch.id, {}) == (deleted.id, claude.batches)
    totals = claude.journal.totals("batch")
    expected = Decimal(4) * totals.input_tokens + Decimal(8) * totals.output_tokens
    assert (10, expected / 2 / 1_000_000, {}) == (totals.calls, totals.cost, claude.journal.bought_twice())


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (BatchFault(errors_only=True), {"errored": 10}),
        (BatchFault(expire_share=0.5), {"succeeded": 5, "expired": 5}),
        (BatchFault(missing=3), {"succeeded": 7}),
        (BatchFault(duplicates=2), {"succeeded": 12}),
        (BatchFault(shuffle=True, bom=False), {"succeeded": 10}),
    ],
)
async def test_faults_of_batches(endpoint, claude, client, fault, kinds):
    """A fault happens to one batch, the next is in order; only lines that were answered are billed, once."""
    claude.faults.batches.add(fault)
    batch, next_batch = [await client.messages.batches.create(requests=requests()) for _ in range(2)]
    await endpoint.advance(10)
    results = await read(client, batch.id)
    ended = await client.messages.batches.retrieve(batch.id)

    assert kinds == Counter(each.type for _, each in results)
    assert 10 == sum(ended.request_counts.to_dict().values())
    names = [name for name, _ in results]
    assert (names == sorted(names)) != (fault.shuffle or fault.duplicates > 0)
    assert 10 == len(await read(client, next_batch.id))
    billed = [each for each in claude.journal.billed() if each.batch_id == batch.id]
    assert len({each.custom_id for each in billed}) == len(billed) == ended.request_counts.succeeded


@pytest.mark.long
async def test_cancelling_keeps_what_is_done(endpoint, claude, client):
    """The rest is canceled. What has not ended can't be read or deleted."""
    claude.durations.in_progress_s = 10
    batch = await client.messages.batches.create(requests=requests())
    await endpoint.advance(5)
    for call in (client.messages.batches.delete, client.messages.batches.results):
        with pytest.raises(anthropic.AnthropicError):
            await call(batch.id)
    cancelling = await client.messages.batches.cancel(batch.id)
    await endpoint.advance(1)
    results = await read(client, batch.id)
    again = await client.messages.batches.cancel(batch.id)

    assert "ended" == again.processing_status
    assert ("canceling", True) == (cancelling.processing_status, cancelling.cancel_initiated_at is not None)
    kinds = Counter(each.type for _, each in results)
    assert {"succeeded", "canceled"} == set(kinds)
    assert kinds["succeeded"] == len(claude.journal.billed())


@pytest.mark.long
async def test_lost_answer_of_a_create(endpoint, claude, client):
    """The batch exists though its answer was lost, and the list shows it late; the official client would buy twice."""
    claude.faults.batches.add(BatchFault(list_late_s=30))
    claude.faults.route("message_batches.create", LOST)
    with pytest.raises(anthropic.APIConnectionError):
        await client.messages.batches.create(requests=requests())
    early = await client.messages.batches.list()
    await endpoint.advance(30)
    late = await client.messages.batches.list()

    assert ([], [*claude.batches]) == (early.data, [each.id for each in late.data])
    assert not [key for key in late.data[0].to_dict() if "custom" in key or "metadata" in key]
    await client.with_options(max_retries=1).messages.batches.create(requests=requests())
    claude.faults.route("message_batches.create", LOST)
    await client.with_options(max_retries=1).messages.batches.create(requests=requests())
    assert 4 == len(claude.batches)


@pytest.mark.long
async def test_pages(client):
    """The newest first, in both directions."""
    made = [(await client.messages.batches.create(requests=requests(1))).id for _ in range(5)]
    newest_first = made[::-1]
    assert newest_first == [each.id async for each in client.messages.batches.list(limit=2)]
    page = await client.messages.batches.list(limit=2, after_id=newest_first[1])
    assert (newest_first[2:4], True) == ([each.id for each in page.data], page.has_more)
    page = await client.messages.batches.list(limit=2, before_id=newest_first[3])
    assert (newest_first[1:3], True) == ([each.id for each in page.data], page.has_more)
    for query in ({"limit": 0}, {"limit": 1001}, {"after_id": "msgbatch_x"}, {"before_id": "msgbatch_x"}):
        with pytest.raises(anthropic.APIStatusError):
            await client.messages.batches.list(**query)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests": []},
        {"requests": {}},
        {"requests": [{"custom_id": "a b", "params": params()}]},
        {"requests": [{"custom_id": "x" * 65, "params": params()}]},
        {"requests": [{"custom_id": "1"}]},
        {"requests": [*requests(1), *requests(1)]},
        [],
    ],
)
async def test_what_a_batch_may_not_be(claude, body):
    """Nothing is created."""
    async with httpx.AsyncClient(base_url=claude.url, headers={"x-api-key": claude.key}, trust_env=False) as http:
        answer = await http.post("/messages/batches", content=json.dumps(body))

    assert (400, "invalid_request_error", {}) == (answer.status_code, answer.json()["error"]["type"], claude.batches)


@pytest.mark.long
async def test_each_line_is_checked_when_it_is_run(endpoint, claude, client):
    """A batch is created whatever its lines ask for."""
    claude.models = frozenset({"claude-m"})
    claude.faults.calls.add(CallFault(529, message="Overloaded", match="busy"))
    bodies = {
        "model": params(model="claude-x"),
        "limit": {**params(), "max_tokens": None},
        "empty": params() | {"messages": []},
        "busy": params("busy"),
        "good": params(system="Be brief."),
    }
    lines = [{"custom_id": name, "params": body} for name, body in bodies.items()]
    batch = await client.messages.batches.create(requests=lines)
    await endpoint.advance(10)
    results = dict(await read(client, batch.id))

    types = {name: each.error.error.type for name, each in results.items() if each.type == "errored"}
    assert {
        "model": "not_found_error",
        "limit": "invalid_request_error",
        "empty": "invalid_request_error",
        "busy": "overloaded_error",
    } == types
    assert "succeeded" == results["good"].type
    assert 1 == len(claude.journal.billed())


@pytest.mark.long
async def test_direct_calls(claude, client):
    """Errors are Anthropic's; a limit cuts an answer short, a filter refuses the rest of it."""
    claude.faults.calls.add(CallFault(429, message="Slow down.", match="quick"))
    claude.faults.calls.add(CallFault(200, match="filtered"))
    with pytest.raises(anthropic.RateLimitError, match="Slow down"):
        await client.messages.create(**params("quick"))
    filtered = await client.messages.create(**params("filtered"))
    short = await client.messages.create(**params("x" * 400) | {"max_tokens": 9})

    assert ("refusal", "max_tokens", 9) == (filtered.stop_reason, short.stop_reason, short.usage.output_tokens)


async def test_an_account_has_the_routes_of_its_provider(account, claude):
    """Anthropic's has no files, and OpenAI's no messages."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answers = [
            await http.get(f"{claude.url}/files", headers={"x-api-key": claude.key}),
            await http.get(f"{account.url}/messages/batches", headers={"api-key": account.key}),
            await http.get(f"{claude.url}/models", headers={"x-api-key": claude.key}),
        ]

    assert [404, 404, 200] == [each.status_code for each in answers]


async def test_connection_of_the_demo(endpoint, key_vault):
    """One customer's connection `patient-claude` leads to an account beside that of `patient`."""
    customers = demo_customers()
    claude = with_patient_claude(customers)
    add_accounts(endpoint, *customers, claude)
    await onboard(key_vault, endpoint.url, claude, connection=PATIENT_CLAUDE)
    async with vault_client(key_vault) as vault:
        settings = json.loads((await vault.get_secret(f"ai--{claude.id}--{PATIENT_CLAUDE}")).value)
    base_url = settings["endpoint"].removesuffix("/v1")
    async with httpx.AsyncClient(headers={"x-api-key": settings["api_key"]}, trust_env=False) as http:
        assert [] == (await http.get(f"{base_url}/v1/messages/batches")).json()["data"]
    assert (4, "anthropic") == (len(endpoint.accounts), endpoint.accounts[claude.key].style)
