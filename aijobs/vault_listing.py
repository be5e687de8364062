"""Lists customers and their connections in Key Vault, without their keys. Changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from aijobs.console import echo, make_table, print_table
from aijobs.diagnostics import CommandError
from aijobs.settings import open_services, require_vault
from shared.clock import now, rfc3339
from shared.connections.entra_binding import check_bound
from shared.connections.key_vault import VaultForbids
from shared.connections.resolver import check_dates
from shared.contract.names import NAME_RULE, is_name
from shared.errors import ConnectionFault
from shared.services import Services
from shared.upstream.messages import EntraAccess

_COLUMNS = ("connection", "version", "provider", "endpoint", "auth", "model", "expires", "error")


async def list_all(args: argparse.Namespace) -> int:
    """Run `customers list [CUSTOMER]`: all connections with their dates, or one customer's in detail."""
    if args.customer is not None:
        return await _list_one(args)
    async with open_vault(args) as services:
        secrets = [item async for item in require_vault(services).list_all()]
    rows = [
        (
            customer,
            secret.connection,
            "yes" if secret.enabled else "no",
            _day(secret.expires_on),
            _day(secret.updated_at),
        )
        for customer, secret in sorted(secrets, key=lambda item: (item[0], item[1].connection))
        if is_name(customer) and is_name(secret.connection)
    ]
    if not rows:
        echo("The vault has no customers.")
        return 0
    print_table(make_table(("customer", "connection", "enabled", "expires", "updated"), rows))
    return 0


async def _list_one(args: argparse.Namespace) -> int:
    customer = check_customer(args.customer)
    async with open_vault(args) as services:
        names = sorted([secret.connection async for secret in require_vault(services).list(customer)])
        rows = [await _row(services, customer, name) for name in names]
    if not rows:
        raise CommandError(f"Customer {customer} has no connection.")
    print_table(make_table(_COLUMNS, rows))
    return 0


async def _row(services: Services, customer: str, name: str) -> tuple[str | None, ...]:
    try:
        secret = await require_vault(services).get_with_info(customer, name)
        if secret is None:
            return _error_row(name, "The connection was removed a moment ago.")
        stored, facts = secret
        connection = services.connections.open_unbound(stored, customer, name)
    except ConnectionFault as exc:
        return _error_row(name, f"{exc.code}: {exc}")
    error = ""
    try:
        check_bound(connection, stored.tags)
        check_dates(stored, customer, name, now())
    except ConnectionFault as exc:
        error = f"{exc.code}: {exc}"
    endpoint = connection.endpoint
    auth = "entra" if isinstance(connection.access, EntraAccess) else "api_key"
    members = (endpoint.provider, endpoint.base, auth, endpoint.deployment or connection.default_model)
    # A key that was stored in the wrong member would show up here.
    visible = [text and connection.without_key(text) for text in members]
    return (name, facts.version[:8], *visible, _day(facts.expires_on), error)


def _error_row(name: str, error: str) -> tuple[str | None, ...]:
    return (name, *[None] * (len(_COLUMNS) - 2), error)


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


def check_customer(customer: str) -> str:
    """Return the customer's id. Raises CommandError if it is invalid."""
    if not is_name(customer):
        raise CommandError(f"The customer's id must be {NAME_RULE}.")
    return customer


def _day(time: datetime | None) -> str:
    return "" if time is None else rfc3339(time)[:10]
