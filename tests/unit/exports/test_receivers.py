"""What receivers answer: any status and any body is read as a verdict on each event, whatever a gateway makes up."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from shared.exports.events import Event
from shared.exports.lago import LagoReceiver
from shared.exports.openmeter import OpenMeterReceiver
from shared.exports.orb import OrbReceiver
from shared.exports.receivers import MAX_REASON_LENGTH, MAX_WAIT_S, ApiReceiver, judge
from shared.exports.stripe import StripeReceiver
from shared.upstream.messages import Response
from tests.support.exporting import EXPORTS
from tests.support.rows import every_row

CLIENT: Any = None
RECEIVERS: dict[str, ApiReceiver] = {
    "stripe": StripeReceiver(EXPORTS["stripe"], CLIENT),
    "openmeter": OpenMeterReceiver(EXPORTS["openmeter"], CLIENT),
    "lago": LagoReceiver(EXPORTS["lago"], CLIENT),
    "orb": OrbReceiver(EXPORTS["orb"], CLIENT),
}
KNOWN = ["error", "error_details", "validation_failed", "0", "1", "idempotency_key", "message", "code", "u_0", "detail"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(KNOWN),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())


def events_of(count: int) -> list[Event]:
    """Return events."""
    at = datetime(2026, 11, 29, 12, 30, 15, 123456, tzinfo=UTC)
    record = {"job_id": "j", "model": "m", "calls": 1, "total_tokens": 7, "outcome": "answered"}
    return [Event(f"u_{number}", at, "acme", "cus_1", "7", "", record) for number in range(count)]


def verdicts_of(kind: str, count: int, status: int, body: bytes, headers: dict[str, str]) -> Any:
    """Return what a receiver's answer is read as."""
    receiver, events = RECEIVERS[kind], events_of(count)
    response = Response(status, headers, body, None)
    verdicts = receiver.read(events, response)
    return judge(events, response).verdicts if verdicts is None else verdicts


@given(
    st.sampled_from([*RECEIVERS]),
    st.sampled_from([200, 204, 301, 400, 401, 404, 409, 418, 422, 429, 500, 503, 599]),
    BODIES,
    st.sampled_from(
        [{}, {"retry-after": "1e9"}, {"retry-after": "nan"}, {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}]
    ),
)
@example("orb", 400, b'{"validation_failed": [{"idempotency_key": ["u_0"]}, {"idempotency_key": "u_0"}, 1]}', {})
@example("lago", 422, b'{"error_details": {"0": [1], "1": {"transaction_id": ["value_already_exist"]}}}', {})
@example("stripe", 400, b'{"error": [1]}', {})
@example("stripe", 400, b'{"error": {"message": {"message": "x"}}}', {})
def test_any_answer_is_read(kind: str, status: int, body: bytes, headers: dict[str, str]):
    """A verdict for each event, with a short printable reason; 2xx alone is taken, unless the body says `known`."""
    count = 1 if kind == "stripe" else 2
    verdicts = verdicts_of(kind, count, status, body, headers)

    assert count == len(verdicts)
    assert all(verdict.reason.isprintable() and len(verdict.reason) <= MAX_REASON_LENGTH for verdict in verdicts)
    if status < 300:
        assert {"taken"} == {verdict.kind for verdict in verdicts}
    elif status not in (400, 422):
        assert "taken" not in {verdict.kind for verdict in verdicts}
    wait_s = judge(events_of(count), Response(status, headers, body, None)).wait_s
    assert 0 <= wait_s <= MAX_WAIT_S


@every_row(
    ("status", "single", "batch"),
    [
        (200, "taken", "taken"),
        (302, "again", "again"),
        (400, "refused", "alone"),
        (401, "again", "again"),
        (404, "again", "again"),
        (408, "unknown", "unknown"),
        (409, "unknown", "unknown"),
        (413, "refused", "alone"),
        (422, "refused", "alone"),
        (429, "again", "again"),
        (500, "unknown", "unknown"),
        (504, "unknown", "unknown"),
    ],
)
def test_what_a_status_says(status: int, single: str, batch: str):
    """What may have been received is unknown; what is wrong with a batch may be wrong with one of its events."""
    response = Response(status, {}, b"", None)

    assert [single] == [verdict.kind for verdict in judge(events_of(1), response).verdicts]
    assert [batch] * 3 == [verdict.kind for verdict in judge(events_of(3), response).verdicts]


def test_requests_are_as_the_systems_document_them():
    """Each system's path, media type and members; the time is the record's own, to the millisecond or second."""
    (event,) = events_of(1)
    requests = {kind: receiver.request([event]) for kind, receiver in RECEIVERS.items()}

    assert {
        "stripe": "https://api.stripe.com/v1/billing/meter_events",
        "openmeter": "https://openmeter.cloud/api/v1/events",
        "lago": "https://api.getlago.com/api/v1/events/batch",
        "orb": "https://api.withorb.com/v1/ingest",
    } == {kind: request.url for kind, request in requests.items()}
    assert {
        "event_name": ["ai_tokens"],
        "identifier": ["u_0"],
        "timestamp": ["1795955415"],
        "payload[stripe_customer_id]": ["cus_1"],
        "payload[value]": ["7"],
    } == requests["stripe"].form
    facts = {"job_id": "j", "model": "m", "outcome": "answered", "calls": 1, "total_tokens": 7, "jobs": 0, "value": 7}
    assert {
        "events": [
            {
                "transaction_id": "u_0",
                "external_subscription_id": "cus_1",
                "code": "ai_tokens",
                "timestamp": 1795955415.123,
                "properties": facts,
            }
        ]
    } == json.loads(requests["lago"].content)
    assert {
        "events": [
            {
                "idempotency_key": "u_0",
                "external_customer_id": "cus_1",
                "event_name": "ai usage",
                "timestamp": "2026-11-29T12:30:15.123Z",
                "properties": facts,
            }
        ]
    } == json.loads(requests["orb"].content)
    (cloud_event,) = json.loads(requests["openmeter"].content)
    assert ("1.0", "u_0", "2026-11-29T12:30:15.123Z", {"customer": "acme", **facts}) == (
        cloud_event["specversion"],
        cloud_event["id"],
        cloud_event["time"],
        cloud_event["data"],
    )
