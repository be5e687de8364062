"""Checks of `doctor`: the storage account, and this machine's clock against its clock. They leave nothing behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from aijobs.console import plural
from aijobs.diagnostics import SIGN_IN
from aijobs.finding import Finding, run_check
from aijobs.program import command
from aijobs.queues import open_queue
from aijobs.setting_checks import host_account
from aijobs.settings import HOST_STORAGE
from shared.clock import now
from shared.errors import SettingInvalid
from shared.services import Services
from shared.settings import STORAGE
from shared.storage.account import Account
from shared.storage.base import ContainerMissing, Row
from shared.storage.blobs import AzureBlobs

MAX_CLOCK_SKEW = timedelta(seconds=60)
"""A warning well before it matters: webhooks allow five minutes, Storage fifteen."""
NO_CUSTOMER = "~doctor"
"""A partition, and a prefix of names, that can't be a customer's."""
_HOSTS_CONTAINER = "azure-webjobs-hosts"
_FAILS_EVERYWHERE = ("Storage did not answer", "AuthenticationFailed", "AuthorizationFailure", "NotPermitted")
"""What every other check would say again: the address, the key or the network is wrong."""
LOGIN = "login"
"""The check that has failed if nobody is signed in."""


async def check_storage(services: Services) -> list[Finding]:
    """Check the table, each queue and container, and the clock. If nobody can sign in, or reach it, that is all."""
    settings = services.settings
    first = await _check(f"table {settings.jobs_table}", partial(_write_row, services), "JOBS_TABLE")
    if first.message.endswith(SIGN_IN):
        return [replace(first, check=LOGIN)]
    if any(words in first.message for words in _FAILS_EVERYWHERE):
        return [replace(first, check="storage")]
    findings, storage_time = [first], None
    for setting, names in (
        ("JOBS_QUEUE", (settings.jobs_queue, settings.poison_queue)),
        ("CALLBACKS_QUEUE", (settings.callbacks_queue, settings.callbacks_poison_queue)),
        ("BATCHES_QUEUE", (settings.batches_queue, settings.batches_poison_queue)),
        ("RESULTS_QUEUE", (settings.results_queue,)),
        ("ALLOWED_RESULT_QUEUES", settings.result_queues()[1:]),
        ("USAGE_EXPORTS", [export.queue for export in settings.usage_exports if export.queue]),
    ):
        for name in names:
            finding, time = await _check_queue(services, setting, name)
            storage_time = storage_time or time
            findings.append(finding)
    for setting, names in (
        ("RESULTS_CONTAINER", (settings.results_container,)),
        ("INPUT_CONTAINERS", settings.input_containers),
        ("TEMPLATES_CONTAINER", (settings.templates_container,)),
        ("STATEMENTS_CONTAINER", (settings.statements_container,)),
    ):
        for name in dict.fromkeys(names):
            list_blobs = partial(_list_blobs, services, name)
            findings.append(await _check(f"container {name}", list_blobs, setting))
    findings.append(await _check("result blobs", partial(_write_blob, services), "RESULTS_CONTAINER"))
    return findings if storage_time is None else [*findings, check_clock(storage_time)]


async def _check(check: str, work: Callable[[], Awaitable[str]], setting: str) -> Finding:
    """Run a check of what `setting` names. Unless that is missing, what is wrong is the account or the access to it."""
    finding = await run_check(check, work)
    named = setting if "NotFound" in finding.message else STORAGE
    if finding.verdict != "error" or named in finding.message:
        return finding
    return replace(finding, message=f"{finding.message} The setting is {named}.")


async def check_host_storage(services: Services, values: Mapping[str, str]) -> list[Finding]:
    """Check that the Functions host's own account can be reached, if it is another one than that of the jobs."""
    try:
        account = host_account(values)
    except SettingInvalid:  # `check_settings` says so
        return []
    if account is None or account.connection_string == services.settings.job_storage.connection_string is not None:
        return []
    transport = services.sdk.transport
    blobs = AzureBlobs(Account(account, services.identity.credential, transport, services.pool))

    async def read() -> str:
        with suppress(ContainerMissing):  # until the host has started
            await blobs.page(_HOSTS_CONTAINER, NO_CUSTOMER)
        return f"{HOST_STORAGE}, the Functions host's own account, can be reached."

    finding = await run_check("host storage", read, setting=HOST_STORAGE)
    if finding.verdict == "error" and account.connection_string is None:
        own = "The host uses its own identity, so it may reach what your login can't."
        finding = replace(finding, verdict="warning", message=f"{finding.message} {own}")
    return [finding]


async def _check_queue(services: Services, setting: str, name: str) -> tuple[Finding, datetime | None]:
    """Return the finding, and the time by Storage's clock."""
    settings = services.settings
    count, time = 0, None

    async def use() -> str:
        nonlocal count, time
        async with open_queue(services, name) as queue:
            count, time = await queue.count()
            await queue.check_sending()
        holds = f"holds about {plural(count, 'message')}" if count else "is empty"
        return f"The queue accepts messages; it {holds}."

    finding = await _check(f"queue {name}", use, setting)
    poison = {settings.poison_queue, settings.callbacks_poison_queue, settings.batches_poison_queue}
    if finding.verdict == "ok" and count and name in poison:
        message = f"The queue holds {plural(count, 'message')}: {command('poison list')} shows them."
        finding = replace(finding, verdict="warning", message=message)
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


def check_clock(storage_time: datetime) -> Finding:
    """Compare this machine's clock with Storage's."""
    skew_s = round((now() - storage_time).total_seconds())
    if abs(skew_s) <= MAX_CLOCK_SKEW.total_seconds():
        return Finding("clock", "ok", f"This machine's clock is within {MAX_CLOCK_SKEW.seconds} s of Storage's.")
    direction = "ahead of" if skew_s > 0 else "behind"
    return Finding(
        "clock", "error", f"This machine's clock is {abs(skew_s)} s {direction} Storage's. Synchronise it (NTP)."
    )
