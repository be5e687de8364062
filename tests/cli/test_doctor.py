"""`doctor`: no errors in a sound deployment; else the error with its remedy. It leaves nothing behind."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest

from aijobs import model_retirements, storage_checks
from aijobs.schedule_check import check_schedule
from aijobs.static_check import check_static_connection
from aijobs.vault_checks import check_vault
from local.vault.secret_store import VaultError
from shared import clock
from shared.clock import now
from shared.jobs.schedule_entries import erase_entries
from shared.settings import read_settings
from tests.support.cli_runner import TRIGGER_QUEUES, CliResult, CliRunner
from tests.support.harness import Customer, Harness
from tests.support.rows import every_row

LOOKS_AT_QUEUES = TRIGGER_QUEUES


@pytest.fixture(autouse=True)
def _no_model_is_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time before any model of the list is retired: the vault has other tests' customers."""
    monkeypatch.setattr(model_retirements, "now", lambda: datetime(2024, 1, 1, tzinfo=UTC))


def finding(result: CliResult, check: str) -> str:
    """The row of a check, with each run of white space as one blank."""
    rows = [" ".join(line.split()) for line in result.out.splitlines()]
    (row,) = [row for row in rows if row.startswith(f"{check} ")]
    return row


NOWHERE = "AccountName=a;AccountKey=YQ==;" + ";".join(
    f"{service}Endpoint=http://127.0.0.1:9/a" for service in ("Blob", "Queue", "Table")
)


async def test_sound_deployment_has_no_errors(cli: CliRunner):
    """All checks pass, the exit code is 0, and nothing is left behind."""
    before = [await cli.harness.services.table.next_partition("~"), await count_messages(cli.harness)]

    result = await cli.run("doctor")

    assert (0, "") == (result.code, result.err)
    assert result.out.rstrip().splitlines()[-1].startswith("0 errors, 0 warnings.")
    assert before == [await cli.harness.services.table.next_partition("~"), await count_messages(cli.harness)]
    assert "Secrets can be changed." in result.out
    assert "schedule ok" in finding(result, "schedule")


async def count_messages(harness: Harness) -> list[int]:
    """The number of messages in each queue."""
    queues = [harness.environment[name] for name in ("JOBS_QUEUE", "RESULTS_QUEUE", "CALLBACKS_QUEUE", "BATCHES_QUEUE")]
    properties = [await harness.queues.get_queue_client(name).get_queue_properties() for name in queues]
    return [each.approximate_message_count or 0 for each in properties]


NOT_THERE = {
    "JOBS_TABLE": ("neverMade", "table neverMade error", "TableNotFound). Check JOBS_TABLE"),
    "RESULTS_QUEUE": ("never-made", "queue never-made error", "QueueNotFound). Check the names"),
    "INPUT_CONTAINERS": ("never-made", "container never-made error", "ContainerNotFound). Check the names"),
    "RESULTS_CONTAINER": ("never-made-either", "result blobs error", "ContainerNotFound). Check the names"),
    "KEY_VAULT_URL": ("https://127.0.0.1:9", "Key Vault error", "Check the address"),
    "ALLOWED_ENDPOINT_SUFFIXES": ("com", "ALLOWED_ENDPOINT_SUFFIXES error com:", "anybody"),
    "ALLOWED_SCOPES": ("https://vault.azure.net/.default", "ALLOWED_SCOPES error https", "opens the app's own"),
}


async def test_each_error_has_a_row(cli: CliRunner, monkeypatch: pytest.MonkeyPatch):
    """Beside all others: with its remedy, and the exit code is 1. So have a clock that is off and poison messages."""
    wrong = cli.with_settings(
        **{name: value for name, (value, _, _) in NOT_THERE.items()},
        STATIC_CONNECTION="{THE-KEY",
        ALLOW_STATIC_CONNECTION="a",
    )
    poison = f"{cli.harness.environment['JOBS_QUEUE']}-poison"
    await cli.harness.services.queues.send(poison, b"[]")
    monkeypatch.setattr(storage_checks, "now", lambda: clock.now() + timedelta(seconds=400))

    result = await wrong.run("doctor")
    await cli.harness.messages(poison)

    for _, verdict, message in NOT_THERE.values():
        row = finding(result, verdict.partition(" error")[0])
        assert row.startswith(verdict)
        assert message in " ".join(result.text.partition(verdict)[2].split(" error ")[0].split())
    assert "ahead of" in finding(result, "clock error")
    assert "`aijobs poison list` shows them" in finding(result, f"queue {poison} warning")
    assert finding(result, "static connection error")
    assert "THE-KEY" not in result.text
    assert 1 == result.code


