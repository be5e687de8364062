"""The whole stack as `dev.py start` runs it: real queues, Functions hosts, and the demo itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from aijobs.model_retirements import retirements
from local.__main__ import make_parser
from local.demo import billing
from local.demo.real_endpoint import billing_note
from local.stack import stack as stacks
from local.stack.customers import onboard
from local.stack.hosts import Hosts
from local.stack.stack import Stack
from tests.support.cli_runner import run_words
from tests.support.endpoint import Endpoint
from tests.support.invalid_jobs import INVALID_JOBS

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture(scope="module")
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """The local stack with two hosts; in the default tier with one of them."""
    workers = 1 if request.config.option.markexpr == "not long" else 2
    async with stacks.start(workers=workers, on_line=lambda line: sys.stderr.write(f"{line}\n")) as running:
        yield running


def _queue(stack: Stack, name: str) -> QueueClient:
    return QueueClient.from_connection_string(stack.storage.connection_string, name)


async def _send(stack: Stack, *bodies: bytes) -> list[str]:
    return await _send_texts(stack, *(base64.b64encode(body).decode() for body in bodies))


async def _send_texts(stack: Stack, *texts: str) -> list[str]:
    async with _queue(stack, "jobs") as queue:
        sent = await asyncio.gather(*(queue.send_message(text) for text in texts))
    return [message.id for message in sent]


async def _results(stack: Stack, ids: list[str], *, within: float = 90) -> dict[str, dict[str, Any]]:
    """The results of these jobs; fails if one is missing in time, or published twice."""
    results: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + within
    async with _queue(stack, "results") as queue:
        while set(ids) - set(results):
            assert time.monotonic() < deadline, f"No result of {set(ids) - set(results)}."
            async for message in queue.receive_messages(messages_per_page=32):
                result = json.loads(base64.b64decode(message.content))
                assert result["job_id"] not in results
                results[result["job_id"]] = result
                await queue.delete_message(message)
            await asyncio.sleep(0.05)
    return results


async def _waiting(stack: Stack, name: str) -> int:
    async with _queue(stack, name) as queue:
        return (await queue.get_queue_properties()).approximate_message_count


def _job(customer: str, **members: Any) -> bytes:
    return json.dumps({"customer": customer, "action": "chat", "input": {"prompt": "Hello?"}} | members).encode()


async def test_a_stack_has_all_that_its_settings_name(stack: Stack):
    """Each URL is that of a running part on loopback, and each queue, container and table exists."""
    settings, text = stack.settings(), stack.storage.connection_string
    async with (
        QueueServiceClient.from_connection_string(text) as queues,
        BlobServiceClient.from_connection_string(text) as blobs,
        TableServiceClient.from_connection_string(text) as tables,
    ):
        queue_names = {queue.name async for queue in queues.list_queues()}
        container_names = {container.name async for container in blobs.list_containers()}
        table_names = {table.name async for table in tables.list_tables()}

    assert stack.hosts is not None
    assert 0 in stack.hosts.processes
    assert all(isinstance(value, str) for value in settings.values())
    assert settings["KEY_VAULT_URL"] == stack.vault.url
    assert settings["IDENTITY_ENDPOINT"].startswith("http://127.0.0.1:")
    assert [customer.id for customer in stack.customers] == ["contoso", "fabrikam", "northwind"]
    assert len(stack.vault.secrets.live) == 8 + 3  # connections, and the secrets of three accounts' events
    assert {
        "results",
        *(f"{name}{end}" for name in ("jobs", "callbacks", "batches") for end in ("", "-poison")),
    } == queue_names
    assert {"results", "inputs", "templates", "statements"} == container_names
    assert {settings["JOBS_TABLE"]} == table_names


async def test_a_new_stack_needs_no_attention(stack: Stack, tmp_path: Path):
    """`doctor` has no error and no warning, and no model of a customer is on the list of those that will retire."""
    file = tmp_path / "local.settings.json"
    file.write_text(json.dumps({"IsEncrypted": False, "Values": stack.settings()}))
    document = json.loads((await run_words(["doctor", "--json", "--settings", str(file)], tmp_path)).out)
    names = {customer.settings.get("default_model") for customer in stack.customers}

    assert [] == [each for each in document["findings"] if each["verdict"] != "ok"]
    assert any(each["check"] == "models" and each["message"].startswith("8 ") for each in document["findings"])
    assert set() == names & {name for _, name in retirements()}


async def test_demo_shows_every_outcome(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """
    The demo ends well, says that a stand-in answered, and shows each job's result and each customer's usage, in lines
    of at most 80 columns. The README shows exactly what it prints. (It counts all that the stack has done: no test
    before it runs a job.) The operator's commands run in this process; the demos of the long tier start others.
    """
    command = make_parser().parse_args(["demo"])
    started: list[dict[str, Any]] = []

    @contextlib.asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[Stack]:
        started.append(options)
        yield stack

    async def run_command(hosts: Hosts, *words: str) -> None:
        done = await run_words(words, ROOT, environment=hosts.environment)
        assert 0 == done.code, done.err

    monkeypatch.delenv("AI_API_KEY", raising=False)
    monkeypatch.setattr(stacks, "start", start)
    monkeypatch.setattr(billing, "_aijobs", run_command)
    code = await command.run(command)
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())

    assert 0 == code, printed
    assert [(2, {})] == [(each["workers"], each["settings"]) for each in started]
    assert "stand-in" in printed
    (shown,) = re.findall(r"^```\n(Sent .*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    outcomes = re.compile(r"^ (\w+)  +(\w.*?)  +(succeeded|failed)  +(-|\d+ \+ \d+)  ", re.MULTILINE)
    used = re.compile(r"^ (\w+)  +(\S+)  +customer  +(\d+)  +(\d+|-)  +(\d+|-)  +(\d+|-)", re.MULTILINE)
    assert 17 == len(outcomes.findall(shown))
    assert 8 == len(used.findall(shown))
    assert shown in printed
    assert [] == [line for line in printed.splitlines() if len(line) > 80]
    invoice = (ROOT / ".demo/invoice.html").read_text(encoding="utf-8")
    assert "Statement northwind-0001" in invoice
    assert "0.20 USD" in invoice


async def test_every_message_has_its_result(stack: Stack):
    """
    Jobs of three customers go through queue, vault and HTTP, in base64 and in plain JSON, and each ends with its result
    and usage. Plain JSON runs up to 64 KiB of it, though as base64 it would not fit when it is requeued. What the host
    put into the poison queue, in either form, is answered with a failed result.

    Every kind of bad message, in base64 or plain, gets one result at once, under its message id: none is retried, none
    reaches the poison queue, and no member of plain JSON replaces what the host says about the message.
    """
    plain = [_job("contoso", input={"prompt": "x" * size}).decode() for size in (10, 65_000)]
    assert len(plain[1].encode()) < 65_536
    hostile = b'{"dequeueCount": "many", "insertionTime": "2026-11-20T00:00:00Z", "id": 1, "customer": "contoso"}'
    bad = [body for body, _ in INVALID_JOBS.values() if body] + [hostile, _job("nobody")]
    bad_plain = [body.decode() for body in bad if body.isascii() and body.decode().isprintable()]
    assert len(bad_plain) > len(bad) / 2
    late = _job("contoso", job_id="late", _envelope={"submitted_at": "2026-11-20T00:00:00Z"}, options={"deadline_s": 1})

    ids = await _send(stack, *(_job(customer.id) for customer in stack.customers))
    plain_ids = await _send_texts(stack, *plain)
    bad_ids = [*await _send(stack, *bad), *await _send_texts(stack, *bad_plain, "not a job")]
    async with _queue(stack, "jobs-poison") as queue:
        await queue.send_message(base64.b64encode(late).decode())
        await queue.send_message(late.decode().replace("late", "later"))
        poisoned = await queue.send_message("{not a job")
    late_ids = ["late", "later", poisoned.id]
    results = await _results(stack, [*ids, *plain_ids, *bad_ids, *late_ids])

    assert ["succeeded"] * 5 == [results[job_id]["status"] for job_id in (*ids, *plain_ids)]
    assert ["contoso-chat", "fabrikam-chat", "gpt-6-luna"] == [results[job_id]["model"] for job_id in ids]
    async with TableClient.from_connection_string(stack.storage.connection_string, "jobs") as table:
        for job_id, customer in zip(ids, stack.customers, strict=True):
            query = table.query_entities(
                "PartitionKey eq @c and job_id eq @j", parameters={"c": customer.id, "j": job_id}
            )
            (record,) = [row async for row in query]
            assert record["input_tokens"] == results[job_id]["usage"]["input_tokens"] > 0
    assert ["timeout", "timeout", "invalid_job"] == [results[job_id]["error"]["code"] for job_id in late_ids]
    codes = Counter(results[job_id]["error"]["code"] for job_id in bad_ids)
    assert {"invalid_job": len(bad_ids) - 2, "connection_not_found": 2} == codes
    async with asyncio.timeout(60):  # the host deletes a message after it has sent the result
        while await _waiting(stack, "jobs") or await _waiting(stack, "jobs-poison"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert 0 == await _waiting(stack, "results")


@pytest.mark.long  # a soak has several workers, too
async def test_workers_share_a_queue(stack: Stack):
    """More jobs than a host fetches at a time end on two, once each, and usage equals what the endpoint counted."""
    await stack.ai.clear_journal()
    before = await _usage(stack)
    ids = {f"many-{n}-{customer.id}": customer.id for n in range(12) for customer in stack.customers}

    await _send(stack, *(_job(customer, job_id=job_id) for job_id, customer in ids.items()))
    results = await _results(stack, [*ids])

    assert ids == {job_id: result["customer"] for job_id, result in results.items()}
    assert {"succeeded"} == {result["status"] for result in results.values()}
    assert len(ids) == await _usage(stack) - before == len(await stack.ai.journal(status=200))


async def _usage(stack: Stack) -> int:
    async with TableClient.from_connection_string(stack.storage.connection_string, "jobs") as table:
        rows = table.query_entities("RowKey ge 'u_' and RowKey lt 'u`'", select=["calls"])
        return sum([row["calls"] async for row in rows])


@pytest.mark.long
async def test_script_in_the_readme_can_be_followed(stack: Stack, tmp_path: Path):
    """The README's script, saved beside local.settings.json, submits its job; the commands below it show the answer."""
    await onboard(stack.vault, stack.ai.url, replace(stack.customers[0], id="newcomer"))  # who has no other jobs
    page = (ROOT / "README.md").read_text().partition("## Submit a job")[2].partition("\n## ")[0]
    page = page.replace("contoso", "newcomer")
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^\.venv/bin/python (-m aijobs .*)$", page, re.MULTILINE)
    (tmp_path / "job.py").write_text(script)
    (tmp_path / "local.settings.json").write_text(json.dumps({"Values": stack.settings()}))

    async def runs(*arguments: str) -> str:
        done = await asyncio.to_thread(_python, *arguments, cwd=tmp_path, PYTHONPATH=str(ROOT))
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    await runs("job.py")
    deadline = time.monotonic() + 90
    async with TableClient.from_connection_string(stack.storage.connection_string, "jobs") as table:
        while not [job async for job in table.query_entities("PartitionKey eq 'newcomer' and state eq 'done'")]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    output = [await runs(*command.split()) for command in commands]

    assert 2 == len(output)
    assert "succeeded" in output[0]
    assert any("Paris" in file.read_text() for file in (tmp_path / "answers").rglob("*") if file.is_file())


