"""`raw` through the real parts: what is sent, what comes back, what is refused at the door."""

from __future__ import annotations

import base64
import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.raw import raw_url
from shared.actions.raw_response import extension
from shared.connections.endpoint import parse_endpoint
from shared.contract.raw import decode_raw
from shared.errors import InvalidJob
from tests.support.endpoint import Answer, Received, error, images, pixels, reply, reset
from tests.support.harness import Customer, World, open_world

DEPLOYMENTS = {"provider": "azure_openai", "default_model": None}


def answer(body: bytes, content_type: str = "", *, status: int = 200, **headers: str) -> Answer:
    """Answers with bytes of any media type, or of none."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    named |= {"content-type": content_type} if content_type else {}

    async def told(_: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=named)
        if not content_type:
            response.headers["content-type"] = ""
        await response.prepare(_)
        await response.write(body)
        return response

    return told


async def run(customer: Customer, *, model: str | None = None, **members: Any) -> dict[str, Any]:
    """The result of a raw job with these members of input."""
    more = {} if model is None else {"model": model}
    return await customer.run(action="raw", input={"path": "things"} | members, **more)


def parts(received: Received) -> list[EmailMessage]:
    """The parts of a multipart form, as a parser of another hand sees them."""
    head = b"content-type: " + received.headers["content-type"].encode() + b"\r\n\r\n"
    message = message_from_bytes(head + received.body, policy=policy.HTTP)
    assert message.is_multipart()
    return list(message.iter_parts())


async def test_a_get_needs_no_model_and_is_no_call(world: World):
    """A job with nothing but a path is a GET with the customer's key; it needs no model and costs nothing."""
    customer = world.customer(default_model=None)
    customer.account.will_answer(reply({"data": [{"id": "gpt-4o"}], "usage": {"prompt_tokens": 5}}))

    result = await run(customer, path="models")

    (received,) = customer.account.received
    assert ("GET", "/openai/v1/models", {}, b"") == (received.method, received.path, received.query, received.body)
    assert customer.account.key == received.headers["api-key"]
    assert "content-type" not in received.headers
    assert "succeeded" == result["status"]
    assert {"data": [{"id": "gpt-4o"}], "usage": {"prompt_tokens": 5}} == result["output"]["json"]
    assert 0 == result["usage"]["calls"]
    assert "model" not in result
    assert [] == await customer.usage()


async def test_a_post_is_a_call_with_the_usage_that_it_tells(world: World):
    """A POST's usage is recorded in the provider's words, and its JSON arrives as it was written."""
    customer = world.customer()
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


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_other_methods_are_sent_and_are_no_calls(world: World, method: str):
    """PUT, PATCH and DELETE go out with their body, and leave no usage record."""
    customer = world.customer()

    result = await run(customer, method=method, json={"a": 1})

    assert [(method, {"a": 1})] == [(one.method, one.json) for one in customer.account.received]
    assert "succeeded" == result["status"]
    assert [] == await customer.usage()


async def test_a_post_without_a_body_is_one(world: World):
    """The method POST needs no body, nor a word on what that is, and is a call whose usage was not told."""
    customer = world.customer()
    customer.account.will_answer(reply({"status": "cancelled"}))

    await run(customer, path="batches/b1/cancel", method="POST")

    (received,) = customer.account.received
    assert ("POST", b"", None) == (received.method, received.body, received.headers.get("content-type"))
    (record,) = await customer.usage()
    assert (False, 1) == (record["reported"], record["calls"])


async def test_query_and_headers_arrive(world: World):
    """Strings, numbers, booleans and lists of them stand in the query; headers arrive as they were given."""
    customer = world.customer(organization="org-1")
    query = {"q": "a b&c=d+é/?#%", "limit": 20, "half": 0.5, "all": True, "include[]": ["x", "y"], "none": []}

    await run(customer, path="/a%20b/c:d", query=query, headers={"OpenAI-Beta": "assistants=v2", "Accept": "text/csv"})

    (received,) = customer.account.received
    assert "/openai/v1/a b/c:d" == received.path
    assert {"q": "a b&c=d+é/?#%", "limit": "20", "half": "0.5", "all": "true", "include[]": "x"} == received.query
    assert ("assistants=v2", "text/csv", "org-1") == tuple(
        received.headers[name] for name in ("openai-beta", "accept", "openai-organization")
    )


