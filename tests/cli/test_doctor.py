"""The doctor: finds nothing where all is well, names what is wrong and its mend where it is not, leaves nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from aijobs import doctor
from local.vault.secret_store import VaultError
from shared import clock
from tests.support.cli_runner import Ended, Operator
from tests.support.harness import World

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def operator(world: World, tmp_path: Path) -> Operator:
    for queue in ("JOBS_QUEUE", "CALLBACKS_QUEUE"):
        await world.messages(f"{world.environment[queue]}-poison")
    return Operator(world, tmp_path)


def finding(ended: Ended, what: str) -> str:
    """The row of a check, with white space squeezed."""
    rows = [" ".join(line.split()) for line in ended.out.splitlines()]
    (row,) = [row for row in rows if row.startswith(f"{what} ")]
    return row


async def test_nothing_is_wrong_with_a_sound_deployment(operator: Operator):
    """All checks are fine, the code is 0, and nothing is left behind."""
    world = operator.world
    before = [await world.services.table.next_partition("~"), await _waiting(world)]

    ended = await operator.types("doctor")

    assert (0, "") == (ended.code, ended.err)
    assert ended.out.rstrip().splitlines()[-1].startswith("0 wrong, 0 warnings.")
    assert before == [await world.services.table.next_partition("~"), await _waiting(world)]
    assert "Secrets can be changed." in ended.out


async def _waiting(world: World) -> list[int]:
    queues = [world.environment[name] for name in ("JOBS_QUEUE", "RESULTS_QUEUE", "CALLBACKS_QUEUE")]
    found = [await world.queues.get_queue_client(name).get_queue_properties() for name in queues]
    return [one.approximate_message_count or 0 for one in found]


@pytest.mark.parametrize(
    ("setting", "value", "what", "told"),
    [
        ("JOBS_TABLE", "neverMade", "table neverMade", "TableNotFound). Is JOBS_TABLE right?"),
        ("RESULTS_QUEUE", "never-made", "queue never-made", "QueueNotFound). Are the names"),
        ("INPUT_CONTAINERS", "never-made", "container never-made", "ContainerNotFound). Are the names"),
        ("RESULTS_CONTAINER", "never-made", "results are written", "ContainerNotFound). Are the names"),
        ("KEY_VAULT_URL", "https://127.0.0.1:9", "Key Vault", "Is the address right"),
        ("KEY_VAULT_CA_FILE", "/gone/ca.pem", "settings", "the local stack has stopped"),
        ("JobStorage", "AccountName=x", "settings", "JobStorage is no connection string"),
        ("JobStorage", "@Microsoft.KeyVault(SecretUri=https://x)", "settings", "Key Vault reference"),
        ("RETAIN_JOBS_DAYS", "ever", "settings", "RETAIN_JOBS_DAYS must be"),
    ],
)
async def test_what_is_wrong_is_named(operator: Operator, setting: str, value: str, what: str, told: str):
    """Each fault has its row, its mend, and makes the code 1."""
    ended = await operator.on(**{setting: value}).types("doctor")

    assert 1 == ended.code
    assert finding(ended, what).startswith(f"{what} wrong")
    assert told in ended.said


@pytest.mark.parametrize(
    ("settings", "verdict", "told"),
    [
        ({"KEY_VAULT_URL": ""}, "Key Vault warning", "KEY_VAULT_URL is not set"),
        ({"ALLOW_STATIC_CONNECTION": "*"}, "static connection warning", "STATIC_CONNECTION is not set"),
        ({"STATIC_CONNECTION": "sk-THE-KEY"}, "static connection ok", "serves nobody"),
        ({"STATIC_CONNECTION": "sk-THE-KEY", "ALLOW_STATIC_CONNECTION": "a,b"}, "static connection ok", "openai"),
        ({"STATIC_CONNECTION": "sk-THE-KEY", "ALLOW_STATIC_CONNECTION": "true"}, "static connection warning", "every"),
        ({"STATIC_CONNECTION": "{THE-KEY", "ALLOW_STATIC_CONNECTION": "a"}, "static connection wrong", "malformed"),
    ],
)
async def test_settings_are_judged_together(operator: Operator, settings: dict[str, str], verdict: str, told: str):
    """What only some deployments have is no fault where it is left out, and is tried where it is there."""
    ended = await operator.on(**settings).types("doctor")

    assert verdict in ended.said
    assert told in ended.said
    assert "THE-KEY" not in ended.said
    assert int("wrong" in verdict) == ended.code


async def test_vault_that_may_only_be_read_is_a_warning(operator: Operator, monkeypatch: pytest.MonkeyPatch):
    """A login without the officer's role can do all but change connections."""
    monkeypatch.setattr(operator.world.vault, "read_only", True)

    ended = await operator.types("doctor")

    assert 0 == ended.code
    assert "Key Vault Secrets Officer" in finding(ended, "Key Vault: change")


