"""The interface's description: valid OpenAPI, in step with the decoder and with what the app answers; its page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from msgspec import Raw
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from shared.actions.base import action_named
from shared.contract.documents import API_PREFIX
from shared.contract.job import ACTIONS, decode_job
from shared.errors import InvalidJob
from shared.http.openapi.document import document
from shared.http.openapi.operations import OPERATIONS
from shared.http.openapi.page import write_page
from shared.http.openapi.schemas import INPUTS
from shared.http.routes import ROUTES
from tests.support.doc_samples import JOBS
from tests.support.harness import World
from tests.support.http_client import knock

DOCUMENT = document()
CALLS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]
NAMES = [operation["operationId"] for _, _, operation in CALLS]
ROOT = Path(__file__).parents[3]


def validator(schema: dict[str, Any]) -> Any:
    """Of a schema of the document."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


JOB = validator({"$ref": "#/components/schemas/Job"})


def contents() -> list[Any]:
    """Every media type of a request or answer: where it stands, and what is told of it."""
    found = []
    for _, _, operation in CALLS:
        for status, answer in {"request": operation.get("requestBody", {}), **operation["responses"]}.items():
            for content in answer.get("content", {}).values():
                found.append(pytest.param(content, id=f"{operation['operationId']}-{status}"))
    return found


def test_the_document_is_openapi():
    """It is valid against OpenAPI 3.1's own schema, and each schema in it against JSON Schema's."""
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_every_route_is_described():
    """The routes that are served, with health, and no other."""
    told = {(operation["operationId"], method.upper(), path) for method, path, operation in CALLS}

    assert {(route.name, route.method, f"/{route.path}") for route in ROUTES} == told - {("health", "GET", "/health")}
    assert len(ROUTES) + 1 == len(told)
    assert set(OPERATIONS) == set(NAMES)
    assert [{"url": API_PREFIX}] == DOCUMENT["servers"]


def test_references_lead_somewhere_and_nothing_is_left_over():
    """Every reference is to a schema that there is, and every schema is referred to."""
    text = json.dumps(DOCUMENT)

    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) == set(DOCUMENT["components"]["schemas"])


def test_what_is_ours_alone_is_not_told():
    """Members and types that only our own messages have stand neither in the document nor on the page."""
    for text in (json.dumps(DOCUMENT), write_page(DOCUMENT)):
        assert "put_back" not in text
        assert "PutBack" not in text


def test_every_action_has_its_job():
    """The job is one of a schema for each action, told apart by its name."""
    job = DOCUMENT["components"]["schemas"]["Job"]

    assert set(ACTIONS) == set(INPUTS) == set(job["discriminator"]["mapping"])
    assert [*job["discriminator"]["mapping"].values()] == [one["$ref"] for one in job["oneOf"]]


def test_every_member_of_a_request_is_explained():
    """Each member that a caller may set says what it is for."""
    names = ("ChatJob", "Output", "Options", "FileInput", "ConnectionRecord", "TrialRequest")
    kinds = [*names, *(kind.__name__ for kind in INPUTS.values())]
    schemas = DOCUMENT["components"]["schemas"]

    assert [] == [
        f"{name}.{member}"
        for name in kinds
        for member, schema in schemas[name]["properties"].items()
        if not schema.get("description", "").endswith(".")
    ]


@pytest.mark.parametrize("content", contents())
def test_examples_are_what_they_are_examples_of(content: dict[str, Any]):
    """Every example is valid against its schema, and whatever JSON is told of but the document has one."""
    if "example" in content:
        validator(content["schema"]).validate(content["example"])
    else:
        assert "$ref" not in content["schema"] or "Document" in content["schema"]["$ref"]


@pytest.mark.parametrize("operation", [one for _, _, one in CALLS], ids=NAMES)
def test_who_may_is_told(operation: dict[str, Any]):
    """A guarded route names key, code and its role; an open one needs nothing."""
    role = {route.name: route.role for route in ROUTES}.get(operation["operationId"])

    assert operation["security"] == ([{"key": []}, {"code": []}, {"entra": [role]}] if role else [])
    assert ("403" in operation["responses"]) == (role is not None)


