"""Callbacks: what is retried and when, and what the job's status reports. With Storage in memory."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks import WebhookVerificationError

from shared.clock import now, rfc3339
from shared.connections.connection import DEFAULT_CONCURRENCY
from shared.connections.store import StoredCredential
from shared.contract.callback import CallbackMessage, decode_callback, encode_callback
from shared.errors import StorageUnavailable, VaultUnavailable
from shared.jobs import admission
from shared.jobs.drain import Drain
from shared.jobs.job_updates import JobUpdates
from shared.jobs.queries import JobQueries
from shared.jobs.records import JobRecord, job_key, read_record
from shared.jobs.schedule import Schedule
from shared.jobs.versions import VERSION, NewerVersion
from shared.secret import Secret
from shared.settings import read_settings
from shared.storage.base import MAX_HIDDEN_S, Row
from shared.upstream.client import UpstreamClient
from shared.webhooks import delivery as module
from shared.webhooks import signed_post
from shared.webhooks.delivery import MAX_AGE, Callbacks
from shared.webhooks.signed_post import RETRY_DELAYS_S
from shared.webhooks.signing import Signing
from tests.support.callback_receiver import Receiver, abort, answers_with, open_receiver
from tests.support.doc_samples import ROOT, blocks
from tests.support.endpoint import completion, endless
from tests.support.fakes import MemoryQueues, MemoryTable
from tests.support.signatures import new_secret


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free loopback port."""
    async with open_receiver() as opened:
        yield opened


@dataclass
class Store:
    """A store with one signing secret for every customer."""

    value: str | None = field(default_factory=new_secret)
    down: bool = False

    async def signing_customers(self) -> list[str]:
        """See `signing_store.SigningStore`."""
        return []

    async def signing_secret(self, _: str) -> StoredCredential | None:
        """See `signing.SigningStore`."""
        if self.down:
            raise VaultUnavailable("The vault is down.")
        return None if self.value is None else StoredCredential(Secret(self.value), "1")


SETTINGS = read_settings({"JobStorage": "UseDevelopmentStorage=true", "ALLOW_LOCAL_ENDPOINTS": "1"})
SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
RESULT = b'{"job_id":"order.1","status":"succeeded","output":{"text":"\xc3\xa4"}}'


@dataclass
class CallbackCase:
    """The callbacks of one finished job, with Storage in memory."""

    callbacks: Callbacks
    table: MemoryTable
    queues: MemoryQueues
    store: Store

    def message(self, **members: Any) -> CallbackMessage:
        """Return the message of the job's first try."""
        defaults = {"customer": "acme", "job_id": "order.1", "first_at": now()}
        return CallbackMessage(**(defaults | members))

    async def deliver(self, **members: Any) -> None:
        """Deliver a message, as the trigger does."""
        await self.callbacks.deliver(encode_callback(self.message(**members)))

    async def set_url(self, url: str) -> None:
        """Change the address in the job's row."""
        await self.table.merge(replace(self.table.rows["acme", job_key("order.1")], values={"callback_url": url}))

    async def next(self) -> float:
        """Deliver the message that waits in the queue; return the seconds it would have waited."""
        await self._wake()
        ((body, delay_s),) = self.queues.sent.pop("callbacks")
        await self.callbacks.deliver(body)
        return delay_s

    async def _wake(self) -> None:
        """Send what waits in the schedule, as its timer does in time; it keeps its delay here."""
        record = self.record
        await self.callbacks.schedule.send_due(now() + timedelta(days=9))
        sent = self.queues.sent["callbacks"]
        if record.wakeup and record.due_at is not None and sent:
            sent[-1] = (record.wakeup, (record.due_at - now()).total_seconds())

    async def waiting(self) -> list[tuple[CallbackMessage | None, float]]:
        """Take what waits in the schedule into the queue; return the queue's messages, and the seconds they wait."""
        await self._wake()
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
async def case(client: UpstreamClient, receiver: Receiver) -> CallbackCase:
    """The case of one test."""
    table, queues, store = MemoryTable(), MemoryQueues(), Store()
    schedule = Schedule(table, queues, "jobs", "callbacks", "batches")
    values = {"state": "done", "attempt": 1, "fingerprint": "h", "submitted_at": SUBMITTED, "result_body": RESULT}
    await table.insert(Row("acme", job_key("order.1"), values | {"callback_url": receiver.url}))
    return CallbackCase(
        Callbacks(SETTINGS, JobQueries(table), JobUpdates(table), queues, schedule, Signing(store), client, Drain()),
        table,
        queues,
        store,
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
    assert [] == await case.waiting()
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
    assert (3, []) == (len(receiver.received), await case.waiting())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299, 410])
