"""OpenMeter (openmeter.io/docs/concepts/usage-events): CloudEvents in batches, known by source and id for a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from shared.exports.cloudevents import cloud_event
from shared.exports.events import Event
from shared.exports.receivers import ApiReceiver
from shared.upstream.messages import UpstreamRequest


@dataclass(frozen=True, slots=True)
class OpenMeterReceiver(ApiReceiver):
    """A refused batch is refused as a whole, so its events are then sent one by one."""

    max_events: int = 100
    window: timedelta | None = timedelta(hours=24)
    """The default of its deduplication (`dedupe.config.expiration`), which whoever runs it has to turn on."""

    def request(self, events: Sequence[Event]) -> UpstreamRequest:
        """See ApiReceiver."""
        body = msgspec.json.encode([cloud_event(self.export, event) for event in events])
        headers = {"content-type": "application/cloudevents-batch+json"}
        return UpstreamRequest("POST", f"{self.export.url}/api/v1/events", content=body, headers=headers)
