"""Events of a provider's own webhooks: they have a batch looked at early, and decide nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from aiohttp import web

from local.provider.account import Account
from local.provider.faults import BatchFault, WebhookFault
from local.provider.webhooks import EVENTS, RETRY_S, subscribe
from shared import clock
from shared.batches.provider_events import ProviderEvents, read_event
from shared.batches.records import SPACING_S
from shared.connections.store import SecretInfo, StoredCredential
from shared.errors import StorageUnavailable
from shared.http.app import HttpApp
from shared.http.messages import Request
from shared.http.provider_events import ProviderEventsResource
from shared.secret import Secret
from shared.webhooks.provider_signing import SigningConnections, is_owner
from shared.webhooks.signing import Signing
from tests.support.patience import PatientApp, patient_app
from tests.support.rows import every_row

SECONDS = 5.0
"""Between two looks of these tests at what happens."""


@dataclass
class EventSecrets:
    """Secrets of events, by customer and connection."""

    values: dict[tuple[str, str], str] = field(default_factory=dict)

    async def events_secret(self, customer: str, connection: str) -> StoredCredential | None:
        """See EventsStore."""
        value = self.values.get((customer, connection))
        return None if value is None else StoredCredential(Secret(value), "1")

    async def list_events_secrets(self) -> AsyncIterator[tuple[str, SecretInfo]]:
        """See EventsStore."""
        for customer, connection in self.values:
            yield customer, SecretInfo(connection, enabled=True)


@dataclass
class Receiver:
    """The app's route on a port of loopback, to which the provider sends its events."""

    at: PatientApp
    app: HttpApp
    secrets: EventSecrets
    events: ProviderEvents
    url: str = ""

    def subscribe(self, customer: str, connection: str = "default") -> Account:
        """Set up the events of a customer's account; return the account."""
        account = self.at.accounts[customer]
        made = subscribe(account, f"{self.url}/api/provider-events/{customer}/{connection}")
        self.secrets.values[customer, connection] = made.secret
        return account

    async def receive(self, http: web.Request) -> web.Response:
        """Pass a request to the app."""
        headers = {name.lower(): value for name, value in http.headers.items()}
        params = {name: http.match_info[name] for name in ("customer", "connection")}
        request = Request("POST", str(http.url), params, {}, headers, await http.read())
        response = await self.app.handle("receive_provider_event", request)
        return web.Response(status=response.status, body=response.body)