async def test_a_2xx_or_gone_ends_it(case: CallbackCase, receiver: Receiver, status: int):
    """
    Any 2xx is a delivery, as the specification says, whatever the body: only the status is read. After it, or after a
    410, there is no further try, also if the result is published again.
    """
    receiver.answers.append(endless if status == 200 else answers_with(status))
    async with asyncio.timeout(30):
        await case.deliver()
        await case.deliver()

    outcome, error = ("failed", "The receiver wants no more callbacks (410).") if status == 410 else ("delivered", "")
    assert ((outcome, 1, status), error) == (case.state, case.record.callback_error)
    assert (1, []) == (len(receiver.received), await case.waiting())


@pytest.mark.parametrize(
    ("status", "text", "min_s", "max_s"),
    [
        (429, "600", 600, 660),
        (503, "600", 600, 660),
        (429, "1", 5, 5.5),
        (429, "99999999", 86400, 95040),
        (500, "600", 5, 5.5),
    ],
)
async def test_a_receiver_may_ask_for_time(
    case: CallbackCase, receiver: Receiver, status: int, text: str, min_s: float, max_s: float
):
    """After 429 and 503 the next try waits as long as the receiver asks, up to a day, and never less than usual."""
    receiver.answers.append(answers_with(status, retry_after=text))
    await case.deliver()
    await case.deliver()  # the result is published again, which starts no second chain of tries

    ((message, delay_s),) = await case.waiting()
    assert message is not None
    assert (1, 1) == (message.attempt, len(receiver.received))
    assert min_s <= delay_s <= max_s


async def test_a_receiver_that_does_not_answer_is_retried(case: CallbackCase, receiver: Receiver, monkeypatch):
    """A try ends at the timeout, 15 seconds in production, or with an aborted connection, without a status."""
    assert 15 == signed_post.TIMEOUT_S
    monkeypatch.setattr(signed_post, "TIMEOUT_S", 0.1)
    receiver.answers += [completion(after_s=30), abort]
    await case.deliver()
    assert "127.0.0.1 did not answer within 0.1 s." == case.record.callback_error
    monkeypatch.setattr(signed_post, "TIMEOUT_S", 30)
    await case.next()

    assert case.record.callback_error.startswith("127.0.0.1 could not be reached, or closed the connection early")
    assert ("waiting", 2, 0) == case.state


async def test_what_can_not_be_posted_fails_at_once(case: CallbackCase, receiver: Receiver):
    """
    Nothing is sent unsigned, nor to an address that is not allowed; once there is a secret and another URL, a
    republished result is delivered.
    """
    value, case.store.value = case.store.value, None
    await case.deliver()
    assert ("failed", 1, 0) == case.state
    assert "The customer has no signing secret." == case.record.callback_error

    case.store.value = value
    case = replace(case, callbacks=replace(case.callbacks, signing=Signing(case.store)))  # on another worker
    await case.set_url("https://10.0.0.1/")
    await case.deliver()
    assert case.record.callback_error.startswith("The `callback` must name a public host in full")
    assert (("failed", 1, 0), [], []) == (case.state, await case.waiting(), receiver.received)

    await case.set_url(receiver.url)
    await case.deliver()
    assert ("delivered", 1, 204) == case.state


async def test_a_message_names_no_address(case: CallbackCase, receiver: Receiver):
    """
    Where a result goes stands in the job's row. A message that somebody else wrote has the callback of that very job
    delivered, or nothing: its own address is ignored, and a job without a callback has none.
    """
    forged = {"customer": "acme", "job_id": "order.1", "first_at": rfc3339(now()), "url": "http://127.0.0.1:1/"}
    await case.callbacks.deliver(json.dumps(forged).encode())
    assert ("delivered", 1, 204) == case.state

    await case.set_url("")
    await case.callbacks.deliver(json.dumps(forged | {"attempt": 1}).encode())
    for wrong in ({"attempt": -100}, {"customer": "acme/x"}, {"job_id": "order.1'"}, {"first_at": "2026-11-20"}):
        await case.callbacks.deliver(json.dumps(forged | wrong).encode())
    assert (1, []) == (len(receiver.received), await case.waiting())