async def test_text_is_sent_as_it_is(world: World):
    """Text goes out as UTF-8, as text/plain unless the job says otherwise."""
    customer = world.customer()

    await run(customer, data="zwölf\r\n")
    await run(customer, data="<a/>", headers={"Content-Type": "application/xml"}, method="PUT")

    plain, xml = customer.account.received
    assert ("zwölf\r\n".encode(), "text/plain; charset=utf-8") == (plain.body, plain.headers["content-type"])
    assert (b"<a/>", "application/xml") == (xml.body, xml.headers["content-type"])


async def test_a_form_alone_is_url_encoded(world: World):
    """Fields without files are a URL-encoded form."""
    customer = world.customer()

    await run(customer, form={"a": "1 & 2", "b": "ü"})

    (received,) = customer.account.received
    assert ("POST", "application/x-www-form-urlencoded") == (received.method, received.headers["content-type"])
    assert b"a=1+%26+2&b=%C3%BC" == received.body


async def test_files_are_parts_with_names_types_and_exact_bytes(world: World):
    """Fields and files arrive as one multipart form, and again in whole when the first try failed."""
    customer = world.customer()
    customer.account.will_answer(reset)
    picture = pixels()
    files = {
        "image": base64.b64encode(picture).decode(),
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
        prompt, image, mask, audio = parts(received)
        assert "prompt" == prompt.get_param("name", header="content-disposition")
        assert b"A cat\nasleep" == prompt.get_payload(decode=True)
        assert ("image", "application/octet-stream") == (image.get_filename(), image.get_content_type())
        assert picture == image.get_payload(decode=True)
        assert "image/png" == mask.get_content_type()
        assert 'filename="m%221ü.png"'.encode() in received.body
        assert b"\r\n--\0\xff" == mask.get_payload(decode=True)
        assert ("a.bin", "audio/wav", b"") == (
            audio.get_filename(),
            audio.get_content_type(),
            audio.get_payload(decode=True),
        )
    assert 2 == len(customer.account.received)


REFUSED = {
    "full URL": ({"path": "https://evil.example/x"}, "`input.path`"),
    "upper-case scheme": ({"path": "HTTPS:x"}, "`input.path`"),
    "network path": ({"path": "//evil.example/x"}, "`input.path`"),
    "empty segment": ({"path": "a//b"}, "`input.path`"),
    "trailing slash": ({"path": "a/"}, "`input.path`"),
    "backslash": ({"path": "\\\\evil.example"}, "`input.path`"),
    "backslash within": ({"path": "a\\b"}, "`input.path`"),
    "dots": ({"path": "a/../b"}, "`input.path`"),
    "dots first": ({"path": "../x"}, "`input.path`"),
    "one dot": ({"path": "./x"}, "`input.path`"),
    "encoded dots": ({"path": "a/%2e%2E/b"}, "`input.path`"),
    "half encoded dots": ({"path": "a/.%2e"}, "`input.path`"),
    "dots with a parameter": ({"path": "a/..;x=1/b"}, "`input.path`"),
    "dots encoded twice": ({"path": "a/%252e%252e/b"}, "`input.path`"),
    "encoded slash": ({"path": "a%2f..%2fb"}, "`input.path`"),
    "encoded backslash": ({"path": "a%5cb"}, "`input.path`"),
    "query": ({"path": "a?b=c"}, "`query`"),
    "fragment": ({"path": "a#b"}, "`input.path`"),
    "user name": ({"path": "@evil.example/x"}, "`input.path`"),
    "line break": ({"path": "a\r\nHost: evil"}, "`input.path`"),
    "encoded line break": ({"path": "a%0d%0ab"}, "`input.path`"),
    "encoded nothing": ({"path": "a%00"}, "`input.path`"),
    "space": ({"path": "a b"}, "`input.path`"),
    "beyond ASCII": ({"path": "é"}, "`input.path`"),
    "half an escape": ({"path": "a%2"}, "`input.path`"),
    "no path": ({"path": ""}, "`input.path`"),
    "slash alone": ({"path": "/"}, "`input.path`"),
    "method": ({"method": "get"}, "`input.method` must be one of GET, POST, PUT, PATCH, DELETE."),
    "a method that is none": ({"method": "TRACE"}, "`input.method`"),
    "response type": ({"response_type": "xml"}, "`input.response_type` must be one of json, text, binary."),
    "two bodies": ({"json": None, "data": "x"}, "`input.data` can't be combined with `input.json`"),
    "a body and a form": ({"data": "x", "files": {}}, "`input.files` can't be combined with `input.data`"),
    "three bodies": ({"data": "x", "form": {}, "files": {}}, "`input.form`"),
    "a body for a GET": ({"json": {}, "method": "GET"}, "`input.json`"),
    "empty form": ({"form": {}}, "`input.form` is empty"),
    "form value": ({"form": {"n": 1}}, "`input.form.n` must be a string"),
    "not base64": ({"files": {"f": "a b c"}}, "`input.files.f` must be base64"),
    "no base64 in an object": ({"files": {"f": {"content": "é"}}}, "`input.files.f.content` must be base64"),
    "file without content": ({"files": {"f": {"filename": "a"}}}, "`input.files.f.content` is missing"),
    "file of a wrong kind": ({"files": {"f": 3}}, "`input.files.f`"),
    "unknown member of a file": ({"files": {"f": {"content": "", "name": "a"}}}, "`input.files.f.name`"),
    "header in a file's type": (
        {"files": {"f": {"content": "", "content_type": "a/b\r\nx: y"}}},
        "`input.files.f.content_type`",
    ),
    "line break in a file's name": ({"files": {"f": {"content": "", "filename": "a\nb"}}}, "`input.files.f.filename`"),
    "own type for a form": ({"form": {"a": "b"}, "headers": {"Content-Type": "a/b"}}, "`input.headers.content-type`"),
    "query of objects": ({"query": {"a": {}}}, "`input.query.a`"),
    "query of nothing": ({"query": {"a": [None]}}, "`input.query.a[0]`"),
    "unknown member": ({"url": "x"}, "`input.url`"),
    "header value": ({"headers": {"x": 1}}, "`input.headers.x`"),
    "header injection": ({"headers": {"x": "a\r\napi-key: b"}}, "`input.headers.x`"),
    "header beyond ASCII": ({"headers": {"x": "é"}}, "`input.headers.x`"),
    "injection by name": ({"headers": {"x: y\r\nz": "a"}}, "is not a valid header name"),
    "header without a name": ({"headers": {"": "a"}}, "is not a valid header name"),
    "the same header twice": ({"headers": {"Accept": "a", "accept": "b"}}, "`input.headers.accept` occurs twice"),
}


@pytest.mark.parametrize(("members", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_request_is_refused_by_name(members: dict[str, Any], words: str):
    """A member that is wrong is named, and what it held of a path or a header is not quoted."""
    with pytest.raises(InvalidJob) as raised:
        decode_raw(json.dumps({"path": "x"} | members).encode())

    assert words in str(raised.value)
    assert "evil" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "authorization", "AUTHORIZATION", "api-key", "Api-Key", "x-api-key", "Ocp-Apim-Subscription-Key"),
        *("proxy-authorization", "Proxy-Connection", "cookie", "content-length", "transfer-encoding", "connection"),
        *("te", "upgrade", "expect", "x-forwarded-for", "X-Forwarded-Host", "forwarded", "openai-organization"),
        *("OpenAI-Project", "keep-alive", "trailer", "accept-encoding"),
    ],
)
def test_headers_of_others_are_refused_by_name(name: str):
    """A header that the connection or the sending sets can't be set by a job, in no spelling."""
    with pytest.raises(InvalidJob, match=f"`input.headers.{name}` can't be set"):
        decode_raw(json.dumps({"path": "x", "headers": {name: "a"}}).encode())


