"""
Billing systems in memory, each as its documentation says: what it recognizes and for how long, what it refuses, how
many events it takes at once. What a system has counted is the truth that exports are measured by.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from tests.support.loopback import serve

KEY = "sk_live_MARKED-KEY-0123456789"

Answer = tuple[int, dict[str, str], bytes]


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    """Return an answer with a JSON body."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, named, b"" if body is None else json.dumps(body).encode()


@dataclass
class BillingSystem:
    """What all have in common: a key, counted events, and answers that a test wants instead of the next ones."""

    clock: Callable[[], datetime]
    key: str = KEY
    counted: list[tuple[str, str, Decimal]] = field(default_factory=list)
    """Id, customer and value of each event that was counted."""
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    """Customers that it does not know."""

    def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer a POST."""
        self.requests.append((path, body))
        if self.answers:
            return self.answers.pop(0)
        if headers.get("authorization") != f"Bearer {self.key}":
            sent_key = headers.get("authorization", "")
            return answer(401, {"error": {"message": f"Invalid API Key provided: {sent_key}"}})
        return self.take(path, headers, body)

    async def handle_alone(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer a POST, unless another one about the same is being answered."""
        lock = self.lock_of(body)
        if lock in self.active:
            return answer(429, {"error": {"code": "lock_timeout", "message": "Another request is about the same."}})
        self.active |= {lock} - {""}
        await asyncio.sleep(0)
        self.active -= {lock}
        return self.handle(path, headers, body)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer a request with a valid key."""
        raise NotImplementedError

    active: set[str] = field(default_factory=set)
    """What requests are about that are being answered, if only one may be at a time."""

    def lock_of(self, body: bytes) -> str:
        """Return what only one request may be about at a time; empty: there is no such limit."""
        del body
        return ""

    def sum(self, customer: str | None = None) -> Decimal:
        """Return the sum of all that was counted, or of a customer's."""
        return sum((value for _, owner, value in self.counted if customer in (None, owner)), Decimal(0))

    @property
    def doubles(self) -> int:
        """Events that were counted more than once."""
        ids = [each for each, _, _ in self.counted]
        return len(ids) - len(set(ids))


@dataclass
class Stripe(BillingSystem):
    """
    Recognizes an `identifier` for 24 hours, and no longer; takes no time before 35 days ago, whole numbers alone, and
    one request at a time of a customer and meter.
    """

    seen: dict[str, datetime] = field(default_factory=dict)

    def lock_of(self, body: bytes) -> str:
        """One request a customer and meter."""
        form = parse_qs(body.decode())
        return f"{form['event_name'][0]} {form['payload[stripe_customer_id]'][0]}"

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See BillingSystem."""
        del headers
        if path != "/v1/billing/meter_events":
            return answer(404, {"error": {"message": "Unrecognized request URL"}})
        form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
        now, at = self.clock(), datetime.fromtimestamp(int(form["timestamp"]), tz=self.clock().tzinfo)
        customer, identifier = form["payload[stripe_customer_id]"], form["identifier"]
        known_until = self.seen.get(identifier, now - timedelta(hours=25)) + timedelta(hours=24)
        rules = {
            "No active meter found with this event name.": form["event_name"] == "ai_tokens",
            "Invalid identifier.": 1 <= len(identifier) <= 100,
            "The timestamp must be within the past 35 calendar days.": now - timedelta(days=35) <= at,
            "The timestamp must be at most 5 minutes in the future.": at <= now + timedelta(minutes=5),
            "The value must be a whole number.": form["payload[value]"].isdecimal(),
            f"No such customer: '{customer}'": customer not in self.refused,
            f"An event already exists with identifier {identifier}.": known_until <= now,
        }
        for message, is_kept in rules.items():
            if not is_kept:
                return answer(400, {"error": {"message": message}})
        self.seen[identifier] = now
        self.counted.append((identifier, customer, Decimal(form["payload[value]"])))
        return answer(200, {"object": "billing.meter_event", "identifier": identifier})


@dataclass
class OpenMeter(BillingSystem):
    """Recognizes source and id for 24 hours, which is the default; one invalid event fails the batch."""

    seen: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See BillingSystem."""
        assert ("/api/v1/events", "application/cloudevents-batch+json") == (path, headers["content-type"])
        events = json.loads(body)
        for event in events:
            assert {"specversion", "id", "source", "type", "subject", "time", "data"} <= event.keys()
            assert "1.0" == event["specversion"]
            if event["subject"] in self.refused:
                return answer(400, {"title": "Bad Request", "detail": f"unknown subject {event['subject']}"})
        for event in events:
            key, now = (event["source"], event["id"]), self.clock()
            if key not in self.seen or now - self.seen[key] >= timedelta(hours=24):
                self.seen[key] = now
                self.counted.append((event["id"], event["subject"], Decimal(str(event["data"]["value"]))))
        return answer(204)


