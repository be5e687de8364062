"""
The demo: jobs of three customers through the queue of the local stack, and their results.

It submits jobs as any back end would, with Azure's own queue client, reads results and usage records where the app
writes them, and amounts over HTTP. Knows nothing of how the app works inside.
"""

import argparse
import asyncio
import contextlib
import json
import os
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from azure.data.tables.aio import TableClient
from azure.storage.blob.aio import BlobClient, ContainerClient
from azure.storage.queue.aio import QueueClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local.demo.billing import BILLED, console_url, make_invoice, publish_prices, usage_by_customer
from local.demo.jobs import FAILING, DemoJob, demo_blobs, demo_jobs
from local.demo.patient import compare
from local.demo.real_endpoint import allow, billing_note, use_real_endpoint
from local.demo.tables import COLUMNS, amounts_table, error_texts, patient_table, results_table, usage_table, wrapped
from local.paths import PROJECT
from local.stack import stack
from local.stack.hosts import Hosts
from local.stack.node import NotInstalled
from local.stack.processes import ProcessFailed
from local.stack.stack import Stack

KEY = "AI_API_KEY"
"""The environment variable that has the key of a real endpoint."""
TIME_LIMIT_S = 90.0
OUTPUT = PROJECT / ".demo"
"""The only folder that the demo writes to: an image and an invoice to look at."""
INVOICE_NOTE = "a month that has\nended was closed, with a copy of these records in it."
STAND_IN_NOTE = (
    "The answers are from a stand-in on this machine, not from a model; it counts no tokens of images, audio and "
    "embeddings. What ran is the app's own code, on emulated Storage and a stand-in for Key Vault. To use a real "
    "subscription:"
)
PATIENT_NOTE = (
    "Those with `processing: batch` were lines of one batch. Its provider's event woke them, and so did the app's "
    "timer, which the demo ran at once, not when the minute was over. A real batch can take a day."
)
KEEP_NOTE = "The console shows all this in a browser. To open it: python3 dev.py demo --keep"
HOST_LINES = 20
"""The last lines of the hosts' output that are printed after a timeout."""


async def run(arguments: argparse.Namespace) -> int:
    """Run the demo. Returns the exit code: 0 if every job ended as expected."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = COLUMNS
    endpoint, key = arguments.endpoint, os.environ.get(KEY, "")
    if endpoint and not (key and arguments.model):
        console.print(f"--endpoint also needs --model, and the key in the environment variable {KEY}.")
        return 1
    if not endpoint and (key or arguments.model or arguments.provider):
        name = "--model" if arguments.model else "--provider" if arguments.provider else KEY
        console.print(f"{name} is only for a real endpoint. Add --endpoint, or leave out {name}.")
        return 1
    host_lines: list[str] = []
    start = time.monotonic()
    console.print("Starting Storage, Key Vault, the AI endpoint and two Functions workers …")
    try:
        async with stack.start(workers=2, settings=allow(endpoint), on_line=host_lines.append) as running:
            console.print(f"Ready after {time.monotonic() - start:.1f} s.\n")
            if endpoint:
                await use_real_endpoint(running, endpoint, arguments.model, arguments.provider, key)
            code = await _show(console, running, _hosts(running), real=endpoint)
            await _end(console, running, _hosts(running), keep=arguments.keep)
            return code
    except (NotInstalled, ProcessFailed) as exc:
        console.print(str(exc), style="red")
        return 1
    except TimeoutError:
        console.print(f"Not every job had a result within {TIME_LIMIT_S:g} s. The hosts' last lines:", style="red")
        console.print("\n".join(host_lines[-HOST_LINES:]), markup=False)
        return 1


def _hosts(running: Stack) -> Hosts:
    if running.hosts is None:
        raise AssertionError("The demo's stack has hosts.")
    return running.hosts


async def _end(console: Console, running: Stack, hosts: Hosts, *, keep: bool) -> None:
    """Say where the console is. With `keep`, let the stack run until a signal arrives or a part of it ends."""
    if not keep:
        console.print(f"\n{wrapped(KEEP_NOTE)}")
        return
    console.print(f"\nThe console, where any text is a key: [bold]{console_url(hosts)}[/bold]")
    console.print("Ctrl-C stops everything.")
    console.print(await running.broken(), style="red")


async def _show(console: Console, running: Stack, hosts: Hosts, *, real: str | None) -> int:
    jobs = demo_jobs(real=bool(real))
    console.print("[bold]Customers[/bold], each with its own endpoint and key in Key Vault:")
    for customer in running.customers:
        console.print(f"  {customer.id:<10} {real or customer.kind}")
    console.print("The jobs are of these three, and of tailspin, which has no connection.\n")
    if not real:  # whose prices nobody knows here
        await asyncio.gather(publish_prices(hosts), _write_blobs(running))
    results, repeated = await _run_jobs(console, running, jobs)
    records = await _usage(running)
    console.print(note_on_repeat(jobs[0], records, identical=repeated), end="\n\n")
    console.print(results_table(jobs, results))
    for text in error_texts(jobs, results):
        console.print(text, end="\n\n", markup=False)
    console.print(usage_table(records))
    if not real:
        billed = len(await running.ai.journal(status=200)) + running.provider.totals().calls
        console.print(f"The AI endpoints counted {billed} billed calls; there are {len(records)} usage records.\n")
        await _show_amounts(console, running, hosts)
    image = await _save_image(running, results)
    if image is not None:
        console.print(f"The image is in [bold]{image.relative_to(PROJECT)}[/bold].")
    if real:
        console.print(wrapped(billing_note(real, records)))
    else:
        console.print(
            f"\n[dim]{wrapped(STAND_IN_NOTE)}[/dim]\n\n"
            f"  {KEY}=… python3 dev.py demo --model DEPLOYMENT \\\n"
            "      --endpoint https://RESOURCE.openai.azure.com/openai/v1"
        )
    succeeded = sum(result["status"] == "succeeded" for result in results.values())
    expected = sum(each.title not in FAILING for each in jobs)
    return 0 if succeeded == expected and len(results) == len(jobs) else 1


async def _show_amounts(console: Console, running: Stack, hosts: Hosts) -> None:
    """Print what each customer's usage costs, save the invoice of one of them, and run the patient jobs meanwhile."""
    console.print(amounts_table(await usage_by_customer(hosts)))
    file = OUTPUT / "invoice.html"
    OUTPUT.mkdir(exist_ok=True)
    compared = asyncio.create_task(compare(running, hosts))
    try:
        invoice = await make_invoice(running, hosts)
        await asyncio.to_thread(file.write_bytes, invoice)
        lines = await compared
    finally:
        compared.cancel()
    console.print(f"The invoice of {BILLED} is in [bold]{file.relative_to(PROJECT)}[/bold]: {INVOICE_NOTE}\n")
    console.print(patient_table(lines))
    console.print(wrapped(PATIENT_NOTE), end="\n\n")


