"""A batch from its lines to its answers at the local stack's provider, in each style and with what may go wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import trustme
from aiohttp import web

from local.provider import server
from local.provider.account import Account, Durations, Style
from local.provider.clock import ManualClock
from local.provider.faults import CUT, HANG_AFTER, LOST, RESET, BatchFault, CallFault, RouteFault
from shared.batches import provider_api as providers
from shared.batches.eligibility import line_url
from shared.batches.files import Answer, Unreadable, line, read_lines
from shared.batches.provider import ProviderBatches
from shared.batches.provider_api import may_exist
from shared.batches.provider_batch import ProviderBatch
from shared.connections.connection import Connection
from shared.connections.endpoint import parse_endpoint
from shared.errors import ProviderUnavailable, RequestRejected, UpstreamError, UpstreamTimeout
from shared.secret import Secret
from shared.upstream import guarded_connections
from shared.upstream.messages import ApiKey
from tests.support.clients import open_client
from tests.support.loopback import serve

DURATIONS = Durations(validating_s=10, in_progress_s=100, finalizing_s=10, cancelling_s=10)
STYLES = ["openai", "azure v1", "azure root"]


@dataclass
class Work:
    """A provider with a clock, an account there, and the batches of a connection to it."""

    endpoint: server.Endpoint
    account: Account
    connection: Connection
    batches: ProviderBatches

    async def upload(self, count: int) -> str:
        """Upload a file with as many lines."""
        url = line_url(self.connection, "chat/completions")
        lines = [line(f"{number:05}", url, body(number)) for number in range(1, count + 1)]

        async def chunks() -> AsyncIterator[bytes]:
            for each in lines:
                yield each

        return await self.batches.upload(chunks(), sum(map(len, lines)), filename="lines.jsonl")

    async def create(self, count: int) -> ProviderBatch:
        """Upload a file with as many lines, and create its batch."""
        return await self.batches.create(await self.upload(count), "chat/completions", {"batch": "b1"})

    async def end(self, batch: ProviderBatch, seconds: float = 200) -> ProviderBatch:
        """Return a batch after so long."""
        await self.endpoint.advance(seconds)
        return await self.batches.get(batch.id)

    async def read(
        self, file_id: str | None, answers: list[Answer | Unreadable] | None = None
    ) -> list[Answer | Unreadable]:
        """Return what a file of the provider says, added to `answers`."""
        answers = [] if answers is None else answers
        if file_id is not None:
            async for each in read_lines(self.batches.content(file_id)):
                answers.append(each)
        return answers

    @property
    def now(self) -> datetime:
        """The provider's time."""
        return datetime.fromtimestamp(self.endpoint.clock(), UTC)


def body(number: int) -> bytes:
    """The body of a line."""
    return msgspec.json.encode({"model": "m-batch", "messages": [{"role": "user", "content": f"Say {number}, é\n…"}]})


def text_of(answer: Answer | Unreadable) -> str:
    """What the model says in an answer."""
    assert isinstance(answer, Answer)
    assert answer.status == 200
    return str(msgspec.json.decode(answer.body)["choices"][0]["message"]["content"])


def ids(answers: list[Answer | Unreadable]) -> list[str | None]:
    """Whose lines they are, in order."""
    return sorted(str(each.custom_id) for each in answers)


@asynccontextmanager
async def open_work(style: str = "openai", **more: Any) -> AsyncIterator[Work]:
    """A connection of this style."""
    name: Style = "openai" if style == "openai" else "azure"
    async with server.start(ManualClock(), DURATIONS) as endpoint, open_client() as client:
        account = endpoint.account(style=name, azure_objects=name == "azure", **more)
        url = account.root_url if style == "azure root" else account.url
        parsed = parse_endpoint(url, provider="openai" if style == "openai" else "azure_openai")
        access = ApiKey(parsed.key_header, Secret(account.key))
        connection = Connection("contoso", "main", "key_vault", "1", parsed, access)
        yield Work(endpoint, account, connection, ProviderBatches(client, connection))
        assert {} == client._sockets.taken


