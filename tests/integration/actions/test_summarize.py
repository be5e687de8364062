"""`summarize` from the message to the result: input blobs, steps, attempts and usage records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from shared.actions.text_splitter import estimate_tokens, split
from tests.support.endpoint import Account, Answer, Received, completion, error
from tests.support.harness import Customer, Harness
from tests.support.long_texts import TOO_LONG, long_text, summarized_text


def job(text: str, **members: Any) -> dict[str, Any]:
    """Return the members of a summarize job; `members` are its input's."""
    return {"action": "summarize", "input": {"text": text, **members}}


def text_of(received: Received) -> str:
    """Return the text that a call asks to summarize."""
    return summarized_text(received.json)


def system_message(received: Received) -> str:
    """Return the system message of a call."""
    return received.json["messages"][0]["content"]


def paragraphs(text: str) -> str:
    """Return an answer that names the paragraphs of a long text."""
    return f"Of {re.findall('[0-9]+', text)}"


def always(account: Account, rule: Callable[[str], Answer], calls: int = 100) -> None:
    """Answer each call by `rule`, which gets the text."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await rule(summarized_text(await request.json()))(request)

    account.will_answer(*[answer] * calls)


async def upload(harness: Harness, name: str, data: bytes) -> str:
    """Write an input blob, and return its `container/name`."""
    container = harness.environment["INPUT_CONTAINERS"]
    await harness.blobs.get_blob_client(container, name).upload_blob(data, overwrite=True)
    return f"{container}/{name}"


async def steps(customer: Customer) -> list[str]:
    """Return the keys of the job's stored steps."""
    return sorted(row["RowKey"].partition("~")[2] for row in await customer.rows() if row["RowKey"].startswith("s_"))


async def test_short_text_is_one_call(harness: Harness):
    """A text that fits is one call, with the job's parameters, and has one usage record."""
    customer = harness.customer()

    result = await customer.run(**job("Some text.", parameters={"temperature": 0}))

    assert {"text": "Hello.", "parts": 1, "levels": 0, "finish_reason": "stop"} == result["output"]
    (received,) = customer.account.received
    assert (0, "Some text.") == (received.json["temperature"], text_of(received))
    assert ("succeeded", 1, 11) == (result["status"], result["usage"]["calls"], result["usage"]["input_tokens"])
    assert 1 == len(await customer.usage())


async def test_text_is_read_from_a_blob(harness: Harness):
    """`blob` names a text of the customer's own; its byte order mark is not sent."""
    customer = harness.customer()
    name = await upload(harness, f"{customer.name}/report.txt", "\ufeffGrüße".encode())

    result = await customer.run(action="summarize", input={"blob": name})

    assert "succeeded" == result["status"]
    assert "Grüße" == text_of(customer.account.received[0])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("{customer}/latin", b"Gr\xfc\xdfe", "`input.blob` is not valid UTF-8 (byte 2)."),
        ("{customer}/empty", b"\n", "`input.blob` contains no text."),
        ("other/x", b"text", "`input.blob` must be in "),
        ("{customer}/none", None, "`input.blob` names a blob that does not exist."),
    ],
)
async def test_invalid_blob_fails_the_job(harness: Harness, name: str, data: bytes | None, message: str):
    """A blob that doesn't exist, isn't the customer's, or holds no text fails the job without a call."""
    customer = harness.customer()
    name = name.format(customer=customer.name)
    blob = f"{harness.environment['INPUT_CONTAINERS']}/{name}" if data is None else await upload(harness, name, data)

    result = await customer.run(action="summarize", input={"blob": blob})

    assert ("invalid_job", message) == (result["error"]["code"], result["error"]["message"][: len(message)])
    assert [] == customer.account.received


async def test_long_text_is_summarized_in_parts(harness: Harness):
    """Each part of a long text is one call; their summaries, in order, are combined as the job requests."""
    customer, text = harness.customer(), long_text(3)
    always(customer.account, lambda part: completion(paragraphs(part), after_s=0.01))

    result = await customer.run(**job(text, style="bullets", max_words=40, language="Dutch", instructions="Amounts."))

    *parts, last = customer.account.received
    assert text == "".join(sorted(map(text_of, parts), key=text.index))
    assert "\n\n".join(paragraphs(part) for part in split(text, 12_000)) == text_of(last)
    assert all("one part of a longer text" in system_message(part) for part in parts)
    assert not any("bullet" in system_message(part) for part in parts)
    for words in ("bullet points", "at most 40 words", "Write in Dutch.", "Amounts."):
        assert words in system_message(last)
    assert (3, 1, "stop") == tuple(result["output"][name] for name in ("parts", "levels", "finish_reason"))
    assert 4 == result["usage"]["calls"] == len(await customer.usage())
    assert ["c1n", "p", "p0001", "p0002", "p0003"] == await steps(customer)


async def test_later_attempts_make_only_the_missing_calls(harness: Harness):
    """After waits, and with parts that had to be split, later attempts have the same parts; none is billed twice."""
    customer, text = harness.customer(max_concurrency=1), long_text(3)
    fitting = 0

    def rule(part: str) -> Answer:
        nonlocal fitting
        if estimate_tokens(part) > 9000:
            return error(400, **TOO_LONG)
        fitting += 1
        return error(429, retry_after="60") if fitting in {3, 5} else completion(f"Of {len(part)}.")

    always(customer.account, rule)
    blob = await upload(harness, f"{customer.name}/long", text.encode())

    messages = [await customer.deliver(job_id="long", action="summarize", input={"blob": blob}) for _ in range(3)]

    assert [True, True, False] == [message is None for message in messages]
    result = json.loads(messages[2] or b"")
    sent = [text_of(received) for received in customer.account.received]
    answered = [part for number, part in enumerate(sent) if number not in {0, 3, 5}]
    assert len(answered) == len(set(answered)) == result["usage"]["calls"] == len(await customer.usage())
    assert text == "".join(sorted(answered[:-1], key=text.index))
    assert 1 == sum(estimate_tokens(part) > 9000 for part in sent)
    assert (3, "succeeded") == (result["attempts"], result["status"])