@every_row(
    ("settings", "verdict", "message"),
    [
        ({"KEY_VAULT_URL": ""}, "Key Vault warning", "KEY_VAULT_URL is not set"),
        ({"KEY_VAULT_CA_FILE": "/gone/ca.pem"}, "settings error KEY_VAULT_CA_FILE must", "when the stack stops"),
        ({"JobStorage": NOWHERE}, "storage error Storage did not answer", "The setting is JobStorage."),
        ({"JobStorage": "AccountName=x"}, "settings error", "JobStorage is not the connection string"),
        ({"JobStorage": "@Microsoft.KeyVault(SecretUri=https://x)"}, "settings error", "Key Vault reference"),
        ({"RETAIN_JOBS_DAYS": "ever"}, "settings error", "RETAIN_JOBS_DAYS must be"),
        ({"ALLOWED_ENTRA_HOSTS": "*.contoso.com"}, "settings error ALLOWED_ENTRA_HOSTS must be hosts", "entry 1"),
    ],
)
async def test_settings_are_checked(cli: CliRunner, settings: dict[str, str], verdict: str, message: str):
    """
    Each error has a row with its remedy, and the exit code is 1. An optional part is checked if it is set, and is not
    an error if it isn't.
    """
    result = await cli.with_settings(**settings).run("doctor")

    check = re.split(" (?:ok|warning|error)", verdict)[0]
    assert finding(result, check).startswith(verdict)
    assert message in result.text
    assert int("error" in verdict) == result.code


IDENTITY = '{"endpoint": "https://x.openai.azure.com", "auth": "entra"}'


@every_row(
    ("settings", "verdict", "message"),
    [
        ({"ALLOW_STATIC_CONNECTION": "*"}, "warning", "STATIC_CONNECTION is not set"),
        ({"STATIC_CONNECTION": "sk-THE-KEY"}, "ok", "serves no customer"),
        ({"STATIC_CONNECTION": "sk-THE-KEY", "ALLOW_STATIC_CONNECTION": "a,b"}, "ok", "openai"),
        ({"STATIC_CONNECTION": "sk-THE-KEY", "ALLOW_STATIC_CONNECTION": "true"}, "warning", "every"),
        ({"STATIC_CONNECTION": "{THE-KEY", "ALLOW_STATIC_CONNECTION": "a"}, "error", "malformed"),
        ({"STATIC_CONNECTION": IDENTITY, "ALLOW_STATIC_CONNECTION": "a"}, "ok", "identity for x.openai.azure.com"),
    ],
)
async def test_static_connection_is_checked(settings: dict[str, str], verdict: str, message: str):
    """One that serves nobody, or everybody, or that can't be read is named, and never its key."""
    (outcome,) = await check_static_connection(read_settings({"JobStorage": NOWHERE, **settings}))

    assert ("static connection", verdict) == (outcome.check, outcome.verdict)
    assert message in outcome.message
    assert "THE-KEY" not in outcome.message


async def vault_row(cli: CliRunner, check: str) -> str:
    """The row of a check of the vault and of what is in it."""
    (outcome,) = [each for each in await check_vault(cli.harness.services) if each.check == check]
    return f"{outcome.verdict} {outcome.message}"


async def test_uses_of_the_identity_are_listed(cli: CliRunner, newcomer: Customer):
    """Each binding has a row with its host; one that two customers share, or that can't work, is named as such."""
    customers = [newcomer, *(cli.harness.customer(connection=None) for _ in range(3))]
    hosts = ["own.openai.azure.com", *["shared.openai.azure.com"] * 2, "ai.example.com"]
    secrets = {
        f"ai--{each.name}--default": {"Entra_Host": host, "entra_tenant": "contoso.com"}
        for each, host in zip(customers, hosts, strict=True)
    } | {f"ai--{newcomer.name}--odd": {"entra_host": "a", "Entra_Host": "b"}}
    for name, tags in secrets.items():
        cli.harness.put_secret(name, "x", tags=tags)

    outcome = {each.check: each for each in await check_vault(cli.harness.services)}

    rows = [outcome[f"identity: {each.name}/default"] for each in customers]
    assert ["ok", "warning", "warning", "error"] == [row.verdict for row in rows]
    assert "own.openai.azure.com, the usual scope, contoso.com" in rows[0].message
    assert f"So may {customers[2].name}" in rows[1].message
    assert "ALLOWED_ENTRA_HOSTS" in rows[3].message
    assert "twice" in outcome[f"identity: {newcomer.name}/odd"].message