BASES = ["https://r.openai.azure.com/openai/v1", "https://r.openai.azure.com", "https://api.openai.com"]


@given(path=st.text(max_size=12) | st.text("./\\%2eE5cf;:@?#a", max_size=12), base=st.sampled_from(BASES))
def test_no_path_leads_out_of_the_endpoint(path: str, base: str):
    """Whatever is accepted as a path stays under the endpoint, however a server reads it."""
    try:
        asked = decode_raw(json.dumps({"path": path}).encode())
    except InvalidJob:
        return
    endpoint = parse_endpoint(base)

    url = raw_url(asked, endpoint, "m")

    rest = url.removeprefix(f"{endpoint.base}/").partition("?")[0]
    assert url.startswith(f"{endpoint.base}/")
    assert path.removeprefix("/") == rest
    assert not {"", ".", ".."} & {segment.lower().replace("%2e", ".") for segment in rest.split("/")}


async def test_a_url_that_nobody_takes_is_refused(world: World):
    """A query that makes the URL too long fails the job by name, before it is sent."""
    customer = world.customer()

    result = await run(customer, query={"q": "é" * 3000})

    assert ("invalid_job", True) == (result["error"]["code"], "`input.query`" in result["error"]["message"])
    assert [] == customer.account.received


async def test_a_refused_request_is_never_sent(world: World):
    """A job that is refused at the door ends as a failed result without a call."""
    customer = world.customer()

    result = await run(customer, headers={"Api-Key": "mine"})

    assert "invalid_job" == result["error"]["code"]
    assert [] == customer.account.received


