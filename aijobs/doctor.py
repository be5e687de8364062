"""
`doctor` checks from this machine, with the operator's login, what the app and an operator need.

It names each error with its remedy and leaves nothing behind: it deletes what it writes, and no reader sees the
messages that it sends.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from aijobs.console import plural
from aijobs.diagnostics import SIGN_IN, CommandError, with_remedy
from aijobs.egress_check import check_bindings, check_egress
from aijobs.finding import Finding
from aijobs.queues import open_queue
from aijobs.report import Report
from aijobs.settings import open_services, read_app_settings
from aijobs.table import make_table
from shared.clock import now
from shared.connections.entra_binding import EntraBinding
from shared.connections.resolver import Connections
from shared.connections.store import SecretInfo
from shared.connections.vault_errors import VaultForbids
from shared.errors import JobError, RetryLater, SettingInvalid
from shared.services import Services
from shared.settings import Settings
from shared.storage.base import Row

MAX_CLOCK_SKEW = timedelta(seconds=60)
"""A warning well before it matters: webhooks allow five minutes, Storage fifteen."""
NO_CUSTOMER = "~doctor"
"""A partition, and a prefix of names, that can't be a customer's."""
_ERRORS = (JobError, RetryLater, CommandError, SettingInvalid)
_LOGIN = "login"


async def doctor(args: argparse.Namespace) -> Report:
    """Run `doctor`. The exit code is 1 if there is an error."""
    findings: list[Finding] = []
    try:
        settings = read_app_settings(args.settings)
    except (SettingInvalid, CommandError) as exc:
        findings.append(Finding("settings", "error", str(exc)))
    else:
        findings += await _check_services(args, settings)
        findings.append(await _check_static_connection(settings))
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


async def _check_services(args: argparse.Namespace, settings: Settings) -> list[Finding]:
    try:
        async with open_services(args.settings, vault=bool(settings.key_vault_url)) as services:
            findings = [Finding("settings", "ok", "The settings are valid.")]
            storage = await _check_storage(services)
            vault = [] if storage[0].check == _LOGIN else await _check_vault(services)
            return findings + storage + vault
    except CommandError as exc:  # raised before the first check
        return [Finding("settings", "error", str(exc))]


async def _check_storage(services: Services) -> list[Finding]:
    settings = services.settings
    findings = [await _run_check(f"table {settings.jobs_table}", partial(_write_row, services))]
    if findings[0].message.endswith(SIGN_IN):  # all other checks would fail alike
        return [replace(findings[0], check=_LOGIN)]
    storage_time: datetime | None = None
    for name in (
        settings.jobs_queue,
        settings.poison_queue,
        settings.callbacks_queue,
        settings.callbacks_poison_queue,
        *settings.result_queues(),
    ):
        finding, time = await _check_queue(services, name)
        storage_time = storage_time or time
        findings.append(finding)
    for container in dict.fromkeys(
        (settings.results_container, *settings.input_containers, settings.templates_container)
    ):
        findings.append(await _run_check(f"container {container}", partial(_list_blobs, services, container)))
    findings.append(await _run_check("result blobs", partial(_write_blob, services)))
    return findings if storage_time is None else [*findings, _check_clock(storage_time)]


async def _check_queue(services: Services, name: str) -> tuple[Finding, datetime | None]:
    """Return the finding, and the time by Storage's clock."""
    settings = services.settings
    count, time = 0, None

    async def use() -> str:
        nonlocal count, time
        async with open_queue(services, name) as queue:
            count, time = await queue.count()
            await queue.check_sending()
        return f"The queue accepts messages; it holds about {plural(count, 'message')}."

    finding = await _run_check(f"queue {name}", use)
    if finding.verdict == "ok" and count and name in {settings.poison_queue, settings.callbacks_poison_queue}:
        hint = "`poison list` shows them" if name == settings.poison_queue else "the app handles them if it is running"
        finding = replace(finding, verdict="warning", message=f"The queue holds {plural(count, 'message')}: {hint}.")
    return finding, time


