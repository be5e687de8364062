"""
`doctor`: tries, from here and as you, what the app and an operator need, and names what is wrong and what mends it.

Leaves nothing behind: what it writes it takes away again, and nobody sees a message that it sends.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from aijobs.console import show, table, tell
from aijobs.diagnostics import NO_LOGIN, Refused, mended
from aijobs.queues import opened_queue
from aijobs.settings import opened, read_app_settings
from shared.clock import now
from shared.connections.key_vault import VaultForbids
from shared.connections.resolver import Connections
from shared.errors import JobError, RetryLater, SettingInvalid
from shared.services import Services
from shared.settings import Settings
from shared.storage.base import Row

SKEW = timedelta(seconds=60)
"""A clock that is this far off is worth a word; webhooks bear five minutes, Storage fifteen."""
NOBODY = "~doctor"
"""A partition, and the beginning of names, that no customer has."""
_FAULTS = (JobError, RetryLater, Refused, SettingInvalid)
_LOGIN = "login"
Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check came to, in a sentence."""

    what: str
    verdict: Verdict
    said: str


async def doctor(asked: argparse.Namespace) -> int:
    """`doctor`: 1 where anything is wrong."""
    findings: list[Finding] = []
    try:
        settings = read_app_settings(asked.settings)
    except (SettingInvalid, Refused) as exc:
        findings.append(Finding("settings", "wrong", str(exc)))
    else:
        findings += await _services(asked, settings)
        findings.append(await _static(settings))
    show(table(("check", "", "what was found"), [(one.what, one.verdict, one.said) for one in findings]))
    wrong = sum(one.verdict == "wrong" for one in findings)
    warnings = sum(one.verdict == "warning" for one in findings)
    tell(f"{wrong} wrong, {warnings} warnings. Roles are those of your login; the app's own may be others.")
    return 1 if wrong else 0


async def _services(asked: argparse.Namespace, settings: Settings) -> list[Finding]:
    try:
        async with opened(asked.settings, vault=bool(settings.key_vault_url)) as services:
            read = Finding("settings", "ok", "They can be read.")
            storage = await _storage(services)
            return [read, *storage, *([] if storage[0].what == _LOGIN else await _vault(services))]
    except Refused as exc:  # before anything could be tried
        return [Finding("settings", "wrong", str(exc))]


async def _storage(services: Services) -> list[Finding]:
    settings = services.settings
    findings = [await _tried(f"table {settings.jobs_table}", partial(_row_there_and_back, services))]
    if findings[0].said.endswith(NO_LOGIN):  # then nothing else can be tried
        return [replace(findings[0], what=_LOGIN)]
    at: datetime | None = None
    for name in (
        settings.jobs_queue,
        settings.poison_queue,
        settings.results_queue,
        settings.callbacks_queue,
        settings.callbacks_poison_queue,
        *settings.allowed_result_queues,
    ):
        finding, date = await _queue(services, name)
        at = at or date
        findings.append(finding)
    for container in dict.fromkeys(
        (settings.results_container, *settings.input_containers, settings.templates_container)
    ):
        findings.append(await _tried(f"container {container}", partial(_list, services, container)))
    findings.append(await _tried("results are written", partial(_write, services)))
    return [*findings, _clock(at)] if at is not None else findings


async def _queue(services: Services, name: str) -> tuple[Finding, datetime | None]:
    settings = services.settings
    found: list[tuple[int, datetime | None]] = []

    async def use() -> str:
        async with opened_queue(services, name) as queue:
            found.append(await queue.count())
            await queue.try_sending()
        return f"It is there, and takes messages; it holds about {found[0][0]}."

    finding = await _tried(f"queue {name}", use)
    poison = {settings.poison_queue, settings.callbacks_poison_queue}
    if finding.verdict == "ok" and found[0][0] and name in poison:
        how = "`poison list` shows them" if name == settings.poison_queue else "the app answers them, if it runs"
        finding = replace(finding, verdict="warning", said=f"{found[0][0]} messages stand in it: {how}.")
    return finding, found[0][1] if found else None


async def _row_there_and_back(services: Services) -> str:
    row = Row(NOBODY, "1", {"at": now()})
    await services.table.delete([row])  # of a doctor who was called away
    await services.table.insert(row)
    await services.table.delete([row])
    return "Rows can be written, and deleted."


async def _list(services: Services, container: str) -> str:
    await services.blobs.page(container, NOBODY)
    return "It is there, and can be read."


async def _write(services: Services) -> str:
    await services.outputs.prove()
    return f"Blobs can be written into {services.settings.results_container}."


def _clock(at: datetime) -> Finding:
    off = round((now() - at).total_seconds())
    if abs(off) <= SKEW.total_seconds():
        return Finding("clock", "ok", f"It is within {SKEW.seconds} s of Storage's.")
    where = "ahead of" if off > 0 else "behind"
    return Finding("clock", "wrong", f"This machine's clock is {abs(off)} s {where} Storage's: set it (NTP).")


async def _vault(services: Services) -> list[Finding]:
    vault = services.vault
    if vault is None:
        return [
            Finding("Key Vault", "warning", "KEY_VAULT_URL is not set: only the static connection can serve customers.")
        ]

    async def read() -> str:
        await vault.look("doctor", "of-nobody")
        return "Secrets can be read."

    async def count() -> str:
        customers = {customer async for customer, _ in vault.everybody()}
        return f"Secrets can be listed: {len(customers)} customers have connections."

    async def change() -> str:
        await vault.delete("doctor", "of-nobody")  # which there is none of: whoever may not is told so first
        return "Secrets can be changed."

    findings = [await _tried("Key Vault", read)]
    if findings[0].verdict == "ok":
        findings.append(await _tried("Key Vault: list", count, "`customers list` needs Key Vault Secrets User."))
        officer = "`customers add`, `rotate` and `remove` need the role Key Vault Secrets Officer."
        findings.append(await _tried("Key Vault: change", change, officer))
    return findings


async def _static(settings: Settings) -> Finding:
    what = "static connection"
    allowed, kept = settings.allow_static_connection, bool(settings.static_connection)
    somebody = next((name for name in allowed.replace(";", ",").split(",") if settings.allows_static(name.strip())), "")
    if not somebody:
        return Finding(what, "ok", "It is kept, and serves nobody." if kept else "There is none.")
    if not kept:
        return Finding(
            what,
            "warning",
            "ALLOW_STATIC_CONNECTION names whom it serves, and STATIC_CONNECTION is not set, or is a Key Vault "
            "reference, which only the app resolves.",
        )

    async def use() -> str:
        connection = await Connections(settings, None).resolve(somebody.strip(), "default")
        return f"It is one, of {connection.endpoint.provider}."

    finding = await _tried(what, use)
    if finding.verdict == "ok" and settings.static_for_everybody:
        everybody = "It serves every customer who has no connection, on your account: name those whom it is for."
        finding = replace(finding, verdict="warning", said=f"{finding.said} {everybody}")
    return finding


async def _tried(what: str, work: Callable[[], Awaitable[str]], optional: str = "") -> Finding:
    """What came of a piece of work; `optional` says what can't be done without it, where all else can."""
    try:
        return Finding(what, "ok", await work())
    except VaultForbids:
        return Finding(
            what, "warning" if optional else "wrong", f"Key Vault does not allow it (403). {optional}".strip()
        )
    except _FAULTS as exc:
        return Finding(what, "wrong", mended(str(exc)))