URLS = [
    ("https://r.openai.azure.com/openai/v1", "chat/completions", {}, "/openai/v1/chat/completions"),
    ("https://r.openai.azure.com/openai/v1", "a", {"api-version": "preview"}, "/openai/v1/a?api-version=preview"),
    ("https://r.openai.azure.com", "models", {}, "/openai/models?api-version=2024-10-21"),
    ("https://r.openai.azure.com", "models", {"a": "b"}, "/openai/models?api-version=2024-10-21&a=b"),
    ("https://r.openai.azure.com", "models", {"Api-Version": "x"}, "/openai/models?Api-Version=x"),
    (
        "https://api.openai.com",
        "a",
        {"b[]": ["c/d", 2, False], "e": "+ &"},
        "/v1/a?b%5B%5D=c%2Fd&b%5B%5D=2&b%5B%5D=false&e=%2B%20%26",
    ),
    ("https://r.openai.azure.com", "deployments/d/x", {}, "/openai/deployments/d/x?api-version=2024-10-21"),
    (
        "https://r.openai.azure.com",
        "audio/speech",
        {},
        "/openai/deployments/m%201/audio/speech?api-version=2024-10-21",
    ),
    (
        "https://r.openai.azure.com/openai/deployments/own",
        "embeddings",
        {},
        "/openai/deployments/own/embeddings?api-version=2024-10-21",
    ),
    ("https://r.services.ai.azure.com/models", "info", {}, "/models/info?api-version=2024-05-01-preview"),
    ("https://r.openai.azure.com/openai/v1?api-version=preview", "a", {"b": 1}, "/openai/v1/a?api-version=preview&b=1"),
]


@pytest.mark.parametrize(("base", "path", "query", "expected"), URLS)
def test_addresses_follow_the_endpoints_style(base: str, path: str, query: dict[str, Any], expected: str):
    """A path goes under the base, a deployment's operation under its deployment; the job's API version wins."""
    asked = decode_raw(json.dumps({"path": path, "query": query}).encode())
    endpoint = parse_endpoint(base)

    assert f"https://{endpoint.host}{expected}" == raw_url(asked, endpoint, "m 1")


@pytest.mark.parametrize(
    "path",
    [
        *("deployments/other/chat/completions", "Deployments/other", "deployments"),
        *("%64eployments/other/chat/completions", "openai/%64EPLOYMENTS/other/x", "deployments%20/other/x"),
        *("deployments;x/other/chat/completions", "deployments/own;x/chat/completions", "deployments/%6fther/x"),
    ],
)
async def test_an_endpoint_that_names_its_deployment_is_not_left(world: World, path: str):
    """Where the connection names a deployment, a path into another one is refused, and so is another model."""
    customer = world.customer(endpoint=f"{world.endpoint.url}/openai/deployments/own", **DEPLOYMENTS)

    left = await run(customer, path=path)
    contradicting = await run(customer, path="chat/completions", json={}, model="other")
    within = await run(customer, path="deployments/%6fwn/chat/completions", json={})

    assert ["invalid_job", "invalid_job"] == [one["error"]["code"] for one in (left, contradicting)]
    assert ("succeeded", "own") == (within["status"], within["model"])
    assert 1 == len(customer.account.received)


