"""Callbacks: what is retried and when, and what the job's status reports. With Storage in memory."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import WebhookVerificationError

from shared.connections.store import StoredCredential
from shared.contract.callback import CallbackMessage, decode_callback, encode_callback
from shared.errors import ConnectionInvalid, ProviderUnavailable, StorageUnavailable, UpstreamTimeout, VaultUnavailable
from shared.jobs.job_updates import JobUpdates
from shared.jobs.queries import JobQueries
from shared.jobs.records import JobRecord, job_key, read_record
from shared.jobs.status import document_of
from shared.secret import Secret
from shared.settings import read_settings
from shared.storage.base import Row
from shared.upstream import guarded_session as sockets
from shared.upstream.client import UpstreamClient
from shared.webhooks import delivery as module
from shared.webhooks.delivery import MAX_AGE, MAX_CONCURRENCY, RETRY_DELAYS_S, Callbacks
from shared.webhooks.signing import Signing
from tests.support.callback_receiver import BODY, Receiver, abort, answers_with, open_receiver
from tests.support.fakes import MemoryQueues, MemoryTable
from tests.support.signatures import new_secret

ROOT = Path(__file__).parents[3]


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free loopback port."""
    async with open_receiver() as opened:
        yield opened


class Tokens:
    """Fails if a token is requested: no callback has a credential."""

    async def token(self, scope: str, tenant_id: str | None) -> Secret:
        """Fails."""
        raise AssertionError(scope, tenant_id)


@pytest_asyncio.fixture(loop_scope="session")
async def transport() -> AsyncIterator[UpstreamClient]:
    """A client that may call loopback."""
    opened = UpstreamClient(Tokens(), allow_local=True)
    yield opened
    await opened.close()


@dataclass
class Store:
    """A store with one signing secret for every customer."""

    value: str | None = field(default_factory=new_secret)
    down: bool = False

    async def signing_secret(self, _: str) -> StoredCredential | None:
        """See `signing.SigningStore`."""
        if self.down:
            raise VaultUnavailable("The vault is down.")
        return None if self.value is None else StoredCredential(Secret(self.value), "1")


SETTINGS = read_settings({"JobStorage": "x", "ALLOW_LOCAL_ENDPOINTS": "1"})
SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
RESULT = b'{"job_id":"order.1","status":"succeeded","output":{"text":"\xc3\xa4"}}'


@dataclass
class CallbackCase:
    """The callbacks of one finished job, with Storage in memory."""

    callbacks: Callbacks
    table: MemoryTable
    queues: MemoryQueues
    store: Store
    url: str

    def message(self, **members: Any) -> CallbackMessage:
        """Return the message of the job's first try."""
        defaults = {"customer": "acme", "job_id": "order.1", "url": self.url, "first_at": datetime.now(UTC)}
        return CallbackMessage(**(defaults | members))

    async def deliver(self, **members: Any) -> None:
        """Deliver a message, as the trigger does."""
        await self.callbacks.deliver(encode_callback(self.message(**members)))

    async def next(self) -> float:
        """Deliver the message that waits in the queue; return the seconds it would have waited."""
        ((body, delay_s),) = self.queues.sent["callbacks"]
        self.queues.sent["callbacks"].clear()
        await self.callbacks.deliver(body)
        return delay_s

    @property
    def waiting(self) -> list[tuple[CallbackMessage | None, float]]:
        """The messages in the queue, and the seconds they wait."""
        return [(decode_callback(body), delay_s) for body, delay_s in self.queues.sent["callbacks"]]

    @property
    def record(self) -> JobRecord:
        """The job's record."""
        return read_record(self.table.rows["acme", job_key("order.1")])

    @property
    def state(self) -> tuple[str, int, int]:
        """Status, attempts, last status."""
        record = self.record
        return record.callback_status, record.callback_attempts, record.callback_last_status


@pytest_asyncio.fixture(loop_scope="session")
async def case(transport: UpstreamClient, receiver: Receiver) -> CallbackCase:
    """The case of one test."""
    table, queues, store = MemoryTable(), MemoryQueues(), Store()
    values = {
        "state": "done",
        "attempt": 1,
        "fingerprint": "h",
        "submitted_at": SUBMITTED,
        "result_body": RESULT,
        "owner": "o",
    }
    await table.insert(Row("acme", job_key("order.1"), values))
    return CallbackCase(
        Callbacks(SETTINGS, JobQueries(table), JobUpdates(table), queues, Signing(store), transport),
        table,
        queues,
        store,
        receiver.url,
    )


