"""`summarize` from the message to the result: input blobs, steps and usage records."""

from __future__ import annotations

import re

import pytest
from aiohttp import web

from shared.actions.text_splitter import split
from tests.support.endpoint import Received, completion
from tests.support.harness import Harness
from tests.support.long_texts import long_text, summarized_text


def text_of(received: Received) -> str:
    """Return the text that a call asks to summarize."""
    return summarized_text(received.json)


def system_message(received: Received) -> str:
    """Return the system message of a call."""
    return received.json["messages"][0]["content"]


async def upload(harness: Harness, name: str, data: bytes) -> str:
    """Write an input blob, and return its `container/name`."""
    container = harness.environment["INPUT_CONTAINERS"]
    await harness.blobs.get_blob_client(container, name).upload_blob(data, overwrite=True)
    return f"{container}/{name}"


async def test_text_is_read_from_a_blob(harness: Harness):
    """`blob` names a text of the customer's own; its byte order mark is not sent."""
    customer = harness.customer()
    name = await upload(harness, f"{customer.name}/report.txt", "\ufeffGrüße".encode())

    result = await customer.run(action="summarize", input={"blob": name})

    assert {"text": "Hello.", "parts": 1, "levels": 0, "finish_reason": "stop"} == result["output"]
    assert ["Grüße"] == [text_of(received) for received in customer.account.received]
    assert ("succeeded", 1, 11) == (result["status"], result["usage"]["calls"], result["usage"]["input_tokens"])
    assert 1 == len(await customer.usage())


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

    def summary(part: str) -> str:
        return f"Of {re.findall('[0-9]+', part)}"

    async def answer(request: web.Request) -> web.StreamResponse:
        return await completion(summary(summarized_text(await request.json())), after_s=0.01)(request)

    customer.account.will_answer(*[answer] * 4)
    options = {"style": "bullets", "max_words": 40, "language": "Dutch", "instructions": "Amounts."}

    result = await customer.run(action="summarize", input={"text": text, **options, "parameters": {"temperature": 0}})

    *parts, last = customer.account.received
    assert text == "".join(sorted(map(text_of, parts), key=text.index))
    assert "\n\n".join(summary(part) for part in split(text, 12_000)) == text_of(last)
    assert all("one part of a longer text" in system_message(part) for part in parts)
    assert not any("bullet" in system_message(part) for part in parts)
    for words in ("bullet points", "at most 40 words", "Write in Dutch.", "Amounts."):
        assert words in system_message(last)
    assert [0] * 4 == [received.json["temperature"] for received in customer.account.received]
    assert (3, 1, "stop") == tuple(result["output"][name] for name in ("parts", "levels", "finish_reason"))
    assert 4 == result["usage"]["calls"] == len(await customer.usage())
    steps = [row["RowKey"].partition("~")[2] for row in await customer.rows() if row["RowKey"].startswith("s_")]
    assert ["c1n", "p", "p0001", "p0002", "p0003"] == sorted(steps)