async def test_a_deployments_operation_needs_a_model(world: World):
    """On the deployment style an operation asks for a model, which its record then names; other paths do not."""
    customer = world.customer(endpoint=world.endpoint.url, **DEPLOYMENTS)
    listed = await run(customer, path="models")
    missing = await run(customer, path="chat/completions", json={})
    named = await run(customer, path="chat/completions", json={}, model="mine")
    world.connect(customer, "other", endpoint=world.endpoint.url, default_model="usual")
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


REPLIES = {
    "json": (answer(b'{"a": 1}', "application/json"), None, {"json": {"a": 1}}),
    "json null": (answer(b"null", "application/json"), None, {"json": None}),
    "json by suffix": (answer(b"[1]", "application/problem+json; charset=utf-8"), None, {"json": [1]}),
    "json asked for": (answer(b"[1]", "text/plain"), "json", {"json": [1]}),
    "json as text": (answer(b'{"a": 1}', "application/json"), "text", {"text": '{"a": 1}'}),
    "text": (answer("é".encode(), "text/plain"), None, {"text": "é"}),
    "text in its charset": (answer(b"\xe9", "text/csv; charset=ISO-8859-1"), None, {"text": "é"}),
    "text in no charset": (answer(b"a\xff", 'text/plain; charset="nonsense"'), None, {"text": "a\ufffd"}),
    "lines of JSON": (answer(b'{"a": 1}\n{}', "application/jsonl"), None, {"text": '{"a": 1}\n{}'}),
    "xml": (answer(b"<a/>", "application/atom+xml"), None, {"text": "<a/>"}),
    "bytes asked for as text": (answer(b"WEBVTT", "application/octet-stream"), "text", {"text": "WEBVTT"}),
    "no content": (answer(b"", "", status=204), None, {}),
    "no content, json asked for": (answer(b"", "", status=204), "json", {}),
    "empty": (answer(b"", "application/json"), None, {}),
    "accepted, json asked for": (answer(b"", "application/json", status=202), "json", {}),
    "empty, text asked for": (answer(b"", "text/plain"), "text", {}),
    "empty, bytes asked for": (answer(b"", "audio/mpeg"), "binary", {}),
}


@pytest.mark.parametrize(("told", "response_type", "expected"), REPLIES.values(), ids=REPLIES.keys())
async def test_answers_are_read_by_their_media_type(
    world: World, told: Answer, response_type: str | None, expected: dict[str, Any]
):
    """JSON is JSON and text is text, unless the job asks for something else; an empty answer is fine."""
    customer = world.customer()
    customer.account.will_answer(told)

    result = await run(customer, **({} if response_type is None else {"response_type": response_type}))

    assert "succeeded" == result["status"], result
    output = result["output"]
    assert expected == {name: output[name] for name in output if name not in {"status", "headers", "content_type"}}


@pytest.mark.parametrize(
    ("content_type", "ext"),
    [
        ("audio/mpeg", "mp3"),
        ("image/png", "png"),
        ("application/pdf", "pdf"),
        ("application/x-own", "bin"),
        ("", "bin"),
    ],
)
async def test_bytes_end_as_a_blob(world: World, content_type: str, ext: str):
    """What is neither JSON nor text is a blob of the exact bytes, named after its media type."""
    customer = world.customer()
    body = bytes(range(256)) * 400
    customer.account.will_answer(answer(body, content_type))

    result = await run(customer, json={})

    blob = result["output"]["blob"]
    assert f"{customer.name}/{result['job_id']}/output.{ext}" == blob["name"]
    assert (len(body), content_type or "application/octet-stream") == (blob["size"], blob["content_type"])
    stored = world.blobs.get_blob_client(blob["container"], blob["name"])
    assert body == await (await stored.download_blob()).readall()
    assert 1 == result["usage"]["calls"]


async def test_json_can_be_kept_as_bytes_and_its_usage_still_counts(world: World):
    """With `binary` the JSON is a blob; the call's tokens are recorded all the same."""
    customer = world.customer()

    result = await run(customer, json={}, response_type="binary")

    assert result["output"]["blob"]["name"].endswith("/output.json")
    assert (11, 7) == (result["usage"]["input_tokens"], result["usage"]["output_tokens"])


