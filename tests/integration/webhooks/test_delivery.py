"""Callbacks: what is posted to whom, what is tried again and when, and what of it stands in the job's status."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
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
from standardwebhooks import Webhook, WebhookVerificationError

from shared.connections.store import StoredCredential
from shared.contract.callback import CallbackMessage, decode_callback, encode_callback
from shared.errors import ConnectionInvalid, ProviderUnavailable, StorageUnavailable, UpstreamTimeout, VaultUnavailable
from shared.jobs.records import JobRecord, job_key, read_record
from shared.jobs.status import document_of
from shared.secret import Secret
from shared.settings import read_settings
from shared.storage.base import Row
from shared.upstream import guarded_session as sockets
from shared.upstream.client import Transport
from shared.webhooks import delivery as module
from shared.webhooks.delivery import AT_ONCE, GIVE_UP, WAITS_S, Callbacks
from shared.webhooks.signing import Signing
from tests.support.fakes import MemoryQueues, MemoryTable
from tests.support.harness import Customer, World
from tests.support.http_client import knock
from tests.support.signatures import new_secret

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
BODY = b"MARKED-BODY-OF-THE-RECEIVER"
ROOT = Path(__file__).parents[3]


@dataclass
class Receiver:
    """Somebody's server; answers what it is told to, then 204, and keeps what it was sent."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The next answer."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((headers, await request.read()))
        return await (self.answers.pop(0) if self.answers else says(204))(request)


def says(status: int, **headers: str) -> Answer:
    """Answers with a status, headers (`retry_after="5"`), and a body that nobody should ever see."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return web.Response(status=status, headers=named, body=b"" if status == 204 else BODY)

    return answer


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free loopback port."""
    running = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", running.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    running.url = f"http://127.0.0.1:{runner.addresses[0][1]}/told?token=MARKED-TOKEN"
    yield running
    await runner.cleanup()


class Tokens:
    """Gives none: no callback has a credential."""

    async def token(self, scope: str, tenant_id: str | None) -> Secret:
        """Fails."""
        raise AssertionError(scope, tenant_id)


@pytest_asyncio.fixture(loop_scope="session")
async def transport() -> AsyncIterator[Transport]:
    """A way out that may call loopback."""
    opened = Transport(Tokens(), allow_local=True)
    yield opened
    await opened.close()


@dataclass
class Store:
    """One signing secret for everybody."""

    value: str | None = field(default_factory=new_secret)
    down: bool = False

    async def signing_secret(self, _: str) -> StoredCredential | None:
        """See `signing.SigningStore`."""
        if self.down:
            raise VaultUnavailable("The vault is down.")
        return None if self.value is None else StoredCredential(Secret(self.value), "1")


SETTINGS = read_settings({"JobStorage": "x", "ALLOW_LOCAL_ENDPOINTS": "1"})
SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
TOLD = b'{"job_id":"order.1","status":"succeeded","output":{"text":"\xc3\xa4"}}'


@dataclass
class Desk:
    """Callbacks of one done job, on Storage in memory."""

    callbacks: Callbacks
    table: MemoryTable
    queues: MemoryQueues
    store: Store
    url: str

    def message(self, **members: Any) -> CallbackMessage:
        """The job's first try."""
        known = {"customer": "acme", "job_id": "order.1", "url": self.url, "first_at": datetime.now(UTC)}
        return CallbackMessage(**(known | members))

    async def deliver(self, **members: Any) -> None:
        """Hands over a message, as the trigger does."""
        await self.callbacks.deliver(encode_callback(self.message(**members)))

    async def next(self) -> float:
        """Takes the message that waits and hands it over; gives how long it would have waited."""
        ((body, delay_s),) = self.queues.sent["callbacks"]
        self.queues.sent["callbacks"].clear()
        await self.callbacks.deliver(body)
        return delay_s

    @property
    def waiting(self) -> list[tuple[CallbackMessage | None, float]]:
        """The messages that wait, and how long."""
        return [(decode_callback(body), delay_s) for body, delay_s in self.queues.sent["callbacks"]]

    @property
    def record(self) -> JobRecord:
        """What is on record."""
        return read_record(self.table.rows["acme", job_key("order.1")])

    @property
    def state(self) -> tuple[str, int, int]:
        """Status, attempts, last status."""
        record = self.record
        return record.callback_status, record.callback_attempts, record.callback_last_status