async def test_a_failing_receiver_is_retried_for_a_day(case: CallbackCase, receiver: Receiver):
    """Seven tries with growing delays and the same id, then the callback is `failed`."""
    receiver.answers += [answers_with(500)] * 7
    await case.deliver()
    assert ("waiting", 1, 500) == case.state
    waits = [await case.next() for _ in RETRY_DELAYS_S]

    for delay, wait in zip(RETRY_DELAYS_S, waits, strict=True):
        assert delay <= wait <= 1.1 * delay
    assert 17 * 3600 < sum(RETRY_DELAYS_S) < 24 * 3600
    assert [] == case.waiting
    assert ("failed", 7, 500) == case.state
    assert "Given up after 7 tries. The receiver answered 500." == case.record.callback_error
    assert 1 == len({headers["webhook-id"] for headers, _ in receiver.received})
    assert {RESULT} == {body for _, body in receiver.received}


async def test_a_receiver_that_recovers_gets_it(case: CallbackCase, receiver: Receiver):
    """A callback that is taken after retries is `delivered`, without an error."""
    receiver.answers += [answers_with(404), answers_with(302, location="http://127.0.0.1/elsewhere")]
    await case.deliver()
    assert "The receiver answered 404." == case.record.callback_error
    await case.next()
    assert "The receiver answered with a redirect (302); redirects are not followed." == case.record.callback_error
    await case.next()

    assert ("delivered", 3, 204) == case.state
    assert "" == case.record.callback_error
    assert (3, []) == (len(receiver.received), case.waiting)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(case: CallbackCase, receiver: Receiver, status: int):
    """Any 2xx is a delivery, as the specification says."""
    receiver.answers.append(answers_with(status))
    await case.deliver()

    assert ("delivered", 1, status) == case.state


async def test_gone_ends_it(case: CallbackCase, receiver: Receiver):
    """After a 410 there is no further try, also if the result is published again."""
    receiver.answers.append(answers_with(410))
    await case.deliver()
    await case.deliver()

    assert (("failed", 1, 410), 1, []) == (case.state, len(receiver.received), case.waiting)
    assert "The receiver wants no more callbacks (410)." == case.record.callback_error


@pytest.mark.parametrize(
    ("status", "text", "min_s", "max_s"),
    [
        (429, "600", 600, 660),
        (503, "600", 600, 660),
        (503, "{date}", 570, 660),
        (429, "1", 5, 5.5),
        (429, "99999999", 86400, 95040),
        (500, "600", 5, 5.5),
        (429, "soon", 5, 5.5),
        (429, "-1", 5, 5.5),
        (429, "nan", 5, 5.5),
    ],
)
async def test_a_receiver_may_ask_for_time(
    case: CallbackCase, receiver: Receiver, status: int, text: str, min_s: float, max_s: float
):
    """After 429 and 503 the next try waits as long as the receiver asks, up to a day, and never less than usual."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    receiver.answers.append(answers_with(status, retry_after=text.replace("{date}", date)))
    await case.deliver()

    ((message, delay_s),) = case.waiting
    assert message is not None
    assert 1 == message.attempt
    assert min_s <= delay_s <= max_s


async def hang(_: web.Request) -> web.StreamResponse:
    """Don't answer for a long time."""
    await asyncio.sleep(30)
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    """Answer 200 with a body that never ends."""
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(BODY * 1000)
    return response


async def test_a_hanging_receiver_is_retried(case: CallbackCase, receiver: Receiver, monkeypatch):
    """A try ends at the timeout, 15 seconds in production, without a status."""
    assert 15 == module.TIMEOUT_S
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    receiver.answers.append(hang)
    await case.deliver()

    assert ("waiting", 1, 0) == case.state
    assert "127.0.0.1 did not answer within 0.1 s." == case.record.callback_error


