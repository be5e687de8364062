"""Files and batches over real HTTP, in the styles of OpenAI and Azure, and what goes wrong with each request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from shared.batches import provider_api as providers
from shared.batches.provider import ProviderBatches
from shared.batches.provider_api import may_exist
from shared.connections.connection import Connection
from shared.connections.endpoint import parse_endpoint
from shared.errors import (
    CredentialRejected,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamTimeout,
)
from shared.secret import Secret
from shared.upstream.messages import ApiKey
from tests.support.clients import open_client
from tests.support.endpoint import Answer, Received, error, reply, reset, truncated
from tests.support.loopback import serve
from tests.support.rows import every_row

KEY = "sk-MARKED-0123456789"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
OPENAI, AZURE, OLD = "/v1", "/openai/v1", "/openai/deployments/batch-gpt?api-version=2024-10-21"
PREFIX = {OPENAI: "/v1", AZURE: "/openai/v1", OLD: "/openai"}


@dataclass
class Provider:
    """A provider that records what it gets, and answers as a test says."""

    batches: ProviderBatches
    received: list[Received] = field(default_factory=list)
    forms: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Record the request, and send the next answer; the last one again."""
        if request.content_type == "multipart/form-data":
            form = await request.post()
            self.forms.append({name: _value(value) for name, value in form.items()})
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.received.append(Received(request.method, request.path, dict(request.query), headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


def _value(value: Any) -> Any:
    return (value.filename, value.file.read()) if isinstance(value, web.FileField) else value


@asynccontextmanager
async def open_provider(style: str, *answers: Answer) -> AsyncIterator[Provider]:
    """A provider, and the batches of a connection to it."""
    provider = Provider(None, answers=list(answers))  # type: ignore[arg-type]
    async with serve(provider.answer) as url, open_client() as client:
        endpoint = parse_endpoint(f"{url}{style}", provider="openai" if style == OPENAI else "azure_openai")
        access = ApiKey(endpoint.key_header, Secret(KEY))
        connection = Connection("contoso", "main", "key_vault", "1", endpoint, access, organization="org-1")
        provider.batches = ProviderBatches(client, connection)
        yield provider
        assert {} == client._sockets.taken


async def lines_of(*lines: bytes) -> AsyncIterator[bytes]:
    """The lines."""
    for line in lines:
        yield line


def batch(number: int = 1, **more: Any) -> dict[str, Any]:
    """A batch as OpenAI writes it."""
    created = int(NOW.timestamp()) - number
    return {"id": f"batch_{number}", "status": "validating", "input_file_id": f"file-{number}"} | {
        "created_at": created,
        **more,
    }


@pytest.mark.parametrize("style", [OPENAI, AZURE, OLD])
async def test_a_file_is_uploaded(style: str):
    """As a form, with the lines as they are; it expires by itself where the API has that."""
    lines = [b'{"custom_id":"%05d"}\n' % number for number in range(9000)]
    async with open_provider(style, reply({"id": "file-1", "status": "processed"})) as provider:
        file_id = await provider.batches.upload(lines_of(*lines), sum(map(len, lines)), filename="b-1.jsonl")

    (request,), (form,) = provider.received, provider.forms
    assert ("file-1", "POST", f"{PREFIX[style]}/files") == (file_id, request.method, request.path)
    assert ({"api-version": "2024-10-21"} if style == OLD else {}) == request.query
    expires = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1209600"} if style != OLD else {}
    assert {"purpose": "batch", "file": ("b-1.jsonl", b"".join(lines))} | expires == form
    assert "org-1" == request.headers["openai-organization"]
    assert KEY in request.headers.get("authorization", request.headers.get("api-key", ""))


@pytest.mark.parametrize("style", [OPENAI, AZURE, OLD])
async def test_a_batch_is_created(style: str):
    """With the endpoint as the style names it."""
    async with open_provider(style, reply(batch(metadata={"batch": "7"}))) as provider:
        created = await provider.batches.create("file-1", "chat/completions", {"batch": "7"})

    (request,) = provider.received
    assert ("POST", f"{PREFIX[style]}/batches") == (request.method, request.path)
    url = "/chat/completions" if style == OLD else "/v1/chat/completions"
    expected = {"input_file_id": "file-1", "endpoint": url, "completion_window": "24h", "metadata": {"batch": "7"}}
    assert expected == request.json
    assert ("batch_1", "validating", "file-1") == (created.id, created.status, created.input_file_id)


@pytest.mark.parametrize("style", [OPENAI, AZURE, OLD])
async def test_a_batch_is_followed_and_cancelled(style: str):
    """At its own address."""
    async with open_provider(style, reply(batch(status="InProgress")), reply(batch(status="cancelling"))) as provider:
        got = await provider.batches.get("batch_1")
        cancelled = await provider.batches.cancel("batch_1")

    assert ("in_progress", "cancelling") == (got.status, cancelled.status)
    assert [
        ("GET", f"{PREFIX[style]}/batches/batch_1"),
        ("POST", f"{PREFIX[style]}/batches/batch_1/cancel"),
    ] == [(each.method, each.path) for each in provider.received]


@pytest.mark.parametrize("status", [400, 409])
async def test_a_batch_that_has_ended_is_not_cancelled(status: int):
    """It is returned as it is."""
    async with open_provider(OPENAI, error(status, message="It is completed."), reply(batch(status="completed"))) as (
        provider
    ):
        assert "completed" == (await provider.batches.cancel("batch_1")).status


@pytest.mark.parametrize("style", [OPENAI, AZURE, OLD])
async def test_files_are_read_and_deleted(style: str):
    """A file that is gone is deleted."""

    async def content(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"{}\n{}\n")

    async with open_provider(style, content, reply({"deleted": True}), error(404), error(500)) as provider:
        assert b"{}\n{}\n" == b"".join([part async for part in provider.batches.content("file-1")])
        await provider.batches.delete_file("file-1")
        await provider.batches.delete_file("file-1")
        with pytest.raises(ProviderUnavailable):
            await provider.batches.delete_file("file-1")

    path = f"{PREFIX[style]}/files/file-1"
    assert [("GET", f"{path}/content"), ("DELETE", path)] == [
        (each.method, each.path) for each in provider.received[:2]
    ]


def paged(batches: list[dict[str, Any]], *, size: int = 100, **more: Any) -> Answer:
    """Answer with a page of a list."""

    async def answer(request: web.Request) -> web.StreamResponse:
        ids = [each["id"] for each in batches]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = batches[start : start + size]
        return web.json_response({"data": page, "has_more": start + size < len(batches), **more})

    return answer


@pytest.mark.parametrize("style", [OPENAI, AZURE, OLD])
@pytest.mark.parametrize(("number", "pages"), [(1, 1), (100, 1), (101, 2), (250, 3)])
async def test_a_batch_is_found_by_its_file(style: str, number: int, pages: int):
    """On whichever page of the list it is."""
    listed = [batch(each) for each in range(1, 301)]
    async with open_provider(style, paged(listed)) as provider:
        adopted = await provider.batches.find(f"file-{number}", since=NOW - timedelta(hours=1))

    assert adopted is not None
    assert (f"batch_{number}", pages) == (adopted.id, len(provider.received))
    assert all(request.query["limit"] == "100" for request in provider.received)


async def test_what_is_older_is_not_searched():
    """The search ends at the first page of which all is older, with a margin for the provider's clock."""
    listed = [batch(each * 60) for each in range(1, 1001)]
    async with open_provider(OPENAI, paged(listed)) as provider:
        assert await provider.batches.find("file-x", since=NOW - timedelta(minutes=230)) is None

    assert 4 == len(provider.received)  # a page has 100 minutes, and the third one has some within the margin


async def test_a_list_without_the_batch():
    """It may be created, since the list was read to its end."""
    for listed in ([], [batch(1), {"id": "../x", "input_file_id": "file-9"}, batch(2, created_at="2026-11-30T11:00Z")]):
        async with open_provider(OPENAI, paged(listed)) as provider:
            assert await provider.batches.find("file-x", since=NOW) is None


@pytest.mark.parametrize(
    "answer",
    [
        reply({"object": "list"}),
        reply({"data": [batch(1)], "has_more": True, "last_id": "batch_1"}),
        reply({"data": [batch(1)], "has_more": True, "last_id": "../x"}),
        reply({"data": [batch(1, id=None)], "has_more": True}),
        reply(b"<html>"),
        reply([]),
    ],
)
async def test_a_list_that_can_not_be_read_allows_no_other_batch(answer: Answer):
    """Whoever took it for a list without the batch would buy it twice."""
    async with open_provider(OPENAI, answer) as provider:
        with pytest.raises(ProviderUnavailable):
            await provider.batches.find("file-x", since=NOW)

    assert len(provider.received) <= 2


@pytest.mark.parametrize(
    ("answer", "kind", "exists"),
    [
        (reset, ProviderUnavailable, True),
        (truncated, ProviderUnavailable, True),
        (reply(batch(), after_s=1), UpstreamTimeout, True),
        (reply(b"<html>"), ProviderUnavailable, True),
        (reply({"id": "../x"}), ProviderUnavailable, True),
        (error(500), ProviderUnavailable, True),
        (error(503), ProviderUnavailable, True),
        (error(408), UpstreamTimeout, True),
        (error(409), RequestRejected, True),
        (error(400), RequestRejected, False),
        (error(429, retry_after="30"), RateLimited, False),
        (error(401, message=f"Incorrect API key provided: {KEY}."), CredentialRejected, False),
        (reply({}, status=307, headers={"location": "http://127.0.0.1:9/"}), RequestRejected, False),
    ],
)
async def test_a_batch_that_may_have_been_created(
    answer: Answer, kind: type[UpstreamError], exists: bool, monkeypatch: pytest.MonkeyPatch
):
    """It is looked for before another one is created; a refusal created none. It is never sent twice by itself."""
    monkeypatch.setattr(providers, "REQUEST_S", 0.4)
    async with open_provider(OPENAI, answer) as provider:
        with pytest.raises(kind) as failure:
            await provider.batches.create("file-1", "chat/completions", {})

    assert (exists, 1) == (may_exist(failure.value), len(provider.received))
    assert "MARKED" not in str(failure.value)
    assert (30.0 if kind is RateLimited else None) == failure.value.facts.retry_after_s


async def test_a_batch_that_may_not_begin_is_not_created():
    """A worker that stops sends nothing more."""

    def stop() -> None:
        raise RuntimeError("The worker stops.")

    async with open_provider(OPENAI, reply(batch())) as provider:
        with pytest.raises(RuntimeError, match="stops"):
            await provider.batches.create("file-1", "chat/completions", {}, begin=stop)

    assert [] == provider.received


def test_a_batch_that_was_never_sent_does_not_exist():
    """The request did not begin."""
    assert not may_exist(ProviderUnavailable("Not reached.", UpstreamFacts(transient=True)))
    assert not may_exist(UpstreamTimeout("No socket.", UpstreamFacts(transient=True, unsent=True)))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reset, ProviderUnavailable),
        (reply({"id": "a/b"}), ProviderUnavailable),
        (reply({"id": None}), ProviderUnavailable),
        (reply(b"{"), ProviderUnavailable),
        (error(401), CredentialRejected),
        (error(413), RequestRejected),
        (error(429, retry_after="5"), RateLimited),
    ],
)
async def test_an_upload_that_fails(answer: Answer, kind: type[UpstreamError]):
    """It is an error with the usual code."""
    async with open_provider(OPENAI, answer) as provider:
        with pytest.raises(kind):
            await provider.batches.upload(lines_of(b"{}\n"), 3, filename="x.jsonl")


@every_row("text", ["", "..", "a/b", "a?x=1", "é"])
@every_row(
    "call",
    [
        lambda batches, text: batches.get(text),
        lambda batches, text: batches.cancel(text),
        lambda batches, text: batches.delete_file(text),
    ],
)
async def test_what_is_no_id_is_not_sent(call: Callable[[ProviderBatches, str], Any], text: str):
    """It could lead to another resource."""
    async with open_provider(OPENAI, error(500)) as provider:
        with pytest.raises(ValueError):  # noqa: PT011  # it has no message
            await call(provider.batches, text)
        with pytest.raises(ValueError):  # noqa: PT011
            provider.batches.content(text)

    assert [] == provider.received


async def test_a_failed_batch_says_why():
    """Without the key, with the code of a full quota."""
    data = [{"code": "token_limit_exceeded", "message": f"Enqueued token limit reached for {KEY}."}]
    async with open_provider(OPENAI, reply(batch(status="failed", errors={"data": data}))) as provider:
        failed = await provider.batches.get("batch_1")

    assert failed.has_error("token_limit_exceeded")
    assert "Enqueued token limit reached for ***." == failed.errors[0].message
    assert "MARKED" not in json.dumps(failed.errors[0].message)
