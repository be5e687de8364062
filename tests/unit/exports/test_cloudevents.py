"""CloudEvents: their members, and their way to a queue and to a signed webhook."""

from __future__ import annotations

import json

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.webhooks.signing import Signing
from tests.support.exporting import EXPORTS, WHSEC, ExportHarness, MemoryVault


async def make_harness(monkeypatch: pytest.MonkeyPatch, kind: str) -> ExportHarness:
    """Return a harness with one customer and one record."""
    harness = ExportHarness(monkeypatch, [EXPORTS[kind]])
    await harness.add_customer("acme")
    await harness.record("acme", 12, service_tier="flex")
    return harness


async def test_members_of_an_event(monkeypatch: pytest.MonkeyPatch):
    """All that CloudEvents requires, the record's own time, and the record's facts without what is empty."""
    harness = await make_harness(monkeypatch, "queue")
    await harness.delivery().run()

    ((body, delay_s),) = harness.queues.sent["usage-events"]
    event = json.loads(body)
    assert 0 == delay_s
    assert event.pop("id").startswith("u_")
    assert {
        "specversion": "1.0",
        "source": "customer-ai-jobs",
        "type": "ai.usage",
        "subject": "ext-acme",
        "time": "2026-11-10T12:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {
            "customer": "acme",
            "job_id": "job-1",
            "action": "chat",
            "model": "gpt",
            "connection": "default",
            "provider": "openai",
            "source": "key_vault",
            "billed_to": "customer",
            "outcome": "answered",
            "service_tier": "flex",
            "processing": "standard",
            "calls": 1,
            "input_tokens": 12,
            "output_tokens": 0,
            "total_tokens": 12,
            "jobs": 0,
            "value": 12,
        },
    } == event


async def test_a_webhook_is_signed_and_never_an_order(monkeypatch: pytest.MonkeyPatch):
    """It verifies with the export's secret; its `webhook-id` begins so that no webhook of ours takes it."""
    harness = await make_harness(monkeypatch, "webhook")
    monkeypatch.undo()  # the library goes by the real time
    await harness.delivery().run()

    ((url, headers, body),) = harness.posts
    event = json.loads(body)
    assert ("https://hooks.contoso.com/u", "application/cloudevents+json") == (url, headers["content-type"])
    assert f"callback_{event['id']}" == headers["webhook-id"]
    assert event == Webhook(WHSEC).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(WHSEC).verify(body + b" ", headers)
    assert not await Signing(MemoryVault()).verify("acme", body, headers)


@pytest.mark.parametrize("secret", [None, "not-a-secret"])
async def test_without_a_valid_secret_nothing_is_posted(monkeypatch: pytest.MonkeyPatch, secret: str | None):
    """The events wait, whatever the secret is."""
    harness = await make_harness(monkeypatch, "webhook")
    harness.vault.secrets = {} if secret is None else {"webhook": secret}
    await harness.run(2)
    assert ([], ["waiting"]) == (
        harness.posts,
        [event.state.state async for event in harness.outboxes.events("acme", harness.exports)],
    )

    harness.vault.secrets = {"webhook": WHSEC}
    await harness.run(2)
    assert 1 == len(harness.posts)


async def test_a_queue_that_is_missing(monkeypatch: pytest.MonkeyPatch):
    """Its events wait for it, and others are not held up."""
    harness = await make_harness(monkeypatch, "queue")
    harness.queues.missing = frozenset({"usage-events"})
    await harness.run(2)
    harness.queues.missing = frozenset()
    await harness.run(2)

    assert 1 == len(harness.consumer.counted)