async def test_a_broken_connection_is_retried(case: CallbackCase, receiver: Receiver):
    """A connection that is aborted or refused is a failed try."""
    receiver.answers.append(abort)
    await case.deliver()
    assert case.record.callback_error.startswith("127.0.0.1 could not be reached, or closed the connection early")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        await case.deliver(url=f"http://127.0.0.1:{closed.getsockname()[1]}/", attempt=1)

    assert ("waiting", 2, 0) == case.state


async def test_an_endless_response_is_not_read(case: CallbackCase, receiver: Receiver):
    """Only the status is read."""
    receiver.answers.append(endless)
    async with asyncio.timeout(30):
        await case.deliver()

    assert ("delivered", 1, 200) == case.state


async def test_without_a_secret_it_fails_at_once(case: CallbackCase, receiver: Receiver):
    """Nothing is sent unsigned; once there is a secret, a republished result is delivered."""
    value, case.store.value = case.store.value, None
    await case.deliver()
    assert ("failed", 1, 0) == case.state
    assert "The customer has no signing secret." == case.record.callback_error
    assert ([], []) == (case.waiting, receiver.received)

    case.store.value = value
    await on_another_worker(case).deliver()
    assert ("delivered", 1, 204) == case.state


def on_another_worker(case: CallbackCase) -> CallbackCase:
    """The case on another worker."""
    return replace(case, callbacks=replace(case.callbacks, signing=Signing(case.store)))


async def test_a_vault_or_storage_that_is_down_costs_no_try(case: CallbackCase, receiver: Receiver):
    """The same message is enqueued again; nothing was posted."""
    case.store.down = True
    await case.deliver(attempt=3)
    case.store.down, case.table.down = False, True
    await case.deliver(attempt=3)
    case.table.down = False

    assert [3, 3] == [message.attempt for message, _ in case.waiting if message]
    assert ([], "") == (receiver.received, case.record.callback_status)


async def test_if_the_queue_is_down_the_host_delivers_again(case: CallbackCase):
    """If the queue is down too, the trigger fails, so that the host delivers the message again."""
    case.table.down = case.queues.down = True
    with pytest.raises(StorageUnavailable):
        await case.deliver()


async def test_a_crash_between_the_next_try_and_the_record_makes_one_chain(case: CallbackCase, receiver: Receiver):
    """The message is redelivered, so two tries wait; the second one is dropped."""
    receiver.answers += [answers_with(500)] * 3
    case.table.faults.append(None)
    await case.deliver()
    row = case.table.rows["acme", job_key("order.1")]
    forgotten = {name: value for name, value in row.values.items() if not name.startswith("callback")}
    case.table.rows["acme", job_key("order.1")] = replace(row, values=forgotten)
    await case.deliver()
    first, second = [body for body, _ in case.queues.sent.pop("callbacks")]
    await case.callbacks.deliver(first)
    await case.callbacks.deliver(second)

    assert 3 == len(receiver.received)
    assert [2] == [message.attempt for message, _ in case.waiting if message]


async def test_a_republished_result_starts_no_second_chain(case: CallbackCase, receiver: Receiver):
    """While a try waits, a republished result does not start another chain of tries."""
    receiver.answers.append(answers_with(500))
    await case.deliver()
    await case.deliver()

    assert (1, 1) == (len(receiver.received), len(case.waiting))


async def test_a_state_that_is_not_saved_stops_nothing(case: CallbackCase, receiver: Receiver, monkeypatch):
    """A failed try is followed by the next; a delivery whose state was not saved is repeated."""
    merge = MemoryTable.merge

    async def fail(*_: Any) -> str:
        raise StorageUnavailable("The table is down.")

    monkeypatch.setattr(MemoryTable, "merge", fail)
    receiver.answers.append(answers_with(500))
    await case.deliver()
    await case.next()
    monkeypatch.setattr(MemoryTable, "merge", merge)
    assert [1] == [message.attempt for message, _ in case.waiting if message]
    await case.next()

    assert ("delivered", 2, 204) == case.state
    assert 3 == len(receiver.received)


