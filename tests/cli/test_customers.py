"""`customers`: keys are hidden, tested and stored, and never shown again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.secret import Secret
from tests.support.cli_runner import ROOT, CliRunner
from tests.support.endpoint import completion, error
from tests.support.harness import Customer, Harness


def endpoint_options(harness: Harness) -> str:
    """The options for the harness's endpoint."""
    return f"--endpoint {harness.endpoint.url}/openai/v1 --provider azure_openai"


def stored(customer: Customer, connection: str = "default") -> str | None:
    """The newest value of a connection in the vault."""
    secret = customer.harness.vault.secrets.live.get(f"ai--{customer.name}--{connection}")
    return None if secret is None else secret.versions[-1].value


async def test_rejected_key_is_stored_only_untested(cli: CliRunner, newcomer: Customer):
    """A key that the endpoint rejects is not stored unless the test is skipped. Without a model, it lists models."""
    newcomer.account.will_answer(error(401))
    cli.write("key.txt", f"{newcomer.account.key}\n")
    line = f"customers add {newcomer.name} --connection second {endpoint_options(cli.harness)} --key-file key.txt"

    tested = await cli.expect(line, 1, out="credential_rejected")
    assert stored(newcomer, "second") is None
    untested = await cli.expect(f"{line} --no-test")

    assert newcomer.account.key == json.loads(stored(newcomer, "second") or "")["api_key"]
    assert ["GET"] == [request.method for request in newcomer.account.received]
    assert newcomer.account.key not in tested.text + untested.text


async def test_claude_is_onboarded(cli: CliRunner, newcomer: Customer):
    """Its endpoint is tested with one token before it is stored, and says by itself whose it is where it can."""
    options = f"--endpoint {cli.harness.endpoint.url}/anthropic --provider anthropic --default-model claude"
    line = f"customers add {newcomer.name} {options}"

    await cli.expect(line, out="answers as claude", stdin=newcomer.account.key)
    await cli.expect(f"customers add {newcomer.name} --connection own --no-test", stdin="sk-ant-1")

    assert "anthropic" == json.loads(stored(newcomer) or "")["provider"]
    assert ["/anthropic/v1/messages"] == [request.path for request in newcomer.account.received]
    own = json.loads(stored(newcomer, "own") or "")
    assert ("sk-ant-1", None, None) == (own["api_key"], own.get("endpoint"), own.get("provider"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--endpoint https://169.254.169.254/openai/v1 --provider openai", "public host"),
        ("--endpoint https://evil.example/openai/v1 --provider openai", "ALLOWED_ENDPOINT_SUFFIXES"),
        ("--max-concurrency 0", "max_concurrency"),
        ("--endpoint nonsense", "endpoint"),
    ],
)
async def test_invalid_connection_is_not_stored(cli: CliRunner, newcomer: Customer, options: str, message: str):
    """A connection passes the app's own decoder and checks before it is stored."""
    result = await cli.expect(f"customers add {newcomer.name} {options}", 1, err=message, stdin="THE-KEY")

    assert stored(newcomer) is None
    assert "THE-KEY" not in result.text


async def test_connection_without_a_key_is_not_tested(cli: CliRunner, newcomer: Customer):
    """With `entra` no key is read, and there is no test: it would use the operator's login."""
    line = f"customers add {newcomer.name} --auth entra --endpoint https://{newcomer.name}.openai.azure.com"

    await cli.expect(line, out="is not tested", stdin="something")

    assert {"endpoint", "auth"} == set(json.loads(stored(newcomer) or ""))


def tags_of(customer: Customer) -> dict[str, str]:
    """The tags of a customer's default connection."""
    return customer.harness.vault.secrets.live[f"ai--{customer.name}--default"].versions[-1].tags


