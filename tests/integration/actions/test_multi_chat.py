"""`multi_chat` from the message to the result: answers, errors, usage records, and calls side by side."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.support.endpoint import Answer, completion, error
from tests.support.harness import Harness
from tests.support.scripted_model import USAGE, ScriptedModel, call_keys, codes, multi_chat, prompts, texts


async def test_each_prompt_has_its_own_answer(harness: Harness):
    """
    Answers are in the order of the prompts, however long each call takes; a prompt may be a list of messages.

    A prompt that is refused, or whose answer is filtered, has its error in its place, and the job is partial. Only
    answers are billed. Half a surrogate pair is stored, and is U+FFFD in the result.
    """
    customer = harness.customer()
    model = ScriptedModel().serve(customer)
    for index in range(3):
        model.scripts[f"p{index}"] = [completion(f"a{index}", after_s=0.05 * (5 - index))]
    model.scripts |= {
        "p3": [error(400, "invalid_value", "No such thing.")],
        "p4": [error(400, "content_filter")],
        "p5": [completion("", finish_reason="content_filter")],
        "p6": [completion("a\ud83d")],
    }
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "p2"}]

    result = await customer.run(**multi_chat(["p0", "p1", messages, "p3", "p4", "p5", "p6"]))

    assert ("partial", 3, 5) == (result["status"], result["output"]["failed"], result["usage"]["calls"])
    assert ["a0", "a1", "a2", None, None, "", "a\ufffd"] == texts(result)
    assert list(range(7)) == [answer["index"] for answer in result["output"]["answers"]]
    filtered = "content_filtered"
    assert [None, None, None, "request_rejected", filtered, filtered, None] == codes(result)
    assert {
        "index": 3,
        "status": "failed",
        "error": {
            "code": "request_rejected",
            "message": "The endpoint refused the request (400): No such thing.",
            "status": 400,
            "request_id": "req-e",
            "detail": {"code": "invalid_value", "type": "error"},
        },
    } == result["output"]["answers"][3]
    assert "content_filter" == result["output"]["answers"][5]["finish_reason"]
    assert "error" not in result
    assert [*(f"job-1_{index:04}" for index in (0, 1, 2, 5, 6)), "job-1_~1.1"] == await call_keys(customer)
    sent = [received.json["messages"] for received in customer.account.received]
    assert messages in sent
    assert [{"role": "user", "content": "p0"}] in sent


async def test_many_prompts(harness: Harness):
    """
    A hundred prompts have as many answers in order, in a blob, because they don't fit a message.

    Each has one usage record, whose key no other prompt and no other job has; the result has their sum.
    """
    customer = harness.customer()
    model = ScriptedModel().serve(customer)

    many = [f"{prompt} {'x' * 600}" for prompt in prompts(100)]
    result = await customer.run(**multi_chat(many, "many"))

    assert ("succeeded", 100) == (result["status"], result["usage"]["calls"])
    assert "output" not in result
    blob = result["output_blob"]
    stored = json.loads(await harness.services.blobs.read(blob["container"], blob["name"], 10**6) or b"")
    assert [f"About {prompt}" for prompt in many] == texts(stored)
    records = await customer.usage()
    assert [f"many_{index:04}" for index in range(100)] == await call_keys(customer)
    assert {f"{datetime.now(UTC):%Y-%m-%d}"} == {record["RowKey"].split("_")[1] for record in records}
    assert model.tokens == result["usage"]["input_tokens"] + result["usage"]["output_tokens"]
    assert {name: result["usage"].get(name) for name in USAGE} == {
        name: sum(record[name] for record in records) for name in USAGE
    }


@pytest.mark.parametrize(("secret", "limit"), [({}, 16), ({"max_concurrency": 3}, 3), ({"max_concurrency": 1}, 1)])
async def test_concurrency_limit_is_reached_and_kept(harness: Harness, secret: dict[str, int], limit: int):
    """As many calls run at the same time as `max_concurrency` allows, by default 16, and no more."""
    customer = harness.customer(**secret)
    model = ScriptedModel(after_s=0.03, wait_for=limit).serve(customer)

    await customer.run(**multi_chat(prompts(3 * limit)))

    assert limit == model.max_in_flight


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
    for prompt in prompts(200):
        model.scripts[prompt] = [refusal] * 9

    result = await customer.run(**multi_chat(prompts(200)))

    assert ("failed", code) == (result["status"], result["error"]["code"])
    assert model.calls.total() <= 4
    assert [] == await customer.usage()