async def test_a_vault_or_storage_that_is_down_costs_no_try(case: CallbackCase, receiver: Receiver):
    """
    The same message is enqueued again; nothing was posted. If the queue is down too, the trigger fails, so that the
    host delivers the message again.
    """
    case.store.down = True
    await case.deliver(attempt=3)
    case.store.down, case.table.down = False, True
    await case.deliver(attempt=3)
    case.queues.down = True
    with pytest.raises(StorageUnavailable):
        await case.deliver()
    case.table.down = False

    assert [3, 3] == [message.attempt for message, _ in await case.waiting() if message]
    assert ([], "") == (receiver.received, case.record.callback_status)


async def test_a_crash_between_the_next_try_and_the_record_makes_one_chain(case: CallbackCase, receiver: Receiver):
    """The message is redelivered, so two tries wait; the second one is dropped."""
    receiver.answers += [answers_with(500)] * 3
    case.table.faults.append(None)
    await case.deliver()
    row = case.table.rows["acme", job_key("order.1")]
    forgotten = {
        name: value for name, value in row.values.items() if not name.startswith("callback") or name == "callback_url"
    }
    case.table.rows["acme", job_key("order.1")] = replace(row, values=forgotten)
    await case.deliver()
    first, second = [body for body, _ in case.queues.sent.pop("callbacks")]
    await case.callbacks.deliver(first)
    await case.callbacks.deliver(second)

    assert 3 == len(receiver.received)
    assert [2] == [message.attempt for message, _ in await case.waiting() if message]


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
    assert [1] == [message.attempt for message, _ in await case.waiting() if message]
    await case.next()

    assert ("delivered", 2, 204) == case.state
    assert 3 == len(receiver.received)


@pytest.mark.parametrize("body", [b"", b"{}", b"x", b'{"customer": 1}', b"\xff", b"[" * 5000, None])
async def test_an_unreadable_message_is_dropped(case: CallbackCase, receiver: Receiver, body: bytes | None, caplog):
    """The log reports it, and quotes nothing of it. One of a deleted job does not create its row again."""
    of_deleted = encode_callback(case.message(job_id="gone"))
    await case.callbacks.deliver(of_deleted if body is None else body)
    await case.callbacks.dead_letter(of_deleted if body is None else body)

    assert body is None or f"callback_unreadable bytes={len(body)}" in caplog.text
    assert ([], []) == (receiver.received, await case.waiting())
    assert [("acme", job_key("order.1"))] == list(case.table.rows)


async def test_a_poison_message_is_a_try(case: CallbackCase, receiver: Receiver):
    """A message that the host gave up counts as a try, unless a later one waits or it was delivered; the last fails."""
    receiver.answers.append(answers_with(500))
    await case.deliver()
    await case.callbacks.dead_letter(encode_callback(case.message(attempt=0)))
    assert ("waiting", 1, 500) == case.state
    case.queues.sent.clear()

    for attempt in range(1, len(RETRY_DELAYS_S) + 1):
        assert "waiting" == case.state[0]
        await case.callbacks.dead_letter(encode_callback(case.message(attempt=attempt)))

    assert ("failed", len(RETRY_DELAYS_S) + 1, 500) == case.state
    assert "The worker died at each delivery" in case.record.callback_error
    case.table.down = True
    await case.callbacks.dead_letter(encode_callback(case.message(attempt=1)))
    assert 1 == len(case.queues.sent["callbacks-poison"])


async def test_every_callback_ends(case: CallbackCase, receiver: Receiver):
    """A callback that was requeued for longer than all its tries take has failed."""
    await case.deliver(first_at=now() - MAX_AGE - timedelta(seconds=1))

    assert (("failed", 1, 0), []) == (case.state, receiver.received)
    assert "Given up after 7 days." == case.record.callback_error
    assert sum(RETRY_DELAYS_S) * 1.1 < MAX_AGE.total_seconds()


