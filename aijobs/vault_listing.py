"""Lists customers and their connections in Key Vault, without their keys. Changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aijobs.diagnostics import CommandError, NotFound
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services, require_vault
from aijobs.table import make_table
from shared.connections.store import VaultForbids
from shared.contract.documents import ConnectionDocument, ConnectionList
from shared.contract.names import is_name
from shared.errors import ConnectionFault
from shared.http.connection_documents import describe_disabled, describe_listed, describe_stored
from shared.services import Services

_DETAILS = ("connection", "version", "provider", "endpoint", "auth", "model", "batch model", "expires", "error")


async def list_all(args: argparse.Namespace) -> Report:
    """Run `customers list [CUSTOMER]`: all connections with their dates, or one customer's in detail."""
    if args.customer is not None:
        return await _list_one(args)
    async with open_vault(args) as services:
        secrets = [item async for item in require_vault(services).list_all()]
    documents = [
        describe_listed(customer, secret)
        for customer, secret in sorted(secrets, key=lambda item: (item[0], item[1].connection))
        if is_name(customer) and is_name(secret.connection)
    ]
    document = ConnectionList(connections=documents)
    if not documents:
        return Report(document, ["The vault has no customers."])
    rows = [
        (each.customer, each.name, "yes" if each.enabled else "no", _day(each.expires_on), _day(each.updated_at))
        for each in documents
    ]
    return Report(document, [make_table(("customer", "connection", "enabled", "expires", "updated"), rows)])


async def _list_one(args: argparse.Namespace) -> Report:
    customer = check_customer(args.customer)
    async with open_vault(args) as services:
        names = sorted([secret.connection async for secret in require_vault(services).list(customer)])
        read = [await describe_connection(services, customer, name) for name in names]
    documents = [document for document in read if document is not None]
    if not documents:
        raise NotFound(f"Customer {customer} has no connection.")
    table = make_table(_DETAILS, [_row(document) for document in documents], prose="error")
    return Report(ConnectionList(connections=documents), [table])


async def describe_connection(services: Services, customer: str, name: str) -> ConnectionDocument | None:
    """Return the connection; None if it was removed a moment ago."""
    try:
        stored = await require_vault(services).get_with_info(customer, name)
    except ConnectionFault as exc:
        return describe_disabled(customer, name, exc)
    return None if stored is None else describe_stored(services.connections, customer, stored[1], stored[0])


def _row(document: ConnectionDocument) -> tuple[str | None, ...]:
    settings, error = document.settings, document.error
    members = (
        (None, None, None, None, None)
        if settings is None
        else (settings.provider, settings.endpoint, settings.auth, settings.default_model, settings.batch_model)
    )
    reason = None if error is None else f"{error.code}: {error.message}"
    return (document.name, document.version, *members, _day(document.expires_on), reason)


@asynccontextmanager
async def open_vault(args: argparse.Namespace) -> AsyncIterator[Services]:
    """Open the services with Key Vault. Raises CommandError, also if the vault rejects the operator's login."""
    async with open_services(args.settings, vault=True) as services:
        try:
            yield services
        except VaultForbids:
            raise CommandError(
                "Key Vault rejects this operation (403): your login needs the role Key Vault Secrets Officer on the "
                "vault, and the vault's network must allow this machine."
            ) from None


def _day(time: str | None) -> str:
    return (time or "")[:10]