@pytest.mark.parametrize("response_type", [None, "json"])
async def test_json_that_is_none_fails_the_job_and_is_billed(world: World, response_type: str | None):
    """An answer that was to be JSON and is not is the provider's failure, recorded, and its text is not lost."""
    customer = world.customer()
    customer.account.will_answer(answer(b'{"a": ', "application/json", x_request_id="r-1"))

    result = await run(customer, json={}, **({} if response_type is None else {"response_type": response_type}))

    assert ("failed", "provider_unavailable") == (result["status"], result["error"]["code"])
    assert (200, "r-1") == (result["error"]["status"], result["error"]["request_id"])
    assert '{"a": ' == result["output"]["text"]
    (record,) = await customer.usage()
    assert not record["reported"]


@pytest.mark.parametrize("response_type", [None, "binary"])
@pytest.mark.parametrize(
    "told",
    [
        images(pixels(), pixels()),
        reply({"data": [{"url": "https://x/1.png"}, {"url": "https://x/2.png"}, {"error": 1}]}),
    ],
    ids=["base64", "addresses"],
)
async def test_pictures_are_counted(world: World, told: Answer, response_type: str | None):
    """Pictures that a raw request buys are on the statement like those of `image`."""
    customer = world.customer()
    customer.account.will_answer(told)
    asked = {} if response_type is None else {"response_type": response_type}

    result = await run(customer, path="images/generations", json={"prompt": "A cat", "n": 2}, **asked)

    (record,) = await customer.usage()
    assert (1, 2, 2) == (result["usage"]["calls"], result["usage"]["images"], record["images"])


def chunk(content: str | None, index: int = 0, **more: Any) -> bytes:
    """A piece of a chat completion as an event."""
    delta = {} if content is None else {"content": content}
    said = {"object": "chat.completion.chunk", "model": "gpt-4o-2024", "choices": [{"index": index, "delta": delta}]}
    return b"data: " + json.dumps(said | more).encode() + b"\r\n\r\n"


async def test_a_streamed_chat_is_collected(world: World):
    """The events of a chat completion are listed, its text joined, and the usage of its last piece recorded."""
    customer = world.customer()
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    stream = [
        b'data: {"object": "", "model": "", "choices": [], "prompt_filter_results": []}\n\n',
        *(chunk(None), chunk("Hel"), chunk("Hi", 1), chunk("lo."), chunk(None, usage=None)),
        *(chunk(None, choices=[], usage=usage), b"data: [DONE]\n\n"),
    ]
    customer.account.will_answer(answer(b"".join(stream), "text/event-stream; charset=utf-8"))

    result = await run(customer, path="chat/completions", json={"stream": True})

    assert "Hello." == result["output"]["text"]
    assert 7 == len(result["output"]["events"])
    assert usage == result["output"]["events"][-1]["usage"]
    (record,) = await customer.usage()
    assert (9, 3, "gpt-4o-2024") == tuple(record[name] for name in ("input_tokens", "output_tokens", "answered_by"))


async def test_events_of_other_kinds_are_listed(world: World):
    """Other streams are listed without a joined text; the Responses API's usage stands within its last event."""
    customer = world.customer()
    done = {
        "type": "response.completed",
        "response": {"model": "gpt-5", "usage": {"input_tokens": 2, "output_tokens": 1}},
    }
    stream = (
        b"event: response.created\ndata: {}\n\n: ping\n\ndata: tick\n\ndata: " + json.dumps(done).encode() + b"\n\n"
    )
    customer.account.will_answer(answer(stream, "text/event-stream"), answer(stream, "text/event-stream"))

    result = await run(customer, json={})
    as_text = await run(customer, json={}, response_type="text")

    assert [{}, "tick", done] == result["output"]["events"]
    assert "text" not in result["output"]
    assert stream.decode() == as_text["output"]["text"]
    assert [(2, 1)] * 2 == [(one["usage"]["input_tokens"], one["usage"]["output_tokens"]) for one in (result, as_text)]


