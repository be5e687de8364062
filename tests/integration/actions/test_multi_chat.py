"""`multi_chat` from the message to the result: answers, errors and usage records."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.support.endpoint import completion, error
from tests.support.harness import Harness
from tests.support.scripted_model import USAGE, ScriptedModel, call_key, call_keys, codes, multi_chat, prompts, texts


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
    assert [f"job-1_{index:04}" for index in (0, 1, 2, 5, 6)] == await call_keys(customer)
    sent = [received.json["messages"] for received in customer.account.received]
    assert messages in sent
    assert [{"role": "user", "content": "p0"}] in sent


async def test_a_thousand_prompts(harness: Harness):
    """
    A thousand prompts have a thousand answers in order, in a blob, because they don't fit a message.

    Each has one usage record, whose key no other prompt and no other job has; the result has their sum.
    """
    customer = harness.customer()
    model = ScriptedModel().serve(customer)

    result = await customer.run(**multi_chat(prompts(1000), "many"))

    assert ("succeeded", 1000) == (result["status"], result["usage"]["calls"])
    assert "output" not in result
    blob = harness.blobs.get_blob_client(result["output_blob"]["container"], result["output_blob"]["name"])
    stored = json.loads(await (await blob.download_blob()).readall())
    assert [f"About {prompt}" for prompt in prompts(1000)] == texts(stored)
    records = await customer.usage()
    assert [f"many_{index:04}" for index in range(1000)] == sorted(call_key(record["RowKey"]) for record in records)
    assert {f"{datetime.now(UTC):%Y-%m}"} == {record["RowKey"].split("_")[1] for record in records}
    assert model.tokens == result["usage"]["input_tokens"] + result["usage"]["output_tokens"]
    assert {name: result["usage"][name] for name in USAGE} == {
        name: sum(record[name] for record in records) for name in USAGE
    }
