"""Each command on the page about the command line is run in order, as a reader who follows it would."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from aijobs.parser import make_parser
from shared.errors import JobError
from tests.support.cli_runner import ROOT, CliRunner
from tests.support.doc_samples import blocks
from tests.support.harness import Customer, Harness

PAGE = (ROOT / "docs/cli.md").read_text()
ENDPOINT = "https://contoso-ai.openai.azure.com/openai/v1"


def samples() -> list[tuple[str, list[str]]]:
    """Each command, and the lines of output that the page shows for it."""
    commands: list[tuple[str, list[str]]] = []
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        if kind == "":
            commands += [(line, []) for line in lines if line.startswith("python -m aijobs")]
        elif kind == "text":
            commands[-1][1].extend(lines)
    return commands


@contextlib.asynccontextmanager
async def worker(harness: Harness) -> AsyncIterator[None]:
    """A worker that runs queued jobs until the block ends, and completes the last one: nobody else would."""
    stopped = asyncio.Event()
    queue = harness.environment["JOBS_QUEUE"]

    async def work() -> None:
        while not stopped.is_set():
            for body in await harness.messages(queue):
                try:
                    await harness.deliver(body)
                except JobError:
                    await harness.services.queues.send(queue, body)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        try:
            yield
        finally:
            stopped.set()


async def test_page_can_be_followed(cli: CliRunner, newcomer: Customer):
    """Each sample succeeds, and prints what the page shows."""
    harness = cli.harness
    cli.write("key.txt", newcomer.account.key)
    cli.write("new-key.txt", harness.endpoint.account().key)
    (table,) = blocks("docs/cli.md", "csv")
    cli.write("jobs.csv", table.replace("contoso", newcomer.name))

    for line, expected in samples():
        if "poison retry" in line:
            body = b'{"customer": "%s", "action": "chat", "input": {"prompt": "Hello?"}}' % newcomer.name.encode()
            await harness.services.queues.send(f"{harness.environment['JOBS_QUEUE']}-poison", body)
        if "customers bind" in line:
            record = '{"endpoint": "https://contoso-ai.openai.azure.com", "auth": "entra"}'
            harness.put_secret(f"ai--{newcomer.name}--keyless", record)
        words = line.removeprefix("python -m aijobs ").replace(ENDPOINT, f"{harness.endpoint.url}/openai/v1")
        words, _, stdin = words.replace("contoso", newcomer.name).partition(" < ")
        words += " --provider azure_openai" if "customers add" in words else ""
        async with worker(harness):
            typed = (cli.directory / stdin).read_text() if stdin else newcomer.name
            result = await cli.run(words, stdin=typed)

        assert 0 == result.code, line
        assert "" == result.err or any(name in words for name in ("customers bind", "watch")), line
        assert {_shape(shown) for shown in expected} <= {_shape(printed) for printed in result.out.splitlines()}
        assert newcomer.account.key not in result.text

    assert 18 <= len(samples())
    assert [] == [row for row in await newcomer.rows() if not row["RowKey"].startswith("t_")]


def _shape(line: str) -> str:
    return re.sub(r"\d+", "N", " ".join(line.split()))


def test_every_command_is_on_the_page():
    """There is no command without a sample, and no sample of a command that doesn't exist."""
    lines = [line.removeprefix("python -m aijobs ") for line, _ in samples()]
    commands = _commands(make_parser())

    assert {"customers add", "submit", "watch", "results", "usage", "poison retry", "doctor"} <= commands
    assert [] == [name for name in commands if not any(f"{line} ".startswith(f"{name} ") for line in lines)]


def _commands(parser: object, before: str = "") -> set[str]:
    names: set[str] = set()
    for action in parser._subparsers._group_actions:  # type: ignore[attr-defined]
        for name, inner in action.choices.items():
            full = f"{before} {name}".strip()
            names |= _commands(inner, full) if inner._subparsers else {full}
    return names