async def test_a_state_is_saved_although_the_row_changes(case: CallbackCase, monkeypatch):
    """The state is merged at the row's etag, again if the row changed in between; nothing else is changed."""
    read, others = MemoryTable.read, []

    async def touch(self: MemoryTable, partition: str, key: str) -> Row | None:
        row = await read(self, partition, key)
        if row is not None and len(others) < 2:
            others.append(row)
            await self.merge(Row(partition, key, {"other": len(others)}, row.etag))
        return row

    before = dict(case.table.rows["acme", job_key("order.1")].values)
    monkeypatch.setattr(MemoryTable, "read", touch)
    await case.deliver()

    after = dict(case.table.rows["acme", job_key("order.1")].values)
    assert ("delivered", 2) == (after["callback_status"], after["other"])
    assert before == {name: after[name] for name in before}


@pytest.mark.parametrize("body", [b"", b"{}", b"x", b'{"customer": 1}', b"\xff", b"[" * 5000])
async def test_an_unreadable_message_is_dropped(case: CallbackCase, receiver: Receiver, body: bytes, caplog):
    """The log reports it, and quotes nothing of it."""
    await case.callbacks.deliver(body)
    await case.callbacks.dead_letter(body)

    assert f"callback_unreadable bytes={len(body)}" in caplog.text
    assert [] == receiver.received


async def test_a_callback_of_a_deleted_job_is_dropped(case: CallbackCase, receiver: Receiver):
    """If the job was deleted, its row is not created again."""
    await case.deliver(job_id="gone")
    await case.callbacks.dead_letter(encode_callback(case.message(job_id="gone")))

    assert ([], []) == (receiver.received, case.waiting)
    assert [("acme", job_key("order.1"))] == list(case.table.rows)


async def test_poison_ends_as_failed(case: CallbackCase, receiver: Receiver):
    """A callback that the host gave up is `failed`, unless a later try waits or it was delivered."""
    receiver.answers.append(answers_with(500))
    await case.deliver()
    await case.callbacks.dead_letter(encode_callback(case.message(attempt=0)))
    assert ("waiting", 1, 500) == case.state
    await case.callbacks.dead_letter(encode_callback(case.message(attempt=1)))

    assert ("failed", 2, 500) == case.state
    assert "the worker died at each try" in case.record.callback_error
    case.table.down = True
    await case.callbacks.dead_letter(encode_callback(case.message(attempt=1)))
    assert 1 == len(case.queues.sent["callbacks-poison"])


async def test_every_callback_ends(case: CallbackCase, receiver: Receiver):
    """A callback that was requeued for longer than all its tries take has failed."""
    await case.deliver(first_at=datetime.now(UTC) - MAX_AGE - timedelta(seconds=1))

    assert (("failed", 1, 0), []) == (case.state, receiver.received)
    assert "Given up after 7 days." == case.record.callback_error
    assert sum(RETRY_DELAYS_S) * 1.1 < MAX_AGE.total_seconds()


async def test_a_hanging_receiver_does_not_delay_others(case: CallbackCase, receiver: Receiver):
    """A worker delivers a few of a customer's callbacks at once; further ones are requeued, which is no try."""
    started, release = asyncio.Event(), asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        started.set()
        await release.wait()
        return web.Response()

    receiver.answers += [wait] * MAX_CONCURRENCY
    in_flight = [asyncio.create_task(case.deliver()) for _ in range(MAX_CONCURRENCY)]
    await started.wait()
    await case.deliver()
    assert [0] == [message.attempt for message, _ in case.waiting if message]
    await case.deliver(customer="another")
    assert 1 == len(case.waiting)
    release.set()
    await asyncio.gather(*in_flight)

    assert MAX_CONCURRENCY == len(receiver.received)
    assert not case.callbacks._in_flight


def test_message_ids():
    """An id is stable, has no full stop, and differs by customer, job, and submission time."""
    record = JobRecord("acme", "order.1", "done", 1, SUBMITTED, "h")
    others = [
        replace(record, customer="acme2"),
        replace(record, job_id="order.2"),
        replace(record, submitted_at=SUBMITTED + timedelta(days=40)),
    ]
    ids = {module.message_id(other) for other in (record, *others)}

    assert module.message_id(record) == module.message_id(replace(record, callback_attempts=3))
    assert 4 == len(ids)
    assert not any("." in message_id for message_id in ids)


