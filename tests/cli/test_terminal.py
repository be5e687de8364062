"""Each command in a terminal of 80 x 24, with the longest ids that there are: none is folded, and no row wraps."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
import uuid
from datetime import timedelta

import pytest
from rich.cells import cell_len

from aijobs.parser import make_parser
from shared.batches.records import new_batch_id
from shared.clock import now
from shared.jobs.lines import Answer
from tests.support.batch_rows import put_batch, put_lines
from tests.support.cli_commands import commands_of
from tests.support.cli_runner import ROOT, CliRunner
from tests.support.endpoint import completion, error
from tests.support.harness import Customer, Harness
from tests.support.signatures import new_secret

COLUMNS, LINES = 80, 24
JOB = f"order-{'0' * 94}"
"""A job's id of 100 characters."""
BATCH = new_batch_id(now() - timedelta(days=1))
VERBATIM = ("poison show", "templates show")
"""Commands that print somebody else's document as it is."""
LONG_ERROR = "The model refuses this request for a reason that takes more than one line of a terminal to explain."


@pytest.fixture
def harness(own_harness: Harness) -> Harness:
    """A deployment without a price book."""
    return own_harness


@pytest.fixture
def customer(newcomer: Customer) -> Customer:
    """A customer without a connection, whose id has 50 characters."""
    return dataclasses.replace(newcomer, name=f"c-{uuid.uuid4().hex}-{'x' * 15}")


EXPORTS = json.dumps([{"name": "events", "kind": "cloudevents", "queue": "billing"}])
"""The app setting of the exports that the steps name."""
PROFILE = (
    "--legal-name 'Contoso Gesellschaft mit beschränkter Haftung & Co. Kommanditgesellschaft' --address 'A\\nB' "
    "--tax-id DE1 --currency USD --invoice-prefix CON --bill-outcomes answered,lost --external-id stripe=cus_1 "
    "--notify https://contoso.example/billing"
)
"""The options of a profile with all members."""


def steps(customer: Customer) -> list[tuple[str, str]]:
    """Command lines in the order of a customer's life, each with what a person types."""
    name = customer.name
    endpoint = f"--endpoint {customer.harness.endpoint.url}/openai/v1 --provider azure_openai --default-model gpt-4o"
    return [
        ("doctor", ""),
        (f"customers add {name} {endpoint}", customer.account.key),
        (f"customers add {name} --connection second {endpoint}", customer.account.key),
        ("customers list", ""),
        (f"customers list {name}", ""),
        (f"customers test {name}", ""),
        (f"customers test {name} --all", ""),
        (f"customers rotate {name} --no-test", "another-key-of-the-customer"),
        (f"customers bind {name} --connection keyless", name),
        (f"customers suspend {name}", name),
        (f"customers activate {name}", name),
        (f"profile set {name} {PROFILE}", name),
        (f"profile show {name}", ""),
        (f"budgets set {name} main --limit 100000000 --unit tokens --period day", name),
        (f"budgets list {name}", ""),
        (f"budgets delete {name} main", name),
        (f"adjustments credit {name} --month 2026-11 --amount 1 --description Outage", name),
        (f"adjustments debit {name} --month 2026-11 --amount 1 --description Setup", name),
        (f"adjustments list {name}", ""),
        (f"audit {name}", ""),
        (f"audit {name} --limit 1", ""),
        (f"submit jobs.jsonl --customer {name}", ""),
        (f"submit --customer {name} --action chat --prompt x --job-id {JOB}", ""),
        ("watch jobs.jsonl --once", ""),
        ("results jobs.jsonl --to answers", ""),
        ("resubmit jobs.jsonl", ""),
        (f"resubmit jobs.jsonl --customer {name}", ""),
        ("cancel jobs.jsonl", "no"),
        (f"cancel --customer {name}", name),
        (f"callbacks list --customer {name}", ""),
        (f"callbacks resend --customer {name}", ""),
        (f"usage {name}", ""),
        (f"usage {name} --by day,model,action,connection", ""),
        ("prices import prices.json", "4"),
        ("prices set gpt-4o* --provider azure_openai --input 2.50 --output 10", "1"),
        (f"prices set gpt-4o* --provider azure_openai --customer {name} --input 2 --output 8", "no"),
        (f"prices set gpt-4o* --provider azure_openai --customer {name} --input 2 --output 8 --tier priority", "1"),
        ("prices import litellm", "no"),
        ("prices import azure --yes", ""),
        (f"prices list --customer {name}", ""),
        ("prices check", ""),
        ("prices export", ""),
        ("prices export --to exported.json", ""),
        ("reconcile openai --month 2026-10", ""),
        ("reconcile azure costs.csv --month 2026-10", ""),
        ("exports status", ""),
        (f"exports list {name}", ""),
        ("exports retry events", ""),
        (f"exports resolve events {name} --received", name),
        ("export-focus --month 2026-11 --to focus.csv", ""),
        ("batches list", ""),
        (f"batches list {name} --all --days 30", ""),
        (f"batches show {name} {BATCH}", ""),
        ("poison list", ""),
        ("poison show", ""),
        (f"poison retry --customer {name}", ""),
        ("poison remove --unreadable", "1"),
        (f"webhooks create {name}", ""),
        ("webhooks list", ""),
        (f"webhooks rotate {name}", ""),
        (f"webhooks rotate {name} --finish", name),
        (f"provider-events set {name} --key-file secret.txt", ""),
        ("provider-events list", ""),
        (f"provider-events remove {name}", name),
        (f"templates set {name} template.json --event event.json", ""),
        ("templates list", ""),
        (f"templates show {name}", ""),
        (f"templates remove {name}", name),
        (f"webhooks remove {name}", name),
        (f"close-month --customer {name} --check", ""),
        (f"close-month --customer {name}", name),
        (f"export {name} --to {name}", ""),
        ("export --all --to backup", ""),
        (f"import backup/{name}", ""),
        ("verify --part queue --timeout 1", ""),
        (f"customers remove {name}", name),
        (f"erase {name}", name),
        (f"usage {name}", ""),
    ]