@pytest.mark.parametrize("operation", [one for _, _, one in CALLS], ids=NAMES)
def test_errors_are_problems(operation: dict[str, Any]):
    """Every error of every route is told as a problem, and a fault of ours is one."""
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            assert ["application/problem+json"] == list(answer["content"])
    assert operation["operationId"] == "health" or "500" in operation["responses"]


def accepted(body: bytes) -> bool:
    """Whether the door's checks take a job, as far as they need nothing but its text."""
    try:
        job = decode_job(body, default_id="x")
        assert isinstance(job.input, Raw)
        action_named(job.action).decode(job.input)
        if job.put_back is not None:
            return False
    except InvalidJob:
        return False
    return True


@pytest.mark.parametrize("block", JOBS)
def test_jobs_of_the_docs_are_valid(block: str):
    """Every job that the docs show is one to the schema as well."""
    JOB.validate(json.loads(block))


GOOD: list[dict[str, Any]] = [
    {},
    {"job_id": "a.b_c-1", "connection": "eu-west", "model": "gpt-4o", "metadata": {"a": "b"}},
    {"job_id": None, "model": None},
    {"output": {"queue": False, "blob": True}, "options": {"timeout_s": 1.5, "max_retries": 0}},
    {"output": {"callback": "https://example.com/done"}},
    {"input": {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}]}]}},
    {"input": {"messages": [{"role": "assistant", "tool_calls": []}]}},
    {"input": {"prompt": "?", "history": [], "template": "@@userPrompt", "parameters": {"n": 2, "x": None}}},
    {"action": "multi_chat", "input": {"prompts": ["a", [{"role": "user", "content": "b"}]]}},
    {"action": "image", "input": {"prompt": "a", "n": 10, "size": None}},
    {"action": "summarize", "input": {"text": "a", "style": "bullets", "max_words": 3}},
    {"action": "summarize", "input": {"blob": "inputs/contoso/a.txt"}},
    {"action": "embed", "input": {"texts": ["a"], "dimensions": 8, "format": "npy"}},
    {"action": "raw", "input": {"path": "models"}},
    {"action": "raw", "input": {"path": "a/b", "method": "PUT", "json": None, "query": {"a": [1, "b", True]}}},
    {
        "action": "raw",
        "input": {"path": "a", "form": {"a": "b"}, "files": {"x": "YQ==", "y": {"content": "YQ==", "filename": "y"}}},
    },
]
BAD: list[dict[str, Any]] = [
    {"customer": "No Customer"},
    {"customer": "a--b"},
    {"customer": "a" * 51},
    {"customer": None},
    {"action": "dance"},
    {"action": "embed"},
    {"job_id": ".."},
    {"job_id": "a/b"},
    {"job_id": ""},
    {"job_id": "a" * 101},
    {"model": " "},
    {"model": "a" * 201},
    {"priority": 1},
    {"_put_back": {"submitted_at": "2030-01-01T00:00:00Z"}},
    {"input": None},
    {"input": "a"},
    {"input_blob": "inputs/contoso/a.json"},
    {"input": {}},
    {"input": {"prompt": ""}},
    {"input": {"prompt": "a", "messages": []}},
    {"input": {"messages": []}},
    {"input": {"messages": ["a"]}},
    {"input": {"messages": [{"content": "a"}]}},
    {"input": {"messages": [{"role": "user"}]}},
    {"input": {"messages": [{"role": "user", "content": 1}]}},
    {"input": {"messages": [{"role": "user", "content": [{}]}]}},
    {"input": {"prompt": "a", "template": "no place"}},
    {"input": {"prompt": "a", "parameters": {"model": "b"}}},
    {"input": {"prompt": "a", "promt": "b"}},
    {"output": {"queue": "A"}},
    {"output": {"callback": 1}},
    {"options": {"max_retries": 21}},
    {"options": {"timeout_s": 0}},
    {"options": {"patience": 1}},
    {"metadata": {"a": 1}},
    {"action": "multi_chat", "input": {"prompts": []}},
    {"action": "multi_chat", "input": {"prompts": ["a"] * 1001}},
    {"action": "multi_chat", "input": {"prompts": [" "]}},
    {"action": "image", "input": {"prompt": "a", "n": 11}},
    {"action": "image", "input": {"prompt": "a", "parameters": {"n": 2}}},
    {"action": "summarize", "input": {"text": "a", "blob": "b/c"}},
    {"action": "summarize", "input": {"text": "a", "style": "poem"}},
    {"action": "embed", "input": {"texts": []}},
    {"action": "embed", "input": {"texts": [""]}},
    {"action": "embed", "input": {"texts": ["a"] * 2049}},
    {"action": "embed", "input": {"texts": ["a"], "format": "csv"}},
    {"action": "raw", "input": {"path": "a", "method": "TRACE"}},
    {"action": "raw", "input": {"path": "a", "headers": {"a": 1}}},
    {"action": "raw", "input": {"path": "a", "query": {"a": {}}}},
    {"action": "raw", "input": {"path": "a", "form": {"a": 1}}},
    {"action": "raw", "input": {"path": "a", "files": {"a": {}}}},
]


