"""The OpenAPI document and its page as the app serves them, and what the document says against real responses."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from tests.support.harness import Harness
from tests.support.html_reader import read_html
from tests.support.http_client import send

FILES = {path.name: path.read_bytes() for path in (Path(__file__).parents[3] / "shared/http/static").iterdir()}
DOCUMENT: dict[str, Any] = msgspec.json.decode(FILES["openapi.json"])


def response_of(operation_id: str, status: int) -> dict[str, Any]:
    """What the document says of one response."""
    (functions,) = [
        operation["responses"][str(status)]
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        if operation["operationId"] == operation_id
    ]
    return dict(functions)


@pytest.mark.parametrize(
    ("path", "file", "media_type"),
    [("openapi.json", "openapi.json", "application/json"), ("docs", "docs.html", "text/html")],
)
async def test_files_are_served_with_an_etag(harness: Harness, path: str, file: str, media_type: str):
    """Anybody gets the file's bytes, and 304 with its `ETag`."""
    first, second = await send(harness, "GET", path), await send(harness, "GET", path)
    unchanged = await send(harness, "GET", path, headers={"if-none-match": first.headers["ETag"]})

    assert (200, media_type) == (first.status, first.media_type.partition(";")[0])
    assert FILES[file] == first.body == second.body
    assert (304, b"") == (unchanged.status, unchanged.body)


async def test_page_loads_and_runs_nothing(harness: Harness):
    """Its policy allows its own style and nothing else, and the page refers to nothing else."""
    response = await send(harness, "GET", "docs")
    page = read_html(response.body.decode())
    policy = response.headers["Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()

    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in policy
    assert {"html", "head", "meta", "title", "style", "body"} < {tag for tag, _ in page.tags}
    assert set() == {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert set() == {name for _, attributes in page.tags for name in attributes} & {"style", "src", "onclick"}
    assert "url(" not in page.style
    assert "@import" not in page.style
    assert "light-dark(" in page.style


async def test_responses_are_as_documented(harness: Harness):
    """A real job's status, list, result and statement are valid against their schemas."""
    customer = harness.customer()
    await customer.run(job_id="first", metadata={"a": "b"})
    await customer.run(job_id="failed", connection="other")

    for name, path in {
        "read_job": f"jobs/{customer.name}/first",
        "read_result": f"jobs/{customer.name}/first/result",
        "list_jobs": f"customers/{customer.name}/jobs",
        "read_usage": f"customers/{customer.name}/usage",
        "list_connections": f"customers/{customer.name}/connections",
        "read_connection": f"customers/{customer.name}/connections/default",
    }.items():
        response = await send(harness, "GET", path)
        schema = response_of(name, 200)["content"]["application/json"]["schema"]
        assert 200 == response.status
        jsonschema_rs.validate({**schema, "components": DOCUMENT["components"]}, response.json)


async def test_retry_after_is_documented(harness: Harness):
    """Errors that have `Retry-After` are documented with it: Storage or the vault is down, or a result is missing."""
    customer = harness.customer()
    await send(harness, "POST", "jobs", json_body=customer.job(job_id="new"))
    await customer.queued()
    missing = await send(harness, "GET", f"jobs/{customer.name}/new/result")
    harness.vault.outage = True
    try:
        down = await send(harness, "GET", f"customers/{customer.name}/connections/default")
    finally:
        harness.vault.outage = False

    for name, response in {"read_result": missing, "read_connection": down}.items():
        assert "Retry-After" in response.headers
        assert not response_of(name, response.status)["headers"]["Retry-After"]["required"]
