"""`customers` leaves an audit entry for each change of a connection, with who and without a key."""

from __future__ import annotations

import json

import pytest

from aijobs.person import person
from shared.billing.audit import AuditEntry, AuditTrail
from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer


async def entries(customer: Customer) -> list[AuditEntry]:
    """The customer's audit trail, the newest first."""
    listed, _ = await AuditTrail(customer.harness.services.table).page(customer.name, after="", limit=50)
    return listed


async def test_each_change_has_an_entry(cli: CliRunner, newcomer: Customer):
    """`add`, `rotate` and `remove`: a rotated key is a new version and no more."""
    first, second = newcomer.account.key, cli.harness.endpoint.account().key
    options = f"--endpoint {cli.harness.endpoint.url}/openai/v1 --provider azure_openai --default-model gpt-4o"
    await cli.expect(f"customers add {newcomer.name} {options}", stdin=first)
    await cli.expect(f"customers rotate {newcomer.name}", stdin=second)
    await cli.expect(f"customers remove {newcomer.name} --yes")

    removed, rotated, added = await entries(newcomer)
    assert {(person(), "connection default")} == {(each.by, each.subject) for each in (removed, rotated, added)}
    assert {"version", "endpoint", "provider", "auth", "default_model"} == added.after.keys() == removed.before.keys()
    assert ["version"] == [*rotated.before] == [*rotated.after]
    assert rotated.after["version"] == removed.before["version"]
    assert [] == [row for row in await newcomer.rows() if first in str(row) or second in str(row)]


async def test_a_binding_has_an_entry(cli: CliRunner, newcomer: Customer):
    """The tags that allow the app's identity, before and after."""
    host = f"{newcomer.name}.openai.azure.com"
    value = json.dumps({"endpoint": f"https://{host}", "auth": "entra"})
    cli.harness.put_secret(f"ai--{newcomer.name}--default", value, tags={"Team": "blue", "ENTRA_HOST": "y"})
    await cli.expect(f"customers bind {newcomer.name} --yes")

    (entry,) = await entries(newcomer)
    assert ({"entra_host": "y"}, {"entra_host": host}) == (entry.before, entry.after)


@pytest.mark.parametrize("line", ["remove {}", "rotate {}", "bind {}"])
async def test_what_is_not_done_has_no_entry(cli: CliRunner, customer: Customer, line: str):
    """A key that is rejected, and what nobody confirmed, changes nothing."""
    await cli.run(f"customers {line.format(customer.name)}", stdin="no\n")

    assert [] == await entries(customer)