@dataclass
class Lago(BillingSystem):
    """Recognizes `transaction_id` and `timestamp`; takes at most 100 events, all or none of them."""

    seen: set[tuple[str, str]] = field(default_factory=set)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See BillingSystem."""
        del headers
        assert "/api/v1/events/batch" == path
        events = json.loads(body, parse_float=Decimal)["events"]
        if not 1 <= len(events) <= 100:
            return answer(422, {"code": "validation_errors", "error_details": {"events": ["too_many_events"]}})
        errors: dict[int, Any] = {}
        for number, event in enumerate(events):
            if event["external_subscription_id"] in self.refused:
                errors[number] = {"external_subscription_id": ["not_found"]}
            elif (event["transaction_id"], str(event["timestamp"])) in self.seen:
                errors[number] = {"transaction_id": ["value_already_exist"]}
        if errors:
            return answer(422, {"status": 422, "code": "validation_errors", "error_details": errors})
        for event in events:
            self.seen.add((event["transaction_id"], str(event["timestamp"])))
            value = Decimal(event["properties"]["value"])
            self.counted.append((event["transaction_id"], event["external_subscription_id"], value))
        return answer(200, {})


@dataclass
class Orb(BillingSystem):
    """Takes an `idempotency_key` once, and the valid events of a batch beside invalid ones."""

    seen: set[str] = field(default_factory=set)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See BillingSystem."""
        del headers
        assert "/v1/ingest" == path
        failed = []
        for event in json.loads(body, parse_float=Decimal)["events"]:
            key, customer = event["idempotency_key"], event["external_customer_id"]
            if customer in self.refused:
                reason = f"external_customer_id {customer} is not a customer"
                failed.append({"idempotency_key": key, "validation_errors": [reason]})
            elif key not in self.seen:
                self.seen.add(key)
                self.counted.append((key, customer, Decimal(event["properties"]["value"])))
        return answer(400 if failed else 200, {"validation_failed": failed})


@dataclass
class CloudEventsConsumer:
    """Whoever reads CloudEvents from a queue or gets them as webhooks: counts each id once."""

    seen: set[str] = field(default_factory=set)
    counted: list[tuple[str, str, Decimal]] = field(default_factory=list)

    def read(self, body: bytes) -> None:
        """Read one event."""
        event = json.loads(body, parse_float=Decimal)
        if event["id"] not in self.seen:
            self.seen.add(event["id"])
            self.counted.append((event["id"], event["subject"], Decimal(event["data"]["value"])))


def sums(counted: Sequence[tuple[str, str, Decimal]]) -> dict[str, Decimal]:
    """Return the sum of each customer."""
    by_customer: dict[str, Decimal] = defaultdict(Decimal)
    for _, customer, value in counted:
        by_customer[customer] += value
    return dict(by_customer)


@asynccontextmanager
async def serve_system(system: BillingSystem) -> AsyncIterator[str]:
    """Serve a billing system on a free loopback port; yields its URL."""

    async def respond(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, more, body = await system.handle_alone(request.path, headers, await request.read())
        return web.Response(status=status, headers=more, body=body)

    async with serve(respond) as url:
        yield url