@pytest_asyncio.fixture(loop_scope="session")
async def desk(transport: Transport, receiver: Receiver) -> Desk:
    """A desk of one test."""
    table, queues, store = MemoryTable(), MemoryQueues(), Store()
    values = {"state": "done", "attempt": 1, "hash": "h", "submitted_at": SUBMITTED, "told": TOLD, "owner": "o"}
    await table.insert(Row("acme", job_key("order.1"), values))
    return Desk(Callbacks(SETTINGS, table, queues, Signing(store), transport), table, queues, store, receiver.url)


# From the job to the receiver.


async def take(world: World) -> list[bytes]:
    """What stands in the callbacks queue."""
    return await world.messages(world.environment["CALLBACKS_QUEUE"])


@pytest.fixture
def customer(world: World) -> Customer:
    """A customer with a signing secret."""
    customer = world.customer()
    world.keep(f"webhook--{customer.name}", new_secret())
    return customer


async def status_of(customer: Customer, job_id: str) -> dict[str, Any] | None:
    """What the status document says of the callback."""
    told = await knock(customer.world, "GET", f"jobs/{customer.name}/{job_id}")
    return told.json.get("callback")


async def test_the_result_is_posted_and_signed(customer: Customer, receiver: Receiver):
    """The bytes of the results queue, verifiable with the customer's secret; the status says that it was delivered."""
    secret = new_secret()
    customer.world.keep(f"webhook--{customer.name}", secret)
    told = await customer.deliver(job_id="order.1", output={"callback": receiver.url})
    assert await status_of(customer, "order.1") is None
    (message,) = await take(customer.world)
    await customer.world.services.callbacks.deliver(message)

    ((headers, body),) = receiver.received
    assert told == body
    assert json.loads(body) == Webhook(secret).verify(body, headers)
    assert re.fullmatch(r"msg_[0-9a-f]{32}", headers["webhook-id"])
    assert ("application/json", "customer-ai-jobs") == (headers["content-type"], headers["user-agent"])
    assert {"status": "delivered", "attempts": 1, "last_status": 204} == await status_of(customer, "order.1")
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)


async def test_a_callback_can_stand_alone(customer: Customer, receiver: Receiver):
    """A job that wants no message in the queue is told by its callback."""
    assert await customer.deliver(job_id="quiet", output={"callback": receiver.url, "queue": False}) is None
    (message,) = await take(customer.world)
    await customer.world.services.callbacks.deliver(message)

    assert "succeeded" == json.loads(receiver.received[0][1])["status"]


async def test_a_failed_and_a_cancelled_job_call_back(customer: Customer, receiver: Receiver):
    """Whatever a job ended with is told."""
    await customer.deliver(job_id="failed", model="m", connection="none", output={"callback": receiver.url})
    job = customer.job(job_id="off", output={"callback": receiver.url})
    assert 202 == (await knock(customer.world, "POST", "jobs", json_body=job)).status
    await knock(customer.world, "DELETE", f"jobs/{customer.name}/off")
    for body in await customer.queued():
        await customer.world.deliver(body)
    for message in await take(customer.world):
        await customer.world.services.callbacks.deliver(message)

    assert ["connection_not_found", "cancelled"] == [json.loads(body)["error"]["code"] for _, body in receiver.received]


