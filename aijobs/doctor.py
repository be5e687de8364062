"""
`doctor` checks from this machine, with the operator's login, what the app and an operator need.

It names each error with its remedy and leaves nothing behind: it deletes what it writes, and no reader sees the
messages that it sends.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

from aijobs.console import plural
from aijobs.diagnostics import CommandError
from aijobs.egress_check import check_egress
from aijobs.export_checks import check_exports
from aijobs.finding import Finding, run_check
from aijobs.model_retirements import check_models
from aijobs.report import Report
from aijobs.schedule_check import check_schedule
from aijobs.setting_checks import check_settings
from aijobs.settings import open_services, read_values
from aijobs.storage_checks import LOGIN, check_host_storage, check_storage
from aijobs.table import make_table
from aijobs.vault_checks import check_vault, models_of
from shared.connections.connection import Connection
from shared.connections.entra_binding import EntraBinding
from shared.connections.resolver import Connections
from shared.errors import SettingInvalid
from shared.setting_values import split
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
            findings += await _check_static_connection(settings)
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


async def _check_static_connection(settings: Settings) -> list[Finding]:
    check = "static connection"
    if not settings.static_connection:
        if not any(map(settings.allows_static, _served(settings))):
            return [Finding(check, "ok", "It is not set.")]
        message = (
            "ALLOW_STATIC_CONNECTION names its customers, but STATIC_CONNECTION is not set, or is a Key Vault "
            "reference, which only the app resolves."
        )
        return [Finding(check, "warning", message)]
    opened: list[Connection] = []

    async def resolve() -> str:
        for_all = replace(settings, allow_static_connection="*")
        connection = await Connections(for_all, None).resolve("doctor", "default")
        opened.append(connection)
        use = EntraBinding.of(connection)
        identity = "" if use is None else f" It uses the app's identity for {use}."
        return f"It is valid; its provider is {connection.endpoint.provider}.{identity}"

    finding = await run_check(check, resolve)
    if not any(map(settings.allows_static, _served(settings))):
        verdict = "warning" if finding.verdict == "error" else finding.verdict
        finding = replace(finding, verdict=verdict, message=f"{finding.message} It serves no customer.")
    elif finding.verdict == "ok" and settings.static_for_all:
        everybody = "It serves every customer without a connection, at your cost. Name the customers instead."
        finding = replace(finding, verdict="warning", message=f"{finding.message} {everybody}")
    return [finding, *(_check_static_models(check, settings, opened[0]) if opened else [])]


def _served(settings: Settings) -> tuple[str, ...]:
    """The customers that the setting names; any name stands for all."""
    return split(settings.allow_static_connection)


def _check_static_models(check: str, settings: Settings, connection: Connection) -> list[Finding]:
    allowed, usual = settings.static_models, connection.endpoint.deployment or connection.default_model
    findings = check_models(check, connection.endpoint.provider, dict.fromkeys((*models_of(connection), *allowed)))
    if usual and allowed and usual not in allowed:
        message = f"STATIC_MODELS doesn't allow {usual}, which jobs without a model use: add it, or name another one."
        findings.append(Finding(check, "warning", message))
    return findings
