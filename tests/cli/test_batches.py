"""`batches`: what waits at customers' providers, on the command line."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from shared.clock import now
from shared.jobs.lines import Answer
from tests.support.batch_rows import put_batch, put_lines
from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer


async def listed(cli: CliRunner, line: str) -> list[dict[str, Any]]:
    """The batches in a list."""
    batches: list[dict[str, Any]] = json.loads((await cli.expect(f"{line} --json")).out)["batches"]
    return batches


async def test_batches_under_way_are_listed(cli: CliRunner, newcomer: Customer):
    """Newest first, of one customer or all; those that are done, or were opened earlier, on request."""
    table, name, at = cli.harness.services.table, newcomer.name, now()
    await cli.expect(f"batches list {name}", out="No batch is under way that was opened in the last 7 days.")
    old = await put_batch(table, name, at - timedelta(days=9), state="waiting", lines=1)
    late = await put_batch(
        table,
        name,
        at - timedelta(hours=23),
        state="sending",
        lines=1200,
        error_code="token_limit_exceeded",
        error="Enqueued token limit reached.",
    )
    done = await put_batch(table, name, at - timedelta(hours=2), state="done", lines=3, answered=2, failed=1)
    new = await put_batch(table, name, at, lines=5)

    assert [new, late] == [each["batch"] for each in await listed(cli, f"batches list {name}")]
    everything = await listed(cli, f"batches list {name} --all --days 10")
    assert [new, done, late, old] == [each["batch"] for each in everything]
    assert {new, late} <= {each["batch"] for each in await listed(cli, "batches list")}
    text = (await cli.expect(f"batches list {name}", out="1 of them will hardly end in time.")).out
    assert "late, token_limit_exceeded: Enqueued token limit reached." in " ".join(text.split())
    assert " 23h" in text
    await cli.expect("batches list A_B", 2, err="The customer's id must be")


async def test_a_batch_is_shown_with_its_jobs(cli: CliRunner, newcomer: Customer):
    """How many lines of each job are answered and why others failed; nothing of a prompt or an answer."""
    table, name = cli.harness.services.table, newcomer.name
    batch = await put_batch(
        table, name, now(), state="harvesting", lines=5, answered=2, failed=2, provider_id="batch_7"
    )
    refused, expired = Answer(400, b'{"error": "secret"}'), Answer(error_code="batch_expired")
    await put_lines(table, name, batch, {"first": [Answer(200, b"secret"), refused, None], "other": [expired]})

    shown = json.loads((await cli.expect(f"batches show {name} {batch} --json")).out)
    assert ("harvesting", "batch_7", 5) == tuple(shown[member] for member in ("state", "provider_id", "lines"))
    assert {"400": 1, "batch_expired": 1} == shown["errors"]
    assert [
        {"job_id": "first", "lines": 3, "answered": 1, "failed": 1},
        {"job_id": "other", "lines": 1, "answered": 0, "failed": 1},
    ] == shown["jobs"]
    text = (await cli.expect(f"batches show {name} {batch}", out="Lines that failed: 1 400, 1 batch_expired.")).out
    assert "secret" not in text + json.dumps(shown)
    await cli.expect(f"batches show {name} {batch[:-1]}x", 2, err="must be one that `aijobs batches list` shows")
    await cli.expect(f"batches show nobody {batch}", 1, err="nobody has no batch")