@pytest.mark.parametrize(("members", "good"), [*((one, True) for one in GOOD), *((one, False) for one in BAD)])
def test_schema_and_decoder_agree(members: dict[str, Any], good: bool):
    """What the decoder takes, the schema does; what it refuses by its form, the schema refuses."""
    job = {"customer": "contoso", "action": "chat", "input": {"prompt": "Hello?"}} | members

    assert (good, good) == (accepted(json.dumps(job).encode()), JOB.is_valid(job))


def test_no_member_of_an_answer_is_null():
    """What is not known is left out of answers, and so the schemas say."""
    for name in ("JobDocument", "JobPage", "Result", "ConnectionDocument", "TrialDocument"):
        assert '"null"' not in json.dumps(DOCUMENT["components"]["schemas"][name])


async def test_headers_of_errors_are_told(world: World):
    """An error that says when to ask again is told to: where Storage or the vault is down, and of a missing result."""
    customer = world.customer()
    await knock(world, "POST", "jobs", json_body=customer.job(job_id="new"))
    await customer.queued()
    missing = await knock(world, "GET", f"jobs/{customer.name}/new/result")
    world.vault.outage = True
    try:
        down = await knock(world, "GET", f"customers/{customer.name}/connections/default")
    finally:
        world.vault.outage = False

    for name, answered in {"read_result": missing, "read_connection": down}.items():
        (told,) = [one["responses"][str(answered.status)] for _, _, one in CALLS if one["operationId"] == name]
        assert "Retry-After" in answered.headers
        assert not told["headers"]["Retry-After"]["required"]


def test_a_location_is_told_of_what_was_made():
    """Where a connection is kept, no job's status is."""
    told = {
        operation["operationId"]: answer["headers"]["Location"]["description"]
        for _, _, operation in CALLS
        for answer in operation["responses"].values()
        if "Location" in answer.get("headers", {})
    }

    assert {"submit_job", "receive_webhook", "put_connection"} == set(told)
    assert "connection" in told["put_connection"]


async def test_what_comes_is_as_told(world: World):
    """A real job's status, list, result and statement are valid against their schemas."""
    customer = world.customer()
    await customer.run(job_id="told", metadata={"a": "b"})
    await customer.run(job_id="failed", connection="other")

    for name, path in {
        "read_job": f"jobs/{customer.name}/told",
        "read_result": f"jobs/{customer.name}/told/result",
        "list_jobs": f"customers/{customer.name}/jobs",
        "read_usage": f"customers/{customer.name}/usage",
        "list_connections": f"customers/{customer.name}/connections",
        "read_connection": f"customers/{customer.name}/connections/default",
    }.items():
        answered = await knock(world, "GET", path)
        (told,) = [one["responses"]["200"] for _, _, one in CALLS if one["operationId"] == name]
        assert 200 == answered.status
        validator(told["content"]["application/json"]["schema"]).validate(answered.json)


