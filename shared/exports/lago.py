"""Lago (getlago.com/docs/api-reference/events/batch): batches that are taken whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import msgspec

from shared.billing.money import EXACT, places_of
from shared.exports.events import Event
from shared.exports.receivers import KNOWN, ApiReceiver, Verdict, json_body, one_line
from shared.upstream.messages import Response, UpstreamRequest

_TAKEN_BEFORE = {"transaction_id": ["value_already_exist"]}


@dataclass(frozen=True, slots=True)
class LagoReceiver(ApiReceiver):
    """An event is known by its `transaction_id` and `timestamp`, so that is always the record's own."""

    max_events: int = 100

    def request(self, events: Sequence[Event]) -> UpstreamRequest:
        """See ApiReceiver."""
        body = msgspec.json.encode({"events": [self._event(event) for event in events]})
        headers = {"content-type": "application/json"}
        return UpstreamRequest("POST", f"{self.export.url}/api/v1/events/batch", content=body, headers=headers)

    def _event(self, event: Event) -> dict[str, Any]:
        members = {
            "transaction_id": event.id,
            "external_subscription_id": event.subject,
            "code": self.export.event,
            "timestamp": msgspec.Raw(f"{Decimal(int(event.at.timestamp() * 1000)).scaleb(-3):f}".encode()),
            "properties": event.facts(),
        }
        if self.export.value == "amount":
            members["precise_total_amount_cents"] = f"{Decimal(event.value).scaleb(places_of(event.currency), EXACT):f}"
        return members

    def read(self, events: Sequence[Event], response: Response) -> Sequence[Verdict] | None:
        """See HttpReceiver. A refusal names the events at fault by their numbers; the others were not taken either."""
        if response.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            return None
        details = json_body(response).get("error_details")
        if not isinstance(details, dict):
            return None
        numbered = {number: details[str(number)] for number in range(len(events)) if str(number) in details}
        if not numbered:
            return None
        return [
            _verdict(numbered[number]) if number in numbered else Verdict("again", "Another event was refused.")
            for number in range(len(events))
        ]


def _verdict(errors: Any) -> Verdict:
    if errors == _TAKEN_BEFORE:
        return KNOWN
    return Verdict("refused", one_line(msgspec.json.encode(errors).decode()))
