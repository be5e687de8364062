"""Jobs over HTTP: bodies and inputs that are refused before anything is recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.decoding import MAX_CONTAINERS
from shared.http.request_parsing import MAX_BODY_BYTES
from shared.http.routes import ROUTES, Route
from shared.jobs.inputs import MAX_INPUT_BYTES
from tests.support.harness import Customer, Harness
from tests.support.http_client import post, send
from tests.support.rows import every_row

NOT_JSON = (
    *("", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "application/xml"),
    *(
        "text/plain; charset=utf-7",
        "text/plain;a=application/json",
        "text/plain, application/json",
        "text/plain,a/b+json",
    ),
    *("application/json2", "text/json", "application/jsonl", "application/json+x", "+json", "json", "/json", "a/+json"),
)
"""Types of a body that is not declared as JSON, among them what a browser sends to another site without asking it."""
JSON_TYPES = (
    *(
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/cloudevents+json",
        "application/vnd.x.v1+json",
    ),
    "application/json ;charset=latin-1",
)
LISTS = b"[]," * 200_000 + b"[]"
TOO_MANY = "more than 200,000 lists and objects"


@every_row(
    ("body", "headers", "status", "message"),
    [
        (b" " * (MAX_BODY_BYTES + 1), {}, 413, str(MAX_BODY_BYTES)),
        (b"", {}, 400, "Content-Length"),  # Azure's host drops a body that is sent in chunks
        (b"{", {}, 400, "not valid JSON"),
        (b"\xff\xfe", {}, 400, "not valid UTF-8"),
        ('{"customer": "contoso"}'.encode("utf-16"), {}, 400, "not valid UTF-8"),
        (b'\xef\xbb\xbf{"customer": "contoso"}', {}, 400, "byte order mark"),
        (b'{"customer": "\\ud800"}', {}, 400, "not valid JSON"),
        (b'{"customer": "contoso", "customer": "fabrikam"}', {}, 400, "`action` is missing"),
        (b"[" * 100_000, {}, 400, "must be an object, not a list"),
        (b"NaN", {}, 400, "not valid JSON"),
        (b'{"options": {"timeout_s": 1e999}}', {}, 400, "number out of range"),
        (b"{}", {"content-type": "application/json; charset=latin-1"}, 400, "is missing"),
        *((b"{}", {"content-encoding": text}, 415, "compressed") for text in ("gzip", "compress")),
        *((b"{}", {"content-type": text}, 415, "must be application/json") for text in NOT_JSON),
        *((b"", {"content-type": text}, 415, "must be application/json") for text in NOT_JSON if text),
        *((b"{}", {"content-type": text}, 400, "is missing") for text in JSON_TYPES),
        (b'{"input":{"prompt":"x","parameters":{"stop":[%s]}}}' % LISTS, {}, 400, TOO_MANY),
        (b'{"metadata":[%s]}' % LISTS.replace(b"[]", b"{}"), {}, 400, TOO_MANY),
        (b'{"input":{"json":[%s]}}' % LISTS.replace(b"[]", b'["["]'), {}, 400, TOO_MANY),
        (LISTS, {}, 400, TOO_MANY),
    ],
)
async def test_a_body_that_is_no_job_is_refused(
    harness: Harness, body: bytes, headers: dict[str, str], status: int, message: str
):
    """
    Too large, not UTF-8, compressed, a form, not JSON: each is a problem, and nothing is guessed. Too many lists are
    refused before they are decoded: as objects, they would take twenty times the memory, and seconds of CPU.
    """
    refused = await send(harness, "POST", "jobs", body=body, headers=headers)

    code = {400: "invalid_job", 413: "too_large", 415: "unsupported_media_type"}[status]
    refused.assert_problem(status, code, message)


@every_row("route", [each for each in ROUTES if each.method in {"POST", "PUT"}], ids=lambda each: each.name)
@every_row("media_type", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_every_body_is_declared_as_json(harness: Harness, route: Route, media_type: str):
    """On each route that takes a body: a browser would send anything else in the name of a signed-in reader."""
    path = route.path.format(customer=harness.customer().name, name="default", connection="default")
    refused = await send(harness, route.method, path, body=b"{}", headers={"content-type": media_type})

    refused.assert_problem(415, "unsupported_media_type", "must be application/json")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"customer": "No Customer"}, "`customer` must be"),
        ({"action": "dance"}, "`action` must be one of"),
        ({"input": {"promt": "Hello?"}}, "`input.promt` is not a known member"),
        ({"input": {"prompt": 1}}, "`input.prompt`"),
        ({"_envelope": {"submitted_at": "2030-01-01T00:00:00Z"}}, "`_envelope` is not a known member"),
        ({"output": {"queue": "somebody-elses"}}, "`output.queue`"),
        ({"options": {"max_retries": 99}}, "`options.max_retries`"),
        ({"input": {"input_blob": "secrets/of/others.json"}}, "`input_blob` must be in"),
        (
            {"options": {"processing": "background"}, "action": "multi_chat", "input": {"prompts": ["x"]}},
            "`options.processing` must be standard for the action multi_chat: background",
        ),
        (
            {"options": {"processing": "background"}, "input": {"prompt": "x", "parameters": {"n": 2}}},
            "`input.parameters.n` can't be set if `options.processing` is background",
        ),
        ({"options": {"processing": "batch", "deadline_s": 60}}, "`options.deadline_s` must be at least 3600"),
        (
            {"options": {"processing": "flex"}, "input": {"prompt": "x", "parameters": {"service_tier": "priority"}}},
            "`input.parameters.service_tier` must be flex",
        ),
    ],
)
async def test_what_the_queue_refuses_is_refused_at_once(customer: Customer, members: dict[str, Any], message: str):
    """400 with the same message that names the member; nothing is recorded or queued."""
    refused = await post(customer, job_id="bad", **members)

    refused.assert_problem(400, "invalid_job", message)
    assert [] == await customer.rows()
    assert [] == await customer.queued()


@pytest.mark.parametrize("blob", ["{inputs}/somebody-else/a.txt", "nowhere/{customer}/a.txt"])
@pytest.mark.parametrize(
    ("action", "members", "path"),
    [
        ("summarize", {"blob": "{}"}, "input.blob"),
        ("summarize", {"blobs": ["{}"]}, "input.blobs[0]"),
        ("transcribe", {"blob": "{}"}, "input.blob"),
        ("edit_image", {"prompt": "x", "images": ["{}"]}, "input.images[0]"),
        (
            "respond",
            {"input": [{"role": "user", "content": [{"type": "input_file", "blob": "{}"}]}]},
            "input.input[0].content[0].blob",
        ),
    ],
)
async def test_a_blob_that_the_job_may_not_read_is_refused_at_once(
    customer: Customer, blob: str, action: str, members: dict[str, Any], path: str
):
    """400 before the job is accepted, with the message of a run: for each blob that a job names."""
    name = blob.format(inputs=customer.harness.environment["INPUT_CONTAINERS"], customer=customer.name)
    named = {"input": json.loads(json.dumps(members).replace("{}", name))}
    refused = await post(customer, action=action, **named)
    result = await customer.run(action=action, **named)

    refused.assert_problem(400, "invalid_job", f"`{path}` must be in")
    assert result["error"]["message"] == refused.json["detail"]


async def test_a_blob_of_too_many_lists_is_refused(customer: Customer):
    """An input in a blob has the same limit as a body."""
    container = customer.harness.environment["INPUT_CONTAINERS"]
    data = b'{"prompt":"x","parameters":{"stop":[%s]}}' % LISTS
    await customer.harness.services.blobs.write(container, f"{customer.name}/in.json", data, "application/json")
    job = {"customer": customer.name, "action": "chat", "input_blob": f"{container}/{customer.name}/in.json"}
    refused = await send(customer.harness, "POST", "jobs", json_body=job)

    refused.assert_problem(400, "invalid_job", "`input` contains more than 200,000 lists and objects")


async def test_brackets_in_texts_are_not_counted(customer: Customer):
    """Large inputs are accepted, whatever their texts contain."""
    text = 'x[["\\"]]={{}}\n' * 51_000
    assert MAX_CONTAINERS < text.count("[") + text.count("{")
    accepted = await post(customer, action="summarize", input={"text": text})

    assert 202 == accepted.status, accepted.body


async def test_too_large_an_input_is_refused_at_once(customer: Customer):
    """An input that could not be read later is not accepted."""
    refused = await post(customer, input={"prompt": "x" * (MAX_INPUT_BYTES + 10)})

    refused.assert_problem(413, "too_large")