@pytest.mark.parametrize(("path", "kind"), [("openapi.json", "application/json"), ("docs", "text/html")])
async def test_they_are_served_with_a_tag(world: World, path: str, kind: str):
    """To anybody, always the same bytes; 304 for whoever has them."""
    first, second = await knock(world, "GET", path), await knock(world, "GET", path)
    known = await knock(world, "GET", path, headers={"if-none-match": first.headers["ETag"]})

    assert (200, kind) == (first.status, first.media_type.partition(";")[0])
    assert first.body == second.body
    assert (304, b"") == (known.status, known.body)


async def test_the_document_that_is_served_is_this_one(world: World):
    """Nothing of it is lost on the way."""
    assert json.loads(json.dumps(DOCUMENT)) == (await knock(world, "GET", "openapi.json")).json


class Reader(HTMLParser):
    """Reads a page strictly: what is open, the texts, the attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """The element that began last ends."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """A piece of text."""
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


def read(page: str) -> Reader:
    """A page, read to its end."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert [] == reader.open
    return reader


async def test_the_page_loads_and_runs_nothing(world: World):
    """Its policy allows its own style and nothing else, and it asks for nothing else."""
    served = await knock(world, "GET", "docs")
    page = read(served.body.decode())
    policy = served.headers["Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()

    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in policy
    assert {"html", "head", "meta", "title", "style", "body"} < {tag for tag, _ in page.tags}
    assert set() == {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert set() == {name for _, attributes in page.tags for name in attributes} & {"style", "src", "onclick"}
    assert "url(" not in page.style
    assert "@import" not in page.style
    assert "light-dark(" in page.style


def test_the_page_shows_everything():
    """Each operation with its parameters, statuses and examples, each type with its members; links lead somewhere."""
    page = read(write_page(DOCUMENT))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}

    for method, path, operation in CALLS:
        assert operation["operationId"] in ids
        assert f"curl -X {method.upper()} 'https://" in page.text
        assert f"{API_PREFIX}{path}" in page.text
        for parameter in operation["parameters"]:
            assert parameter["description"].replace("`", "") in page.text
        for status, answer in operation["responses"].items():
            assert answer["description"].replace("`", "") in page.text
            assert f"{status} " in page.text
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert f"type-{name}" in ids
        for member in schema.get("properties", {}):
            assert member in page.text
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {f"{API_PREFIX}/openapi.json"} == {link for link in links if not (link or "").startswith("#")}
    assert {link.removeprefix("#") for link in links if link and link.startswith("#")} <= ids
    assert len(ids) == sum("id" in attributes for _, attributes in page.tags)


def test_texts_are_texts_on_the_page():
    """Whatever a text of the document holds, it is shown, and makes no tag and leaves no attribute."""
    hostile = """<script>alert('x')</script>" onclick="x()">&amp;`<b>"""
    changed = json.loads(json.dumps(DOCUMENT))
    changed["info"]["title"] = changed["info"]["description"] = hostile
    operation = changed["paths"]["/jobs"]["post"]
    for name in ("summary", "description", "operationId"):
        operation[name] = hostile
    operation["parameters"][0].update(name=hostile, description=hostile, schema={"enum": [hostile]})
    operation["responses"]["202"]["description"] = hostile
    operation["requestBody"]["content"]["application/json"]["example"] = {hostile: hostile}
    changed["components"]["schemas"]["Output"].update(description=hostile, properties={hostile: {"const": hostile}})
    changed["components"]["schemas"][hostile] = {"properties": {"a": {"$ref": f"#/components/schemas/{hostile}"}}}

    page = read(write_page(changed))

    usual = read(write_page(DOCUMENT))

    assert {tag for tag, _ in page.tags} == {tag for tag, _ in usual.tags}
    assert {name for _, told in page.tags for name in told} == {name for _, told in usual.tags for name in told}
    assert page.text.count("<script>alert('x')</script>") > 10
