"""Which jobs may be bought patiently, and how long they last."""

from __future__ import annotations

from typing import Any

import pytest

from shared.clock import now
from shared.contract.job import ACTIONS, Action
from shared.contract.processing import DEFAULT_DEADLINES_S, PATIENT, Processing
from shared.errors import InvalidJob
from shared.jobs.envelope import decode_queued_job
from shared.jobs.message import deadline_of
from tests.support.job_bodies import body, decoded, refusal
from tests.support.rows import every_row

CHATS: tuple[Action, ...] = ("chat", "multi_chat", "summarize")
ACTIONS_OF: dict[Processing, tuple[Action, ...]] = {
    "standard": ACTIONS,
    "batch": (*CHATS, "embed", "respond"),
    "flex": CHATS,
    "background": ("respond", "chat"),
    "cheapest": (*CHATS, "embed", "respond"),
}
CASES = [(processing, action) for processing in ACTIONS_OF for action in ACTIONS]


@every_row(("processing", "action"), CASES)
def test_processing_is_for_some_actions(processing: Processing, action: Action):
    """Any other is refused at the door, with what the processing is for."""
    members: dict[str, Any] = {"action": action, "options": {"processing": processing}}
    actions = ACTIONS_OF[processing]

    if action in actions:
        assert processing == decoded(**members).options.processing
    else:
        assert refusal(body(**members)) == (
            f"`options.processing` must be standard for the action {action}: {processing} is for {', '.join(actions)}."
        )


def test_an_unknown_processing_is_refused():
    """The refusal lists the values."""
    message = "`options.processing` must be one of standard, batch, flex, background, cheapest."

    assert message == refusal(body(options={"processing": "spot"}))


@pytest.mark.parametrize("processing", ["batch", "background", "cheapest"])
def test_a_window_of_hours_needs_an_hour(processing: Processing):
    """A deadline of less than 3,600 s is refused, as one that no batch meets."""
    message, action = f"`options.deadline_s` must be at least 3600 if `options.processing` is {processing}.", "respond"

    assert message == refusal(body(action=action, options={"processing": processing, "deadline_s": 3599.9}))
    assert 3600 == decoded(action=action, options={"processing": processing, "deadline_s": 3600}).options.lasts_s
    assert 1 == decoded(options={"processing": "flex", "deadline_s": 1}).options.lasts_s


@every_row("processing", [*ACTIONS_OF])
def test_a_deadline_that_is_left_out(processing: Processing):
    """A day; 25 hours for what may take a provider a day."""
    job = decoded(action=ACTIONS_OF[processing][-1], options={"processing": processing})
    seconds, at = 90_000 if processing in PATIENT else 86_400, now()

    assert seconds == job.options.lasts_s == DEFAULT_DEADLINES_S[processing]
    assert seconds == (deadline_of(job, at) - at).total_seconds()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"processing": "background", "deadline_s": 60}, "3600"), ({"processing": "batch", "deadline_s": 60}, "3600")],
)
def test_a_message_is_checked_as_well(options: dict[str, Any], message: str):
    """What comes from the queue is refused as at the door."""
    with pytest.raises(InvalidJob, match=message):
        decode_queued_job(body(options=options), default_id="a")
