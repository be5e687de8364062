"""The commands on the page about disasters, as an operator runs them: a backup, a restore, a move."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from local.stack import azurite as azurites
from local.vault.server import Vault
from shared.clock import now, rfc3339
from tests.support.cli_runner import ROOT, CliRunner
from tests.support.closable import publish_prices
from tests.support.endpoint import Endpoint
from tests.support.harness import Harness, open_harness

pytestmark = pytest.mark.long
PROGRAM = "python -m aijobs "
COMMANDS = re.findall(rf"^ *{PROGRAM}(.*)$", (ROOT / "docs/disaster.md").read_text(), re.MULTILINE)
NAMES = ("RESULTS_CONTAINER", "INPUT_CONTAINERS", "TEMPLATES_CONTAINER", "STATEMENTS_CONTAINER")


@pytest.fixture
def harness(own_harness: Harness) -> Harness:
    """A deployment without other customers."""
    return own_harness


@pytest.fixture
async def new(harness: Harness, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """Another one, with a Storage account of its own, whose containers have the same names."""
    names = {name: harness.environment[name] for name in NAMES}
    async with azurites.start() as azurite, open_harness(azurite, vault, endpoint, **names) as opened:
        yield opened


def expanded(line: str, directory: Path) -> str:
    """Return a command as a shell passes it on."""
    words = line.split()
    return " ".join(
        file
        for word in words
        for file in (sorted(glob.glob(word, root_dir=directory)) if "*" in word else [word])  # noqa: PTH207
    )


async def test_the_page_can_be_followed(cli: CliRunner, new: Harness):
    """Each sample succeeds, and afterwards the new deployment has what the old one has, and the same statement."""
    services, customer, other = cli.harness.services, cli.harness.customer(), cli.harness.customer()
    await publish_prices(services.table, services.blobs, container=services.settings.statements_container)
    assert {"succeeded"} == {(await each.run(job_id="done"))["status"] for each in (customer, other)}
    await customer.deliver(job_id="later", options={"run_at": rfc3339(now() + timedelta(hours=1))})
    for name, harness in (("old", cli.harness), ("new", new)):
        CliRunner(harness, cli.directory).write_settings().rename(cli.directory / f"{name}.settings")

    assert len(COMMANDS) == 10
    for command in COMMANDS:
        await cli.expect(expanded(command.replace("contoso", customer.name), cli.directory))

    moved = replace(customer, harness=new)
    keys = [{row["RowKey"] for row in await each.rows() if row["RowKey"][:2] != "a_"} for each in (customer, moved)]
    assert keys[0] == keys[1]
    statements = [
        json.loads((await cli.expect(f"usage {customer.name} --json --settings {name}.settings")).out)
        for name in ("old", "new")
    ]
    assert statements[0] == statements[1]