async def test_only_headers_that_say_how_to_go_on_are_told(world: World):
    """Limits, places and ids stand in the result; cookies and whatever else an endpoint sends do not."""
    customer = world.customer()
    told = {
        "x-request-id": "r",
        "x-ratelimit-remaining-tokens": "5",
        "operation-location": "https://r/x",
        "location": "/y",
    }
    customer.account.will_answer(
        reply({}, headers={**told, "set-cookie": "a=b", "x-internal": customer.account.key, "server": "s"})
    )

    result = await run(customer)

    assert 200 == result["output"]["status"]
    assert "application/json" == result["output"]["content_type"]
    headers = result["output"]["headers"]
    assert "application/json" in headers.pop("content-type")
    assert told == headers


@pytest.mark.parametrize(
    ("status", "code"), [(400, "request_rejected"), (302, "request_rejected"), (401, "credential_rejected")]
)
async def test_a_refusal_fails_the_job_and_costs_nothing(world: World, status: int, code: str):
    """Any other status than 2xx is the job's failure, with the upstream's status, and no call."""
    customer = world.customer()
    customer.account.will_answer(error(status, location="/elsewhere"))

    result = await run(customer, json={})

    assert ("failed", code, status) == (result["status"], result["error"]["code"], result["error"]["status"])
    assert 1 == len(customer.account.received)
    assert [] == await customer.usage()


async def test_a_post_is_tried_again_unless_the_job_says_otherwise(world: World):
    """A failed POST is sent again like every request; `max_retries` 0 sends it once."""
    customer = world.customer()
    customer.account.will_answer(error(503), reply({}), error(503))
    patience = {"retry_delay_ms": 1}

    again = await customer.run(action="raw", input={"path": "a", "json": {}}, options=patience)
    once = await customer.run(action="raw", input={"path": "b", "json": {}}, options={"max_retries": 0})

    assert ["succeeded", "failed"] == [again["status"], once["status"]]
    assert ["a", "a", "b"] == [received.path.rpartition("/")[2] for received in customer.account.received]


async def test_a_long_wait_puts_the_job_back(world: World):
    """A wait that the endpoint asks for goes into the queue, as for every action."""
    customer = world.customer()
    customer.account.will_answer(error(429, retry_after="60"))

    assert await customer.deliver(action="raw", input={"path": "a", "json": {}}) is None
    assert 1 == len(customer.account.received)


def test_extensions_are_the_same_on_every_machine():
    """A media type's extension does not depend on what a machine's own tables say."""
    types = ["audio/wav", "audio/flac", "audio/ogg", "image/jpeg", "image/webp", "application/octet-stream", "x/y"]

    assert ["wav", "flac", "ogg", "jpg", "webp", "bin", "bin"] == [extension(media_type) for media_type in types]


@pytest.mark.parametrize(("path", "arrives"), [("v1/models", "models"), ("openai/v1/models", "models")])
async def test_a_path_may_begin_with_the_endpoints_own(world: World, path: str, arrives: str):
    """People who know the whole address write its path from the host on: it is not put there twice."""
    base = path.removesuffix("/models")
    customer = world.customer(endpoint=f"{world.endpoint.url}/{base}", provider="openai" if base == "v1" else "foundry")

    await run(customer, path=path)

    assert f"/{base}/{arrives}" == customer.account.received[0].path


async def test_the_shared_account_answers_only_what_it_does_not_keep(azurite, vault, endpoint):
    """On the operator's static connection, other customers' files and answers can be neither read nor removed."""
    account = endpoint.account()
    static = {"endpoint": f"{endpoint.url}/openai/v1", "provider": "azure_openai", "api_key": account.key}
    settings = {"STATIC_CONNECTION": json.dumps(static), "ALLOW_STATIC_CONNECTION": "*"}
    async with open_world(azurite, vault, endpoint, **settings) as shared:
        customer = shared.customer(connection=None)

        listed = await run(customer, path="files")
        removed = await run(customer, path="openai/v1/responses/resp_1", method="DELETE")
        kept = await run(customer, path="chat/completions", query={"limit": 100})
        asked = await run(customer, path="chat/completions", json={"model": "m", "messages": []})

    assert ["invalid_job"] * 3 == [result["error"]["code"] for result in (listed, removed, kept)]
    assert ("succeeded", "operator") == (asked["status"], asked["connection"]["billed_to"])
    assert ["/openai/v1/chat/completions"] == [received.path for received in account.received]
