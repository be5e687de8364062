"""`processing: flex`: the tier that is asked for, waiting for room in it, and what cannot be."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import now
from shared.contract.job import Options
from shared.errors import RateLimited, UpstreamFacts, UpstreamTimeout
from shared.jobs.flex import explain_no_room
from shared.upstream.retry import RetryState
from tests.support.customers import Customer
from tests.support.endpoint import completion, error, reply
from tests.support.rows import every_row
from tests.support.workers import Worker

FLEX = {"processing": "flex"}
JOBS: dict[str, dict[str, Any]] = {
    "chat": {"action": "chat", "input": {"prompt": "Hello?"}},
    "multi_chat": {"action": "multi_chat", "input": {"prompts": ["Hello?", "And you?"]}},
    "summarize": {"action": "summarize", "input": {"text": "A text."}},
}
NO_ROOM = "There are not enough resources for flex processing."


@pytest.fixture
def customer(worker: Worker) -> Customer:
    """A customer with a connection to OpenAI."""
    return worker.customer(provider="openai")


def tiers(customer: Customer) -> list[str | None]:
    """The service tiers that the endpoint was asked for."""
    return [request.json.get("service_tier") for request in customer.account.received]


def full(customer: Customer, times: int = 1, **headers: str) -> None:
    """Have the endpoint refuse so many calls for want of room."""
    customer.account.will_answer(*[error(429, "resource_unavailable", NO_ROOM, **headers)] * times)


@pytest.mark.parametrize("action", JOBS)
async def test_calls_ask_for_the_tier(worker: Worker, customer: Customer, action: str):
    """Each of them, and the tier that served is what is recorded, whichever it is."""
    customer.account.will_answer(completion(service_tier="flex"), completion(service_tier="default"))

    result = await worker.run(customer, options=FLEX, **JOBS[action])

    served = [record["service_tier"] for record in worker.usage(customer)]
    assert "succeeded" == result["status"]
    assert ["flex"] * len(served) == tiers(customer)
    assert sorted(["flex", "default"][: len(served)]) == sorted(served)
    assert {"standard"} == {record["processing"] for record in worker.usage(customer)}


@pytest.mark.parametrize("tier", ["flex", None])
async def test_a_job_may_name_the_tier_itself(worker: Worker, customer: Customer, tier: str | None):
    """Beside the option, if it is the same."""
    job = {"input": {"prompt": "Hello?", "parameters": {"service_tier": tier}}}

    assert "succeeded" == (await worker.run(customer, options=FLEX, **job))["status"]
    assert ["flex"] == tiers(customer)


@every_row("action", JOBS)
@every_row("tier", ["priority", "default", "auto", 1, ["flex"]])
async def test_another_tier_is_refused(worker: Worker, customer: Customer, action: str, tier: Any):
    """At the door, before anything is claimed or called."""
    job = JOBS[action] | {"input": JOBS[action]["input"] | {"parameters": {"service_tier": tier}}}

    result = await worker.run(customer, options=FLEX, **job)

    assert ("invalid_job", []) == (result["error"]["code"], customer.account.received)
    assert result["error"]["message"] == (
        "`input.parameters.service_tier` must be flex or left out if `options.processing` is flex."
    )
    assert [] == [key for name, key in worker.table.rows if name == customer.name]


@pytest.mark.parametrize("provider", ["azure_openai", "foundry"])
async def test_other_providers_have_no_such_tier(worker: Worker, provider: str):
    """The refusal says whose connection it is."""
    customer = worker.customer(provider=provider)

    result = await worker.run(customer, options=FLEX)

    assert ("invalid_job", []) == (result["error"]["code"], customer.account.received)
    assert result["error"]["message"] == (
        "`options.processing` can't be flex: only OpenAI has that tier, and the provider of the connection default is "
        f"{provider}. Use batch or standard."
    )


async def test_a_job_waits_for_room(worker: Worker, customer: Customer):
    """However often there is none: it uses up no retry, and costs nothing. Then it runs."""
    full(customer, 3)
    body, delays = customer.body(job_id="x", options=FLEX | {"max_retries": 1}), []
    for _ in range(3):
        assert await worker.deliver(customer, body) is None
        ((body, delay_s),) = worker.requeued()
        delays.append(delay_s)

    result = await worker.run(customer, body)

    assert ("succeeded", 4, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 0 == worker.row(customer, "x").get("failed_attempts", 0)
    assert all(15 <= delay_s <= 16.5 for delay_s in delays), delays


@pytest.mark.parametrize("action", JOBS)
async def test_the_deadline_ends_the_wait(worker: Worker, customer: Customer, action: str):
    """As `timeout`, with what the endpoint said, even if that was hours ago for the first time."""
    full(customer, 9)
    at = now() - timedelta(seconds=3596)

    result = await worker.run(customer, submitted_at=at, options=FLEX | {"deadline_s": 3600}, **JOBS[action])

    failed = result["error"]
    assert ("failed", "timeout", 429) == (result["status"], failed["code"], failed["status"])
    assert failed["message"].startswith("The flex tier had no room for the job before its deadline of 3600 s.")
    assert NO_ROOM in failed["message"]
    assert [] == worker.usage(customer)


async def test_answered_prompts_are_kept_while_others_wait(worker: Worker):
    """A `multi_chat` job that waits asks for each answer once."""
    customer = worker.customer(provider="openai", max_concurrency=1)
    customer.account.will_answer(completion(service_tier="flex"))
    full(customer)
    assert await worker.deliver(customer, job_id="x", options=FLEX, **JOBS["multi_chat"]) is None
    ((body, _),) = worker.requeued()

    result = await worker.run(customer, body)

    assert ("succeeded", 2, 3) == (result["status"], result["usage"]["calls"], len(customer.account.received))


async def test_without_retries_it_is_sent_once(worker: Worker, customer: Customer):
    """As `max_retries` 0 means for any call."""
    full(customer)

    result = await worker.run(customer, options=FLEX | {"max_retries": 0})

    assert ("rate_limited", 1) == (result["error"]["code"], len(customer.account.received))


async def test_a_rate_limit_is_none_of_room(worker: Worker, customer: Customer):
    """Any other 429 is retried as ever, and so is that refusal of a job that did not choose the tier."""
    quick = {"retry_delay_ms": 1, "exponential_backoff": False, "max_retries": 1}
    customer.account.will_answer(*[error(429, "rate_limit_exceeded")] * 2)
    limited = await worker.run(customer, options=FLEX | quick)
    full(customer, 2)
    own = await worker.run(customer, input={"prompt": "x", "parameters": {"service_tier": "flex"}}, options=quick)

    assert ["rate_limited"] * 2 == [each["error"]["code"] for each in (limited, own)]
    assert 4 == len(customer.account.received)


@pytest.mark.parametrize(
    "words",
    [
        "Flex is not available for this model.",
        "Invalid service_tier argument",
        "Unsupported parameter: 'service_tier' is not supported with this model.",
        "Unrecognized request argument supplied: service_tier",
    ],
)
async def test_a_model_without_the_tier_says_so(worker: Worker, customer: Customer, words: str):
    """The refusal is the job's error; it is not sent again without the tier, for twice the price."""
    body = {"error": {"code": "unsupported_parameter", "message": words, "param": "service_tier"}}
    customer.account.will_answer(reply(body, status=400))

    result = await worker.run(customer, options=FLEX)

    assert ("request_rejected", ["flex"]) == (result["error"]["code"], tiers(customer))
    assert words in result["error"]["message"]


@given(
    deadline_s=st.floats(1, 604_800),
    part=st.floats(0, 1),
    named_s=st.none() | st.floats(0, 7200),
    max_retries=st.integers(1, 20),
)
def test_waits_for_room(deadline_s: float, part: float, named_s: float | None, max_retries: int):
    """
    Each is as long as the endpoint asks, else some minutes at most and half of what is left, unless that is seconds;
    none is waited for within the attempt, and none uses up a retry.
    """
    options, left_s = Options(deadline_s=deadline_s, max_retries=max_retries, processing="flex"), deadline_s * part
    facts = UpstreamFacts(429, retry_after_s=named_s, transient=True, detail={"code": "resource_unavailable"})

    waits = explain_no_room(RateLimited("No.", facts), options, left_s)
    state = RetryState(options)
    retry = state.decide(waits)

    assert isinstance(waits, UpstreamTimeout)
    assert retry is not None
    assert (False, 0) == (retry.inline, state.used)
    assert retry.wait_s >= (named_s or 0)
    assert retry.wait_s == named_s or 6 <= retry.wait_s <= max(6, min(300, left_s / 2))
    assert "resource_unavailable" == json.loads(json.dumps(waits.facts.detail))["code"]
