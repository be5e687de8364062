"""
The demo: jobs of three customers through the real queue, and what became of them.

Submits as any back end would, with Azure's own queue client, and reads results and usage records where
the app leaves them. Knows nothing of how the app does its work.
"""

import argparse
import asyncio
import contextlib
import json
import os
import time
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azure.data.tables.aio import TableClient
from azure.storage.blob.aio import BlobClient
from azure.storage.queue.aio import QueueClient
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from local.demo.jobs import REFUSED, Sent, demo_jobs, describe
from local.paths import PROJECT
from local.stack import stack
from local.stack.customers import Customer, onboard
from local.stack.node import Missing
from local.stack.processes import ProcessFailed
from local.stack.stack import Stack

KEY = "AI_API_KEY"
"""The environment's variable that holds the key of a real endpoint."""
PATIENCE_S = 90.0
KEPT = PROJECT / ".demo"
"""The one thing that the demo leaves: a picture to look at."""

_COLOURS = {"succeeded": "green", "partial": "yellow", "failed": "red"}


async def run(arguments: argparse.Namespace) -> int:
    """Runs the demo and gives the exit code: 0 where every job ended as it should."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 100  # a log is not as narrow as the 80 columns that are assumed
    endpoint, key = arguments.endpoint, os.environ.get(KEY, "")
    if endpoint and not (key and arguments.model):
        console.print(f"--endpoint needs --model as well, and the key in the environment variable {KEY}.")
        return 1
    if not endpoint and (key or arguments.model or arguments.provider):
        given = "--model" if arguments.model else "--provider" if arguments.provider else KEY
        console.print(f"{given} is of a real endpoint: name that with --endpoint, or leave out {given}.")
        return 1
    quiet: list[str] = []
    started = time.monotonic()
    console.print("Starting Storage, Key Vault, the AI endpoint and two Functions workers …")
    try:
        async with stack.start(workers=2, settings=_allowing(endpoint), tell=quiet.append) as running:
            console.print(f"Ready after {time.monotonic() - started:.1f} s.\n")
            if endpoint:
                await _move(running, endpoint, arguments.model, arguments.provider, key)
            return await _show(console, running, real=endpoint)
    except (Missing, ProcessFailed) as exc:
        console.print(str(exc), style="red")
        return 1
    except TimeoutError:
        console.print(f"Not every job had a result after {PATIENCE_S:g} s. The hosts' last lines:", style="red")
        console.print("\n".join(quiet[-20:]), markup=False)
        return 1


async def _show(console: Console, running: Stack, *, real: str | None) -> int:
    jobs = demo_jobs(real=bool(real))
    console.print("[bold]Customers[/bold], each with an endpoint and a key of its own in Key Vault:")
    for customer in running.customers:
        console.print(f"  {customer.id:<10} {real or customer.kind}")
    console.print()
    results = await _run_jobs(console, running, jobs)
    console.print(_outcomes(jobs, results))
    records = await _usage(running)
    console.print(_statement(records))
    picture = await _picture(running, results)
    if picture is not None:
        console.print(f"The picture is in [bold]{picture.relative_to(PROJECT)}[/bold].")
    if real:
        console.print(whose(real, records))
    else:
        calls = await running.ai.journal(status=200)
        told = sum(record["calls"] for record in records)
        console.print(
            f"The AI endpoint's own journal counts {len(calls)} answered calls; "
            f"the usage records say {told}.\n\n"
            "[dim]The answers come from a stand-in on this machine, not from a model. All else is a job's\n"
            "real way: queue, worker, Key Vault's client, HTTP, ledger. On a real subscription:[/dim]\n\n"
            f"  {KEY}=… python3 dev.py demo --model DEPLOYMENT \\\n"
            "      --endpoint https://RESOURCE.openai.azure.com/openai/v1"
        )
    ended = sum(result["status"] == "succeeded" for result in results.values())
    expected = sum(sent.shows not in REFUSED for sent in jobs)
    return 0 if ended == expected and len(results) == len(jobs) else 1


async def _run_jobs(console: Console, running: Stack, jobs: Sequence[Sent]) -> dict[str, dict[str, Any]]:
    """Puts every job into the queue, one of them twice, and waits until each has a result."""
    results: dict[str, dict[str, Any]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with _queue(running, "jobs") as jobs_queue, _queue(running, "results") as results_queue:
        bodies = [json.dumps(sent.job).encode() for sent in jobs]
        await asyncio.gather(*(jobs_queue.send_message(b64encode(body).decode()) for body in [*bodies, bodies[0]]))
        console.print(f"Sent {len(jobs)} jobs into the queue [bold]jobs[/bold], the first of them twice.")
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("Results", total=len(jobs))
            async with asyncio.timeout(PATIENCE_S):
                while len(results) < len(jobs):
                    async for message in results_queue.receive_messages(messages_per_page=32):
                        result = json.loads(b64decode(message.content))
                        results[result["job_id"]] = result
                        await results_queue.delete_message(message)
                    progress.update(task, completed=len(results))
                    await asyncio.sleep(0.1)
    return results


def _outcomes(jobs: Sequence[Sent], results: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="What became of the jobs", title_justify="left", title_style="bold")
    for name in ("customer", "job", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("answer, or why not", ratio=1)
    for sent in jobs:
        result = results[sent.job["job_id"]]
        usage, colour = result["usage"], _COLOURS[result["status"]]
        failed = "error" in result
        said = Text(describe(result), no_wrap=not failed, overflow="fold" if failed else "ellipsis")
        table.add_row(
            sent.job["customer"],
            sent.shows,
            f"[{colour}]{result['status']}[/{colour}]",
            f"{usage['input_tokens']} + {usage['output_tokens']}" if usage["input_tokens"] else "-",
            said,
        )
    return table


def _statement(records: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="What each customer used", title_justify="left", title_style="bold")
    for name in ("customer", "model", "billed to"):
        table.add_column(name)
    for name in ("calls", "input tokens", "output tokens"):
        table.add_column(name, justify="right")
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for record in records:
        line = sums[record["PartitionKey"], record["model"], record["billed_to"]]
        for place, name in enumerate(("calls", "input_tokens", "output_tokens")):
            line[place] += record[name]
    for key, line in sorted(sums.items()):
        table.add_row(*key, *map(str, line))
    return table


async def _usage(running: Stack) -> list[dict[str, Any]]:
    """Every usage record, from the table that the app keeps them in."""
    async with TableClient.from_connection_string(running.storage.connection_string, "jobs") as table:
        return [dict(row) async for row in table.query_entities("RowKey ge 'u_' and RowKey lt 'u`'")]


async def _picture(running: Stack, results: dict[str, dict[str, Any]]) -> Path | None:
    """The picture that a job has made, out of its blob into a file that opens."""
    made = next((one for one in results.values() if one.get("action") == "image" and "output" in one), None)
    if made is None:
        return None
    place = made["output"]["images"][0]["blob"]
    client = BlobClient.from_connection_string(running.storage.connection_string, place["container"], place["name"])
    async with client:
        data = await (await client.download_blob()).readall()
    KEPT.mkdir(exist_ok=True)
    file = KEPT / Path(place["name"]).name
    file.write_bytes(data)
    return file


def whose(endpoint: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Whose the answers of a real endpoint were, by the usage records: nobody's, where no call was answered."""
    if any(record["calls"] for record in records):
        return f"The answers came from {endpoint}, and its owner will be billed for them."
    return (
        f"No call to {endpoint} was answered; the table says why. "
        "Where a host does not tell which provider's API answers there, --provider says it."
    )


def _allowing(endpoint: str | None) -> dict[str, str]:
    """The setting that allows an endpoint, which may be a gateway of somebody's own."""
    with contextlib.suppress(ValueError):  # what is no URL is told by the jobs
        if endpoint and (host := urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}").hostname):
            return {"ALLOWED_ENDPOINT_SUFFIXES": host}
    return {}


async def _move(running: Stack, endpoint: str, model: str, provider: str | None, key: str) -> None:
    """Gives each of the three customers the real endpoint in place of the stand-in."""
    settings = {"default_model": model, **({"provider": provider} if provider else {})}
    moved = [Customer(each.id, each.kind, endpoint, settings, key=key) for each in running.customers]
    await onboard(running.vault, "", *moved)


@contextlib.asynccontextmanager
async def _queue(running: Stack, name: str) -> AsyncIterator[QueueClient]:
    async with QueueClient.from_connection_string(running.storage.connection_string, name) as client:
        yield client
