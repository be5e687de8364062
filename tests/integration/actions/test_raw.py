"""`raw` from the message to the result: what is sent, and what is recorded."""

from __future__ import annotations

import base64
import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiohttp import web

from tests.support.endpoint import Answer, Received, images, pixels, reply, reset
from tests.support.harness import Customer, Harness, open_harness

DEPLOYMENTS = {"provider": "azure_openai", "default_model": None}


def answer(body: bytes, content_type: str = "", *, status: int = 200) -> Answer:
    """Answer with bytes of any media type, or of none."""

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        response.headers["content-type"] = content_type
        await response.prepare(request)
        await response.write(body)
        return response

    return respond


async def run(customer: Customer, *, model: str | None = None, **members: Any) -> dict[str, Any]:
    """Return the result of a raw job; `members` are its input's."""
    job = {} if model is None else {"model": model}
    return await customer.run(action="raw", input={"path": "things"} | members, **job)


def form_parts(received: Received) -> list[EmailMessage]:
    """Return the parts of a multipart form, as the standard library's parser reads them."""
    head = b"content-type: " + received.headers["content-type"].encode() + b"\r\n\r\n"
    message = message_from_bytes(head + received.body, policy=policy.HTTP)
    assert message.is_multipart()
    return list(message.iter_parts())


async def test_get_needs_no_model_and_is_not_billed(harness: Harness):
    """A job with only a path is a GET with the customer's key. It needs no model, and has no usage record."""
    customer = harness.customer(default_model=None)
    body = {"data": [{"id": "gpt-4o"}], "usage": {"prompt_tokens": 5}}
    shown = {"x-request-id": "r", "x-ratelimit-remaining-tokens": "5", "location": "/y"}
    hidden = {"set-cookie": "a=b", "x-internal": customer.account.key, "server": "s"}
    customer.account.will_answer(reply(body, headers=shown | hidden))

    result = await run(customer, path="models")

    (received,) = customer.account.received
    assert ("GET", "/openai/v1/models", {}, b"") == (received.method, received.path, received.query, received.body)
    assert customer.account.key == received.headers["api-key"]
    assert "content-type" not in received.headers
    output = result["output"]
    assert ("succeeded", 200, "application/json") == (result["status"], output["status"], output["content_type"])
    assert body == output["json"]
    assert "application/json" in output["headers"].pop("content-type")
    assert shown == output["headers"]
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
    assert ("", "gpt-5-2025", True, "r-9") == tuple(
        record.get(name) for name in ("model", "answered_by", "reported", "request_id")
    )


async def test_other_methods_are_sent_and_not_billed(harness: Harness):
    """PUT, PATCH and DELETE are sent with their body, and have no usage record."""
    customer, methods = harness.customer(), ["PUT", "PATCH", "DELETE"]

    results = [await run(customer, method=method, json={"a": 1}) for method in methods]

    assert [(method, {"a": 1}) for method in methods] == [
        (received.method, received.json) for received in customer.account.received
    ]
    assert ["succeeded"] * 3 == [result["status"] for result in results]
    assert [] == await customer.usage()


async def test_post_without_a_body_is_billed(harness: Harness):
    """A POST needs no body and no content type; it is recorded as a call without a reported usage."""
    customer = harness.customer()
    customer.account.will_answer(reply({"status": "cancelled"}))

    await run(customer, path="batches/b1/cancel", method="POST")

    (received,) = customer.account.received
    assert ("POST", b"", None) == (received.method, received.body, received.headers.get("content-type"))
    (record,) = await customer.usage()
    assert (False, 1) == (record["reported"], record["calls"])


async def test_query_and_headers_are_sent(harness: Harness):
    """A query has strings, numbers, booleans and lists of them; headers are sent beside the connection's own."""
    customer = harness.customer(organization="org-1")
    query = {"q": "a b&c=d+é/?#%", "limit": 20, "half": 0.5, "all": True, "include[]": ["x", "y"], "none": []}

    await run(customer, path="/a%20b/c:d", query=query, headers={"OpenAI-Beta": "assistants=v2", "Accept": "text/csv"})

    (received,) = customer.account.received
    assert "/openai/v1/a b/c:d" == received.path
    assert {"q": "a b&c=d+é/?#%", "limit": "20", "half": "0.5", "all": "true", "include[]": "x"} == received.query
    assert ("assistants=v2", "text/csv", "org-1") == tuple(
        received.headers[name] for name in ("openai-beta", "accept", "openai-organization")
    )


async def test_text_is_sent_unchanged(harness: Harness):
    """Text is sent as UTF-8, as text/plain unless the job sets another content type."""
    customer = harness.customer()

    await run(customer, data="zwölf\r\n")
    await run(customer, data="<a/>", headers={"Content-Type": "application/xml"}, method="PUT")

    plain, xml = customer.account.received
    assert ("zwölf\r\n".encode(), "text/plain; charset=utf-8") == (plain.body, plain.headers["content-type"])
    assert (b"<a/>", "application/xml") == (xml.body, xml.headers["content-type"])


async def test_form_without_files_is_url_encoded(harness: Harness):
    """A form without files is URL-encoded."""
    customer = harness.customer()

    await run(customer, form={"a": "1 & 2", "b": "ü"})

    (received,) = customer.account.received
    assert ("POST", "application/x-www-form-urlencoded") == (received.method, received.headers["content-type"])
    assert b"a=1+%26+2&b=%C3%BC" == received.body


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


