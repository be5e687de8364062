"""Checks of `doctor`: each export of USAGE_EXPORTS, its secret and the errors of the app's last runs."""

from __future__ import annotations

from aijobs.diagnostics import CommandError
from aijobs.finding import Finding, run_check
from aijobs.job_view import duration
from aijobs.program import command
from shared.billing.outbox import PARTITION
from shared.clock import now
from shared.errors import ConnectionFault, RetryLater
from shared.export_settings import Export
from shared.exports.export_status import ExportStatus, read_status
from shared.exports.keys import ExportKeys, NoKey, shared_keys
from shared.secret import Secret
from shared.services import Services
from shared.webhooks.signing_keys import key_bytes, split_keys


async def check_exports(services: Services) -> list[Finding]:
    """Check the exports. Nothing is sent to their receivers."""
    findings = []
    keys: list[tuple[Export, Secret]] = []
    for export in services.settings.usage_exports:
        findings += await _check_export(services, export, keys)
    return findings


async def _check_export(services: Services, export: Export, keys: list[tuple[Export, Secret]]) -> list[Finding]:
    late: list[Finding] = []

    async def read() -> str:
        row = await services.table.read(PARTITION, f"~{export.name}")
        status = None if row is None else read_status(row)
        if status is not None:
            late.extend(_check_lag(export, status))
        secret_problem = await _secret_problem(services, export, keys)
        problem = (status.error if status is not None else "") or secret_problem
        if problem:
            raise CommandError(problem)
        return "Its last runs had no error." if status is not None else "It has a secret, and no error is on record."

    return [await run_check(f"export {export.name}", read), *late]


async def _secret_problem(services: Services, export: Export, keys: list[tuple[Export, Secret]]) -> str:
    """Return what is wrong with the secret of an export, or nothing. `keys`: those of the exports before it."""
    if not export.needs_key or services.vault is None:
        return ""
    try:
        keys.append((export, await ExportKeys(services.vault).get(export.name)))
        stored = await services.vault.export_secret(export.name)
    except NoKey as exc:
        return str(exc)
    except (ConnectionFault, RetryLater):  # the checks of the vault say why
        return ""
    texts = split_keys(stored.value.reveal()) if stored else []
    if export.kind == "cloudevents" and not any(map(key_bytes, texts)):
        return f"The secret export--{export.name} is not a signing secret: `whsec_` and base64 of 24 to 64 bytes."
    return shared_keys(keys).get(export.name, "")


def _check_lag(export: Export, status: ExportStatus) -> list[Finding]:
    if status.oldest is None or not status.is_late(now()):
        return []
    age = duration((now() - status.oldest).total_seconds())
    message = f"Its oldest record that is not sent is {age} old: {command('exports list')} shows what waits, and why."
    return [Finding(f"export {export.name}", "warning", message)]