async def test_a_job_that_is_told_again_is_not_posted_again(customer: Customer, receiver: Receiver):
    """What was delivered stays delivered, however often the job comes again."""
    for _ in range(2):
        await customer.deliver(job_id="twice", output={"callback": receiver.url})
        for message in await take(customer.world):
            await customer.world.services.callbacks.deliver(message)

    assert 1 == len(receiver.received)


async def test_a_callbacks_queue_that_is_down_loses_nothing(customer: Customer, receiver: Receiver, monkeypatch):
    """Where the message could not be sent, the job comes again, is not bought again, and calls back then."""
    queues = customer.world.services.queues
    send = type(queues).send

    async def fail(self: Any, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        if queue == customer.world.environment["CALLBACKS_QUEUE"]:
            raise StorageUnavailable("The queue is down.", 0)
        await send(self, queue, body, delay_s=delay_s)

    monkeypatch.setattr(type(queues), "send", fail)
    assert await customer.deliver(job_id="later", output={"callback": receiver.url}) is None
    monkeypatch.setattr(type(queues), "send", send)
    (again,) = await customer.queued()
    assert await customer.world.deliver(again) is not None
    (message,) = await take(customer.world)
    await customer.world.services.callbacks.deliver(message)

    assert (1, 1) == (len(receiver.received), len(customer.account.received))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com/told", "`output.callback` must begin with https://"),
        ("https://user:pass@example.com/", "`output.callback` must be an https URL"),
        ("https://10.0.0.1/", "`output.callback` must name a public host"),
        ("https://169.254.169.254/metadata", "`output.callback` must name a public host"),
        ("https://2130706433/", "`output.callback` must name a public host"),
        ("https://[::ffff:10.0.0.1]/", "`output.callback` must name a public host"),
        ("https://intranet/", "`output.callback` must name a public host"),
        ("https://example.com:99999/", "`output.callback` must be an https URL"),
        ("https://example.com\\@evil.com/", "`output.callback` must be an https URL"),
    ],
)
async def test_addresses_that_may_not_be_called_are_refused_when_they_come_in(customer: Customer, url: str, says: str):
    """By HTTP and by queue, before anything is bought, naming the member and quoting nothing of the address."""
    refused = await knock(customer.world, "POST", "jobs", json_body=customer.job(output={"callback": url}))
    result = await customer.run(output={"callback": url})

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert says in refused.json["detail"]
    assert ("invalid_job", refused.json["detail"]) == (result["error"]["code"], result["error"]["message"])
    assert [] == await customer.rows() == customer.account.received


# Tries.


async def test_a_receiver_that_fails_is_tried_for_a_day(desk: Desk, receiver: Receiver):
    """Seven tries with growing waits, the same id and a time of its own each, then it is `failed`."""
    receiver.answers += [says(500)] * 7
    await desk.deliver()
    assert ("waiting", 1, 500) == desk.state
    waits = [await desk.next() for _ in WAITS_S]

    for least, wait in zip(WAITS_S, waits, strict=True):
        assert least <= wait <= 1.1 * least
    assert 17 * 3600 < sum(WAITS_S) < 24 * 3600
    assert [] == desk.waiting
    assert ("failed", 7, 500) == desk.state
    assert "Given up after 7 tries. The receiver answered 500." == desk.record.callback_error
    assert 1 == len({headers["webhook-id"] for headers, _ in receiver.received})
    assert {TOLD} == {body for _, body in receiver.received}


async def test_a_receiver_that_recovers_gets_it(desk: Desk, receiver: Receiver):
    """What was tried again and taken is `delivered`, and the error is gone."""
    receiver.answers += [says(404), says(302, location="http://127.0.0.1/elsewhere")]
    await desk.deliver()
    assert "The receiver answered 404." == desk.record.callback_error
    await desk.next()
    assert "The receiver answered a redirect (302), which is not followed." == desk.record.callback_error
    await desk.next()

    assert ("delivered", 3, 204) == desk.state
    assert "" == desk.record.callback_error
    assert (3, []) == (len(receiver.received), desk.waiting)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(desk: Desk, receiver: Receiver, status: int):
    """As the specification says."""
    receiver.answers.append(says(status))
    await desk.deliver()

    assert ("delivered", 1, status) == desk.state