async def test_closed_vault_is_told_from_a_missing_role(operator: Operator, monkeypatch: pytest.MonkeyPatch):
    """A vault whose network is closed is not mended by a role, and the finding says so."""

    async def closed(*_: object) -> NoReturn:
        raise VaultError(403, "Forbidden", "Public network access is disabled.", "ForbiddenByConnection")

    monkeypatch.setattr(operator.world.vault, "around", closed)

    ended = await operator.types("doctor")

    assert 1 == ended.code
    assert "closed to public networks" in finding(ended, "Key Vault")


@pytest.mark.parametrize(("off_s", "code", "told"), [(-400, 1, "behind"), (400, 1, "ahead of"), (5, 0, "within")])
async def test_clock_is_compared_with_that_of_storage(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, off_s: int, code: int, told: str
):
    """A clock that is minutes off is told, and where it is off to."""
    monkeypatch.setattr(doctor, "now", lambda: clock.now() + timedelta(seconds=off_s))

    ended = await operator.types("doctor")

    assert (code, True) == (ended.code, told in finding(ended, "clock"))


async def test_poison_is_a_warning(operator: Operator):
    """Messages in a poison queue are told, with the command that shows them."""
    poison = f"{operator.world.environment['JOBS_QUEUE']}-poison"
    await operator.world.services.queues.send(poison, b"[]")

    ended = await operator.types("doctor")

    assert 0 == ended.code
    assert "`poison list` shows them" in finding(ended, f"queue {poison}")
    await operator.world.messages(poison)


@pytest.mark.parametrize("form", ["azd", "az", "local"])
async def test_settings_are_read_in_the_forms_that_tools_write(operator: Operator, form: str):
    """`azd env get-values`, `az functionapp config appsettings list`, and local.settings.json lead to the same."""
    values = json.loads(operator.settings().read_text())["Values"]
    if form == "azd":
        text = "# a comment\n\n" + "".join(f'{name}="{value}"\n' for name, value in values.items())
    elif form == "az":
        text = json.dumps([{"name": name, "slotSetting": False, "value": value} for name, value in values.items()])
    else:
        text = json.dumps({"IsEncrypted": False, "Values": values})
    operator.writes("app.settings", text)

    ended = await operator.types("doctor --settings app.settings")

    assert 0 == ended.code


async def test_missing_login_is_one_finding(operator: Operator):
    """Where nobody is signed in, that is all that is said, and without a page of log lines."""
    uris = {
        f"JobStorage__{name}ServiceUri": f"https://acct.{name}.core.windows.net" for name in ("queue", "blob", "table")
    }
    settings = operator.writes("azd.env", "".join(f'{name}="{value}"\n' for name, value in uris.items()))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aijobs", "doctor", "--settings", str(settings)),
        cwd=operator.folder,
        # Only a login that there is none of, so that nothing outside is asked.
        env={"PATH": "/nowhere", "PYTHONPATH": str(ROOT), "AZURE_TOKEN_CREDENTIALS": "AzureCliCredential"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert (1, b"") == (process.returncode, err)
    assert b"az login" in out
    assert 1 == out.count(b"wrong  ")
