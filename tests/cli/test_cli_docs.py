"""Each command on the page about the command line is run in order, as a reader who follows it would."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest

from aijobs.parser import make_parser
from shared.clock import now
from shared.retention.customer_data import EVIDENCE
from tests.support.app_front import app_front
from tests.support.batch_rows import put_batch
from tests.support.cli_commands import commands_of, groups_of
from tests.support.cli_runner import ROOT, CliRunner
from tests.support.doc_samples import WEBHOOK_EVENT, WEBHOOK_TEMPLATE, blocks
from tests.support.harness import Customer, Harness
from tests.support.openai_costs import ADMIN_KEY
from tests.support.queue_worker import queue_worker
from tests.support.signatures import new_secret

PAGE = (ROOT / "docs/cli.md").read_text()
PROGRAM = "python -m aijobs"
ENDPOINT = "https://contoso-ai.openai.azure.com/openai/v1"
READING = (
    *("doctor", "customers list", "customers test", "watch --customer", "usage contoso", "webhooks list"),
    *("callbacks list", "templates list", "templates show", "poison list", "poison show"),
    *("batches list", "batches show"),
    *(
        "prices list",
        "prices check",
        "profile show",
        "budgets list",
        "adjustments list",
        "audit",
        "exports status",
        "exports list",
    ),
)
"""Commands that change nothing, so that they can be run twice."""


def samples() -> list[tuple[str, list[str]]]:
    """Each command without the program's name, and the lines of output that the page shows for it."""
    commands: list[tuple[str, list[str]]] = []
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        if kind == "":
            lines = joined(block).splitlines()
            commands += [(line.removeprefix(f"{PROGRAM} "), []) for line in lines if line.startswith(PROGRAM)]
        elif kind == "text":
            commands[-1][1].extend(block.replace(f"`{PROGRAM} ", "`aijobs ").splitlines())
    return commands


def joined(block: str) -> str:
    """A block of commands in which each is one line."""
    return re.sub(r"\s*\\\n\s*", " ", block)


@pytest.fixture
def harness(own_harness: Harness) -> Harness:
    """A deployment without a price book."""
    return own_harness


@pytest.fixture
async def app(harness: Harness) -> AsyncIterator[str]:
    """The address of the app."""
    async with app_front(harness) as url:
        yield url


@pytest.mark.long
@pytest.mark.usefixtures("bills")
async def test_page_can_be_followed(cli: CliRunner, newcomer: Customer, app: str):
    """Each sample succeeds, and prints what the page shows. With `--json` it prints one document."""
    harness = cli.harness
    cli.write("admin-key.txt", ADMIN_KEY)
    cli.write("costs.csv", "Date,ResourceId,CostInBillingCurrency,BillingCurrency\n")
    cli.write("key.txt", newcomer.account.key)
    cli.write("new-key.txt", harness.endpoint.account().key)
    (table,) = blocks("docs/cli.md", "csv")
    cli.write("jobs.csv", table.replace("contoso", newcomer.name))
    cli.write("secret.txt", new_secret())
    cli.write("event.json", WEBHOOK_EVENT)
    cli.write("template.json", WEBHOOK_TEMPLATE)
    exports = [{"name": "stripe", "kind": "stripe", "event_name": "tokens", "value": "total_tokens"}]
    harness.put_secret("export--stripe", "sk_test_0123456789")
    harness.put_secret("ai--verify--default", newcomer.secret())
    harness.put_secret("webhook--verify", new_secret())
    cli.write("function-key.txt", "a-key")
    cli = cli.with_settings(USAGE_EXPORTS=json.dumps(exports), SERVICE_APP_URI=app)
    poison = f"{harness.environment['JOBS_QUEUE']}-poison"
    job = b'{"customer": "%s", "action": "chat", "input": {"prompt": "Hello?"}}' % newcomer.name.encode()

    for line, expected in samples():
        if line in {"poison list", "poison retry --customer contoso"}:
            await harness.services.queues.send(poison, job)
        if line == "batches list":
            shown = next(line.rpartition(" ")[2] for line, _ in samples() if line.startswith("batches show"))
            await put_batch(harness.services.table, newcomer.name, now(), batch_id=shown, lines=3)
        if "poison remove" in line:
            await harness.services.queues.send(poison, b"Hello?")
        if "customers bind" in line:
            record = '{"endpoint": "https://contoso-ai.openai.azure.com", "auth": "entra"}'
            harness.put_secret(f"ai--{newcomer.name}--keyless", record)
        words = line.replace(ENDPOINT, f"{harness.endpoint.url}/openai/v1").replace("test --all", "test contoso --all")
        words, _, stdin = words.replace("contoso", newcomer.name).partition(" < ")
        words += " --provider azure_openai" if "customers add" in words else ""
        words += " --yes" if words.startswith(("prices import", "prices set")) else ""
        async with queue_worker(harness):
            typed = newcomer.name if "poison" not in line else "1"
            result = await cli.run(words, stdin=(cli.directory / stdin).read_text() if stdin else typed)

        assert 0 == result.code, (line, result.text)
        assert "" == result.err or "Type the " in result.err or line.startswith("watch"), (line, result.err)
        assert {_shape(shown) for shown in expected} <= {_shape(printed) for printed in result.out.splitlines()}
        assert newcomer.account.key not in result.text
        if line.startswith(READING) and "--csv" not in line:
            assert isinstance(json.loads((await cli.run(f"{words} --json")).out), dict), line

    assert 56 <= len(samples())
    assert [] == [row for row in await newcomer.rows() if not row["RowKey"].startswith(("t_", *EVIDENCE))]


def _shape(line: str) -> str:
    return re.sub(r"\d+", "N", " ".join(line.split()))


def test_every_command_is_on_the_page():
    """There is no command without a sample, and no sample of a command that doesn't exist."""
    lines = [line for line, _ in samples()]
    commands = commands_of(make_parser())

    assert {"customers add", "submit", "watch", "results", "usage", "poison retry", "doctor"} <= commands.keys()
    assert [] == [name for name in commands if not any(f"{line} ".startswith(f"{name} ") for line in lines)]


def test_every_example_in_the_help_is_on_the_page():
    """An example in a help text is a sample on the page, so that it runs as it is printed."""
    parser = make_parser(PROGRAM)
    helps = [each.epilog for each in (*groups_of(parser), *commands_of(parser).values())]
    examples = [line.strip() for text in helps for line in joined(text).splitlines() if line.startswith(f"  {PROGRAM}")]
    examples = [line for line in examples if not line.endswith("--help")]

    assert len(examples) > len(commands_of(parser))
    assert set() == {example.removeprefix(f"{PROGRAM} ") for example in examples} - {line for line, _ in samples()}