@pytest.mark.parametrize(
    ("members", "member"),
    [({"headers": {"Api-Key": "mine"}}, "`input.headers.Api-Key`"), ({"query": {"q": "é" * 3000}}, "`input.query`")],
)
async def test_invalid_request_is_not_sent(harness: Harness, members: dict[str, Any], member: str):
    """A job with a reserved header or a too long URL fails without a call, and the error names the member."""
    customer = harness.customer()

    result = await run(customer, **members)

    assert "invalid_job" == result["error"]["code"]
    assert member in result["error"]["message"]
    assert [] == customer.account.received


async def test_endpoint_with_a_deployment_is_not_left(harness: Harness):
    """If the connection names a deployment, a path into another one is refused, and so is another model."""
    customer = harness.customer(endpoint=f"{harness.endpoint.url}/openai/deployments/own", **DEPLOYMENTS)

    other_path = await run(customer, path="deployments/other/chat/completions")
    other_model = await run(customer, path="chat/completions", json={}, model="other")
    within = await run(customer, path="deployments/%6fwn/chat/completions", json={})

    assert ["invalid_job", "invalid_job"] == [result["error"]["code"] for result in (other_path, other_model)]
    assert ("succeeded", "own") == (within["status"], within["model"])
    assert 1 == len(customer.account.received)


async def test_operation_of_a_deployment_needs_a_model(harness: Harness):
    """In the deployment style, a deployment's operation needs a model, which its record names; other paths don't."""
    customer = harness.customer(endpoint=harness.endpoint.url, **DEPLOYMENTS)
    listed = await run(customer, path="models")
    missing = await run(customer, path="chat/completions", json={})
    named = await run(customer, path="chat/completions", json={}, model="mine")
    harness.connect(customer, "other", endpoint=harness.endpoint.url, default_model="usual")
    usual = await customer.run(action="raw", connection="other", input={"path": "chat/completions", "json": {}})

    assert "succeeded" == listed["status"]
    assert ("invalid_job", True) == (missing["error"]["code"], "`model` is missing" in missing["error"]["message"])
    assert ["mine", "usual"] == [named["model"], usual["model"]]
    assert [
        "/openai/models",
        "/openai/deployments/mine/chat/completions",
        "/openai/deployments/usual/chat/completions",
    ] == [received.path for received in customer.account.received]
    assert {"mine", "usual"} == {record["model"] for record in await customer.usage()}
    assert b"{}" == customer.account.received[-1].body


async def test_response_without_content_succeeds(harness: Harness):
    """A 204 has no output, and its job succeeds, even if JSON is requested."""
    customer = harness.customer()
    customer.account.will_answer(answer(b"", status=204))

    result = await run(customer, response_type="json")

    assert ("succeeded", 204) == (result["status"], result["output"]["status"])
    assert {"status", "headers", "content_type"} == result["output"].keys()


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
    client = harness.blobs.get_blob_client(blob["container"], blob["name"])
    assert body == await (await client.download_blob()).readall()
    assert 1 == result["usage"]["calls"]


@pytest.mark.parametrize("response_type", [None, "binary"])
async def test_images_are_billed(harness: Harness, response_type: str | None):
    """Images in a response are counted in the result and in the usage record, also if they are saved as bytes."""
    customer = harness.customer()
    customer.account.will_answer(images(pixels(), pixels()))
    options = {} if response_type is None else {"response_type": response_type}

    result = await run(customer, path="images/generations", json={"prompt": "A cat", "n": 2}, **options)

    (record,) = await customer.usage()
    assert (1, 2, 2) == (result["usage"]["calls"], result["usage"]["images"], record["images"])


async def test_streamed_chat_is_joined_and_billed(harness: Harness):
    """A streamed chat has its events and their joined text in the output; the usage in its last event is recorded."""
    customer = harness.customer()
    delta = {"object": "chat.completion.chunk", "model": "gpt-4o-2024", "choices": [{"delta": {"content": "Hello."}}]}
    last = delta | {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in (delta, last)) + "data: [DONE]\n\n"
    customer.account.will_answer(answer(stream.encode(), "text/event-stream; charset=utf-8"))

    result = await run(customer, path="chat/completions", json={"stream": True})

    assert ("Hello.", [delta, last]) == (result["output"]["text"], result["output"]["events"])
    (record,) = await customer.usage()
    assert (9, 3, "gpt-4o-2024") == tuple(record[name] for name in ("input_tokens", "output_tokens", "answered_by"))


async def test_static_connection_allows_only_operations_that_store_nothing(azurite, vault, endpoint):
    """On the operator's static connection, a job can't read or delete what other customers' jobs have stored."""
    account = endpoint.account()
    static = {"endpoint": f"{endpoint.url}/openai/v1", "provider": "azure_openai", "api_key": account.key}
    settings = {"STATIC_CONNECTION": json.dumps(static), "ALLOW_STATIC_CONNECTION": "*"}
    async with open_harness(azurite, vault, endpoint, **settings) as harness:
        customer = harness.customer(connection=None)

        listed = await run(customer, path="files")
        deleted = await run(customer, path="openai/v1/responses/resp_1", method="DELETE")
        chat = await run(customer, path="chat/completions", json={"model": "m", "messages": []})

    assert ["invalid_job"] * 2 == [result["error"]["code"] for result in (listed, deleted)]
    assert ("succeeded", "operator") == (chat["status"], chat["connection"]["billed_to"])
    assert ["/openai/v1/chat/completions"] == [received.path for received in account.received]