def _environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "AI_API_KEY"} | more


def _python(*arguments: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, *arguments], _environment(**more)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=270, check=False)


_demo = partial(_python, "-m", "local", "demo")


@pytest.mark.long
async def test_demo_of_a_real_endpoint(endpoint: Endpoint):
    """The same jobs on another endpoint, such as a gateway: they succeed, and the output says who is billed."""
    account = endpoint.account()
    url = f"{endpoint.url}/openai/v1"

    demo = await asyncio.to_thread(
        _demo, "--endpoint", url, "--model", "our-model", "--provider", "azure_openai", AI_API_KEY=account.key
    )

    assert 0 == demo.returncode, demo.stdout + demo.stderr
    assert f"The answers are from {url}; its owner is billed for them." in " ".join(demo.stdout.split())
    assert {"our-model"} == {request.json["model"] for request in account.received}
    assert 7 == len(account.received)
    assert account.key not in demo.stdout + demo.stderr


def test_demo_that_nobody_answered_bills_nobody():
    """Where no call was answered, the demo says so, and not that anybody will be billed."""
    note = billing_note("https://gateway.example", [{"calls": 0}])

    assert "billed" not in note
    assert "--provider" in note


@pytest.mark.parametrize(
    ("arguments", "key", "message"),
    [
        (["--endpoint", "https://x.openai.azure.com", "--model", "m"], "", "also needs --model, and the key in"),
        (["--endpoint", "https://x.openai.azure.com"], "k", "also needs --model, and the key in"),
        (["--model", "m"], "", "--model is only for a real endpoint. Add --endpoint, or leave out --model."),
        (["--provider", "openai"], "", "--provider is only for a real endpoint. Add --endpoint"),
        ([], "k", "AI_API_KEY is only for a real endpoint. Add --endpoint, or leave out AI_API_KEY."),
    ],
)
async def test_demo_of_a_real_endpoint_asks_for_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], key: str, message: str
):
    """An endpoint without its key or model, and these without an endpoint, are told in a sentence; nothing starts."""
    monkeypatch.setenv("AI_API_KEY", key)
    command = make_parser().parse_args(["demo", *arguments])

    assert 1 == await command.run(command)
    shown = " ".join(capsys.readouterr().out.split())
    assert message in shown
    assert "Starting" not in shown


