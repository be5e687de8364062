"""`raw` from the message to the result: what is sent, and what is recorded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from aiohttp import web

from tests.support.endpoint import Answer, pixels, reply, reset
from tests.support.forms import form_parts
from tests.support.harness import Customer, Harness


def answer(body: bytes, content_type: str = "", *, status: int = 200) -> Answer:
    """Answer with bytes of any media type, or of none."""

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        response.headers["content-type"] = content_type
        await response.prepare(request)
        await response.write(body)
        return response

    return respond


async def run(customer: Customer, **members: Any) -> dict[str, Any]:
    """Return the result of a raw job; `members` are its input's."""
    return await customer.run(action="raw", input={"path": "things"} | members)


async def test_get_needs_no_model_and_is_not_billed(harness: Harness):
    """A job with only a path is a GET with the customer's key. It needs no model, and has no usage record."""
    customer = harness.customer(default_model=None)
    body = {"data": [{"id": "gpt-4o"}], "usage": {"prompt_tokens": 5}}
    customer.account.will_answer(reply(body))

    result = await run(customer, path="models")

    (received,) = customer.account.received
    assert ("GET", "/openai/v1/models", {}, b"") == (received.method, received.path, received.query, received.body)
    assert customer.account.key == received.headers["api-key"]
    assert "content-type" not in received.headers
    output = result["output"]
    assert ("succeeded", 200, "application/json") == (result["status"], output["status"], output["content_type"])
    assert body == output["json"]
    assert 0 == result["usage"]["calls"]
    assert "model" not in result
    assert [] == await customer.usage()


async def test_post_is_billed_by_its_reported_usage(harness: Harness):
    """A POST's usage and model are recorded as the provider reports them; its JSON is sent as it was written."""
    customer = harness.customer()
    usage = {"input_tokens": 30, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}}
    customer.account.will_answer(
        reply({"id": "resp_1", "model": "gpt-5-2025", "usage": usage}, headers={"x-request-id": "r-9"})
    )
    text = '{"b" : 1.50, "a": [null, 12345678901234567890123], "model":"gpt-5"}'

    result = await customer.run(
        json.dumps(customer.job(action="raw", input={"path": "responses", "json": 0}))
        .replace("0}}", text + "}}")
        .encode()
    )

    (received,) = customer.account.received
    assert ("POST", "/openai/v1/responses", text.encode()) == (received.method, received.path, received.body)
    assert "application/json" == received.headers["content-type"]
    assert (1, 30, 4, 2) == tuple(
        result["usage"][name] for name in ("calls", "input_tokens", "output_tokens", "reasoning_tokens")
    )
    (record,) = await customer.usage()
    assert ("gpt-5", "gpt-5-2025", True, "r-9") == tuple(
        record.get(name) for name in ("model", "answered_by", "reported", "request_id")
    )


async def test_other_methods_are_sent_and_not_billed(harness: Harness):
    """PUT, PATCH and DELETE are sent with their body and not billed; a POST without a body is. A 204 has no output."""
    customer = harness.customer()
    customer.account.will_answer(answer(b"", status=204))
    requests: dict[str, Any] = {method: {"json": {"a": 1}} for method in ("PUT", "PATCH", "DELETE")} | {"POST": {}}

    results = [await run(customer, method=method, **body) for method, body in requests.items()]

    *with_body, post = customer.account.received
    assert [(method, b'{"a": 1}') for method in ("PUT", "PATCH", "DELETE")] == [
        (received.method, received.body) for received in with_body
    ]
    assert ("POST", b"", None) == (post.method, post.body, post.headers.get("content-type"))
    assert ["succeeded"] * 4 == [result["status"] for result in results]
    assert (204, {"status", "headers", "content_type"}) == (results[0]["output"]["status"], results[0]["output"].keys())
    (record,) = await customer.usage()
    assert (True, 1) == (record["reported"], record["calls"])


async def test_query_and_headers_are_sent(harness: Harness):
    """A query has strings, numbers, booleans and lists of them; headers are sent beside the connection's own."""
    customer = harness.customer(provider="openai", organization="org-1")
    query = {"q": "a b&c=d+é/?#%", "limit": 20, "half": 0.5, "all": True, "include[]": ["x", "y"], "none": []}

    await run(customer, path="/a%20b/c:d", query=query, headers={"OpenAI-Beta": "assistants=v2", "Accept": "text/csv"})

    (received,) = customer.account.received
    assert "/openai/v1/a b/c:d" == received.path
    assert {"q": "a b&c=d+é/?#%", "limit": "20", "half": "0.5", "all": "true", "include[]": "x"} == received.query
    assert ("assistants=v2", "text/csv", "org-1") == tuple(
        received.headers[name] for name in ("openai-beta", "accept", "openai-organization")
    )