async def test_gone_ends_it(desk: Desk, receiver: Receiver):
    """After a 410 nobody calls again, nor when the job is told again."""
    receiver.answers.append(says(410))
    await desk.deliver()
    await desk.deliver()

    assert (("failed", 1, 410), 1, []) == (desk.state, len(receiver.received), desk.waiting)
    assert "The receiver wants no more of it (410)." == desk.record.callback_error


@pytest.mark.parametrize(
    ("status", "text", "least_s", "most_s"),
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
    desk: Desk, receiver: Receiver, status: int, text: str, least_s: float, most_s: float
):
    """429 and 503 have the next try wait at least as long as they say, up to a day, and never less than usual."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    receiver.answers.append(says(status, retry_after=text.replace("{date}", date)))
    await desk.deliver()

    ((message, delay_s),) = desk.waiting
    assert message is not None
    assert 1 == message.attempt
    assert least_s <= delay_s <= most_s


async def hang(_: web.Request) -> web.StreamResponse:
    """Does not answer for long."""
    await asyncio.sleep(30)
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    """Says 200 and never stops talking."""
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(BODY * 1000)
    return response


async def abort(request: web.Request) -> web.StreamResponse:
    """Breaks the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_a_receiver_that_hangs_is_tried_again(desk: Desk, receiver: Receiver, monkeypatch):
    """After the timeout, which is 15 seconds in life; there is no status then."""
    assert 15 == module.TIMEOUT_S
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    receiver.answers.append(hang)
    await desk.deliver()

    assert ("waiting", 1, 0) == desk.state
    assert "127.0.0.1 gave no answer within 0.1 s." == desk.record.callback_error


async def test_a_receiver_that_breaks_off_is_tried_again(desk: Desk, receiver: Receiver):
    """A connection that is cut, or refused, is a try like any other."""
    receiver.answers.append(abort)
    await desk.deliver()
    assert desk.record.callback_error.startswith("127.0.0.1 could not be reached, or broke off")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        await desk.deliver(url=f"http://127.0.0.1:{closed.getsockname()[1]}/", attempt=1)

    assert ("waiting", 2, 0) == desk.state


async def test_an_answer_without_end_is_not_read(desk: Desk, receiver: Receiver):
    """The status is enough."""
    receiver.answers.append(endless)
    async with asyncio.timeout(30):
        await desk.deliver()

    assert ("delivered", 1, 200) == desk.state


async def test_without_a_secret_it_fails_at_once(desk: Desk, receiver: Receiver):
    """Nothing goes out unsigned; with a secret, the job told again is called back."""
    value, desk.store.value = desk.store.value, None
    await desk.deliver()
    assert ("failed", 1, 0) == desk.state
    assert "The customer has no signing secret." == desk.record.callback_error
    assert ([], []) == (desk.waiting, receiver.received)

    desk.store.value = value
    await replaced(desk).deliver()
    assert ("delivered", 1, 204) == desk.state


def replaced(desk: Desk) -> Desk:
    """The desk of another worker."""
    return replace(desk, callbacks=replace(desk.callbacks, signing=Signing(desk.store)))


async def test_a_vault_or_storage_that_is_down_costs_no_try(desk: Desk, receiver: Receiver):
    """The same message comes later; nothing was posted."""
    desk.store.down = True
    await desk.deliver(attempt=3)
    desk.store.down, desk.table.down = False, True
    await desk.deliver(attempt=3)
    desk.table.down = False

    assert [3, 3] == [message.attempt for message, _ in desk.waiting if message]
    assert ([], "") == (receiver.received, desk.record.callback_status)


