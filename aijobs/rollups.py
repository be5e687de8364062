"""`usage --verify` compares rollups with the records that they are sums of; `--rebuild` makes them again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date

from aijobs.console import plural
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import customers_of
from aijobs.table import Table, make_table
from shared.billing.periods import Days
from shared.billing.rollup_check import Difference, check_rollups, rebuild_rollups
from shared.billing.rollups import Rollups
from shared.clock import now
from shared.retention.expiry import cutoff_at
from shared.services import Services
from shared.settings import Settings


async def verify(services: Services, customer: str | None, days: Days) -> Report:
    """Compare the rollups of a customer, or of all. The exit code is 1 if one is not what its records are."""
    rollups, checked = Rollups(services.table), 0
    differences: list[Difference] = []
    first = _first_kept(services.settings, days)
    for name in await customers_of(services.table, customer):
        async for different in check_rollups(rollups, name, first, days.last):
            checked += 1
            differences += different
    document = {
        "from": f"{days.first}",
        "to": f"{days.last}",
        "checked": checked,
        "differences": [{**asdict(each), "day": f"{each.day}"} for each in differences],
    }
    return Report(document, _text(differences, checked, days), 1 if differences else 0)


async def rebuild(services: Services, customer: str | None, days: Days) -> Report:
    """Rebuild the rollups of a customer, or of all, from the records."""
    rollups = Rollups(services.table)
    names, first = await customers_of(services.table, customer), _first_kept(services.settings, days)
    counts = [await rebuild_rollups(rollups, name, first, days.last) for name in names]
    document = {"from": f"{days.first}", "to": f"{days.last}", "rebuilt": sum(counts)}
    return Report(document, [f"Rebuilt in {days}: {plural(sum(counts), 'day')}."])


def _first_kept(settings: Settings, days: Days) -> date:
    """Return the first of the days whose records are kept: of earlier ones, only some for later days are left."""
    month = cutoff_at(settings, now()).usage_before
    return max(days.first, date.fromisoformat(f"{month}-01")) if month else days.first


def _text(differences: list[Difference], checked: int, days: Days) -> list[str | Table]:
    what = f"{plural(checked, 'day')} that {'is' if checked == 1 else 'are'} rolled up"
    if not differences:
        return [f"In {days}, {what} {'has' if checked == 1 else 'have'} what the records have."]
    rows = [(each.customer, f"{each.day}", each.message) for each in differences]
    return [
        f"In {days}, of {what}, some differ from their records:",
        make_table(("customer", "day", "difference"), rows, prose="difference"),
        f"The records are right. Rebuild the rollups with {command('usage --rebuild')}.",
    ]
