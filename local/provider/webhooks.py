"""The events that the endpoint sends to the URLs that are registered for an account, signed by Standard Webhooks."""

import asyncio
import base64
import functools
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiohttp
from standardwebhooks import Webhook

from local.provider.account import Account
from local.provider.clock import Timers
from local.provider.errors import ApiError

EVENTS = frozenset(
    {
        *("batch.completed", "batch.failed", "batch.cancelled", "batch.expired"),
        *("response.completed", "response.failed", "response.cancelled", "response.incomplete"),
    }
)
RETRY_S = (5.0, 60.0)
"""After how many seconds an event that was not taken is sent again."""
TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Subscription:
    """A URL that gets events. `secret` is `whsec_…`."""

    id: str
    name: str
    url: str
    event_types: frozenset[str]
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event as it was sent; `status` is what came back, 0 for nothing."""

    at: float
    webhook_id: str
    type: str
    object_id: str
    status: int


def subscribe(account: Account, url: str, event_types: Iterable[str] = EVENTS, name: str = "webhook") -> Subscription:
    """Register a URL."""
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    made = Subscription(f"we_{uuid4().hex}", name, url, frozenset(event_types), secret)
    account.subscriptions[made.id] = made
    return made


def subscribe_from(account: Account, body: Mapping[str, Any]) -> Subscription:
    """Register the URL that a request names. Raises ApiError."""
    types = body.get("event_types")
    if not isinstance(types, list) or not types or not set(types) <= EVENTS:
        raise ApiError(400, "invalid_value", "'event_types' has an unknown type, or none.", "event_types")
    if not str(body.get("url") or "").startswith("http") or not body.get("name"):
        raise ApiError(400, "invalid_value", "'name' and 'url' are required.", "url")
    return subscribe(account, body["url"], types, body["name"])


@dataclass(slots=True)
class Webhooks:
    """Sends events."""

    timers: Timers
    client: aiohttp.ClientSession
    _sending: set[asyncio.Task[None]] = field(default_factory=set)

    def notify(self, account: Account, kind: str, object_id: str, at: float) -> None:
        """Send an event to each URL that is registered for its type."""
        event = {"id": f"evt_{uuid4().hex}", "object": "event", "created_at": int(at), "type": kind}
        event["data"] = {"id": object_id}
        for each in account.subscriptions.values():
            if kind not in each.event_types:
                continue
            fault = account.faults.webhooks.take()
            match fault and fault.kind:
                case "lost":
                    continue
                case "doubled":
                    self._send(account, each, event)
                case "late" if fault is not None:
                    self.timers.at(at + fault.late_s, functools.partial(self._send, account, each, event))
                    continue
                case "wrong_signature":
                    self._send(account, each, event, secret=f"whsec_{base64.b64encode(bytes(32)).decode()}")
                    continue
            self._send(account, each, event)

    async def sent(self) -> None:
        """Wait until what is being sent has arrived."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def stop(self) -> None:
        """Stop sending."""
        for each in self._sending:
            each.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _send(
        self,
        account: Account,
        to: Subscription,
        event: dict[str, Any],
        _: float = 0,
        *,
        secret: str = "",
        tries: int = 0,
    ) -> None:
        task = asyncio.create_task(self._deliver(account, to, event, secret or to.secret, tries))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _deliver(
        self, account: Account, to: Subscription, event: dict[str, Any], secret: str, tries: int
    ) -> None:
        at, body = self.timers.clock(), json.dumps(event)
        headers = {
            "content-type": "application/json",
            "webhook-id": event["id"],
            "webhook-timestamp": str(int(at)),
            "webhook-signature": Webhook(secret).sign(event["id"], datetime.fromtimestamp(int(at), UTC), body),
        }
        status = 0
        try:
            timeout = aiohttp.ClientTimeout(TIMEOUT_S)
            async with self.client.post(to.url, data=body, headers=headers, timeout=timeout) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            pass
        account.deliveries.append(Delivery(at, event["id"], event["type"], event["data"]["id"], status))
        if not 200 <= status < 300 and tries < len(RETRY_S):  # noqa: PLR2004 -- HTTP's own numbers
            again = functools.partial(self._send, account, to, event, secret=secret, tries=tries + 1)
            self.timers.at(at + RETRY_S[tries], again)