@pytest.mark.parametrize(
    ("options", "tags"),
    [
        ("", {}),
        ("--scope https://ai.azure.com/.default", {}),
        ("--tenant-id Contoso.com", {"entra_tenant": "contoso.com"}),
        (
            "--scope https://cognitiveservices.azure.com/.default",
            {"entra_scope": "https://cognitiveservices.azure.com/.default"},
        ),
    ],
)
async def test_operators_connection_without_a_key_is_bound(
    cli: CliRunner, newcomer: Customer, options: str, tags: dict[str, str]
):
    """`add` sets the tags that allow the app's identity for this endpoint; `--replace` keeps the owner's own tags."""
    host = f"{newcomer.name}.openai.azure.com"
    line = f"customers add {newcomer.name} --auth entra --endpoint https://{host.upper()}/openai/v1 {options}"
    cli.harness.put_secret(f"ai--{newcomer.name}--default", "x", tags={"Team": "blue", "Entra_Host": "y"})

    await cli.expect(f"{line} --replace", out=f"use the app's identity for {host}")

    assert {"Team": "blue", "entra_host": host} | tags == tags_of(newcomer)
    assert (await cli.harness.services.connections.resolve(newcomer.name, "default")).access


async def test_connection_is_bound_after_a_confirmation(cli: CliRunner, newcomer: Customer):
    """`bind` shows host, scope and tenant, and changes the tags of that version alone once the id is typed."""
    host = f"{newcomer.name}.openai.azure.com"
    value = json.dumps({"endpoint": f"https://{host}", "auth": "entra", "tenant_id": "contoso.com"})
    cli.harness.put_secret(f"ai--{newcomer.name}--default", value, tags={"Team": "blue", "ENTRA_HOST": "y"})
    line = f"customers bind {newcomer.name}"

    await cli.expect(line, 1, err=f"{host}, the usual scope, contoso.com", stdin="no\n")
    assert {"Team": "blue", "ENTRA_HOST": "y"} == tags_of(newcomer)
    assert "bind" in (await cli.expect(f"customers list {newcomer.name}")).text
    await cli.expect(line, stdin=f"{newcomer.name}\n")

    assert {"Team": "blue", "entra_host": host, "entra_tenant": "contoso.com"} == tags_of(newcomer)
    assert "bind" not in (await cli.expect(f"customers list {newcomer.name}")).text
    assert 1 == len(cli.harness.vault.secrets.live[f"ai--{newcomer.name}--default"].versions)
    await cli.expect(f"{line} --yes")


async def test_only_what_the_question_showed_is_bound(
    cli: CliRunner, newcomer: Customer, monkeypatch: pytest.MonkeyPatch
):
    """A connection that another operator replaces while the question is open gets no tags."""
    cli.harness.connect(newcomer, endpoint="https://contoso-ai.openai.azure.com", api_key="", auth="entra")

    def answer(*_: object) -> bool:
        cli.harness.connect(newcomer, endpoint="https://other-ai.openai.azure.com", api_key="", auth="entra")
        return True

    monkeypatch.setattr("aijobs.customers.is_confirmed", answer)

    await cli.expect(f"customers bind {newcomer.name}", 1, err="was just changed. Run the command again.")
    assert all(not version.tags for version in versions(newcomer))


async def test_what_can_not_be_bound_is_named(cli: CliRunner, customer: Customer):
    """A missing connection, one with a key, one for a stranger's host, and a secret full of tags."""
    cli.harness.connect(customer, "stranger", endpoint="https://ai.contoso.com", auth="entra")
    tags = {f"t{number}": "x" for number in range(15)}
    value = json.dumps({"endpoint": "https://x.openai.azure.com", "auth": "entra"})
    cli.harness.put_secret(f"ai--{customer.name}--full", value, tags=tags)
    line = f"customers bind {customer.name} --yes"

    await cli.expect(f"{line} --connection none", 1, err="no connection named none")
    await cli.expect(line, 1, err="has a key")
    await cli.expect(f"{line} --connection stranger", 1, err="ALLOWED_E")
    await cli.expect(f"{line} --connection full", 1, err="16 tags")


async def test_existing_connection_needs_replace(cli: CliRunner, customer: Customer):
    """`add` doesn't overwrite a connection; `--replace` replaces all of it."""
    cli.harness.connect(customer, deployment_scope="global")
    line = f"customers add {customer.name} {endpoint_options(cli.harness)} --no-test"

    await cli.expect(line, 1, err="--replace", stdin="one")
    await cli.expect(f"{line} --replace", stdin="another")

    assert {"endpoint", "provider", "auth", "api_key"} == set(json.loads(stored(customer) or ""))


