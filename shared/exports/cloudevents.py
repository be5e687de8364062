"""CloudEvents 1.0 (cloudevents.io) in structured mode: to a queue of ours, or signed to a URL. Known by id forever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from shared.clock import rfc3339
from shared.errors import StorageUnavailable, VaultUnavailable
from shared.export_settings import Export
from shared.exports.events import Event
from shared.exports.receivers import AT_ONCE, TAKEN, Answer, HttpReceiver, Verdict
from shared.secret import Secret
from shared.storage.base import Queues
from shared.upstream.messages import UpstreamRequest
from shared.webhooks.signing import NoSigningSecret, Signing

SOURCE = "customer-ai-jobs"
_MEDIA_TYPE = "application/cloudevents+json"


def cloud_event(export: Export, event: Event) -> dict[str, Any]:
    """Return an event in CloudEvents' JSON format."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": SOURCE,
        "type": export.event,
        "subject": event.subject,
        "time": rfc3339(event.at),
        "datacontenttype": "application/json",
        "data": {"customer": event.customer, **event.facts()},
    }


@dataclass(frozen=True, slots=True)
class QueueReceiver:
    """Sends each event as a message. A queue delivers at least once: whoever reads it goes by the event's id."""

    export: Export
    queues: Queues
    max_events: int = 1
    at_once: int = AT_ONCE
    window: timedelta | None = None

    async def send(self, events: Sequence[Event], key: Secret) -> Answer:
        """See Receiver."""
        del key
        (event,) = events
        try:
            await self.queues.send(self.export.queue, msgspec.json.encode(cloud_event(self.export, event)))
        except StorageUnavailable as exc:
            return Answer([Verdict("unknown", str(exc))], str(exc))
        return Answer([TAKEN])


@dataclass(frozen=True, slots=True)
class WebhookReceiver(HttpReceiver):
    """Posts each event, signed as callbacks are (see `webhooks.signing`), with the export's secret."""

    signing: Signing = field(kw_only=True)

    async def send(self, events: Sequence[Event], key: Secret) -> Answer:
        """See Receiver."""
        del key
        (event,) = events
        body = msgspec.json.encode(cloud_event(self.export, event))
        try:
            signature = await self.signing.sign(self.export.name, event.id, body)
        except (NoSigningSecret, VaultUnavailable) as exc:
            return Answer([Verdict("again", str(exc))], str(exc))
        headers = {"content-type": _MEDIA_TYPE, **signature}
        return await self.post(UpstreamRequest("POST", self.export.url, content=body, headers=headers), events, None)