async def test_what_can_not_be_put_back_is_the_hosts_to_deliver_again(desk: Desk):
    """Where even the queue is down, the trigger fails."""
    desk.table.down = desk.queues.down = True
    with pytest.raises(StorageUnavailable):
        await desk.deliver()


async def test_a_death_between_the_next_try_and_the_record_makes_one_chain(desk: Desk, receiver: Receiver):
    """The message comes again, and two tries wait; of these the second is dropped."""
    receiver.answers += [says(500)] * 3
    desk.table.faults.append(None)
    await desk.deliver()
    row = desk.table.rows["acme", job_key("order.1")]
    forgotten = {name: value for name, value in row.values.items() if not name.startswith("callback")}
    desk.table.rows["acme", job_key("order.1")] = replace(row, values=forgotten)
    await desk.deliver()
    first, second = [body for body, _ in desk.queues.sent.pop("callbacks")]
    await desk.callbacks.deliver(first)
    await desk.callbacks.deliver(second)

    assert 3 == len(receiver.received)
    assert [2] == [message.attempt for message, _ in desk.waiting if message]


async def test_a_job_told_again_while_a_try_waits_begins_no_second_chain(desk: Desk, receiver: Receiver):
    """There is one already."""
    receiver.answers.append(says(500))
    await desk.deliver()
    await desk.deliver()

    assert (1, 1) == (len(receiver.received), len(desk.waiting))


async def test_a_record_that_can_not_be_written_stops_nothing(desk: Desk, receiver: Receiver, monkeypatch):
    """A try that failed is followed by the next; one that was delivered is made again, for the record."""
    merge = MemoryTable.merge

    async def fail(*_: Any) -> str:
        raise StorageUnavailable("The table is down.")

    monkeypatch.setattr(MemoryTable, "merge", fail)
    receiver.answers.append(says(500))
    await desk.deliver()
    await desk.next()
    monkeypatch.setattr(MemoryTable, "merge", merge)
    assert [1] == [message.attempt for message, _ in desk.waiting if message]
    await desk.next()

    assert ("delivered", 2, 204) == desk.state
    assert 3 == len(receiver.received)


async def test_a_row_that_changes_meanwhile_is_written_all_the_same(desk: Desk, monkeypatch):
    """The record is merged at the row's etag, and again where somebody else was faster; nothing else is touched."""
    read, others = MemoryTable.read, []

    async def touch(self: MemoryTable, partition: str, key: str) -> Row | None:
        row = await read(self, partition, key)
        if row is not None and len(others) < 2:
            others.append(row)
            await self.merge(Row(partition, key, {"other": len(others)}, row.etag))
        return row

    before = dict(desk.table.rows["acme", job_key("order.1")].values)
    monkeypatch.setattr(MemoryTable, "read", touch)
    await desk.deliver()

    after = dict(desk.table.rows["acme", job_key("order.1")].values)
    assert ("delivered", 2) == (after["callback_status"], after["other"])
    assert before == {name: after[name] for name in before}


@pytest.mark.parametrize("body", [b"", b"{}", b"x", b'{"customer": 1}', b"\xff", b"[" * 5000])
async def test_what_is_no_message_is_dropped(desk: Desk, receiver: Receiver, body: bytes, caplog):
    """The log says so, and nothing of what it held."""
    await desk.callbacks.deliver(body)
    await desk.callbacks.bury(body)

    assert f"callback_unreadable bytes={len(body)}" in caplog.text
    assert [] == receiver.received


async def test_a_job_that_is_gone_is_dropped(desk: Desk, receiver: Receiver):
    """Retention may have removed it; it is not made anew."""
    await desk.deliver(job_id="gone")
    await desk.callbacks.bury(encode_callback(desk.message(job_id="gone")))

    assert ([], []) == (receiver.received, desk.waiting)
    assert [("acme", job_key("order.1"))] == list(desk.table.rows)