async def test_text_and_forms_are_sent(harness: Harness):
    """Text is sent as UTF-8, as text/plain or what the job sets; a form without files is URL-encoded."""
    customer = harness.customer()

    await run(customer, data="zwölf\r\n")
    await run(customer, data="<a/>", headers={"Content-Type": "application/xml"}, method="PUT")
    await run(customer, form={"a": "1 & 2", "b": "ü"})

    assert [
        ("POST", "zwölf\r\n".encode(), "text/plain; charset=utf-8"),
        ("PUT", b"<a/>", "application/xml"),
        ("POST", b"a=1+%26+2&b=%C3%BC", "application/x-www-form-urlencoded"),
    ] == [(received.method, received.body, received.headers["content-type"]) for received in customer.account.received]


async def test_files_are_parts_of_a_multipart_form(harness: Harness):
    """Fields and files are sent as one multipart form with their exact bytes, and again if the first try failed."""
    customer = harness.customer()
    customer.account.will_answer(reset)
    image = pixels()
    files = {
        "image": base64.b64encode(image).decode(),
        "mask": {"content": base64.b64encode(b"\r\n--\0\xff").decode(), "filename": 'm"1ü.png'},
        "audio": {"content": "", "filename": "a.bin", "content_type": "audio/wav; rate=8000"},
    }

    result = await customer.run(
        action="raw",
        input={"path": "images/edits", "form": {"prompt": "A cat\nasleep"}, "files": files},
        options={"retry_delay_ms": 1},
    )

    assert "succeeded" == result["status"]
    for received in customer.account.received:
        assert str(len(received.body)) == received.headers["content-length"]
        prompt_part, image_part, mask_part, audio_part = form_parts(received)
        assert "prompt" == prompt_part.get_param("name", header="content-disposition")
        assert b"A cat\nasleep" == prompt_part.get_payload(decode=True)
        assert ("image", "application/octet-stream") == (image_part.get_filename(), image_part.get_content_type())
        assert image == image_part.get_payload(decode=True)
        assert "image/png" == mask_part.get_content_type()
        assert 'filename="m%221ü.png"'.encode() in received.body
        assert b"\r\n--\0\xff" == mask_part.get_payload(decode=True)
        assert ("a.bin", "audio/wav", b"") == (
            audio_part.get_filename(),
            audio_part.get_content_type(),
            audio_part.get_payload(decode=True),
        )
    assert 2 == len(customer.account.received)


async def test_repeated_names_are_sent_in_order(harness: Harness):
    """A list is as many fields, or parts, of one name, in its order, with each file's own name, type and bytes."""
    customer = harness.customer()
    sizes = {"timestamp_granularities[]": ["word", "segment"], "n": "1"}
    images = [
        {"content": base64.b64encode(text).decode(), "filename": f"{number}.{ending}"}
        for number, (text, ending) in enumerate([(b"b", "png"), (b"a", "jpg"), (b"b", "webp")])
    ]

    await run(customer, form={"b": ["2", "1", "2"], "a": "x"})
    await run(customer, form=sizes, files={"image[]": images, "mask": "Yw=="})

    encoded, multipart = customer.account.received
    assert b"b=2&b=1&b=2&a=x" == encoded.body
    assert [
        ("timestamp_granularities[]", None, b"word"),
        ("timestamp_granularities[]", None, b"segment"),
        ("n", None, b"1"),
        ("image[]", "0.png", b"b"),
        ("image[]", "1.jpg", b"a"),
        ("image[]", "2.webp", b"b"),
        ("mask", "mask", b"c"),
    ] == [
        (part.get_param("name", header="content-disposition"), part.get_filename(), part.get_payload(decode=True))
        for part in form_parts(multipart)
    ]
    types = [part.get_content_type() for part in form_parts(multipart)]
    assert ["image/png", "image/jpeg", "image/webp"] == types[3:6]


@pytest.mark.parametrize(("content_type", "extension"), [("audio/mpeg", "mp3"), ("", "bin")])
async def test_binary_response_is_a_blob(harness: Harness, content_type: str, extension: str):
    """A response that is neither JSON nor text is a blob of its exact bytes, named after its media type."""
    customer = harness.customer()
    body = bytes(range(256)) * 400
    customer.account.will_answer(answer(body, content_type))

    result = await run(customer, json={})

    blob = result["output"]["blob"]
    assert f"{customer.name}/{result['job_id']}/output.{extension}" == blob["name"]
    assert (len(body), content_type or "application/octet-stream") == (blob["size"], blob["content_type"])
    assert body == await harness.services.blobs.read(blob["container"], blob["name"], 10**6)
    assert 1 == result["usage"]["calls"]