async def _write_row(services: Services) -> str:
    row = Row(NO_CUSTOMER, "1", {"at": now()})
    await services.table.delete([row])  # left by a run that was interrupted
    await services.table.insert(row)
    await services.table.delete([row])
    return "Rows can be written and deleted."


async def _list_blobs(services: Services, container: str) -> str:
    await services.blobs.page(container, NO_CUSTOMER)
    return "The container can be read."


async def _write_blob(services: Services) -> str:
    await services.outputs.check_writable()
    return f"Blobs can be written to {services.settings.results_container}."


def _check_clock(storage_time: datetime) -> Finding:
    skew_s = round((now() - storage_time).total_seconds())
    if abs(skew_s) <= MAX_CLOCK_SKEW.total_seconds():
        return Finding("clock", "ok", f"This machine's clock is within {MAX_CLOCK_SKEW.seconds} s of Storage's.")
    direction = "ahead of" if skew_s > 0 else "behind"
    return Finding(
        "clock", "error", f"This machine's clock is {abs(skew_s)} s {direction} Storage's. Synchronise it (NTP)."
    )


async def _check_vault(services: Services) -> list[Finding]:
    vault = services.vault
    if vault is None:
        message = "KEY_VAULT_URL is not set: only the static connection can serve customers."
        return [Finding("Key Vault", "warning", message)]

    async def read() -> str:
        await vault.get_with_info("doctor", "no-customer")
        return "Secrets can be read."

    secrets: list[tuple[str, SecretInfo]] = []

    async def list_all() -> str:
        secrets.extend([item async for item in vault.list_all()])
        customers = {customer for customer, _ in secrets}
        return f"Secrets can be listed: {plural(len(customers), 'customer')} with connections."

    async def change() -> str:
        await vault.delete("doctor", "no-customer")  # the vault checks the role before it looks for the secret
        return "Secrets can be changed."

    findings = [await _run_check("Key Vault", read)]
    if findings[0].verdict == "ok":
        user = "`customers list` needs the role Key Vault Secrets User."
        findings.append(await _run_check("Key Vault: list", list_all, user))
        officer = "`customers add`, `rotate` and `remove` need the role Key Vault Secrets Officer."
        findings.append(await _run_check("Key Vault: change", change, officer))
    return findings + check_bindings(services.settings, secrets)


async def _check_static_connection(settings: Settings) -> Finding:
    check = "static connection"
    names = (name.strip() for name in settings.allow_static_connection.replace(";", ",").split(","))
    customer = next((name for name in names if settings.allows_static(name)), "")
    if not customer:
        message = "It is set but serves no customer." if settings.static_connection else "It is not set."
        return Finding(check, "ok", message)
    if not settings.static_connection:
        return Finding(
            check,
            "warning",
            "ALLOW_STATIC_CONNECTION names its customers, but STATIC_CONNECTION is not set, or is a Key Vault "
            "reference, which only the app resolves.",
        )

    async def resolve() -> str:
        connection = await Connections(settings, None).resolve(customer, "default")
        use = EntraBinding.of(connection)
        identity = "" if use is None else f" It uses the app's identity for {use}."
        return f"It is valid; its provider is {connection.endpoint.provider}.{identity}"

    finding = await _run_check(check, resolve)
    if finding.verdict == "ok" and settings.static_for_all:
        everybody = "It serves every customer without a connection, at your cost. Name the customers instead."
        finding = replace(finding, verdict="warning", message=f"{finding.message} {everybody}")
    return finding


async def _run_check(check: str, work: Callable[[], Awaitable[str]], optional: str = "") -> Finding:
    """
    Run a check, which returns the message of its success.

    `optional` says which commands need the role that is missing, if everything else works without it.
    """
    try:
        return Finding(check, "ok", await work())
    except VaultForbids:
        message = f"Key Vault rejects the operation (403). {optional}".strip()
        return Finding(check, "warning" if optional else "error", message)
    except _ERRORS as exc:
        return Finding(check, "error", with_remedy(str(exc)))
