"""The samples of docs/patient.md: its job runs at the local provider, its commands in a shell beside the stack."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from local.stack.hosts import free_port
from local.stack.processes import running
from shared.contract.connection import decode_connection
from tests.support.clients import open_client
from tests.support.doc_samples import ROOT, blocks
from tests.support.patience import patient_app

SAMPLES = [json.loads(block) for block in blocks("docs/patient.md", "json")]
SHOWN, JOB, CONNECTION = SAMPLES
SUBMIT, WAKE = blocks("docs/patient.md", "bash")
PORT = "7071"


async def test_the_job_runs_in_batches_of_its_deployment(monkeypatch):
    """The page's job succeeds with the page's connection, and what is sent names its `batch_model`."""
    async with open_client() as client, patient_app(client, monkeypatch) as at:
        customer = at.customer(style="azure", **{name: CONNECTION[name] for name in ("default_model", "batch_model")})
        job = await at.send(customer, **{name: JOB[name] for name in ("action", "options", "input")})
        await at.finish([job])
        assert "succeeded" == at.result(job)["status"]
        assert {"batch"} == {row["processing"] for row in at.rows(customer, "u_")}
        assert {CONNECTION["batch_model"]} == {each.model for each in at.accounts[customer].batches.values()}


def test_the_connection_is_valid():
    """As it would be stored."""
    assert decode_connection(json.dumps(CONNECTION)).batch_model


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_newcomer_gets_a_result_out_of_a_batch(tmp_path: Path):
    """The first command prints what the page shows, when the second has run the timer."""
    port = str(free_port())
    start = [sys.executable, "-u", "-m", "local", "start", "--port", port, "--settings", tmp_path / "settings.json"]
    async with running("The stack", start, ready=["^Ctrl-C stops everything"], cwd=ROOT):
        submitted = asyncio.create_task(shell(SUBMIT.replace(PORT, port)))
        await asyncio.sleep(3)
        await shell(WAKE.replace(PORT, port))
        result = json.loads((await submitted).splitlines()[-1])
    usage = SHOWN.pop("usage")
    assert result | SHOWN == result
    assert result["usage"] | usage == result["usage"]


async def shell(text: str) -> str:
    """What a shell prints to whoever types this."""
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    process = await asyncio.create_subprocess_exec("bash", "-ec", text, stdout=asyncio.subprocess.PIPE, env=environment)
    output, _ = await process.communicate()
    assert 0 == process.returncode
    return output.decode()
