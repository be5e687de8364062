"""Claude's batches over real HTTP, beside Anthropic's own SDK: what is sent, listed and read is the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web

from local.provider import server
from local.provider.account import Account
from local.provider.clock import ManualClock
from local.provider.faults import BatchFault, CallFault
from shared.batches import provider_api
from shared.batches.batch_lines import BatchLines
from shared.batches.claude_batches import ClaudeBatches
from shared.batches.custom_ids import full_id
from shared.batches.files import Answer, read_lines
from shared.batches.provider_api import may_exist
from shared.batches.records import read_batch
from shared.clock import now
from shared.connections.connection import Connection
from shared.connections.endpoint import parse_endpoint
from shared.errors import (
    CredentialRejected,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    StorageUnavailable,
    UpstreamError,
    UpstreamTimeout,
)
from shared.jobs.batch_message import batch_key
from shared.jobs.lines import Line, line_row
from shared.lru import LRU
from shared.secret import Secret
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import ApiKey
from shared.upstream.sending import do_nothing
from tests.support.batch_rows import put_batch
from tests.support.clients import open_client
from tests.support.endpoint import Answer as EndpointAnswer
from tests.support.endpoint import claude_error, reply, reset, truncated
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryTable
from tests.support.loopback import serve
from tests.support.sdks import anthropic

KEY = "sk-ant-MARKED-0123456789"


def body(number: int) -> dict[str, Any]:
    """The body of a line."""
    return {"model": "claude-m", "max_tokens": 99, "messages": [{"role": "user", "content": f"Say {number}, é\n…"}]}


async def stored_lines(count: int) -> BatchLines:
    """The lines of a batch on record that is being sent."""
    table = MemoryTable()
    members = {"operation": "messages", "state": "sending", "lines": count, "create_began_at": now()}
    batch_id = await put_batch(table, "contoso", now(), **members)
    for number in range(count):
        line = Line(f"~{number}", "messages", json.dumps(body(number)).encode())
        await table.insert(line_row("contoso", "job", batch_id, number, line))
    row = await table.read("contoso", batch_key(batch_id))
    assert row is not None
    batch = replace(read_batch(row), input_file_id=batch_id)
    return BatchLines(table, MemoryBlobs(), "results", batch)


def batches_at(client: UpstreamClient, url: str, key: str = KEY) -> ClaudeBatches:
    """The batches of a connection."""
    endpoint = parse_endpoint(url, provider="anthropic")
    access = ApiKey(endpoint.key_header, Secret(key))
    return ClaudeBatches(client, Connection("contoso", "main", "key_vault", "1", endpoint, access), LRU(100))


@dataclass
class Work:
    """A provider with a clock, an account there, and the batches of a connection to it."""

    endpoint: server.Endpoint
    account: Account
    batches: ClaudeBatches

    async def create_another(self, count: int = 1) -> str:
        """Create a batch that is none of ours; return its id."""
        requests = [{"custom_id": f"theirs-{number}", "params": body(number)} for number in range(count)]
        async with httpx.AsyncClient(headers={"x-api-key": self.account.key}, trust_env=False) as http:
            created = await http.post(f"{self.account.url}/messages/batches", json={"requests": requests})
        identifier: str = created.json()["id"]
        return identifier


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    """See Work."""
    clock = ManualClock()
    clock.advance(now().timestamp() - clock())
    async with server.start(clock) as endpoint, open_client() as client:
        account = endpoint.account(style="anthropic")
        yield Work(endpoint, account, batches_at(client, account.url, account.key))
        assert {} == client._sockets.taken


@pytest.fixture
async def sdk(work: Work) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The SDK's client of the same account. Importing the SDK takes seconds: its tests are long."""
    async with anthropic.AsyncAnthropic(api_key=work.account.key, base_url=work.endpoint.url, max_retries=0) as opened:
        yield opened


@pytest.mark.long
async def test_a_batch_is_created_as_the_sdk_does(work: Work, sdk: anthropic.AsyncAnthropic):
    """The same request; and the SDK sees our batch as its own."""
    received: list[tuple[str, str, Any]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        received.append((request.method, request.path, json.loads(await request.read())))
        return web.json_response({"id": "msgbatch_1", "processing_status": "in_progress"})

    lines = await stored_lines(3)
    requests: Any = [{"custom_id": full_id(lines.batch.batch_id, n), "params": body(n)} for n in range(3)]
    async with serve(answer) as url, open_client() as client:
        created = await batches_at(client, url).create(lines, begin=do_nothing)
        async with anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0) as other:
            await other.messages.batches.create(requests=requests)

    ours, theirs = received
    assert ours == theirs
    assert ("msgbatch_1", "in_progress") == (created.id, created.status)
    created = await work.batches.create(lines, begin=do_nothing)
    theirs_too = await sdk.messages.batches.retrieve(created.id)
    assert (theirs_too.request_counts.processing, created.counts.total) == (3, 3)
    assert theirs_too.created_at == created.created_at


