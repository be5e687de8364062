"""What is sent directly, and which responses are certain."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from shared.network.response import Response
from shared.secret import Secret
from shared.storage.direct import client as clients
from shared.storage.direct.client import DirectClient
from shared.storage.direct.endpoint import read_endpoint
from shared.storage_settings import StorageAccount
from tests.support.rows import every_row
from tests.support.storage_pools import ClosedPool, RecordingPool

KEY = "a2V5IG9mIHRoZSBhY2NvdW50"


def client(pool: Any, text: str = f"AccountName=acme;AccountKey={KEY}") -> DirectClient:
    """A client of the table service."""

    def credential() -> Any:
        raise AssertionError("The account has a key.")

    return DirectClient("table", read_endpoint(StorageAccount(Secret(text), "", "", "", ""), "table"), pool, credential)


async def test_a_request_is_sent_once_and_whole(caplog: pytest.LogCaptureFixture):
    """It has its own id, the time, and the signature; nothing of it is logged."""
    pool = RecordingPool(204)

    for _ in range(2):
        await client(pool).send("POST", "/jobs(RowKey='ä b')", {"content-type": "text/x"}, b"body", {"a": "1 2"})

    first, second = (request.decode().partition("\r\n\r\n") for request in pool.requests)
    assert "body" == first[2]
    lines = first[0].split("\r\n")
    assert ["POST /jobs(RowKey='%C3%A4%20b')?a=1+2 HTTP/1.1", "host: acme.table.core.windows.net"] == lines[:2]
    names = [line.partition(":")[0] for line in lines[2:]]
    assert [
        *("content-type", "content-length", "x-ms-client-request-id", "x-ms-date", "x-ms-version", "authorization")
    ] == names
    assert "content-length: 4" in lines
    assert lines[4] != second[0].split("\r\n")[4]
    assert KEY not in first[0]
    assert not caplog.records


@every_row("status", [200, 201, 202, 204, 404, 409, 412])
async def test_a_certain_response_is_returned(status: int):
    """The request was carried out, or refused for a reason that the caller knows how to treat."""
    assert Response(status, {}, b"") == await client(RecordingPool(status)).send("GET", "/jobs", {})


@every_row("status", [301, 307, 400, 401, 403, 408, 413, 429, 500, 502, 503, 504])
async def test_any_other_response_is_left_to_the_sdk(
    status: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Its rules for retries, redirects and challenges apply. The log says why a request is repeated."""
    monkeypatch.setattr(clients, "_WAIT_S", 0)

    assert await client(RecordingPool(status)).send("GET", "/jobs", {}) is None

    expected = f"sdk_repeated host=acme.table.core.windows.net: Storage answered {status}."
    assert [("customer_ai_jobs", logging.WARNING, expected)] == caplog.record_tuples


@every_row(("text", "wait_s"), [("", 0.3), ("2", 2), ("3600", 10), ("soon", 0.3)])
async def test_a_busy_service_is_left_alone(text: str, wait_s: float, monkeypatch: pytest.MonkeyPatch):
    """For as long as it says, up to ten seconds."""
    waits: list[float] = []

    class BusyPool(RecordingPool):
        async def exchange(self, *_: Any) -> Response:
            return Response(503, {"retry-after": text} if text else {}, b"")

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)

    monkeypatch.setattr(clients.asyncio, "sleep", sleep)
    assert await client(BusyPool(503)).send("GET", "/jobs", {}) is None

    assert [wait_s] == waits


@pytest.mark.parametrize("value", ["a\r\nx-ms-blob-type: PageBlob", "a\nb", "ä"])
async def test_a_header_that_would_be_changed_is_not_sent(value: str):
    """Such as a content type that came with an answer: the SDK refuses or encodes it."""
    pool = RecordingPool(201)

    assert await client(pool).send("PUT", "/c/b", {"x-ms-blob-content-type": value}) is None
    assert [] == pool.requests


@given(st.from_regex(clients._is_plain.__self__, fullmatch=True))
def test_a_usual_path_is_what_aiohttp_makes_of_it(path: str):
    """Such as a row's or a transaction's: it is not given to aiohttp's parser, so that a worker need not import it."""
    assert URL(f"https://acme.table.core.windows.net{path}").raw_path == clients._sent_path(path) == path


@every_row("path", ["/jobs(RowKey='a b')", "/jobs(RowKey='%20')", "/c/ü", "/c/../d", "/c/.", "/c/a?b", "/c/a+b"])
def test_other_paths_are_left_to_it(path: str):
    """All that it may change."""
    assert clients._is_plain(path) is None


async def test_no_token_is_sent_without_tls():
    """The SDK refuses to send it, which is the error. None is requested."""

    def credential() -> Any:
        raise AssertionError("No token is needed.")

    pool, account = RecordingPool(200), StorageAccount(None, "", "", "http://acme.table.contoso.com", "")
    direct = DirectClient("table", read_endpoint(account, "table"), pool, credential)

    assert await direct.send("GET", "/jobs", {}) is None
    assert [] == pool.requests


async def test_a_sas_is_left_to_the_sdk(caplog: pytest.LogCaptureFixture):
    """It is no fault, so nothing is logged; without a connection, the log says so."""
    pool, sas = RecordingPool(200), "TableEndpoint=https://acme.table.contoso.com;SharedAccessSignature=sv=1&sig=x"

    assert await client(pool, sas).send("GET", "/jobs", {}) is None
    assert ([], []) == (pool.requests, caplog.records)

    assert await client(ClosedPool()).send("GET", "/jobs", {}) is None
    assert "sdk_repeated host=acme.table.core.windows.net: Nothing was sent." in caplog.text