async def test_poison_ends_as_failed(desk: Desk, receiver: Receiver):
    """What the host has given up stands in the status; what is waiting elsewhere, or delivered, is left alone."""
    receiver.answers.append(says(500))
    await desk.deliver()
    await desk.callbacks.bury(encode_callback(desk.message(attempt=0)))
    assert ("waiting", 1, 500) == desk.state
    await desk.callbacks.bury(encode_callback(desk.message(attempt=1)))

    assert ("failed", 2, 500) == desk.state
    assert "the worker that made it died" in desk.record.callback_error
    desk.table.down = True
    await desk.callbacks.bury(encode_callback(desk.message(attempt=1)))
    assert 1 == len(desk.queues.sent["callbacks-poison"])


async def test_everything_ends(desk: Desk, receiver: Receiver):
    """What has been put back for longer than all tries take together has failed."""
    await desk.deliver(first_at=datetime.now(UTC) - GIVE_UP - timedelta(seconds=1))

    assert (("failed", 1, 0), []) == (desk.state, receiver.received)
    assert "Given up after 7 days." == desk.record.callback_error
    assert sum(WAITS_S) * 1.1 < GIVE_UP.total_seconds()


async def test_a_receiver_that_hangs_does_not_hold_up_the_others(desk: Desk, receiver: Receiver):
    """A worker makes a few of a customer's callbacks at once; further ones come again, and cost no try."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        begun.set()
        await ended.wait()
        return web.Response()

    receiver.answers += [wait] * AT_ONCE
    under_way = [asyncio.create_task(desk.deliver()) for _ in range(AT_ONCE)]
    await begun.wait()
    await desk.deliver()
    assert [0] == [message.attempt for message, _ in desk.waiting if message]
    await desk.deliver(customer="another")
    assert 1 == len(desk.waiting)
    ended.set()
    await asyncio.gather(*under_way)

    assert AT_ONCE == len(receiver.received)
    assert not desk.callbacks._under_way


def test_ids_are_the_callbacks_own():
    """Stable, without a full stop, and another for each customer, job, and job of the same id in later times."""
    known = JobRecord("acme", "order.1", "done", 1, SUBMITTED, "h")
    others = [
        replace(known, customer="acme2"),
        replace(known, job_id="order.2"),
        replace(known, submitted_at=SUBMITTED + timedelta(days=40)),
    ]
    ids = {module.message_id(one) for one in (known, *others)}

    assert module.message_id(known) == module.message_id(replace(known, callback_attempts=3))
    assert 4 == len(ids)
    assert not any("." in one for one in ids)


# Where it may not go, and what may not come out.


class Resolves(AbstractResolver):
    """Resolves every name to one address."""

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
async def test_a_name_that_leads_inside_is_not_called(desk: Desk, monkeypatch, address: str, private: bool):
    """The address that is connected to decides, also where customers' endpoints may be private: it fails for good."""
    monkeypatch.setattr(sockets, "DefaultResolver", lambda: Resolves(address))
    transport = Transport(Tokens(), allow_local=False, allow_private=private)
    try:
        callbacks = replace(desk.callbacks, transport=transport)
        await callbacks.deliver(encode_callback(desk.message(url="https://rebound.example.com/")))
    finally:
        await transport.close()

    assert ("failed", 1, 0) == desk.state
    assert "The `callback` leads to an address that may not be called." == desk.record.callback_error


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "https://localhost/", "https://[::1]/", "http://example.com/"])
async def test_loopback_and_http_are_for_the_local_stack(url: str):
    """Where the settings do not allow it, not even a message in the queue gets there."""
    transport = Transport(Tokens(), allow_local=False)
    try:
        with pytest.raises(ConnectionInvalid, match="`callback`"):
            await transport.post(url, b"", {}, timeout_s=1)
    finally:
        await transport.close()


