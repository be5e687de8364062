"""The OpenAPI document: valid, complete, and in step with the decoders; the files that the app serves."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from msgspec import Raw

from openapi import __main__ as command
from openapi import static_files
from openapi.operations import OPERATIONS
from openapi.page import write_page
from shared.actions.base import action_named
from shared.clock import now
from shared.contract.connection import decode_connection
from shared.contract.documents import API_PREFIX
from shared.contract.inputs import INPUTS
from shared.contract.job import ACTIONS, decode_job
from shared.contract.raw import RawInput
from shared.contract.result import Result, encode_result
from shared.errors import ConnectionInvalid, InvalidJob
from shared.http.routes import ROUTES
from shared.jobs.records import JobRecord
from shared.jobs.status import document_of
from tests.support import closable
from tests.support.closable import add_usage, publish_prices
from tests.support.doc_samples import JOBS, ROOT
from tests.support.memory_app import MemoryApp
from tests.support.rows import every_row

DOCUMENT = json.loads((ROOT / "shared/http/static/openapi.json").read_bytes())
"""What the app serves, which is what its code makes now: `test_files_are_up_to_date`."""
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATION_LIST = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
NAMES = [operation["operationId"] for operation in OPERATION_LIST]


def validator(schema: dict[str, Any]) -> Any:
    """A validator for a schema of the document."""
    return validator_of(json.dumps(schema))


@functools.cache
def validator_of(schema: str) -> Any:
    """The same for a schema as JSON: many responses have one and the same, which takes milliseconds to compile."""
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": DOCUMENT["components"]})


def validator_named(name: str) -> Any:
    """A validator for a type of the document."""
    return validator({"$ref": f"#/components/schemas/{name}"})


CONTENTS = {
    f"{operation['operationId']}-{status}-{kind}": content
    for operation in OPERATION_LIST
    for status, message in {"request": operation.get("requestBody", {}), **operation["responses"]}.items()
    for kind, content in message.get("content", {}).items()
}
"""The content of every request and response, by media type."""


@pytest.fixture(name="built", scope="module")
def _built() -> dict[str, Any]:
    """The document, which takes a quarter of a second to build."""
    return static_files.document()


def test_files_are_up_to_date(built: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    """The app serves the document and the page that its code makes now."""
    monkeypatch.setattr(static_files, "document", lambda: built)

    assert [] == static_files.stale_files(), f"run `{static_files.COMMAND}` and commit the files"


def test_a_stale_file_fails_with_the_command_that_writes_it(
    built: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`--check` names a missing or changed file and the command; without it, the files are written."""
    monkeypatch.setattr(static_files, "document", lambda: built)
    monkeypatch.setattr(static_files, "_PROJECT", tmp_path)
    monkeypatch.setattr(static_files, "_FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["openapi"])
    written = command.main()
    (tmp_path / "docs.html").write_text("old")
    monkeypatch.setattr("sys.argv", ["openapi", "--check"])
    checked = command.main()
    (tmp_path / "docs.html").unlink()
    missing = command.main()
    output = capsys.readouterr()

    assert (0, 1, 1) == (written, checked, missing)
    assert "openapi.json\ndocs.html\nmcp_tools.json\n" == output.out
    assert "docs.html is out of date: run `python -m openapi`.\n" * 2 == output.err


def test_an_action_without_an_input_gets_a_sentence(
    built: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """An action that was added without its input's type ends the builder with what to do, and writes nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(static_files, "document", lambda: built)
        files = list(static_files.static_files())
    monkeypatch.delitem(INPUTS, "embed")
    before = [path.read_bytes() for path in files]
    sentence = "The action embed has no type of its input: add it to `INPUTS` in shared/contract/inputs.py.\n"
    for arguments in (["openapi"], ["openapi", "--check"]):
        monkeypatch.setattr("sys.argv", arguments)

        assert 1 == command.main()
        assert before == [path.read_bytes() for path in files]
        assert ("", sentence) == capsys.readouterr()


def test_document_is_valid_openapi():
    """It is valid against OpenAPI 3.1's own schema, and each of its schemas against JSON Schema's."""
    from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR  # noqa: PLC0415  # takes a second

    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    for schema in SCHEMAS.values():
        jsonschema_rs.meta.validate(schema)


def test_every_route_is_described():
    """
    The document has the routes that the app serves, with health, and no other. A guarded route names key, code and its
    role, and may fail with 403; an open one needs nothing.
    """
    security = {
        (operation["operationId"], method.upper(), path): (operation["security"], "403" in operation["responses"])
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }

    assert {("health", "GET", "/health"): ([], False)} | {
        (route.name, route.method, f"/{route.path}"): (
            ([{"key": []}, {"code": []}, *({"entra": [role]} for role in route.roles)], True)
            if route.role
            else ([], False)
        )
        for route in ROUTES
    } == security
    assert set(OPERATIONS) == set(NAMES)
    assert [{"url": API_PREFIX}] == DOCUMENT["servers"]


def test_a_name_in_a_path_is_described_as_what_it_names():
    """As a budget's or a connection's, by the list that the path goes through."""
    for path, methods in DOCUMENT["paths"].items():
        for parameter in (each for operation in methods.values() for each in operation["parameters"]):
            if parameter["name"] == "name":
                resource = path.split("/{name}")[0].rpartition("/")[2].removesuffix("s")
                assert parameter["description"].startswith(f"The {resource}'s name: ")


def test_references_resolve_and_no_schema_is_unused():
    """Every reference is to a schema of the document, and every schema is referred to."""
    text = json.dumps(DOCUMENT)

    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) == set(SCHEMAS)


def test_what_no_response_has_is_not_documented():
    """Neither members and types of the app's own messages, on the page too, nor null for what is not known."""
    for text in (json.dumps(DOCUMENT), write_page(DOCUMENT)):
        assert "_envelope" not in text
        assert "Envelope" not in text
    for name in ("JobDocument", "JobPage", "Result", "ConnectionDocument", "ConnectionTest"):
        assert '"null"' not in json.dumps(SCHEMAS[name])


def schemas_in(value: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a document with its path, those within other schemas included; examples are none."""
    if isinstance(value, dict):
        if not at.endswith(("/properties", "/schemas", "/mapping")):
            yield at, value
        for name, inner in value.items():
            if name not in {"example", "examples", "x-example", "links"} or at.endswith("/properties"):
                yield from schemas_in(inner, f"{at}/{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from schemas_in(inner, at)


PARTS = list(schemas_in(DOCUMENT))


def test_constants_have_a_type():
    """Generators make `unknown` of a constant or an enumeration without one."""
    constants = [(at, schema) for at, schema in PARTS if "const" in schema or "enum" in schema]

    assert len(constants) > 20
    assert [] == [at for at, schema in constants if not {"type"} <= schema.keys() and "/not" not in at]


def test_open_objects_say_so():
    """A generator takes an object without members for an empty one, if it doesn't say that it may have others."""
    free = [(at, schema) for at, schema in PARTS if schema.get("type") == "object" and "properties" not in schema]
    opened = {at for at, schema in free if schema.get("additionalProperties") is True}

    assert [] == [at for at, schema in free if "additionalProperties" not in schema]
    assert {
        "/components/schemas/Result/properties/output",
        "/components/schemas/ErrorBody/properties/detail",
        *(f"/components/schemas/{kind.__name__}/properties/parameters" for kind in INPUTS.values() if kind != RawInput),
    } <= opened
    assert SCHEMAS["Message"]["additionalProperties"] is True


def test_no_object_is_a_union_of_its_parts():
    """Generators make types of such parts, which lack the object's other members; conditions are `if` and `then`."""
    objects = [(at, schema) for at, schema in PARTS if "properties" in schema]

    assert [] == [at for at, schema in objects if {"anyOf", "oneOf", "allOf"} & schema.keys()]


def test_defaults_are_sentences():
    """With the keyword, some generators send every default, and others require the member in each request."""
    assert [] == [at for at, schema in PARTS if "default" in schema]
    for member, default in {"max_retries": "4", "timeout_s": "120", "strict": "false"}.items():
        assert SCHEMAS["Options"]["properties"][member]["description"].endswith(f" The default is `{default}`.")


async def test_what_responses_always_have_is_required():
    """Who reads a result or a status with a generated client needs no check for what is always there."""
    result = json.loads(encode_result(Result(job_id="x", status="failed")))
    record = JobRecord("contoso", "x", "queued", 0, now(), "")

    assert set(result) == set(SCHEMAS["Result"]["required"])
    assert set(result["usage"]) == set(SCHEMAS["Usage"]["required"])
    assert set(msgspec.to_builtins(document_of(record))) == set(SCHEMAS["JobDocument"]["required"])


async def test_a_closed_month_is_one_of_two_documents():
    """The customer's, or what that was made from for the operator: each has its own schema, and not the other's."""
    app = MemoryApp()
    await publish_prices(app.table, app.memory.blobs)
    await add_usage(app.table, "contoso")
    await app.services.closing.close("contoso", closable.DOCUMENT)
    either = validator(CONTENTS["read_statement-200-application/json"]["schema"])

    for internal, kind in (("false", "ClosedMonth"), ("true", "InternalMonth")):
        path = f"customers/contoso/statements/{closable.MONTH}"
        response = await app.send("GET", path, query={"internal": internal})
        assert either.is_valid(response.json)
        assert [kind] == [
            name
            for name in ("ClosedMonth", "InternalMonth")
            if validator({"$ref": f"#/components/schemas/{name}"}).is_valid(response.json)
        ]


def test_every_action_has_its_job():
    """The schema of a job is one for each action, discriminated by the action."""
    job = SCHEMAS["Job"]

    assert set(ACTIONS) == set(INPUTS) == set(job["discriminator"]["mapping"])
    assert [*job["discriminator"]["mapping"].values()] == [schema["$ref"] for schema in job["oneOf"]]


def test_every_member_of_a_request_is_described():
    """Each member that a caller may set has a description, which ends as a sentence."""
    names = ("ChatJob", "Output", "Options", "FileInput", "ConnectionRecord", "ConnectionTestRequest")
    kinds = [*names, *(kind.__name__ for kind in INPUTS.values())]

    assert [] == [
        f"{name}.{member}"
        for name in kinds
        for member, schema in SCHEMAS[name]["properties"].items()
        if not schema.get("description", "").endswith(".")
    ]


@every_row(
    ("kind", "member", "rule"),
    [
        ("ChatJob", "customer", "1 to 50 lower-case letters, digits and single hyphens"),
        ("ChatJob", "job_id", "1 to 100 letters, digits"),
        ("ChatInput", "prompt", "Text that is not blank."),
        ("Output", "callback", "An https URL of at most 2000 ASCII characters."),
    ],
)
def test_rules_of_names_are_described(kind: str, member: str, rule: str):
    """The rule of a name or a text stands in the member's description, so that nobody has to read its pattern."""
    assert rule in SCHEMAS[kind]["properties"][member]["description"]


def test_patterns_are_in_json_schemas_dialect():
    r"""Python's `\Z` is no assertion in ECMA-262, which JSON Schema's patterns are written in."""
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(DOCUMENT))

    assert len(patterns) > 10
    assert [] == [pattern for pattern in patterns if r"\Z" in pattern]


@every_row("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_examples_are_valid(content: dict[str, Any]):
    """Every example is valid against its schema, and every JSON content but the document has one."""
    if "example" in content:
        validator(content["schema"]).validate(content["example"])
    else:
        assert "$ref" not in content["schema"] or "Document" in content["schema"]["$ref"]


def test_errors_are_problems():
    """
    Every error of every route is a problem, and every route but health may fail with `internal`. In the agents'
    protocol, what is wrong with a message is a message, too.
    """
    kinds = {
        (kind, operation["operationId"] if kind == "application/json" else "")
        for operation in OPERATION_LIST
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for kind in response["content"]
    }

    assert {("application/problem+json", ""), ("application/json", "use_tools")} == kinds
    assert ["health"] == [each["operationId"] for each in OPERATION_LIST if "500" not in each["responses"]]


def accepted(body: bytes) -> bool:
    """Whether the decoders accept a job."""
    try:
        job = decode_job(body, default_id="x")
        assert isinstance(job.input, Raw)
        action_named(job.action).decode(job.input)
    except InvalidJob:
        return False
    return True


@every_row("block", JOBS)
def test_jobs_of_the_docs_are_valid(block: str):
    """Every job in the docs is valid against the schema."""
    validator_named("Job").validate(json.loads(block))


GOOD: list[dict[str, Any]] = [
    {},
    {"job_id": "a.b_c-1", "connection": "eu-west", "model": "gpt-4o", "metadata": {"a": "b"}},
    {"job_id": None, "model": None},
    {"input": {"prompt": "?", "messages": None}},
    {"input": {"prompt": None, "messages": [{"role": "user", "content": "?"}]}},
    {"action": "summarize", "input": {"text": "a", "blob": None}},
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
    {"action": "edit_image", "input": {"images": ["inputs/c/a.png"] * 16, "prompt": "a", "n": 10, "mask": None}},
    {"action": "transcribe", "input": {"blob": "inputs/c/a.mp3", "response_format": "vtt", "parameters": {"x": [1]}}},
    {"action": "speak", "input": {"text": "a" * 4096, "voice": "alloy", "format": None}},
    {"action": "respond", "input": {"input": "a", "instructions": None, "previous_response_id": None}},
    {"action": "respond", "input": {"input": [{"role": "user", "content": "a"}], "parameters": {"background": False}}},
    {"action": "raw", "input": {"path": "models"}},
    {"action": "raw", "input": {"path": "a/b", "method": "PUT", "json": None, "query": {"a": [1, "b", True]}}},
    {
        "action": "raw",
        "input": {"path": "a", "form": {"a": "b"}, "files": {"x": "YQ==", "y": {"content": "YQ==", "filename": "y"}}},
    },
]
BAD: list[dict[str, Any]] = [
    *({"customer": name} for name in ("No Customer", "a--b", "a" * 51, None)),
    *({"action": action} for action in ("dance", "embed")),
    *({"job_id": text} for text in ("..", "a/b", "", "a" * 101)),
    *({"model": name} for name in (" ", "a" * 201)),
    *({"output": output} for output in ({"queue": "A"}, {"callback": 1})),
    *({"options": options} for options in ({"max_retries": 21}, {"timeout_s": 0}, {"patience": 1})),
    {"metadata": {"a": 1}},
    {"priority": 1},
    {"_envelope": {"submitted_at": "2030-01-01T00:00:00Z"}},
    {"input_blob": "inputs/contoso/a.json"},
    *({"input": value} for value in (None, "a", {}, {"prompt": ""}, {"prompt": "a", "messages": []})),
    {"input": {"prompt": None, "messages": None}},
    {"input": {"messages": []}},
    {"input": {"messages": ["a"]}},
    {"input": {"messages": [{"content": "a"}]}},
    *({"input": {"messages": [{"role": "user", **content}]}} for content in ({}, {"content": 1}, {"content": [{}]})),
    {"input": {"messages": [{"role": "user", "content": None}]}},
    {"input": {"prompt": "a", "template": "no place"}},
    {"input": {"prompt": "a", "parameters": {"model": "b"}}},
    {"input": {"prompt": "a", "promt": "b"}},
    *({"action": "multi_chat", "input": {"prompts": prompts}} for prompts in ([], ["a"] * 1001, [" "])),
    {"action": "image", "input": {"prompt": "a", "n": 11}},
    {"action": "image", "input": {"prompt": "a", "parameters": {"n": 2}}},
    *({"action": "edit_image", "input": {"images": value, "prompt": "a"}} for value in ([], ["a"], ["b/c/d"] * 17)),
    *(
        {"action": "edit_image", "input": {"images": ["abc/c"], "prompt": "a", "parameters": {name: "x"}}}
        for name in ("image", "image[]", "mask", "prompt", "n", "model", "stream")
    ),
    *({"action": "transcribe", "input": value} for value in ({}, {"blob": "a"}, {"blob": "abc/c", "language": " "})),
    *(
        {"action": "transcribe", "input": {"blob": "abc/c", "parameters": {name: "x"}}}
        for name in ("file", "response_format", "model", "stream")
    ),
    *({"action": "speak", "input": value | {"voice": "a"}} for value in ({}, {"text": " "}, {"text": "a" * 4097})),
    *({"action": "speak", "input": {"text": "a"} | value} for value in ({}, {"voice": ""}, {"voice": 1})),
    *(
        {"action": "speak", "input": {"text": "a", "voice": "b", "parameters": {name: "x"}}}
        for name in ("input", "voice", "response_format", "model", "stream_format")
    ),
    *({"action": "summarize", "input": value} for value in ({}, {"text": None}, {"text": "a", "blob": "b/c"})),
    {"action": "summarize", "input": {"text": "a", "style": "poem"}},
    *({"action": "embed", "input": {"texts": texts}} for texts in ([], [""], ["a"] * 2049)),
    {"action": "embed", "input": {"texts": ["a"], "format": "csv"}},
    *({"action": "respond", "input": {"input": value}} for value in (None, 1, [], ["a"], {})),
    *({"action": "respond", "input": {"input": "a", "previous_response_id": text}} for text in ("", "a" * 501, 1)),
    *(
        {"action": "respond", "input": {"input": "a", "parameters": {name: "x"}}}
        for name in ("input", "instructions", "previous_response_id", "model", "background_options")
    ),
    {"action": "raw", "input": {"path": "a", "method": "TRACE"}},
    {"action": "raw", "input": {"path": "a", "headers": {"a": 1}}},
    {"action": "raw", "input": {"path": "a", "query": {"a": {}}}},
    {"action": "raw", "input": {"path": "a", "form": {"a": 1}}},
    {"action": "raw", "input": {"path": "a", "files": {"a": {}}}},
]


def test_every_action_has_good_and_bad_jobs():
    """Among those that the schema and the decoders are compared with."""
    for jobs in (GOOD, BAD):
        assert set() == set(ACTIONS) - {members.get("action", "chat") for members in jobs}


@every_row(("members", "good"), [*((members, True) for members in GOOD), *((members, False) for members in BAD)])
def test_schema_and_decoder_agree(members: dict[str, Any], good: bool):
    """The schema accepts what the decoders accept, and refuses what they refuse by its form."""
    job = {"customer": "contoso", "action": "chat", "input": {"prompt": "Hello?"}} | members

    assert (good, good) == (accepted(json.dumps(job).encode()), validator_named("Job").is_valid(job))


@every_row(
    ("members", "good"),
    [
        ({"endpoint": "https://a.openai.azure.com", "api_key": "k"}, True),
        ({"endpoint": "https://a.openai.azure.com", "api_key": "k", "auth": "api_key", "scope": None}, True),
        ({"endpoint": "https://a.openai.azure.com", "auth": "entra"}, True),
        ({"endpoint": "https://a.openai.azure.com", "auth": "entra", "api_key": None}, True),
        ({"endpoint": "https://a.openai.azure.com"}, False),
        ({"endpoint": "https://a.openai.azure.com", "api_key": None}, False),
        ({"endpoint": "https://a.openai.azure.com", "api_key": "k", "auth": "key"}, False),
        ({"endpoint": None, "api_key": "k"}, False),
        ({"api_key": "k"}, False),
    ],
)
def test_schema_and_decoder_of_connections_agree(members: dict[str, Any], good: bool):
    """The schema of a connection accepts what the decoder accepts."""
    try:
        # A secret's tags may have its endpoint; a request has none.
        is_accepted = decode_connection(json.dumps(members)).endpoint is not None
    except ConnectionInvalid:
        is_accepted = False

    assert (good, good) == (is_accepted, validator_named("ConnectionRecord").is_valid(members))


def test_a_location_is_described_by_what_was_created():
    """The `Location` of a new connection is not described as a job's status."""
    descriptions = {
        operation["operationId"]: response["headers"]["Location"]["description"]
        for operation in OPERATION_LIST
        for response in operation["responses"].values()
        if "Location" in response.get("headers", {})
    }

    assert {"submit_job", "receive_webhook", "put_connection"} == set(descriptions)
    assert "connection" in descriptions["put_connection"]