class Resolves(AbstractResolver):
    """Resolves every name to one IP address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        """The address."""
        flags = socket.AI_NUMERICHOST
        return [ResolveResult(hostname=host, host=self._address, port=port, family=family, proto=0, flags=flags)]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "168.63.129.16", "192.168.1.1"])
async def test_a_name_with_a_private_address_is_not_called(
    case: CallbackCase, monkeypatch, address: str, private: bool
):
    """The address that is connected to decides, also if customers' endpoints may be private: the callback fails."""
    monkeypatch.setattr(sockets, "DefaultResolver", lambda: Resolves(address))
    transport = UpstreamClient(Tokens(), allow_local=False, allow_private=private)
    try:
        callbacks = replace(case.callbacks, client=transport)
        await callbacks.deliver(encode_callback(case.message(url="https://rebound.example.com/")))
    finally:
        await transport.close()

    assert ("failed", 1, 0) == case.state
    assert "The `callback` names an address that is not allowed." == case.record.callback_error


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "https://localhost/", "https://[::1]/", "http://example.com/"])
async def test_loopback_and_http_are_for_the_local_stack(url: str):
    """If the settings do not allow it, not even a message in the queue reaches it."""
    transport = UpstreamClient(Tokens(), allow_local=False)
    try:
        with pytest.raises(ConnectionInvalid, match="`callback`"):
            await transport.post(url, b"", {}, timeout_s=1)
    finally:
        await transport.close()


async def test_redirects_are_not_followed_and_cookies_not_kept(transport: UpstreamClient, receiver: Receiver):
    """Each delivery is one request, without cookies or credentials."""
    receiver.answers.append(answers_with(307, location=receiver.url, set_cookie="a=b; Path=/"))
    first = await transport.post(receiver.url, b"1", {"x-own": "1"}, timeout_s=30)
    await transport.post(receiver.url, b"2", {}, timeout_s=30)

    assert 307 == first.status
    assert [b"1", b"2"] == [body for _, body in receiver.received]
    assert not {"cookie", "authorization", "api-key"} & set(receiver.received[1][0])
    assert "1" == receiver.received[0][0]["x-own"]


async def test_failures_are_mapped(transport: UpstreamClient, receiver: Receiver):
    """A timeout and a broken connection are errors that name the host and nothing else of the URL."""
    receiver.answers.append(abort)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/callback?token=MARKED-TOKEN"
        with pytest.raises(UpstreamTimeout) as late:
            await transport.post(url, b"", {}, timeout_s=0.05)
    with pytest.raises(ProviderUnavailable) as broken:
        await transport.post(receiver.url, b"", {}, timeout_s=30)

    assert "MARKED" not in f"{late.value}{broken.value}"


async def test_the_status_document_has_the_callback(case: CallbackCase, receiver: Receiver):
    """The status document has the callback's status, attempts, last HTTP status and error."""
    receiver.answers.append(answers_with(500))
    await case.deliver()
    record = read_record(case.table.rows["acme", job_key("order.1")])
    document = msgspec.to_builtins(document_of(replace(record, result_body=None, state="running", lease_until=None)))

    assert {
        "status": "waiting",
        "attempts": 1,
        "last_status": 500,
        "error": "The receiver answered 500.",
    } == document["callback"]


async def test_the_pages_receiver_verifies(case: CallbackCase, receiver: Receiver):
    """The docs' verifying function accepts what the app sends, and nothing else."""
    text = (ROOT / "docs/webhooks.md").read_text()
    names: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1], names)
    await case.deliver()
    ((headers, body),) = receiver.received

    assert "succeeded" == names["verified_result"](case.store.value, headers, body)["status"]
    with pytest.raises(WebhookVerificationError):
        names["verified_result"](case.store.value, headers, body + b" ")


def test_the_pages_delays_are_the_codes():
    """The table of tries has the code's delays."""
    text = (ROOT / "docs/webhooks.md").read_text().partition("| try |")[2].partition("\n\n")[0]
    units = {"s": 1, "min": 60, "h": 3600}
    shown = [float(number) * units[unit] for number, unit in re.findall(r"\| (\d+) (s|min|h) \|", text)]

    assert list(RETRY_DELAYS_S) == shown