async def test_list_shows_no_keys(cli: CliRunner, customer: Customer):
    """All connections have their dates, one customer's also their settings and errors. A misplaced key is hidden."""
    harness = cli.harness
    harness.connect(customer, "mixed-up", default_model=customer.account.key)
    harness.connect(customer, "batches", batch_model="gpt-4o-batch")
    harness.put_secret(f"ai--{customer.name}--broken", "{")
    harness.put_secret(f"ai--{customer.name}--off", "x", attributes={"enabled": False})
    harness.put_secret(f"ai--{customer.name}--over", json.dumps({"api_key": "sk-1"}), attributes={"exp": 1700000000})

    everyone = await cli.expect("customers list", out="2023-11-14")
    detail = await cli.expect(f"customers list {customer.name}")

    assert f"{customer.name} default yes" in everyone.text
    assert f"{customer.name} off no" in everyone.text
    for shown in ("gpt-4o", "gpt-4o-batch", "connection_invalid", "connection_disabled", "connection_expired"):
        assert shown in detail.text
    assert customer.account.key not in everyone.text + detail.text


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (None, "ok"),
        (error(401), "credential_rejected"),
        (error(404, "DeploymentNotFound"), "model_not_found"),
        ("not called", "connection_disabled"),
    ],
    ids=["accepted", "rejected", "no model", "disabled in the vault"],
)
async def test_outcome_is_that_of_the_route(cli: CliRunner, customer: Customer, answer: Any, outcome: str):
    """`test` prints the error code of `POST …/test`, or `ok`, and exits with 0 only for that."""
    if answer == "not called":
        cli.harness.put_secret(f"ai--{customer.name}--default", "x", attributes={"enabled": False})
    elif answer is not None:
        customer.account.will_answer(answer)

    result = await cli.run(f"customers test {customer.name}")

    assert (int(outcome != "ok"), True) == (result.code, result.out.startswith(outcome))
    assert int(answer != "not called") == len(customer.account.received)


async def test_rotation_tests_the_new_key_first(cli: CliRunner, customer: Customer):
    """A key that the endpoint rejects leaves the old one; one that it accepts becomes the current version."""
    cli.harness.connect(customer, deployment_scope="global")
    before = stored(customer)
    new = cli.harness.endpoint.account().key

    await cli.expect(f"customers rotate {customer.name}", 1, out="Nothing was stored", stdin="a-key-of-nobody")
    assert before == stored(customer)
    rotated = await cli.expect(f"customers rotate {customer.name}", out="5 minutes", stdin=new)

    assert json.loads(before or "") | {"api_key": new, "auth": "api_key"} == json.loads(stored(customer) or "")
    assert new not in rotated.text


async def test_bare_key_stays_bare_with_its_tags(cli: CliRunner, newcomer: Customer):
    """A secret that a rotation function writes keeps its form: a bare key, and the settings as tags."""
    tags = {"endpoint": f"{cli.harness.endpoint.url}/openai/v1", "provider": "azure_openai", "team": "blue"}
    tags["default_model"] = "gpt-4o"
    cli.harness.put_secret(f"ai--{newcomer.name}--default", newcomer.account.key, tags=tags)
    new = cli.harness.endpoint.account().key

    await cli.expect(f"customers rotate {newcomer.name}", stdin=new)

    version = cli.harness.vault.secrets.live[f"ai--{newcomer.name}--default"].versions[-1]
    assert (new, tags) == (version.value, version.tags)


async def test_rotation_without_a_new_key_is_rejected(cli: CliRunner, customer: Customer):
    """The stored key, and a connection without a key, can't be rotated."""
    cli.harness.connect(customer, "keyless", api_key="", auth="entra")

    await cli.expect(f"customers rotate {customer.name}", 1, err="is the same", stdin=customer.account.key)
    await cli.expect(f"customers rotate {customer.name} --connection keyless", 1, err="has no key", stdin="x")


def versions(customer: Customer) -> list[Any]:
    """The versions of a customer's connection in the vault."""
    return list(customer.harness.vault.secrets.live[f"ai--{customer.name}--default"].versions)


@pytest.mark.parametrize("command", ["rotate", "add --replace", "add"])
async def test_change_of_another_operator_is_kept(
    cli: CliRunner, newcomer: Customer, monkeypatch: pytest.MonkeyPatch, command: str
):
    """What another operator stores while the key is typed is not replaced by a connection that was read before."""
    if command != "add":
        cli.harness.connect(newcomer)
    name, _, options = command.partition(" ")
    endpoint = "" if name == "rotate" else endpoint_options(cli.harness)

    def typed(*_: object) -> Secret:
        cli.harness.connect(newcomer, api_key="sk-of-another")
        return Secret("sk-1")

    monkeypatch.setattr("aijobs.customers.read_key", typed)

    await cli.expect(f"customers {name} {newcomer.name} --no-test {options} {endpoint}", 1, err="was just changed")
    assert "sk-of-another" in (stored(newcomer) or "")


