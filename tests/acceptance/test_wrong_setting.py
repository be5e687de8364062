"""A Functions host whose app has a wrong setting: Microsoft's worker runs it, and no message fails for that."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.contract.documents import API_PREFIX
from tests.support.host_fixtures import Host, Queues, Start

pytestmark = pytest.mark.long  # tests of `function_app` have each of its functions with a wrong setting

ROOT = Path(__file__).parents[2]
QUEUES = {f"{name.upper()}_QUEUE": f"wrong-{name}" for name in ("jobs", "results", "callbacks")}
FAULT = "LEASE_SECONDS must be a whole number from 10 to 540."


async def test_a_wrong_setting_fails_no_message(start_host: Start, queues: Queues):
    """Jobs in base64 and plain are requeued under their message ids, what is no job gets a result, HTTP says why."""
    app: Any = ROOT
    body = json.dumps({"customer": "contoso", "action": "chat", "input": {"prompt": "Hello?"}})
    await queues.put_text("wrong-jobs", body, b64encode(body.encode()).decode(), "not a job")
    host = await start_host("", "--port", "auto", app=app, LEASE_SECONDS="soon", **QUEUES)

    (result,) = await queues.take("wrong-results")
    async with asyncio.timeout(60):
        while len(requeued(host)) < 2 or await queues.length("wrong-jobs") != 2:  # noqa: ASYNC110  # a queue has no event
            await asyncio.sleep(0.05)
    async with aiohttp.ClientSession() as session, session.get(f"{host.url}{API_PREFIX}/customers/contoso/jobs") as got:
        problem = await got.json(content_type="application/problem+json")

    assert "invalid_job" == json.loads(result)["error"]["code"]
    assert (503, FAULT) == (got.status, problem["detail"])
    assert 0 == await queues.length("wrong-jobs-poison")


def requeued(host: Host) -> set[str]:
    """The ids of the jobs that the log says are requeued for the setting."""
    lines = (
        re.search(rf"job_requeued customer=contoso job_id=(\S+) .* SettingInvalid: {FAULT}", line)
        for line in host.lines
    )
    return {match[1] for match in lines if match}
