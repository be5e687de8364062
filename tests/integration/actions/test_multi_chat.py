"""`multi_chat` from the message to the result: answers, errors and usage records."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.support.endpoint import completion, error
from tests.support.harness import Harness
from tests.support.scripted_model import USAGE, ScriptedModel, call_keys, codes, multi_chat, prompts, texts


async def test_answers_are_in_the_order_of_the_prompts(harness: Harness):
    """Answers are in the order of the prompts, however long each call takes; a prompt may be a list of messages."""
    customer = harness.customer()
    model = ScriptedModel().serve(customer)
    for index in range(5):
        model.scripts[f"p{index}"] = [completion(f"a{index}", after_s=0.05 * (5 - index))]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "p2"}]

    result = await customer.run(**multi_chat(["p0", "p1", messages, "p3", "p4"]))

    assert ("succeeded", 0) == (result["status"], result["output"]["failed"])
    assert [f"a{index}" for index in range(5)] == texts(result)
    assert list(range(5)) == [answer["index"] for answer in result["output"]["answers"]]
    sent = [received.json["messages"] for received in customer.account.received]
    assert messages in sent
    assert [{"role": "user", "content": "p0"}] in sent


async def test_failing_prompt_does_not_fail_the_others(harness: Harness):
    """A refused prompt has its error in its place; the job is partial, and has no error of its own."""
    customer = harness.customer()
    ScriptedModel().serve(customer).scripts["1"] = [error(400, "invalid_value", "No such thing.")]

    result = await customer.run(**multi_chat(["0", "1", "2"]))

    assert ("partial", 1, 2) == (result["status"], result["output"]["failed"], result["usage"]["calls"])
    assert ["About 0", None, "About 2"] == texts(result)
    assert {
        "index": 1,
        "status": "failed",
        "error": {
            "code": "request_rejected",
            "message": "The endpoint refused the request (400): No such thing.",
            "status": 400,
            "request_id": "req-e",
            "detail": {"code": "invalid_value", "type": "error"},
        },
    } == result["output"]["answers"][1]
    assert "error" not in result


async def test_job_fails_if_all_prompts_fail(harness: Harness):
    """If every prompt fails, the job fails with the first prompt's error; each prompt still has its own."""
    customer = harness.customer()
    model = ScriptedModel().serve(customer)
    model.scripts["0"] = [error(400, "content_filter", "Filtered.", x_request_id="req-0")]
    model.scripts["1"] = [error(400, "invalid_value", "No such thing.")]

    result = await customer.run(**multi_chat(["0", "1"]))

    assert "failed" == result["status"]
    assert ["content_filtered", "request_rejected"] == codes(result)
    assert result["output"]["answers"][0]["error"] == result["error"]
    assert ("content_filtered", 400, "req-0") == tuple(
        result["error"][name] for name in ("code", "status", "request_id")
    )
    assert [] == await customer.usage()


async def test_filtered_answer_is_billed_and_filtered_prompt_is_not(harness: Harness):
    """A prompt that the content filter refuses costs nothing; an answer that it stops is billed. Both have failed."""
    customer = harness.customer()
    model = ScriptedModel().serve(customer)
    model.scripts["prompt"] = [error(400, "content_filter")]
    model.scripts["answer"] = [completion("", finish_reason="content_filter")]

    result = await customer.run(**multi_chat(["prompt", "fine", "answer"]))

    assert ("partial", 2) == (result["status"], result["output"]["failed"])
    assert ["content_filtered", None, "content_filtered"] == codes(result)
    assert "content_filter" == result["output"]["answers"][2]["finish_reason"]
    assert ["job-1_0001", "job-1_0002"] == await call_keys(customer)


async def test_text_cut_within_a_character_is_stored(harness: Harness):
    """An answer that ends in half a surrogate pair is stored as a step, and returned with U+FFFD in its place."""
    customer = harness.customer()
    ScriptedModel().serve(customer).scripts["0"] = [completion("a\ud83d")]

    result = await customer.run(**multi_chat(["0"]))

    assert ("succeeded", ["a\ufffd"]) == (result["status"], texts(result))


@pytest.mark.parametrize("count", [1, 40])
async def test_each_call_has_its_usage_record(harness: Harness, count: int):
    """Each prompt has one usage record, whose key no other prompt and no other job has; the result has their sum."""
    customer = harness.customer()
    model = ScriptedModel().serve(customer)

    result = await customer.run(**multi_chat(prompts(count), "many"))

    records = await customer.usage()
    assert [f"many_{index:04}" for index in range(count)] == await call_keys(customer)
    assert {f"{datetime.now(UTC):%Y-%m}"} == {record["RowKey"].split("_")[1] for record in records}
    assert count == result["usage"]["calls"]
    assert model.tokens == result["usage"]["input_tokens"] + result["usage"]["output_tokens"]
    assert {name: result["usage"][name] for name in USAGE} == {
        name: sum(record[name] for record in records) for name in USAGE
    }


async def test_a_thousand_prompts(harness: Harness):
    """A thousand prompts have a thousand answers in order, in a blob, because they don't fit a message."""
    customer = harness.customer()
    ScriptedModel().serve(customer)

    result = await customer.run(**multi_chat(prompts(1000)))

    assert ("succeeded", 1000) == (result["status"], result["usage"]["calls"])
    assert "output" not in result
    blob = harness.blobs.get_blob_client(result["output_blob"]["container"], result["output_blob"]["name"])
    stored = json.loads(await (await blob.download_blob()).readall())
    assert [f"About {prompt}" for prompt in prompts(1000)] == texts(stored)
    assert 1000 == len(await customer.usage())
