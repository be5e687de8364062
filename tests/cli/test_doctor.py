"""`doctor`: no errors in a sound deployment; else the error with its remedy. It leaves nothing behind."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest

from aijobs import model_retirements, storage_checks
from local.vault.secret_store import VaultError
from shared import clock
from shared.clock import now
from shared.jobs.schedule_entries import erase_entries
from tests.support.cli_runner import ROOT, TRIGGER_QUEUES, CliResult, CliRunner
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


async def test_each_error_has_a_row(cli: CliRunner):
    """Beside all others: with its remedy, and the exit code is 1."""
    result = await cli.with_settings(**{name: value for name, (value, _, _) in NOT_THERE.items()}).run("doctor")

    for _, verdict, message in NOT_THERE.values():
        row = finding(result, verdict.partition(" error")[0])
        assert row.startswith(verdict)
        assert message in " ".join(result.text.partition(verdict)[2].split(" error ")[0].split())
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
        ({"ALLOW_STATIC_CONNECTION": "*"}, "static connection warning", "STATIC_CONNECTION is not set"),
        ({"STATIC_CONNECTION": "sk-THE-KEY"}, "static connection ok", "serves no customer"),
        ({"STATIC_CONNECTION": "sk-THE-KEY", "ALLOW_STATIC_CONNECTION": "a,b"}, "static connection ok", "openai"),
        ({"STATIC_CONNECTION": "sk-THE-KEY", "ALLOW_STATIC_CONNECTION": "true"}, "static connection warning", "every"),
        ({"STATIC_CONNECTION": "{THE-KEY", "ALLOW_STATIC_CONNECTION": "a"}, "static connection error", "malformed"),
        (
            {
                "STATIC_CONNECTION": '{"endpoint": "https://x.openai.azure.com", "auth": "entra"}',
                "ALLOW_STATIC_CONNECTION": "a",
            },
            "static connection ok",
            "app's identity for x.openai.azure.com",
        ),
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
    assert "THE-KEY" not in result.text
    assert int("error" in verdict) == result.code


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

    result = await cli.expect("doctor", 1, out="ALLOWED_ENTRA_HOSTS")
    for name in secrets:
        cli.harness.vault.secrets.delete(name)

    rows = [finding(result, f"identity: {each.name}/default") for each in customers]
    assert ["ok", "warning", "warning", "error"] == [row.split()[2] for row in rows]
    assert "own.openai.azure.com, the usual scope, contoso.com" in rows[0]
    assert f"So may {customers[2].name}" in rows[1]
    assert "twice" in finding(result, f"identity: {newcomer.name}/odd")


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

    result = await cli.run("doctor")
    for name in ("bare", "json"):
        cli.harness.vault.secrets.delete(f"ai--{customer.name}--{name}")

    rows = [" ".join(line.split()) for line in result.out.splitlines() if line.startswith(f"tag: {customer.name}/")]
    prefix = f"tag: {customer.name}/bare warning Nothing reads the tag"
    assert [
        f"{prefix} Default-Model of its secret. Did you mean default_model?",
        f"{prefix} apiversion of its secret. Did you mean api_version?",
    ] == rows


async def test_read_only_vault_is_a_warning(cli: CliRunner, monkeypatch: pytest.MonkeyPatch):
    """Without the officer's role, everything works except changes to connections."""
    monkeypatch.setattr(cli.harness.vault, "read_only", True)

    result = await cli.expect("doctor")

    assert "Key Vault Secrets Officer" in finding(result, "Key Vault: change")


@pytest.mark.parametrize(
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

    result = await cli.expect("doctor", 1)

    assert message in finding(result, "Key Vault")


@pytest.mark.parametrize(("skew_s", "code", "message"), [(-400, 1, "behind"), (400, 1, "ahead of"), (5, 0, "within")])
async def test_clock_is_compared_with_storage(
    cli: CliRunner, monkeypatch: pytest.MonkeyPatch, skew_s: int, code: int, message: str
):
    """A clock that is minutes off is an error, which says in which direction."""
    monkeypatch.setattr(storage_checks, "now", lambda: clock.now() + timedelta(seconds=skew_s))

    assert message in finding(await cli.expect("doctor", code), "clock")


async def test_a_schedule_that_nobody_works_off_is_a_warning(cli: CliRunner, newcomer: Customer):
    """Waiting is no fault; what was due a quarter of an hour ago and was not woken is."""
    services = cli.harness.services
    await services.schedule.add_batch(newcomer.name, "b", now() + timedelta(hours=1))
    assert "schedule ok" in finding(await cli.expect("doctor"), "schedule")
    await services.schedule.add_batch(newcomer.name, "c", now() - timedelta(minutes=20))
    assert "was to continue 20m ago, and was not woken" in finding(await cli.expect("doctor"), "schedule warning")
    await erase_entries(services.table, newcomer.name)


async def test_poison_messages_are_a_warning(cli: CliRunner):
    """Messages in a poison queue are counted, with the command that lists them."""
    poison = f"{cli.harness.environment['JOBS_QUEUE']}-poison"
    await cli.harness.services.queues.send(poison, b"[]")

    assert "`aijobs poison list` shows them" in finding(await cli.expect("doctor"), f"queue {poison}")


async def test_missing_login_is_one_finding(cli: CliRunner):
    """Without a login there is one error, and no log lines of azure-identity."""
    uris = {
        f"JobStorage__{name}ServiceUri": f"https://acct.{name}.core.windows.net" for name in ("queue", "blob", "table")
    }
    cli.write("azd.env", "".join(f'{name}="{value}"\n' for name, value in uris.items()))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aijobs", "doctor", "--settings", "azd.env"),
        cwd=cli.directory,
        # The only login to try is missing from PATH, so nothing outside this machine is called.
        env={"PATH": "/nowhere", "PYTHONPATH": str(ROOT), "AZURE_TOKEN_CREDENTIALS": "AzureCliCredential"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert (1, b"") == (process.returncode, err)
    assert b"az login" in out
    assert 1 == out.count(b"error  ")