@pytest.mark.parametrize("style", STYLES)
async def test_lines_become_answers(style: str):
    """Each of them, in every style; then the files are deleted."""
    async with open_work(style) as work:
        created = await work.create(300)
        assert created.input_file_id is not None
        ended = await work.end(created)
        answers = await work.read(ended.output_file_id)
        for file_id in (created.input_file_id, ended.output_file_id, ended.error_file_id):
            if file_id:
                await work.batches.delete_file(file_id)
        assert {} == work.account.files

    assert ("validating", "completed", None) == (created.status, ended.status, ended.error_file_id)
    assert (300, 300, 0) == (ended.counts.total, ended.counts.completed, ended.counts.failed)
    assert [f"{number:05}" for number in range(1, 301)] == ids(answers)
    assert all(f"Say {int(each.custom_id or 0)}, é" in text_of(each) for each in answers)
    assert 300 == len({each.request_id for each in answers if isinstance(each, Answer)})


@pytest.mark.parametrize(
    ("style", "late_s", "pages"),
    [*((style, late_s, 1) for style in STYLES for late_s in (0, 60)), ("openai", 0, 3), ("azure root", 0, 2)],
)
async def test_a_batch_whose_answer_was_lost_is_adopted(style: str, late_s: float, pages: int):
    """Whatever is listed before it, and as soon as the list has it."""
    async with open_work(style) as work:
        work.account.faults.batches.add(BatchFault(list_late_s=late_s))
        work.account.faults.route("batches.create", LOST)
        since, file_id = work.now, await work.upload(1)
        with pytest.raises(ProviderUnavailable) as failure:
            await work.batches.create(file_id, "chat/completions", {})
        assert may_exist(failure.value)
        another = await work.upload(1) if pages > 1 else ""
        for _ in range((pages - 1) * 100):
            await work.batches.create(another, "chat/completions", {})

        adopted = await work.batches.find(file_id, since=since)
        if late_s:
            assert adopted is None
            await work.endpoint.advance(late_s)
            adopted = await work.batches.find(file_id, since=since)

        assert adopted is not None
        assert (file_id, since) == (adopted.input_file_id, adopted.created_at)
        assert await work.batches.find("file-of-nobody", since=since) is None


@pytest.mark.parametrize("fault", [RESET, LOST, HANG_AFTER, RouteFault("hang"), RouteFault("status", 500)])
async def test_creating_is_never_repeated_by_itself(fault: RouteFault, monkeypatch: pytest.MonkeyPatch):
    """Whether there is a batch then, is for the list to say."""
    monkeypatch.setattr(providers, "REQUEST_S", 0.5)
    async with open_work() as work:
        file_id = await work.upload(1)
        work.account.faults.route("batches.create", fault)
        with pytest.raises(UpstreamError) as failure:
            await work.batches.create(file_id, "chat/completions", {})

        assert may_exist(failure.value)
        adopted = await work.batches.find(file_id, since=work.now)
        assert (adopted is not None) == (fault in (LOST, HANG_AFTER))
        assert (fault in (LOST, HANG_AFTER)) == len(work.account.batches)


@pytest.mark.parametrize("style", STYLES)
async def test_what_a_provider_makes_of_its_output_is_read(style: str):
    """Out of order, with a byte order mark, with lines twice and others missing."""
    async with open_work(style) as work:
        work.account.faults.batches.add(BatchFault(shuffle=True, bom=True, duplicates=3, missing=2))
        ended = await work.end(await work.create(20))
        answers = await work.read(ended.output_file_id)

    read = [each.custom_id for each in answers if isinstance(each, Answer)]
    assert (21, 18, "completed") == (len(read), len(set(read)), ended.status)
    assert sorted(map(str, read)) != read


@pytest.mark.parametrize("style", STYLES)
async def test_an_expired_batch_has_what_is_paid_for(style: str):
    """Its other lines say that they expired."""
    async with open_work(style) as work:
        work.account.faults.batches.add(BatchFault(expire_share=0.5))
        ended = await work.end(await work.create(20))
        output, errors = await work.read(ended.output_file_id), await work.read(ended.error_file_id)

    assert "expired" == ended.status
    assert [10, 10] == [sum(isinstance(each, Answer) and each.status == 200 for each in output), len(errors)]
    assert {"batch_expired"} == {each.code for each in errors if isinstance(each, Answer)}


