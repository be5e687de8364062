"""The ids of the jobs that close months are refused from every caller: HTTP, webhooks, files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aijobs.job_file import read_json
from aijobs.submit_plan import make_plan
from shared.contract.job import decode_job
from shared.errors import InvalidJob
from shared.http.webhooks import default_job_id, read_job
from tests.support.job_bodies import body, decoded, refusal
from tests.support.memory_app import MemoryApp
from tests.support.rows import every_row

RESERVED = ["statements", "statement-2026-11", "statement-2026-11-2", "statement-"]
OTHERS = ["statement", "Statements", "statements-1", "my-statement-1", "Statement-2026-11"]
ERROR = "`job_id` must not be `statements`, or begin with `statement-`: these ids are the app's own."


@every_row("job_id", RESERVED)
async def test_a_reserved_id_is_refused_at_every_door(job_id: str):
    """`invalid_job`, in the same words, and nothing is put on record."""
    members: dict[str, Any] = json.loads(body(job_id=job_id))
    webhook = {name: value for name, value in members.items() if name != "customer"}
    app = MemoryApp()

    (await app.send("POST", "jobs", members)).assert_problem(400, "invalid_job", ERROR)
    assert {} == app.table.rows
    assert ERROR == refusal(body(job_id=job_id))
    with pytest.raises(InvalidJob, match="these ids are the app's own"):
        read_job(json.dumps(webhook).encode(), "acme", "msg_1")
    with pytest.raises(InvalidJob, match="these ids are the app's own"):
        decode_job(body(), default_id=job_id)
    assert [(1, ERROR)] == list(make_plan(read_json(json.dumps([members])), {}, "batch").errors)
    assert default_job_id({"webhook-id": job_id}).startswith("webhook-")


@every_row("job_id", OTHERS)
def test_ids_that_only_look_so_are_taken(job_id: str):
    """They share no row and no blob with a statement."""
    assert job_id == decoded(job_id=job_id).id
