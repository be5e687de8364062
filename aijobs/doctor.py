"""
`doctor` checks from this machine, with the operator's login, what the app and an operator need.

It names each error with its remedy and leaves nothing behind: it deletes what it writes, and no reader sees the
messages that it sends.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from aijobs.console import plural
from aijobs.diagnostics import CommandError
from aijobs.egress_check import check_egress
from aijobs.export_checks import check_exports
from aijobs.finding import Finding
from aijobs.report import Report
from aijobs.schedule_check import check_schedule
from aijobs.setting_checks import check_settings
from aijobs.settings import open_services, read_values
from aijobs.static_check import check_static_connection
from aijobs.storage_checks import LOGIN, check_host_storage, check_storage
from aijobs.table import make_table
from aijobs.vault_checks import check_vault
from shared.errors import SettingInvalid
from shared.settings import Settings, read_settings


async def doctor(args: argparse.Namespace) -> Report:
    """Run `doctor`. The exit code is 1 if there is an error."""
    try:
        values = read_values(args.settings)
    except CommandError as exc:
        findings = [Finding("settings", "error", str(exc))]
    else:
        findings = check_settings(values)
        if not any(each.verdict == "error" and each.check == "settings" for each in findings):
            settings = read_settings(values)
            findings += await _check_services(args, settings, values)
            findings += await check_static_connection(settings)
            findings += check_egress(settings)
    errors = sum(finding.verdict == "error" for finding in findings)
    warnings = sum(finding.verdict == "warning" for finding in findings)
    rows = [(each.check, each.verdict, each.message) for each in findings]
    table = make_table(("check", "", "finding"), rows, prose="finding")
    summary = (
        f"{plural(errors, 'error')}, {plural(warnings, 'warning')}. The checks used your login; the app's identity may "
        "have other roles."
    )
    document = {"errors": errors, "warnings": warnings, "findings": findings}
    return Report(document, [table, summary], 1 if errors else 0)


async def _check_services(args: argparse.Namespace, settings: Settings, values: Mapping[str, str]) -> list[Finding]:
    try:
        async with open_services(args.settings, vault=bool(settings.key_vault_url)) as services:
            storage = await check_storage(services)
            if storage[0].check == LOGIN:
                return storage
            schedule = [await check_schedule(services)] if storage[0].verdict == "ok" else []
            findings = [*storage, *schedule, *await check_host_storage(services, values)]
            findings += await check_vault(services)
            return findings + await check_exports(services)
    except (CommandError, SettingInvalid) as exc:  # raised before the first check
        return [Finding("settings", "error", str(exc))]