@asynccontextmanager
async def open_receiver(at: PatientApp) -> AsyncIterator[Receiver]:
    """A receiver of the app's."""
    secrets, services = EventSecrets(), at.worker.services
    signing = Signing(SigningConnections(secrets), is_owner=is_owner)
    events = ProviderEvents(services.table, services.queues, services.settings.batches_queue, services.schedule)
    resource = ProviderEventsResource(signing, events)
    made = Receiver(at, HttpApp(services.settings, {"receive_provider_event": resource.receive}), secrets, events)
    app = web.Application()
    app.router.add_post("/api/provider-events/{customer}/{connection}", made.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@pytest.fixture
async def receiver(client, monkeypatch):
    """A receiver, and signatures that go by the time that a test moves."""
    async with patient_app(client, monkeypatch) as at, open_receiver(at) as made:
        monkeypatch.setattr("standardwebhooks.webhooks.datetime", clock.datetime)
        yield made


async def at_provider(receiver: Receiver, customer: str, **durations: float) -> str:
    """Send a job, and let time pass until its batch is at the provider; return the job's id."""
    at, account = receiver.at, receiver.at.accounts[customer]
    account.faults.batches.add(BatchFault(**durations))
    job = await at.send(customer)
    await at.deliver()
    while not account.batches:
        await at.pass_time(SECONDS, step_s=SECONDS)
    return job


def polls(account: Account) -> int:
    """How often the provider was asked about a batch."""
    return len(account.calls("batches.get"))


def statuses(account: Account) -> list[int]:
    """What came back for each event."""
    return [delivery.status for delivery in account.deliveries]


async def test_an_event_has_the_batch_harvested_within_seconds(receiver: Receiver) -> None:
    """One look, seconds after the batch has ended: the next one by the schedule would come a minute after."""
    customer = receiver.at.customer()
    account = receiver.subscribe(customer)
    job = await at_provider(receiver, customer, in_progress_s=10)
    await receiver.at.pass_time(4 * SECONDS, step_s=SECONDS)

    assert receiver.at.result(job)["status"] == "succeeded"
    assert [204] == statuses(account)
    assert 1 == polls(account)


async def test_a_lost_event_costs_a_minute(receiver: Receiver) -> None:
    """Without the event, the schedule has the batch looked at."""
    customer = receiver.at.customer()
    account = receiver.subscribe(customer)
    account.faults.webhooks.add(WebhookFault("lost"))
    job = await at_provider(receiver, customer, in_progress_s=10)
    await receiver.at.pass_time(4 * SECONDS, step_s=SECONDS)
    assert [] == receiver.at.results

    await receiver.at.pass_time(120, step_s=SECONDS)
    assert receiver.at.result(job)["status"] == "succeeded"
    assert [] == account.deliveries


async def test_a_doubled_event_is_one_look_and_one_result(receiver: Receiver) -> None:
    """The second of two finds a batch that was looked at, or is done."""
    customer = receiver.at.customer()
    account = receiver.subscribe(customer)
    account.faults.webhooks.add(WebhookFault("doubled"))
    job = await at_provider(receiver, customer, in_progress_s=10)
    await receiver.at.pass_time(120, step_s=SECONDS)

    assert receiver.at.result(job)["status"] == "succeeded"
    assert [204, 204] == statuses(account)
    assert 1 == polls(account)


async def test_a_late_event_of_a_batch_that_is_done_costs_nothing(receiver: Receiver) -> None:
    """It is taken, sends no message and asks the provider nothing."""
    customer = receiver.at.customer()
    account = receiver.subscribe(customer)
    account.faults.webhooks.add(WebhookFault("late", late_s=600))
    job = await at_provider(receiver, customer, in_progress_s=10)
    await receiver.at.finish([job])
    before = len(account.received)
    await receiver.at.pass_time(700)

    assert [204] == statuses(account)
    assert before == len(account.received)
    receiver.at.result(job)


async def test_a_wrong_signature_wakes_nothing(receiver: Receiver) -> None:
    """401 for each try of the provider's; the schedule has the batch looked at all the same."""
    customer = receiver.at.customer()
    account = receiver.subscribe(customer)
    account.faults.webhooks.add(WebhookFault("wrong_signature"), times=None)
    job = await at_provider(receiver, customer, in_progress_s=10)
    await receiver.at.pass_time(4 * SECONDS, step_s=SECONDS)
    assert [] == receiver.at.results

    await receiver.at.pass_time(180, step_s=SECONDS)
    assert receiver.at.result(job)["status"] == "succeeded"
    assert [401] * (1 + len(RETRY_S)) == statuses(account)


async def test_a_flood_of_events_is_no_flood_of_polls(receiver: Receiver) -> None:
    """A thousand valid repeats within 30 seconds, at each of three workers: at most one look each SPACING_S."""
    at, customer = receiver.at, receiver.at.customer()
    account = receiver.subscribe(customer)
    await at_provider(receiver, customer, in_progress_s=3600)
    (batch,) = account.batches
    body = json.dumps({"type": "batch.completed", "data": {"id": batch}}).encode()
    services, queues = at.worker.services, at.memory.queues
    others = [
        ProviderEvents(services.table, services.queues, services.settings.batches_queue, services.schedule)
        for _ in range(2)
    ]
    hidden = list[tuple[float, bytes]]()
    for _ in range(300):
        for each in (receiver.events, *others):
            for _ in range(4):
                await each.receive(customer, "default", body)
        hidden += [(at.clock() + delay_s, message) for message, delay_s in queues.sent.pop("batches", [])]
        at.clock.advance(0.1)
        for due in [each for each in hidden if each[0] <= at.clock()]:
            hidden.remove(due)
            await services.batch_worker.process(due[1])

    assert 30 / SPACING_S / 2 <= polls(account) <= 30 / SPACING_S + 1


async def test_only_the_connections_own_batch_is_woken(receiver: Receiver) -> None:
    """An unknown id, another customer's and another connection's: nothing is sent, and no provider is asked."""
    at = receiver.at
    customer, other = at.customer(), at.customer()
    account = receiver.subscribe(customer)
    at.connect(customer, account, "spare")
    await at_provider(receiver, customer, in_progress_s=3600)
    (batch,) = account.batches
    at.clock.advance(SPACING_S)
    before = len(account.received)
    for owner, connection, name in (
        (customer, "default", "batch_unknown"),
        (customer, "spare", batch),
        (other, "default", batch),
    ):
        body = json.dumps({"type": "batch.completed", "data": {"id": name}}).encode()
        await receiver.events.receive(owner, connection, body)
    assert [] == at.memory.queues.sent["batches"]
    assert before == len(account.received)

    await receiver.events.receive(customer, "default", body)
    assert 1 == len(at.memory.queues.sent["batches"])


async def test_an_event_that_could_not_be_passed_on_can_be_repeated(receiver: Receiver) -> None:
    """With the queue down the provider gets an error, and its next try counts."""
    at, customer = receiver.at, receiver.at.customer()
    account = receiver.subscribe(customer)
    await at_provider(receiver, customer, in_progress_s=3600)
    body = json.dumps({"type": "batch.completed", "data": {"id": next(iter(account.batches))}}).encode()
    at.memory.queues.down = True
    with pytest.raises(StorageUnavailable):
        await receiver.events.receive(customer, "default", body)
    at.memory.queues.down = False
    await receiver.events.receive(customer, "default", body)

    ((_, delay_s),) = at.memory.queues.sent["batches"]
    assert 0 <= delay_s <= timedelta(seconds=SPACING_S).total_seconds()


@every_row("kind", [*sorted(EVENTS), "response.created", "batch.in_progress", "eval.run.succeeded"])
def test_only_the_ends_of_batches_and_responses_count(kind: str) -> None:
    """Of the kinds that providers send, those that say that something has ended are read."""
    body = json.dumps({"type": kind, "data": {"id": "batch_1"}, "created_at": 1}).encode()
    event = read_event(body)
    assert ((kind, "batch_1") if kind in EVENTS else None) == (event and (event.type, event.data.id))


@every_row(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"type": "batch.completed"}',
        b'{"type": "batch.completed", "data": []}',
        b'{"type": "batch.completed", "data": {"id": 7}}',
        b'{"type": "batch.completed", "data": {"id": "../x"}}',
        b'{"type": "batch.created", "data": {"id": "batch_1"}}',
    ],
)
def test_what_is_no_event_is_ignored(body: bytes) -> None:
    """A body that a provider signed and that names no batch."""
    assert read_event(body) is None