@pytest.mark.long
async def test_results_are_what_the_sdk_reads(work: Work, sdk: anthropic.AsyncAnthropic):
    """Answers, errors, and what was not done in time; and a batch that is cancelled, by either."""
    work.account.faults.batches.add(BatchFault(expire_share=0.7, shuffle=True))
    work.account.faults.calls.add(CallFault(529, message="Overloaded", match="Say 2"))
    created = await work.batches.create(await stored_lines(10), begin=do_nothing)
    await work.endpoint.advance(10)
    ended = await work.batches.get(created.id)
    theirs = {each.custom_id: each.result async for each in await sdk.messages.batches.results(created.id)}
    assert ended.output_file_id is not None
    ours = {each.custom_id: each async for each in read_lines(work.batches.content(ended.output_file_id))}

    counts = (await sdk.messages.batches.retrieve(created.id)).request_counts
    assert (counts.succeeded, counts.errored, counts.expired) == (6, 1, 3)
    assert ("expired", 10, 6) == (ended.status, ended.counts.total, ended.counts.completed)
    assert theirs.keys() == ours.keys()
    for custom_id, result in theirs.items():
        line = ours[custom_id]
        assert isinstance(line, Answer)
        if result.type == "succeeded":
            assert (200, result.message.id) == (line.status, line.request_id)
            assert result.message.content[0].text == json.loads(line.body)["content"][0]["text"]  # type: ignore[union-attr]
        elif result.type == "errored":
            assert (529, result.error.error.type, "overloaded_error") == (line.status, line.code, line.code)
        else:
            assert ("expired", "batch_expired") == (result.type, line.code)


@pytest.mark.long
async def test_a_batch_is_cancelled_and_deleted_as_by_the_sdk(work: Work, sdk: anthropic.AsyncAnthropic):
    """Once it has ended, cancelling returns it; one that is gone is deleted."""
    work.account.durations.in_progress_s = 100
    first, second = [await work.batches.create(await stored_lines(4), begin=do_nothing) for _ in range(2)]
    await work.endpoint.advance(50)
    assert "cancelling" == (await work.batches.cancel(first.id)).status
    assert "canceling" == (await sdk.messages.batches.cancel(second.id)).processing_status
    await work.endpoint.advance(10)
    ended = [await work.batches.cancel(each.id) for each in (first, second)]

    assert ["cancelled"] * 2 == [each.status for each in ended]
    assert [4, 4] == [each.counts.total for each in ended]
    await work.batches.erase(ended[0])
    await work.batches.erase(ended[0])
    await sdk.messages.batches.delete(second.id)
    assert {} == work.account.batches


@pytest.mark.parametrize("later", [0, 99, 100, 200])  # on the first page or its end, the second, the third
async def test_a_batch_is_found_among_others(work: Work, later: int):
    """On whichever page of the list it is, once it has ended; until then one may be it, of those with as many lines."""
    lines = await stored_lines(2)
    created = await work.batches.create(lines, begin=do_nothing)
    if later:
        await work.create_another()
        (*_, theirs) = work.account.batches.values()
        for number in range(1, later):
            alike = replace(theirs, id=f"msgbatch_{number}", times={**theirs.times})
            work.account.batches[alike.id] = alike
    uncertain = await work.batches.find(lines)
    assert uncertain is not None
    assert (created.id, False) == (uncertain.id, uncertain.is_certain)
    await work.endpoint.advance(100)
    adopted = await work.batches.find(lines)

    assert adopted is not None
    assert (created.id, True) == (adopted.id, adopted.is_certain)
    assert await work.batches.find(await stored_lines(2)) is None


async def test_batches_of_other_times_are_not_candidates(work: Work):
    """Neither before the lines were gathered, nor after the last creation, with a margin for the provider's clock."""
    await work.create_another(2)
    lines = await stored_lines(2)
    at = now()
    for opened_at, began_at, is_candidate in (
        (at + timedelta(minutes=10), at + timedelta(minutes=11), True),
        (at + timedelta(minutes=20), at + timedelta(minutes=21), False),
        (at - timedelta(minutes=15), at - timedelta(minutes=14), True),
        (at - timedelta(minutes=30), at - timedelta(minutes=25), False),
    ):
        batch = replace(lines.batch, opened_at=opened_at, create_began_at=began_at)
        candidate = await work.batches.find(replace(lines, batch=batch))
        assert is_candidate == (candidate is not None), opened_at


async def test_the_customer_s_other_batches_are_not_candidates(work: Work):
    """They are on record by their ids."""
    lines = await stored_lines(2)
    other = await work.create_another(2)
    assert await work.batches.find(lines) is not None
    await put_batch(lines.table, "contoso", now(), operation="messages", provider_id=other)
    assert await work.batches.find(lines) is None