async def test_misspelt_tags_of_a_bare_key_are_named(cli: CliRunner):
    """A tag that is much like a setting's is; those of another's are not, nor any beside a value that is JSON."""
    customer = cli.harness.customer(connection=None)
    tags = {
        "endpoint": "https://r.openai.azure.com",
        "Default-Model": "m",
        "apiversion": "1",
        "owner": "us",
        "AUTH": "api_key",
    }
    for name, value in {"bare": "KEY", "json": '{"endpoint": "https://r.openai.azure.com", "api_key": "KEY"}'}.items():
        cli.harness.put_secret(f"ai--{customer.name}--{name}", value, tags=tags)

    findings, prefix = await check_vault(cli.harness.services), f"tag: {customer.name}/"

    assert [
        ("bare", "warning", f"Nothing reads the tag {name} of its secret. Did you mean {meant}?")
        for name, meant in (("Default-Model", "default_model"), ("apiversion", "api_version"))
    ] == [(each.check.removeprefix(prefix), each.verdict, each.message) for each in findings if prefix in each.check]


async def test_read_only_vault_is_a_warning(cli: CliRunner, monkeypatch: pytest.MonkeyPatch):
    """Without the officer's role, everything works except changes to connections."""
    monkeypatch.setattr(cli.harness.vault, "read_only", True)

    row = await vault_row(cli, "Key Vault: change")

    assert row.startswith("warning ")
    assert "Key Vault Secrets Officer" in row


@every_row(
    ("code", "message"),
    [
        ("ForbiddenByConnection", "closed to public networks"),
        ("ForbiddenByFirewall", "firewall rejects your address"),
        ("ForbiddenByRbac", "Key Vault Secrets User"),
    ],
)
async def test_forbidden_vault_has_its_own_remedy(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, code: str, message: str
):
    """A closed network and a missing role are fixed differently."""

    async def forbid(*_: object) -> NoReturn:
        raise VaultError(403, "Forbidden", "Public network access is disabled.", code)

    monkeypatch.setattr(cli.harness.vault, "read_middleware", forbid)

    row = await vault_row(cli, "Key Vault")

    assert row.startswith("error ")
    assert message in row


@every_row(
    ("skew_s", "verdict", "message"), [(-400, "error", "behind"), (400, "error", "ahead of"), (5, "ok", "within")]
)
def test_clock_is_compared_with_storage(skew_s: int, verdict: str, message: str):
    """A clock that is minutes off is an error, which says in which direction."""
    outcome = storage_checks.check_clock(clock.now() - timedelta(seconds=skew_s))

    assert ("clock", verdict) == (outcome.check, outcome.verdict)
    assert message in outcome.message


async def test_a_schedule_that_nobody_works_off_is_a_warning(cli: CliRunner, newcomer: Customer):
    """Waiting is no fault; what was due a quarter of an hour ago and was not woken is."""
    services = cli.harness.services
    await services.schedule.add_batch(newcomer.name, "b", now() + timedelta(hours=1))
    assert ("schedule", "ok") == ((outcome := await check_schedule(services)).check, outcome.verdict)
    await services.schedule.add_batch(newcomer.name, "c", now() - timedelta(minutes=20))
    late = await check_schedule(services)
    assert "warning" == late.verdict
    assert "was to continue 20m ago, and was not woken" in late.message
    await erase_entries(services.table, newcomer.name)


LOGIN = {"PATH": "/nowhere", "AZURE_TOKEN_CREDENTIALS": "AzureCliCredential"}
"""The only login to try is missing from PATH, so nothing outside this machine is called."""


@pytest.mark.parametrize("in_process", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_missing_login_is_one_finding(cli: CliRunner, monkeypatch: pytest.MonkeyPatch, in_process: bool):
    """Without a login there is one error, and no log lines of azure-identity."""
    uris = {
        f"JobStorage__{name}ServiceUri": f"https://acct.{name}.core.windows.net" for name in ("queue", "blob", "table")
    }
    cli.write("azd.env", "".join(f'{name}="{value}"\n' for name, value in uris.items()))
    line = "doctor --settings azd.env"
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.delenv(name)

    result = await (cli.run(line, environment=LOGIN) if in_process else cli.run_process(line, **LOGIN))

    assert (1, "") == (result.code, result.err)
    assert "az login" in result.out
    assert 1 == result.out.count("error  ")