async def test_remove_needs_a_confirmation(cli: CliRunner, customer: Customer):
    """Without the customer's id nothing is removed; with it all connections are, and nobody else's."""
    other = cli.harness.customer()
    cli.harness.connect(customer, "second")

    await cli.expect(f"customers remove {customer.name}", 1, err="connections default, second", stdin="yes\n")
    await cli.expect(f"customers remove {customer.name} --connection second --yes")
    await cli.expect(f"customers remove {customer.name}", stdin=f"{customer.name}\n")
    await cli.expect(f"customers remove {customer.name} --yes", 1)

    assert (None, None) == (stored(customer), stored(customer, "second"))
    assert stored(other) is not None


async def test_missing_role_is_named(cli: CliRunner, newcomer: Customer, monkeypatch: pytest.MonkeyPatch):
    """A login that may only read the vault is told which role is needed."""
    monkeypatch.setattr(cli.harness.vault, "read_only", True)

    line = f"customers add {newcomer.name} --endpoint https://api.openai.com --no-test"
    await cli.expect(line, 1, err="Key Vault Secrets Officer", stdin="sk-1")


STORED = pytest.param("{key}\n", 0, "Stored", marks=pytest.mark.long)


@pytest.mark.parametrize(("typed", "code", "message"), [("{key}\x03", 130, "stopped"), STORED])
async def test_key_is_hidden_at_a_terminal(cli: CliRunner, newcomer: Customer, typed: str, code: int, message: str):
    """The prompt doesn't echo the key, and Ctrl-C ends it at once."""
    cli.write_settings()
    line = f"customers add {newcomer.name} {endpoint_options(cli.harness)} --no-test --settings local.settings.json"
    reply = typed.format(key=newcomer.account.key)

    exit_code, output = await asyncio.to_thread(run_at_terminal, line, reply, cli.directory)

    assert (code, True) == (exit_code, message in output)
    assert "Key of" in output
    assert newcomer.account.key not in output


# Makes Ctrl-C a signal. `preexec_fn` could do the same, but Python warns about it if there are threads.
TAKE_TERMINAL = """
import fcntl, runpy, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("aijobs", run_name="__main__")
"""


def run_at_terminal(line: str, reply: str, directory: Path) -> tuple[int, str]:
    """Run a command at a terminal, reply to its prompt, and return the exit code and what the screen shows."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *line.split()],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    output, replied = b"", False
    with contextlib.suppress(OSError):  # raised once the process has closed its side
        while data := os.read(master, 4096):
            output += data
            if b"hidden" in output and not replied:
                replied = bool(os.write(master, reply.encode()))
    os.close(master)
    return process.wait(), output.decode()


async def test_all_connections_are_tested(cli: CliRunner, customer: Customer):
    """Each has its outcome, what failed first; the exit code is 1 if one fails, and one of them can be selected."""
    cli.harness.connect(customer, "second")
    cli.harness.put_secret(f"ai--{customer.name}--broken", "{")
    customer.account.will_answer(completion(), error(401))

    result = await cli.expect(f"customers test {customer.name} --all", 1, out="3 connections, 2 failed.")
    document = json.loads((await cli.run(f"customers test {customer.name} --all --connection second --json")).out)

    rows = [line.split()[:3] for line in result.out.splitlines()[1:4]]
    assert [customer.name] * 3 == [row[0] for row in rows]
    assert "ok" == rows[2][2]
    assert {"connection_invalid", "credential_rejected"} == {row[2] for row in rows[:2]}
    assert [("second", True)] == [(each["connection"], each["test"]["ok"]) for each in document["tests"]]


async def test_every_customer_is_tested(cli: CliRunner, customer: Customer):
    """Without a customer, `--all` tests every customer's connections; without both, the command says what to name."""
    other = cli.harness.customer()

    result = await cli.run("customers test --all --json")
    await cli.expect("customers test", 2, err="Name a customer, or use --all")

    assert {customer.name, other.name} <= {each["customer"] for each in json.loads(result.out)["tests"]}