def write_files(cli: CliRunner) -> None:
    """Write the files that the steps name."""
    output = {"callback": f"{cli.harness.endpoint.url}/callback"}
    jobs = [
        {"job_id": JOB.replace("order", kind), "action": "chat", "input": {"prompt": kind}, "output": output}
        for kind in ("first", "other")
    ]
    cli.write("jobs.jsonl", "".join(f"{json.dumps(job)}\n" for job in jobs))
    cli.write("template.json", json.dumps({"action": "chat", "input": {"prompt": "{{text}}"}}))
    cli.write("event.json", '{"text": "Hello?"}')
    cli.write("secret.txt", new_secret())
    account = "/subscriptions/0/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/contoso-ai"
    cli.write("costs.csv", f"Date,ResourceId,PreTaxCost,Currency\n2026-10-14,{account},1.5,USD\n")
    prices = [{"provider": "openai", "model": "gpt-4o", "input": "2.50", "output": "10"}]
    models, rates = [{"deployment": "summaries", "model": "gpt-4o"}], [{"from": "USD", "to": "EUR", "rate": "0.9"}]
    book = {"currency": "USD", "prices": prices, "models": models, "markups": [{"percent": "10"}], "rates": rates}
    cli.write("prices.json", json.dumps(book))


async def prepare(cli: CliRunner, customer: Customer, line: str) -> None:
    """Make what a command is about."""
    harness = cli.harness
    if line.startswith("watch"):
        other = JOB.replace("order", "other")
        customer.account.will_answer(completion(), error(400, "bad", LONG_ERROR))
        for body in sorted(await cli.queued(), key=lambda body: other.encode() in body):
            await harness.deliver(body)
    if line == "batches list":
        table, name, long = (
            harness.services.table,
            customer.name,
            {"model": "m" * 60, "error": LONG_ERROR, "provider_id": "batch_1"},
        )
        at = now() - timedelta(days=1)
        await put_batch(
            table, name, at, batch_id=BATCH, state="waiting", provider_status="in_progress", lines=2, **long
        )
        await put_batch(table, name, now(), state="sending", lines=10_000)
        await put_lines(table, name, BATCH, {JOB: [Answer(200), Answer(error_code="batch_expired")]})
    if line == "poison list":
        body = json.dumps(customer.job(job_id=JOB)).encode()
        await harness.services.queues.send(f"{harness.environment['JOBS_QUEUE']}-poison", body)
        await harness.services.queues.send(f"{harness.environment['CALLBACKS_QUEUE']}-poison", b"nothing")
    if line.startswith("customers bind"):
        record = '{"endpoint": "https://contoso-ai.openai.azure.com", "auth": "entra"}'
        harness.put_secret(f"ai--{customer.name}--keyless", record)