@pytest.mark.parametrize(
    ("answer", "kind", "exists"),
    [
        (reset, ProviderUnavailable, True),
        (truncated, ProviderUnavailable, True),
        (reply({"id": "msgbatch_1"}, after_s=1), UpstreamTimeout, True),
        (reply(b"<html>"), ProviderUnavailable, True),
        (reply({"id": "../x"}), ProviderUnavailable, True),
        (claude_error(500, "api_error"), ProviderUnavailable, True),
        (claude_error(529, "overloaded_error"), ProviderUnavailable, True),
        (claude_error(400, "invalid_request_error"), RequestRejected, False),
        (claude_error(413, "request_too_large"), RequestRejected, False),
        (claude_error(429, "rate_limit_error", retry_after="30"), RateLimited, False),
        (claude_error(401, "authentication_error", f"Key {KEY}."), CredentialRejected, False),
    ],
)
async def test_a_batch_that_may_have_been_created(
    answer: EndpointAnswer, kind: type[UpstreamError], exists: bool, monkeypatch: pytest.MonkeyPatch
):
    """It is looked for before another one is created; a refusal created none. It is never sent twice by itself."""
    monkeypatch.setattr(provider_api, "STALL_S", 0.4)
    requests = 0

    async def counting(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        await request.read()
        return await answer(request)

    async with serve(counting) as url, open_client() as client:
        with pytest.raises(kind) as failure:
            await batches_at(client, url).create(await stored_lines(1), begin=do_nothing)

    assert (exists, 1) == (may_exist(failure.value), requests)
    assert "MARKED" not in str(failure.value)


async def test_lines_that_change_are_not_sent():
    """What was counted and what is there must agree, or no whole request is sent."""
    lines = await stored_lines(3)
    row = await lines.table.read("contoso", f"l_{lines.batch.batch_id}_00002")
    assert row is not None
    await lines.table.merge(replace(row, values={"body": b'{"longer": true, "than": "before"}'}))
    created = []

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        created.append(request.path)
        return web.json_response({"id": "msgbatch_1"})

    async with serve(answer) as url, open_client() as client:
        with pytest.raises(StorageUnavailable):
            await batches_at(client, url).create(lines, begin=do_nothing)
    assert [] == created


@dataclass(frozen=True)
class ManyLines(BatchLines):
    """Lines that are as many as a batch may have, and are counted as they are read."""

    count: int = 640
    pulled: list[int] = None  # type: ignore[assignment]

    async def measure(self) -> tuple[int, int]:
        """See BatchLines."""
        return self.count, self.count << 16

    async def bodies(self) -> AsyncIterator[tuple[int, bytes]]:
        """See BatchLines."""
        for number in range(self.count):
            self.pulled.append(number)
            yield number, b'"%s"' % (b"x" * ((1 << 16) - 2))


async def test_a_large_batch_is_not_held_in_memory():
    """Its lines are read no faster than the provider takes them."""
    stored = await stored_lines(1)
    lines = ManyLines(stored.table, stored.blobs, stored.container, stored.batch, pulled=[])
    taken = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal taken
        await asyncio.sleep(0.5)
        assert len(lines.pulled) << 16 < 16 << 20  # beyond what the sockets hold, the rest waits at its source
        async for part in request.content.iter_any():
            taken += len(part)
        return web.json_response({"id": "msgbatch_1"})

    async with serve(answer) as url, open_client() as client:
        await batches_at(client, url).create(lines, begin=do_nothing)

    assert taken > 40 << 20


@asynccontextmanager
async def listing(*answers: EndpointAnswer) -> AsyncIterator[ClaudeBatches]:
    """The batches of a connection whose endpoint gives these answers."""
    waiting = list(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)

    async with serve(answer) as url, open_client() as client:
        yield batches_at(client, url)


ENDED = {"id": "msgbatch_1", "processing_status": "ended", "request_counts": {"succeeded": 1}}


@pytest.mark.parametrize(
    "answers",
    [
        [reply({"type": "list"})],
        [reply({"data": [{"id": None}], "has_more": False})],
        [reply(b"<html>")],
        [reply({"data": [ENDED], "has_more": True, "last_id": "../x"}), reply(b"{}\n")],
        [reply({"data": [ENDED], "has_more": False}), reply(b"")],
        [reply({"data": [ENDED], "has_more": False}), reply(b"no results\n")],
    ],
)
async def test_what_can_not_be_read_allows_no_other_batch(answers: list[EndpointAnswer]):
    """Whoever took it for a list without the batch would buy it twice."""
    async with listing(*answers) as batches:
        with pytest.raises(ProviderUnavailable):
            await batches.find(await stored_lines(1))


async def test_an_archived_batch_may_be_it():
    """Its results are gone, so nothing says whose it was."""
    listed = {"data": [ENDED | {"archived_at": "2026-11-30T12:00:00Z"}], "has_more": False}
    async with listing(reply(listed)) as batches:
        candidate = await batches.find(await stored_lines(1))

    assert candidate is not None
    assert not candidate.is_certain


@pytest.mark.parametrize("text", ["", "..", "a/b", "a?x=1", "é"])
async def test_what_is_no_id_is_not_sent(text: str):
    """It could lead to another resource."""
    async with listing(claude_error(500, "api_error")) as batches:
        for call in (batches.get, batches.cancel):
            with pytest.raises(ValueError):  # noqa: PT011  # it has no message
                await call(text)
        with pytest.raises(ValueError):  # noqa: PT011
            batches.content(text)
