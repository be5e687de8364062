"""Every command on the page about the command line is run, one after the other, as somebody would who follows it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aijobs.parser import make_parser
from shared.errors import JobError
from tests.support.cli_runner import Operator
from tests.support.harness import World

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/cli.md").read_text()
ENDPOINT = "https://contoso-ai.openai.azure.com/openai/v1"


@pytest.fixture(name="world")
def _world(own_world: World) -> World:
    return own_world


def shown() -> list[tuple[str, list[str]]]:
    """Each command, and the lines that the page shows as what it says."""
    found: list[tuple[str, list[str]]] = []
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        if kind == "":
            found += [(line, []) for line in lines if line.startswith("python -m aijobs")]
        elif kind == "text":
            found[-1][1].extend(lines)
    return found


@contextlib.asynccontextmanager
async def working(world: World) -> AsyncIterator[None]:
    """
    A worker that runs what comes into the queue, until the block ends. It ends what it has begun: what it has taken
    out of the queue would come back to no other.
    """
    ends = asyncio.Event()
    queue = world.environment["JOBS_QUEUE"]

    async def work() -> None:
        while not ends.is_set():
            for body in await world.messages(queue):
                try:
                    await world.deliver(body)
                except JobError:
                    await world.services.queues.send(queue, body)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        try:
            yield
        finally:
            ends.set()


async def test_page_can_be_followed(world: World, tmp_path: Path):
    """Each sample ends well, and says what the page shows."""
    customer = world.customer(connection=None)
    operator = Operator(world, tmp_path)
    operator.writes("key.txt", customer.account.key)
    operator.writes("new-key.txt", world.endpoint.account().key)
    (table,) = re.findall(r"^```csv\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    operator.writes("jobs.csv", table.replace("contoso", customer.name))
    poison = f"{world.environment['JOBS_QUEUE']}-poison"
    await world.queues.get_queue_client(poison).clear_messages()
    said: dict[str, str] = {}

    for line, expected in shown():
        if "poison retry" in line:
            body = b'{"customer": "%s", "action": "chat", "input": {"prompt": "Hello?"}}' % customer.name.encode()
            await world.services.queues.send(poison, body)
        words = line.removeprefix("python -m aijobs ").replace(ENDPOINT, f"{world.endpoint.url}/openai/v1")
        words, _, stdin = words.replace("contoso", customer.name).partition(" < ")
        words += " --provider azure_openai" if "customers add" in words else ""
        async with working(world):
            ended = await operator.types(words, said=(tmp_path / stdin).read_text() if stdin else "")

        assert (0, "") == (ended.code, ended.err), line
        said[line] = ended.out
        assert {_shape(one) for one in expected} <= {_shape(one) for one in ended.out.splitlines()}
        assert customer.account.key not in ended.said

    assert 18 <= len(said)
    assert [] == [row for row in await customer.rows() if not row["RowKey"].startswith("t_")]


def _shape(line: str) -> str:
    return re.sub(r"\d+", "N", " ".join(line.split()))


def test_every_command_stands_on_the_page():
    """There is no command without a sample, and no sample of what is none."""
    samples = [line.removeprefix("python -m aijobs ") for line, _ in shown()]
    commands = _commands(make_parser())

    assert {"customers add", "submit", "watch", "results", "usage", "poison retry", "doctor"} <= commands
    assert [] == [name for name in commands if not any(f"{line} ".startswith(f"{name} ") for line in samples)]


def _commands(parser: object, before: str = "") -> set[str]:
    found: set[str] = set()
    for action in parser._subparsers._group_actions:  # type: ignore[attr-defined]
        for name, inner in action.choices.items():
            full = f"{before} {name}".strip()
            found |= _commands(inner, full) if inner._subparsers else {full}
    return found
