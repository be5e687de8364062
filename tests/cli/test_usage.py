"""`usage`: a customer's statement as a table and as CSV."""

from __future__ import annotations

from shared.billing.statement_csv import encode_csv
from shared.billing.statements import Statements
from shared.billing.usage import Call
from shared.billing.usage_records import usage_rows
from shared.clock import now
from shared.storage.base import Row
from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer


async def test_usage_is_the_statement(cli: CliRunner, customer: Customer):
    """The table has the month's sums, the CSV is the route's, and uncertain records are reported."""
    services = cli.harness.services
    await customer.run()
    await customer.run()
    label = (await services.connections.resolve(customer.name, "default")).label()
    (row,) = usage_rows(customer.name, "lost", "chat", "gpt-4o", label, [Call(None, outcome="unanswered")], now())
    await services.table.insert(Row(row.partition, row.key, row.values))
    month = f"{now():%Y-%m}"

    table = await cli.run(f"usage {customer.name}")
    csv = await cli.run(f"usage {customer.name} --month {month} --by model,action --csv")
    nothing = await cli.run(f"usage {customer.name} --month 2020-01")

    assert "gpt-4o azure_openai customer answered 2 22" in table.text
    assert "Not `answered`: 1 record." in table.text
    statement = await Statements(services.table).read(customer.name, month, ("model", "action"))
    assert encode_csv(statement).decode().replace("\r\n", "\n") == csv.out
    assert f"{customer.name} has no usage in 2020-01.\n" == nothing.out