async def _run_jobs(
    console: Console, running: Stack, jobs: Sequence[DemoJob]
) -> tuple[dict[str, dict[str, Any]], bool]:
    """
    Send every job and, when it has a result, the first one again.

    Returns the results by job id, and whether the repeated message got the same bytes. Raises TimeoutError if a result
    is missing.
    """
    bodies = [b64encode(json.dumps(each.job).encode()).decode() for each in jobs]
    received: dict[str, list[bytes]] = {each.job_id: [] for each in jobs}
    of_first, is_repeated = received[jobs[0].job_id], False
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with _queue(running, "jobs") as jobs_queue, _queue(running, "results") as results_queue:
        await asyncio.gather(*map(jobs_queue.send_message, bodies))
        console.print(f"Sent {len(jobs)} jobs to the queue [bold]jobs[/bold].")
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("Results", total=len(jobs))
            async with asyncio.timeout(TIME_LIMIT_S):
                while not all(received.values()) or len(of_first) == 1:
                    await _receive(results_queue, received)
                    progress.update(task, completed=sum(map(bool, received.values())))
                    if of_first and not is_repeated:
                        await jobs_queue.send_message(bodies[0])
                        is_repeated = True
    results = {job_id: json.loads(result_bodies[0]) for job_id, result_bodies in received.items()}
    return results, len(set(of_first)) == 1


async def _receive(queue: QueueClient, received: Mapping[str, list[bytes]]) -> None:
    """Add the results that are in the queue to those of their jobs, by job id."""
    async for message in queue.receive_messages(messages_per_page=32):
        result_body = b64decode(message.content)
        received[json.loads(result_body)["job_id"]].append(result_body)
        await queue.delete_message(message)
    await asyncio.sleep(0.1)


def note_on_repeat(job: DemoJob, records: Sequence[Mapping[str, Any]], *, identical: bool) -> str:
    """What came of the job that was sent twice."""
    calls = sum(record["calls"] for record in records if record["job_id"] == job.job_id)
    kind, cost = "identical" if identical else "different", "one call" if calls == 1 else f"{calls} calls"
    return f"Sent “{job.title}” a second time: two {kind} results, {cost}."


async def _usage(running: Stack) -> list[dict[str, Any]]:
    """Every usage record, from the app's table."""
    async with TableClient.from_connection_string(running.storage.connection_string, "jobs") as table:
        return [dict(row) async for row in table.query_entities("RowKey ge 'u_' and RowKey lt 'u`'")]


async def _write_blobs(running: Stack) -> None:
    """Write the blobs that jobs read."""
    async with ContainerClient.from_connection_string(running.storage.connection_string, "inputs") as inputs:
        await asyncio.gather(*(inputs.upload_blob(name, data) for name, data in demo_blobs().items()))


async def _save_image(running: Stack, results: Mapping[str, dict[str, Any]]) -> Path | None:
    """Copy the image of the image job from its blob to a file. Returns the file, or None without such a job."""
    images = (result["output"]["images"] for result in results.values() if result["action"] == "image")
    image = next(images, None)
    if image is None:
        return None
    blob = image[0]["blob"]
    client = BlobClient.from_connection_string(running.storage.connection_string, blob["container"], blob["name"])
    async with client:
        data = await (await client.download_blob()).readall()
    OUTPUT.mkdir(exist_ok=True)
    file = OUTPUT / Path(blob["name"]).name
    file.write_bytes(data)
    return file


@contextlib.asynccontextmanager
async def _queue(running: Stack, name: str) -> AsyncIterator[QueueClient]:
    async with QueueClient.from_connection_string(running.storage.connection_string, name) as client:
        yield client