@pytest.mark.parametrize("style", STYLES)
async def test_a_cancelled_batch_has_what_is_paid_for(style: str):
    """Cancelling one that has ended returns it."""
    async with open_work(style, lists_cancelled_lines=True) as work:
        created = await work.create(20)
        await work.end(created, 60)
        cancelling = await work.batches.cancel(created.id)
        ended = await work.end(created, 11)
        again = await work.batches.cancel(created.id)
        output, errors = await work.read(ended.output_file_id), await work.read(ended.error_file_id)

    assert ["cancelling", "cancelled", "cancelled"] == [cancelling.status, ended.status, again.status]
    assert [f"{number:05}" for number in range(1, 21)] == ids(output + errors)
    assert {"batch_cancelled"} == {each.code for each in errors if isinstance(each, Answer)}


async def test_lines_that_fail_have_their_refusal():
    """As the call would have had it."""
    async with open_work() as work:
        work.account.faults.calls.add(CallFault(400, "content_filter", match="00002"))
        ended = await work.end(await work.create(2))
        (failed,) = await work.read(ended.error_file_id)

    assert isinstance(failed, Answer)
    assert ("00002", 400, None) == (failed.custom_id, failed.status, failed.code)
    assert b"content_filter" in failed.body


@pytest.mark.parametrize("code", ["token_limit_exceeded", "model_not_found"])
async def test_a_batch_that_fails_in_validation_says_why(code: str):
    """It costs nothing, and has no files."""
    async with open_work("azure v1") as work:
        work.account.faults.batches.add(BatchFault(fail_code=code))
        ended = await work.end(await work.create(2))

    assert ("failed", True, None, None) == (
        ended.status,
        ended.has_error(code),
        ended.output_file_id,
        ended.error_file_id,
    )


async def test_a_file_that_is_not_processed_yet():
    """Azure takes a while; the refusal of a batch until then created none."""
    async with open_work("azure v1") as work:
        work.account.durations.file_processing_s = 30
        file_id = await work.upload(1)
        assert not await work.batches.is_processed(file_id)
        with pytest.raises(RequestRejected) as failure:
            await work.batches.create(file_id, "chat/completions", {})
        assert not may_exist(failure.value)

        await work.endpoint.advance(31)

        assert await work.batches.is_processed(file_id)
        assert "validating" == (await work.batches.create(file_id, "chat/completions", {})).status


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(CUT, ProviderUnavailable), (RESET, ProviderUnavailable), (RouteFault("slow", after_s=2), UpstreamTimeout)],
)
async def test_a_file_that_breaks_off_is_read_again(
    fault: RouteFault, kind: type[UpstreamError], monkeypatch: pytest.MonkeyPatch
):
    """What was read before the break is the same the second time."""
    monkeypatch.setattr(providers, "STALL_S", 0.5)
    async with open_work() as work:
        ended = await work.end(await work.create(50))
        assert ended.output_file_id is not None
        work.account.faults.route("files.content", fault)
        first: list[Answer | Unreadable] = []
        with pytest.raises(kind):
            await work.read(ended.output_file_id, first)

        whole = await work.read(ended.output_file_id)

    assert (50, first) == (len(whole), whole[: len(first)])
    assert (len(first) > 10) == (fault is CUT)


async def test_files_over_tls(monkeypatch: pytest.MonkeyPatch):
    """No faster than the other side reads, as without."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr(guarded_connections, "tls_context", lambda: trusting)
    pulled, taken, size = 0, 0, 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal taken
        if request.method == "GET":
            return web.Response(body=bytes(8 << 20))
        await asyncio.sleep(0.5)
        assert pulled < 16 << 20  # beyond what the sockets hold, the rest waits at its source
        async for part in request.content.iter_any():
            taken += len(part)
        return web.json_response({"id": "file-1"})

    async def lines() -> AsyncIterator[bytes]:
        nonlocal pulled
        for _ in range(640):
            pulled += 1 << 16
            yield b"x" * (1 << 16)

    async with serve(answer, tls=tls) as url, open_client() as client:
        connection = Connection(
            "c", "m", "key_vault", "1", parse_endpoint(f"{url}/v1", provider="openai"), ApiKey("api-key", Secret("k1"))
        )
        batches = ProviderBatches(client, connection)
        assert "file-1" == await batches.upload(lines(), 40 << 20, filename="x.jsonl")
        async for part in batches.content("file-1"):
            size += len(part)

    assert taken > 40 << 20
    assert 8 << 20 == size
