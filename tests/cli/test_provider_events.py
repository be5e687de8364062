"""`provider-events`: secrets that a provider has shown, checked and stored for a connection."""

from __future__ import annotations

import json
from pathlib import Path

from aijobs.vault_checks import check_vault
from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer
from tests.support.http_client import send
from tests.support.signatures import new_secret, signed

BODY = b'{"type": "batch.completed", "data": {"id": "batch_1"}}'


async def accepted(customer: Customer, secret: str, connection: str = "default") -> bool:
    """Whether the app, on a worker that has no secret in memory, takes an event that is signed with the secret."""
    services = customer.harness.services
    for name in ("provider_signing", "signing", "http"):
        services.__dict__.pop(name, None)
    path = f"provider-events/{customer.name}/{connection}"
    response = await send(customer.harness, "POST", path, body=BODY, headers=signed(secret, BODY))
    return response.status == 204


async def test_a_secret_is_stored_rotated_and_removed(cli: CliRunner, customer: Customer, tmp_path: Path):
    """A second one needs --beside, which keeps the first, or --replace; no output has one."""
    first, second = new_secret(), new_secret()
    file = tmp_path / "secret.txt"
    file.write_text(f"{first}\n")
    name = customer.name
    done = await cli.expect(f"provider-events set {name} --key-file {file}", out=f"provider-events/{name}/default")
    assert first not in done.text
    assert await accepted(customer, first)

    file.write_text(second)
    await cli.expect(f"provider-events set {name} --key-file {file}", 1, err="has a secret for events")
    await cli.expect(f"provider-events set {name} --beside --key-file {file}", out="--replace")
    assert [True, True] == [await accepted(customer, each) for each in (first, second)]
    await cli.expect(f"provider-events set {name} --replace --key-file {file}")
    assert [False, True] == [await accepted(customer, each) for each in (first, second)]

    listed = json.loads((await cli.expect("provider-events list --json")).out)["provider_events"]
    assert [("default", True)] == [(each["connection"], each["enabled"]) for each in listed if each["customer"] == name]
    await cli.expect(f"provider-events remove {name}", 1, out="Nothing was removed.", stdin="no\n")
    await cli.expect(f"provider-events remove {name} --yes")
    assert not await accepted(customer, second)
    await cli.expect(f"provider-events remove {name} --yes", 1, err="has no secret for events")


async def test_what_is_no_signing_secret_is_not_stored(cli: CliRunner, customer: Customer):
    """The API key, for instance: it is neither stored nor repeated."""
    done = await cli.expect(
        f"provider-events set {customer.name}", 1, err="not a signing secret", stdin="sk-not-a-secret\n"
    )
    assert "sk-not" not in done.text
    await cli.expect(f"provider-events set {customer.name} --connection No_Name", 2, err="connection's name")


async def test_doctor_names_secrets_of_no_connection(cli: CliRunner, customer: Customer):
    """A connection that was renamed or misspelt: its events would wake nothing."""
    for connection in ("default", "spare"):
        cli.harness.put_secret(f"events--{customer.name}--{connection}", new_secret())
    findings = await check_vault(cli.harness.services)
    names = [each.check for each in findings if each.check.startswith(f"events: {customer.name}/")]
    assert [f"events: {customer.name}/spare"] == names
