"""Orb (docs.withorb.com, "Ingest events"): batches of which single events may be refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from shared.clock import rfc3339
from shared.exports.events import Event
from shared.exports.receivers import TAKEN, ApiReceiver, Verdict, json_body, one_line
from shared.upstream.messages import Response, UpstreamRequest


@dataclass(frozen=True, slots=True)
class OrbReceiver(ApiReceiver):
    """Each `idempotency_key` is ingested at most once; one that was refused is not used up."""

    max_events: int = 100

    def request(self, events: Sequence[Event]) -> UpstreamRequest:
        """See ApiReceiver."""
        body = msgspec.json.encode({"events": [self._event(event) for event in events]})
        headers = {"content-type": "application/json"}
        return UpstreamRequest("POST", f"{self.export.url}/v1/ingest", content=body, headers=headers)

    def _event(self, event: Event) -> dict[str, Any]:
        return {
            "idempotency_key": event.id,
            "external_customer_id": event.subject,
            "event_name": self.export.event,
            "timestamp": rfc3339(event.at),
            "properties": event.facts(),
        }

    def read(self, events: Sequence[Event], response: Response) -> Sequence[Verdict] | None:
        """See HttpReceiver. Whether the events were taken that a refusal does not name, only its status says."""
        if response.status not in (HTTPStatus.OK, HTTPStatus.BAD_REQUEST):
            return None
        failed = json_body(response).get("validation_failed")
        if not isinstance(failed, list):
            return None
        ids = [event.id for event in events]  # an odd key need not be hashable
        reasons = {
            each["idempotency_key"]: _sentence(each.get("validation_errors"))
            for each in failed
            if isinstance(each, dict) and each.get("idempotency_key") in ids
        }
        if not reasons:
            return None
        others = TAKEN if response.status == HTTPStatus.OK else Verdict("unknown", "Another event was refused.")
        return [Verdict("refused", reasons[event.id]) if event.id in reasons else others for event in events]


def _sentence(errors: Any) -> str:
    texts = errors if isinstance(errors, list) else [errors]
    return one_line("; ".join(text for text in texts if isinstance(text, str))) or "It is not valid."
