"""Checks of `doctor`: Key Vault, and what the customers' connections there name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from aijobs.console import plural
from aijobs.egress_check import check_bindings
from aijobs.finding import Finding, run_check
from aijobs.model_retirements import check_models
from aijobs.program import command
from aijobs.setting_checks import closest_name
from aijobs.settings import require_vault
from shared.connections.connection import Connection
from shared.connections.store import SecretInfo, StoredCredential, VaultForbids
from shared.contract.connection import OWN_TAGS, is_object
from shared.contract.names import is_name
from shared.errors import ConnectionFault, RetryLater
from shared.services import Services

_READS = 8
"""Secrets that are read at the same time."""


async def check_vault(services: Services) -> list[Finding]:
    """Check that secrets can be read, listed and changed, whom they allow the app's identity, and their models."""
    vault = services.vault
    if vault is None:
        message = "KEY_VAULT_URL is not set: only the static connection can serve customers."
        return [Finding("Key Vault", "warning", message)]

    async def read() -> str:
        await vault.get_with_info("doctor", "no-customer")
        return "Secrets can be read."

    secrets: list[tuple[str, SecretInfo]] = []
    events: list[tuple[str, SecretInfo]] = []

    async def list_all() -> str:
        secrets.extend([item async for item in vault.list_all()])
        events.extend([item async for item in vault.list_events_secrets()])
        customers = {customer for customer, _ in secrets}
        return f"Secrets can be listed: {plural(len(customers), 'customer')} with connections."

    async def change() -> str:
        await vault.delete("doctor", "no-customer")  # the vault checks the role before it looks for the secret
        return "Secrets can be changed."

    findings = [await run_check("Key Vault", read, setting="KEY_VAULT_URL")]
    if findings[0].verdict == "ok":
        user = f"{command('customers list')} needs the role Key Vault Secrets User."
        findings.append(await run_check("Key Vault: list", list_all, optional=user))
        officer = "Commands that change secrets need the role Key Vault Secrets Officer."
        findings.append(await run_check("Key Vault: change", change, optional=officer))
    return [
        *findings,
        *check_bindings(services.settings, secrets),
        *check_events(services, secrets, events),
        *await _check_models(services, secrets),
    ]


def check_events(
    services: Services, secrets: Sequence[tuple[str, SecretInfo]], events: Sequence[tuple[str, SecretInfo]]
) -> list[Finding]:
    """Return which secrets of providers' events are of no connection: what they sign wakes nothing."""
    names = {(customer, info.connection) for customer, info in secrets}
    others = sorted({(customer, info.connection) for customer, info in events} - names)
    if services.settings.static_connection.reveal():  # whose customers need no connection of their own
        return []
    return [
        Finding(
            f"events: {customer}/{name}",
            "warning",
            f"There is a secret for events, events--{customer}--{name}, and no such connection: nothing can be woken.",
        )
        for customer, name in others
    ]


async def _check_models(services: Services, secrets: Sequence[tuple[str, SecretInfo]]) -> list[Finding]:
    """Return what is wrong with the models that the connections name, and how many connections could be read."""
    gate = asyncio.Semaphore(_READS)
    tags: list[Finding] = []

    async def read(customer: str, name: str) -> Connection | None:
        async with gate:
            with suppress(ConnectionFault, RetryLater, VaultForbids):  # `customers list` says why
                if credential := await require_vault(services).get(customer, name):
                    tags.extend(_check_tags(f"tag: {customer}/{name}", credential))
                    return services.connections.open_unbound(credential, customer, name)
        return None

    names = sorted((customer, secret.connection) for customer, secret in secrets)
    names = [(customer, name) for customer, name in names if is_name(customer) and is_name(name)]
    connections = [each for each in await asyncio.gather(*(read(*name) for name in names)) if each is not None]
    findings = [
        finding
        for each in connections
        for finding in check_models(f"model: {each.customer}/{each.name}", each.endpoint.provider, models_of(each))
    ]
    message = f"{plural(len(connections), 'connection')} looked at for models that are retired or soon will be."
    if unread := len(names) - len(connections):
        message += f" {plural(unread, 'other')} can't be read: {command('customers list CUSTOMER')} says why."
    tags.sort(key=lambda finding: (finding.check, finding.message))
    return [*tags, *findings, Finding("models", "ok", message)] if names else []


def _check_tags(check: str, credential: StoredCredential) -> Iterable[Finding]:
    """Name tags that are much like a setting of a bare key. The rest are the vault owner's own."""
    if is_object(credential.value.reveal()):  # whose tags are not its settings
        return
    for written in credential.tags:
        name = written.strip().lower()
        meant = closest_name(name, OWN_TAGS)
        if name not in OWN_TAGS and meant != name:
            yield Finding(check, "warning", f"Nothing reads the tag {written} of its secret. Did you mean {meant}?")


def models_of(connection: Connection) -> list[str]:
    """Return the names that may be a model's: of the deployment in the endpoint, the default, and that of batches."""
    models = (connection.endpoint.deployment, connection.default_model, connection.batch_model)
    return list(dict.fromkeys(filter(None, models)))
