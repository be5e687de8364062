"""Budgets' events: signed, retried, at least once, with one id; by whichever worker is alive."""

from __future__ import annotations

import itertools
import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from shared.billing.budget_events import budget_event_row
from shared.billing.outbox import MIN_AGE, PARTITION
from shared.webhooks.signed_post import RETRY_DELAYS_S
from tests.support.exporting import WHSEC, ExportHarness

ADDRESS = "https://hooks.contoso.com/budgets?token=MARKED-TOKEN"


async def make_harness(
    monkeypatch: pytest.MonkeyPatch, customer: str = "acme", address: str | None = ADDRESS
) -> ExportHarness:
    """Return a harness without exports, whose customer has just crossed a line."""
    harness = ExportHarness(monkeypatch, [])
    row = budget_event_row(
        customer,
        period="2026-11",
        budget="team",
        unit="USD",
        threshold=80,
        address=address,
        data={"spent": "80.10"},
        at=harness.time,
    )
    await harness.outbox.announce(customer)
    await harness.table.insert(row)
    return harness


def event_row(harness: ExportHarness) -> Any:
    """Return the columns of the event's row."""
    (row,) = harness.rows_of("e_")
    return row.values


async def test_an_event_is_delivered_once_and_stays_on_record(monkeypatch: pytest.MonkeyPatch):
    """The body has the event's own id, and the header that id after `callback_`. A row stays, nothing is sent again."""
    harness = await make_harness(monkeypatch)
    monkeypatch.undo()
    for _ in range(3):
        await harness.delivery().run()

    ((url, headers, body),) = harness.posts
    event = json.loads(body)
    assert ADDRESS == url
    assert f"callback_{event['id']}" == headers["webhook-id"]
    assert event == Webhook(WHSEC).verify(body, headers)
    assert ("delivered", 1, "") == tuple(event_row(harness)[name] for name in ("state", "tries", "error"))


async def test_a_receiver_that_fails_is_tried_again_and_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The tries are as far apart as those of callbacks; each has the same body. No log line has the address."""
    caplog.set_level(logging.INFO)
    harness = await make_harness(monkeypatch)
    harness.statuses = [500] * 100
    for delay_s in RETRY_DELAYS_S:
        await harness.delivery().run()
        tries = len(harness.posts)
        harness.time += timedelta(seconds=0.9 * delay_s)
        await harness.delivery().run()
        assert tries == len(harness.posts)
        harness.time += timedelta(seconds=0.21 * delay_s)
    await harness.delivery().run()
    harness.time += timedelta(days=30)
    await harness.delivery().run()

    assert len(RETRY_DELAYS_S) + 1 == len(harness.posts)
    assert 1 == len({(headers["webhook-id"], body) for _, headers, body in harness.posts})
    assert ("failed", "Given up after 7 tries. The receiver answered 500.") == (
        event_row(harness)["state"],
        event_row(harness)["error"],
    )
    assert "budget_event_failed customer=acme event=e_2026-11_team_USD_80 tries=7" in caplog.text
    assert "MARKED-TOKEN" not in caplog.text


@pytest.mark.parametrize(
    ("statuses", "tries", "state", "error"),
    [
        ([410], 1, "failed", "The receiver wants no more callbacks (410)."),
        ([500, 204], 2, "delivered", "The receiver answered 500."),
        ([301, 429, 200], 3, "delivered", "a redirect (301); redirects are not followed."),
    ],
)
async def test_outcomes(monkeypatch: pytest.MonkeyPatch, statuses: list[int], tries: int, state: str, error: str):
    """A receiver that is gone wants no more; any other answer but 2xx means another try. The row says why."""
    harness = await make_harness(monkeypatch)
    harness.statuses = [*statuses]
    await harness.delivery().run()
    assert error in event_row(harness)["error"]
    for _ in range(5):
        await harness.delivery().run()
        harness.time += timedelta(hours=1)

    assert (tries, state) == (len(harness.posts), event_row(harness)["state"])


async def test_a_customer_without_a_signing_secret(monkeypatch: pytest.MonkeyPatch):
    """Nothing is posted unsigned; the row says why."""
    harness = await make_harness(monkeypatch, customer="unsigned")
    await harness.delivery().run()

    assert [] == harness.posts
    assert ("failed", "The customer has no signing secret.") == (
        event_row(harness)["state"],
        event_row(harness)["error"],
    )


async def test_an_event_without_an_address_is_only_on_record(monkeypatch: pytest.MonkeyPatch):
    """A budget that notifies nobody still has its events once."""
    harness = await make_harness(monkeypatch, address=None)
    await harness.delivery().run()

    assert ([], "silent") == (harness.posts, event_row(harness)["state"])


async def test_at_least_once_whichever_step_kills_the_worker(monkeypatch: pytest.MonkeyPatch):
    """The next worker delivers what the one before may not have delivered; each time it is the same event."""
    for step in itertools.count():
        with monkeypatch.context() as patch:
            harness = await make_harness(patch)
            killed = await harness.run_until_killed(step)
            harness.time += timedelta(minutes=10)
            await harness.run(2)

            assert 1 <= len(harness.posts) <= 2
            assert 1 == len({(headers["webhook-id"], body) for _, headers, body in harness.posts})
            assert "delivered" == event_row(harness)["state"]
        if not killed:
            break
    assert step >= 6


async def test_a_customer_is_looked_at_until_its_events_are_delivered(monkeypatch: pytest.MonkeyPatch):
    """Also while the next try is hours away; afterwards nobody looks any more."""
    harness = await make_harness(monkeypatch)
    harness.statuses = [500] * 6
    for _ in range(10):
        await harness.delivery().run()
        harness.time += max(timedelta(hours=6), MIN_AGE)

    assert "delivered" == event_row(harness)["state"]
    assert (PARTITION, "acme") not in harness.table.rows