def wide(text: str) -> list[str]:
    """The lines that are wider than the terminal, but for those that consist of one word."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    return [line for line in lines if cell_len(line) > COLUMNS and len(line.split()) > 1]


def needs(line: str) -> set[str]:
    """The parts of Azure for which the page lists roles of a command."""
    page = (ROOT / "docs/cli.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|([^|]*)\|((?:[^|]*Secrets)?)[^|]*\|$", page, re.MULTILINE)
    (row,) = [row for row in rows if any(f"{line} ".startswith(f"{name} ") for name in re.findall(r"`(.+?)`", row[0]))]
    return {word for word in ("Table", "Queue", "Blob", "Secrets") if word in row[1] or word in row[2]}


def limited(cli: CliRunner, parts: set[str]) -> CliRunner:
    """A runner for which the other parts of Azure do not answer."""
    storage = cli.harness.environment["JobStorage"]
    for part in {"Table", "Queue", "Blob"} - parts:
        storage = re.sub(rf"{part}Endpoint=[^;]*", f"{part}Endpoint=http://127.0.0.1:9/none", storage)
    vault = {} if "Secrets" in parts else {"KEY_VAULT_URL": ""}
    return cli.with_settings(JobStorage=storage, **vault)


@pytest.mark.long
@pytest.mark.usefixtures("bills")
async def test_every_command_fits_80_columns(cli: CliRunner, customer: Customer):
    """
    No line of any command is wider than 80 columns unless it is one word or a document, and every id is whole.

    Nor does a command need a part of Azure for which the page lists no role.
    """
    cli = cli.with_settings(USAGE_EXPORTS=EXPORTS)
    write_files(cli)
    ids = [customer.name, *(JOB.replace("order", kind) for kind in ("first", "other", "order"))]
    shown = dict.fromkeys(ids, 0)
    for line, typed in steps(customer):
        await prepare(cli, customer, line)
        result = await limited(cli, needs(line)).run(line, stdin=typed, columns=COLUMNS)
        assert result.code in {0, 1}, (line, result.text)
        assert not re.search("Traceback|ServiceRequest|names no Key Vault", result.text), (line, result.text)
        assert [] == wide("" if line.startswith(VERBATIM) else result.out) + wide(result.err), line
        for each in ids:
            printed = f"{result.out}{result.err}"
            assert printed.count(each[:12]) == printed.count(each), (line, printed)
            shown[each] += printed.count(each)

    assert all(shown.values())
    names = commands_of(make_parser())
    assert {*names} == {name for name in names for line, _ in steps(customer) if f"{line} ".startswith(f"{name} ")}


def documented() -> dict[str, set[str]]:
    """The members that the page names for the documents of commands."""
    page = (ROOT / "docs/cli.md").read_text().partition("\n## Documents\n")[2]
    members: dict[str, set[str]] = {}
    for commands, description in re.findall(r"^\| (`.+?) \| (`.+?|a message: .+?) \|$", page, re.MULTILINE):
        outer = re.sub(r"\(.*?\)|: each has .*$|--\w+", "", description)
        for name in re.findall(r"`([a-z -]+?)(?: FILE| --check)?`", commands):
            members.setdefault(name, set()).update(re.findall(r"`(\w+)`", outer))
    return members


@pytest.mark.long
@pytest.mark.usefixtures("bills")
async def test_every_document_is_on_the_page(cli: CliRunner, customer: Customer):
    """With `--json`, stdout has one document, whose members are those that the page lists for the command."""
    cli = cli.with_settings(USAGE_EXPORTS=EXPORTS)
    write_files(cli)
    page, seen = documented(), set[tuple[str, str]]()
    for line, typed in [*steps(customer), ("submit jobs.jsonl --check --customer nobody", "")]:
        await prepare(cli, customer, line)
        result = await cli.run(f"{line} --json", stdin=typed)
        document = json.loads(result.out)
        name = next(name for name in commands_of(make_parser()) if f"{line} ".startswith(f"{name} "))
        if isinstance(document.get("error"), dict) or line.startswith(("submit --", "usage")):
            continue
        assert document.keys() <= page[name], line
        seen |= {(name, member) for member in document}

    missing = {(name, member) for name in page for member in page[name] - {"base64"}} - seen
    assert {("customers rotate", "test"), ("webhooks create", "finished")} == missing
    assert page.keys() == commands_of(make_parser()).keys() - {"usage"}


async def in_terminal(cli: CliRunner, line: str) -> str:
    """What a command writes to a real terminal of 80 x 24."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    cli.write_settings()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aijobs", *line.split()),
        cwd=cli.directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)

    def read() -> bytes:
        data = b""
        with contextlib.suppress(OSError):  # the other side is closed
            while chunk := os.read(controller, 65536):
                data += chunk
        return data

    data = await asyncio.to_thread(read)
    os.close(controller)
    await process.wait()
    return data.decode()


@pytest.mark.long
async def test_width_is_the_terminals_own(cli: CliRunner, customer: Customer):
    """Without COLUMNS, the size is that of the terminal; the live view of `watch` leaves nothing but the report."""
    cli.harness.connect(customer)
    jobs = [{"job_id": f"{number}-{'x' * 60}", "action": "chat", "input": {"prompt": "x"}} for number in range(30)]
    cli.write("jobs.jsonl", "".join(f"{json.dumps(job)}\n" for job in jobs))
    submitted = await in_terminal(cli, f"submit jobs.jsonl --customer {customer.name}")
    watching = asyncio.create_task(in_terminal(cli, "watch jobs.jsonl --every 0.1"))
    await asyncio.sleep(2)
    for body in await cli.queued():
        await cli.harness.deliver(body)
    watched = await watching
    listed = await in_terminal(cli, f"watch --customer {customer.name} --once")

    assert [] == wide(submitted) + wide(watched) + wide(listed)
    assert "Submitted 30 jobs" in submitted
    drawn = watched.count("\x1b[1A")
    assert drawn >= LINES - 5
    assert watched.rstrip().endswith("30 succeeded")
    assert "x" * 60 in listed
