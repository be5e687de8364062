"""docs/http.md and test.http: each route has a request, each limit is compared with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from openapi.document import document
from shared.batches.records import SPACING_S
from shared.connections import probe, secret_cache
from shared.contract import job as jobs
from shared.contract.decoding import MAX_CONTAINERS, MAX_MEMBERS
from shared.contract.documents import API_PREFIX
from shared.contract.names import JobId, Name
from shared.contract.raw import MAX_PARTS
from shared.http import connections, provider_events, shares
from shared.http import jobs as job_routes
from shared.http import request_parsing as reading
from shared.http.routes import ROUTES
from shared.jobs.queries import MAX_READ
from shared.jobs.response_rows import MAX_CANDIDATES
from shared.webhooks import signed_post as callbacks
from shared.webhooks import signing_reads, template_store
from tests.support.http_client import HOST_ROUTES
from tests.support.memory_app import MemoryApp

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/http.md").read_text()
REQUESTS = (ROOT / "test.http").read_text()


def test_every_route_has_a_sample_request():
    """test.http has a request for each route, and for health, for people and for probes."""
    requests = re.findall(r"^([A-Z]+) \{\{host\}\}([^?\s]+)", REQUESTS, re.MULTILINE)
    matches = {request: HOST_ROUTES.find(*request) for request in requests}

    assert {route.name for route in ROUTES} == {match[0] for match in matches.values() if match is not None}
    health = [(method, f"{API_PREFIX}/health") for method in ("GET", "HEAD")]
    assert health == [request for request, match in matches.items() if match is None]


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    part = PAGE.partition(f"{heading}\n")[2]
    table = re.search(r"^\|.*?(?:\n\n|\Z)", part, re.MULTILINE | re.DOTALL)
    assert table is not None
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table[0].strip().splitlines()[2:]]


def limit_of(kind: Any) -> int:
    """The greatest length of a text of that type."""
    length: int = msgspec.json.schema(kind)["maxLength"]
    return length


def test_table_has_the_limits_of_the_code():
    """Each row of the table of limits and defaults has the number of the type or constant that sets it."""
    vault = (
        f"{shares.MAX_VAULT_REQUESTS}, a customer's or the operator's {shares.MAX_VAULT_REQUESTS // 2} (a list counts "
        f"as {shares.LIST_WEIGHT}); tests of connections likewise; statements {shares.MAX_STATEMENTS}, a customer's "
        f"{shares.MAX_STATEMENTS // 2}"
    )
    deliveries = len(callbacks.RETRY_DELAYS_S) + 1
    limits = {
        "the body of a job or of a webhook's event": f"{reading.MAX_BODY_BYTES:,} bytes",
        "lists and objects in a body, or in a blob with a job's input": f"{MAX_CONTAINERS:,}",
        "members of all objects in it": f"{MAX_MEMBERS:,}",
        "fields and files of a `raw` job's form": f"{MAX_PARTS:,}",
        "a customer's webhook template": f"{template_store.MAX_TEMPLATE_BYTES:,} bytes",
        "the body of a connection": f"{connections.MAX_SECRET_BYTES:,} bytes",
        "a customer's id, a connection's name": f"{limit_of(Name)} characters",
        "a job's id": f"{limit_of(JobId)} characters",
        "a job's `metadata`": f"{jobs.METADATA_LIMIT:,} bytes",
        "a callback's URL": f"{limit_of(jobs.CallbackUrl):,} characters",
        "`Prefer: wait`": f"up to {reading.MAX_WAIT_S:g} s; a worker keeps {shares.MAX_WAITS} requests waiting, a "
        f"customer's {shares.MAX_WAITS // 2} at most, and answers further ones 202 at once",
        "requests for connections, and lists of customers, that a worker answers at once": vault,
        "`Retry-After` of a job that has not ended": f"{job_routes.RETRY_AFTER_S} s",
        "`limit` of a list": f"{reading.DEFAULT_PAGE_SIZE}, up to {reading.MAX_PAGE_SIZE}",
        "jobs that are read for one page of a list with `status`": f"{MAX_READ:,}",
        "a webhook's timestamp": "within 300 s of now",
        "the body of a provider's event": f"{provider_events.MAX_EVENT_BYTES:,} bytes",
        "looks at a batch that its provider's events ask for": f"one in {SPACING_S:g} s",
        "responses that events name and a creation without an answer looks at": f"{MAX_CANDIDATES}",
        "reads of signing secrets by a worker, those of providers' events included": (
            f"{signing_reads.READS_A_SECOND} a second for known customers, "
            f"{signing_reads.READS_A_SECOND} for all other names; then 503"
        ),
        "how long a signing secret is cached": f"{secret_cache.FRESH_S:g} s; "
        f"{secret_cache.STALE_S:,.0f} s while the vault is down",
        "the response to a callback": f"within {callbacks.TIMEOUT_S:g} s",
        "deliveries of a callback": f"{deliveries}, over {sum(callbacks.RETRY_DELAYS_S) / 3600:.1f} hours",
        "the test of a connection": f"{probe.PROBE_TIMEOUT_S:g} s",
        "the response to a request, by Azure": "within 230 s",
    }

    assert limits == dict(rows("## Limits and defaults"))


async def test_default_page_size_is_the_documented_one():
    """Without a limit, a page has as many jobs as the document says."""
    app = MemoryApp()
    for number in range(reading.DEFAULT_PAGE_SIZE + 1):
        job = {"customer": "contoso", "job_id": f"n{number}", "action": "chat", "input": {"prompt": "Hello?"}}
        assert 202 == (await app.send("POST", "jobs", job)).status
    page = (await app.send("GET", "customers/contoso/jobs")).json
    operation = document()["paths"]["/customers/{customer}/jobs"]["get"]
    (described,) = [item["description"] for item in operation["parameters"] if item["name"] == "limit"]

    assert described.endswith(f"The default is {len(page['jobs'])}.")
    assert "continuation" in page


def test_table_has_the_roles_of_the_routes():
    """The table of roles has each role that a route requires."""
    assert {route.role for route in ROUTES if route.role} == {row[0].strip("`") for row in rows("### Entra")}


def test_table_has_the_errors_of_the_document():
    """The table of errors has each status of the OpenAPI document, and each of its codes."""
    codes_of: dict[str, set[str]] = {}
    for methods in document()["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    codes = re.findall(r"`([a-z_]+)`:", response["description"])
                    codes_of.setdefault(status, set()).update(codes)

    assert codes_of == {status: set(re.findall(r"`(\w+)`", codes)) for status, codes, _ in rows("## Errors")}