@pytest.mark.long
async def test_demo_that_is_kept_serves_the_console():
    """With `--keep`, the stack runs on: the console is at the address that is printed, and Ctrl-C ends everything."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local", "demo", "--keep"),
        cwd=ROOT,
        env=_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    printed = ""
    async with asyncio.timeout(90):
        while "Ctrl-C stops everything" not in printed:
            line = await process.stdout.readline()
            assert line, printed
            printed += line.decode()
        (url,) = re.findall(r"http://\S+/api/console", printed)
        async with httpx.AsyncClient(trust_env=False) as client:
            page = await client.get(url)
            lines = (await client.get(url.replace("/console", "/usage"))).json()["lines"]
        process.send_signal(signal.SIGINT)
        rest = await process.stdout.read()
        code = await process.wait()

    assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["content-type"])
    assert ["contoso", "fabrikam", "northwind"] == [line["customer"] for line in lines]
    assert (0, False) == (code, b"Traceback" in rest)


@pytest.mark.long  # test_start.py has Ctrl-C of a stack
async def test_demo_can_be_interrupted():
    """Ctrl-C in the middle of the demo ends it and all that it started."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local", "demo"),
        cwd=ROOT,
        env=_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    await asyncio.sleep(1)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        output = await process.stdout.read()
        await process.wait()

    assert b"Traceback" not in output
