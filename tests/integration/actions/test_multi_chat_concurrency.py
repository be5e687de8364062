"""`multi_chat`: how many calls run at the same time, and when the remaining ones are not made."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from tests.support.endpoint import Answer, error
from tests.support.harness import Harness
from tests.support.scripted_model import ScriptedModel, codes, multi_chat, prompts, texts


@pytest.mark.parametrize(("secret", "limit"), [({}, 16), ({"max_concurrency": 3}, 3), ({"max_concurrency": 1}, 1)])
async def test_concurrency_limit_is_reached_and_kept(harness: Harness, secret: dict[str, int], limit: int):
    """As many calls run at the same time as `max_concurrency` allows, by default 16, and no more."""
    customer = harness.customer(**secret)
    model = ScriptedModel(after_s=0.03, wait_for=limit).serve(customer)

    await customer.run(**multi_chat(prompts(3 * limit)))

    assert limit == model.max_in_flight


async def test_jobs_on_one_connection_share_its_limit(harness: Harness):
    """Two jobs on one connection have no more calls in flight than one job; another customer has its own limit."""
    customer, other = harness.customer(max_concurrency=4), harness.customer(max_concurrency=4)
    model = ScriptedModel(after_s=0.03, wait_for=4).serve(customer)
    other_model = ScriptedModel(after_s=0.03, wait_for=4).serve(other)

    await asyncio.gather(
        *(owner.run(**multi_chat(prompts(8), f"j-{number}")) for number in range(2) for owner in (customer, other))
    )

    assert (4, 4) == (model.max_in_flight, other_model.max_in_flight)


async def test_rotated_key_costs_no_call(harness: Harness):
    """If the key is refused halfway, and the vault has a new one, the remaining calls are made with that one."""
    customer = harness.customer(max_concurrency=4)
    job_prompts = prompts(24)
    rotated = harness.endpoint.account()

    async def rotate(prompt: str) -> None:
        if prompt == job_prompts[10]:
            harness.endpoint.accounts.pop(customer.account.key, None)
            harness.connect(replace(customer, account=rotated))

    model = ScriptedModel(before=rotate).serve(customer)
    model.serve(replace(customer, account=rotated))

    result = await customer.run(**multi_chat(job_prompts))

    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert [f"About {prompt}" for prompt in job_prompts] == texts(result)
    assert Counter(job_prompts) == model.calls == model.answered
    assert len(rotated.received) > 4
    assert 24 == len(await customer.usage()) == result["usage"]["calls"]


async def test_revoked_key_keeps_the_answers(harness: Harness):
    """If the key is refused halfway, and there is no new one, the other calls are not made; answers are billed."""
    customer = harness.customer(max_concurrency=4)

    async def revoke(_: str) -> Answer | None:
        return error(401, "401", "Gone.") if model.answered.total() >= 10 else None

    model = ScriptedModel(before=revoke).serve(customer)

    result = await customer.run(**multi_chat(prompts(50)))

    answered = model.answered.total()
    assert 10 <= answered < 14
    assert ("partial", 50 - answered) == (result["status"], result["output"]["failed"])
    assert {None, "credential_rejected"} == set(codes(result))
    assert 0 < model.calls.total() - answered <= 4
    assert answered == len(await customer.usage()) == result["usage"]["calls"]
    assert 2 == harness.vault.reads[f"ai--{customer.name}--default"]


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (error(429, "insufficient_quota"), "quota_exhausted"),
        (error(403, "account_deactivated"), "account_blocked"),
        (error(404, "DeploymentNotFound"), "model_not_found"),
        (error(401, "invalid_api_key"), "credential_rejected"),
    ],
    ids=["quota", "account", "model", "key"],
)
async def test_refusal_of_all_prompts_stops_the_job(harness: Harness, refusal: Answer, code: str):
    """A refusal that every prompt would have is met by the calls in flight, and no other call is made."""
    customer = harness.customer(max_concurrency=4)
    model = ScriptedModel().serve(customer)
    for prompt in prompts(1000):
        model.scripts[prompt] = [refusal] * 9

    result = await customer.run(**multi_chat(prompts(1000)))

    assert ("failed", code) == (result["status"], result["error"]["code"])
    assert model.calls.total() <= 4
    assert [] == await customer.usage()