async def test_a_hanging_receiver_does_not_delay_others(case: CallbackCase, receiver: Receiver, monkeypatch):
    """
    A worker delivers as many of a customer's callbacks at once as calls of a connection; further ones are held for a
    moment, then requeued, which is no try. Those of other customers are delivered meanwhile.
    """
    monkeypatch.setattr(admission, "MAX_HOLD_S", 0.05)
    started, release = asyncio.Event(), asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        started.set()
        await release.wait()
        return web.Response()

    case.callbacks.limiter.of("acme", module._LANE).job_seconds = signed_post.TIMEOUT_S
    receiver.answers += [wait] * DEFAULT_CONCURRENCY
    in_flight = [asyncio.create_task(case.deliver()) for _ in range(DEFAULT_CONCURRENCY)]
    await started.wait()
    await case.deliver()
    assert [0] == [message.attempt for message, _ in await case.waiting() if message]
    await case.deliver(customer="another")
    assert 1 == len(await case.waiting())
    release.set()
    await asyncio.gather(*in_flight)

    assert DEFAULT_CONCURRENCY == len(receiver.received)
    assert {} == case.callbacks.limiter._jobs.taken


def test_message_ids():
    """An id is stable, has no full stop, and differs by customer, job, and submission time."""
    record = JobRecord("acme", "order.1", "done", 1, SUBMITTED, "h", callback_attempts=3)
    ids = {
        module.message_id(replace(record, customer=customer, job_id=job_id, submitted_at=at))
        for customer in ("acme", "acme2")
        for job_id in ("order.1", "order.2")
        for at in (SUBMITTED, SUBMITTED + timedelta(days=40))
    }

    assert module.message_id(record) == module.message_id(replace(record, callback_attempts=0))
    assert 8 == len(ids)
    assert not any("." in message_id for message_id in ids)


async def test_the_pages_receiver_verifies(case: CallbackCase, receiver: Receiver):
    """The docs' verifying function accepts what the app sends, and nothing else."""
    (script,) = [block for block in blocks("docs/webhooks.md", "python") if "def verified_result(" in block]
    names: dict[str, Any] = {}
    exec(script, names)
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


async def test_a_message_without_room_replaces_no_later_try(
    case: CallbackCase, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    """A message that is delivered twice, the second time to a busy worker, waits in the queue."""
    receiver.answers = [answers_with(500)] * 2
    await case.set_url(receiver.url)
    await case.deliver()
    await case.next()
    later = case.record.wakeup
    limit = case.callbacks.limiter.of("acme", module._LANE)
    limit.jobs, limit.job_seconds = 100, 1e6
    monkeypatch.setattr(admission, "MAX_HOLD_S", 0.001)
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)

    await case.deliver()

    assert later
    assert (later, [True]) == (
        case.record.wakeup,
        [delay_s <= MAX_HIDDEN_S for _, delay_s in case.queues.sent["callbacks"]],
    )


async def test_a_stopping_worker_leaves_a_callback_to_another(case: CallbackCase, receiver: Receiver):
    """No try is made or counted: the same message is sent again, for now."""
    await case.callbacks.drain.stop()

    await case.deliver()

    ((message, delay_s),) = await case.waiting()
    assert message is not None
    assert (0, []) == (message.attempt, receiver.received)
    assert delay_s < 1.2
    assert ("", 0, 0) == case.state


async def test_a_try_that_takes_longer_than_the_grace_is_made_again(case: CallbackCase, receiver: Receiver):
    """The receiver may have got it: it comes with the same id. No message is left to the host's hold on it."""
    case.callbacks = replace(case.callbacks, drain=Drain(calls_s=0))
    called = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        called.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def invocation() -> None:
        case.callbacks.drain.join()
        await case.deliver()

    receiver.answers.append(hang)
    delivery = asyncio.create_task(invocation())
    await called.wait()

    await case.callbacks.drain.stop()
    await delivery

    ((message, delay_s),) = await case.waiting()
    assert message is not None
    assert (0, ("", 0, 0)) == (message.attempt, case.state)
    assert delay_s < 1.2


@pytest.mark.parametrize("is_given_up", [False, True])
async def test_the_message_of_a_later_version_goes_back_as_it_is(
    case: CallbackCase, receiver: Receiver, *, is_given_up: bool
):
    """It may have a member that this version doesn't know; the job's row says whose it is."""
    row = case.table.rows["acme", job_key("order.1")]
    await case.table.merge(replace(row, values={"version": VERSION + 1}))
    body = msgspec.json.encode({**msgspec.json.decode(encode_callback(case.message())), "invented": 1})

    await (case.callbacks.dead_letter(body) if is_given_up else case.callbacks.deliver(body))

    queue = SETTINGS.callbacks_poison_queue if is_given_up else SETTINGS.callbacks_queue
    assert {queue: [(body, NewerVersion.usual_delay_s)]} == case.queues.sent
    assert [] == receiver.received