async def test_redirects_are_not_followed_and_cookies_not_kept(transport: Transport, receiver: Receiver):
    """One request each, without a cookie or a credential of anybody's."""
    receiver.answers.append(says(307, location=receiver.url, set_cookie="a=b; Path=/"))
    first = await transport.post(receiver.url, b"1", {"x-own": "1"}, timeout_s=30)
    await transport.post(receiver.url, b"2", {}, timeout_s=30)

    assert 307 == first.status
    assert [b"1", b"2"] == [body for _, body in receiver.received]
    assert not {"cookie", "authorization", "api-key"} & set(receiver.received[1][0])
    assert "1" == receiver.received[0][0]["x-own"]


async def test_failures_have_their_kind(transport: Transport, receiver: Receiver):
    """A timeout and a broken connection, in sentences with the host and nothing else of the address."""
    receiver.answers.append(abort)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/told?token=MARKED-TOKEN"
        with pytest.raises(UpstreamTimeout) as late:
            await transport.post(url, b"", {}, timeout_s=0.05)
    with pytest.raises(ProviderUnavailable) as broken:
        await transport.post(receiver.url, b"", {}, timeout_s=30)

    assert "MARKED" not in f"{late.value}{broken.value}"


async def test_nothing_of_the_answer_or_the_address_comes_out(customer: Customer, receiver: Receiver, caplog, capfd):
    """The receiver's words, the address's query and the secret stand in no log, row, message or status."""
    caplog.set_level(logging.DEBUG)
    secret = new_secret()
    customer.world.keep(f"webhook--{customer.name}", secret)
    url = receiver.url
    ways = [says(200), says(400), says(410), says(500, x_told=BODY.decode()), says(302, location=BODY.decode()), abort]
    for number, way in enumerate(ways):
        receiver.answers.append(way)
        await customer.deliver(job_id=f"j{number}", output={"callback": url})
        for message in await take(customer.world):
            await customer.world.services.callbacks.deliver(message)
    assert len(ways) == len(receiver.received)

    documents = [str(await status_of(customer, f"j{number}")) for number in range(len(ways))]
    rows = [str(row) for row in await customer.rows()]
    ours = [record.getMessage() for record in caplog.records if record.name == "customer_ai_jobs"]
    everything = "\n".join([*documents, *rows, *ours, *capfd.readouterr()])
    assert "callback_delivered" in everything
    assert [] == [mark for mark in (BODY.decode(), "MARKED-TOKEN", secret, secret[6:]) if mark in everything]


async def test_the_status_tells_what_a_callback_is_at(desk: Desk, receiver: Receiver):
    """Waiting, with its attempts, the last status and the reason."""
    receiver.answers.append(says(500))
    await desk.deliver()
    told = read_record(desk.table.rows["acme", job_key("order.1")])
    document = msgspec.to_builtins(document_of(replace(told, told=None, state="running", lease_until=None)))

    assert {
        "status": "waiting",
        "attempts": 1,
        "last_status": 500,
        "error": "The receiver answered 500.",
    } == document["callback"]


# The page.


async def test_the_pages_receiver_verifies(desk: Desk, receiver: Receiver):
    """The function with which the page verifies takes what we send, and nothing else."""
    text = (ROOT / "docs/webhooks.md").read_text()
    names: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1], names)
    await desk.deliver()
    ((headers, body),) = receiver.received

    assert "succeeded" == names["told"](desk.store.value, headers, body)["status"]
    with pytest.raises(WebhookVerificationError):
        names["told"](desk.store.value, headers, body + b" ")


def test_the_pages_waits_are_the_codes():
    """The table of tries has the code's waits."""
    text = (ROOT / "docs/webhooks.md").read_text().partition("| try |")[2].partition("\n\n")[0]
    units = {"s": 1, "min": 60, "h": 3600}
    shown = [float(number) * units[unit] for number, unit in re.findall(r"\| (\d+) (s|min|h) \|", text)]

    assert list(WAITS_S) == shown
