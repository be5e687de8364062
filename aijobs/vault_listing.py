"""Customers and their connections as they stand in Key Vault: shown, never with a key. Changes nothing there."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from aijobs.console import show, table, tell
from aijobs.diagnostics import Refused
from aijobs.settings import opened, vault_of
from shared.clock import now, rfc3339
from shared.connections.key_vault import VaultForbids
from shared.connections.resolver import Connection, check_dates
from shared.contract.names import NAME_RULE, is_name
from shared.errors import ConnectionFault
from shared.services import Services
from shared.upstream.messages import EntraAccess


async def list_all(asked: argparse.Namespace) -> int:
    """`customers list [NAME]`: all, by names and dates; of one customer with their settings, never a key."""
    if asked.customer is not None:
        return await _list_one(asked)
    async with opened_vault(asked) as services:
        found = [(customer, facts) async for customer, facts in vault_of(services).everybody()]
    rows = [
        (customer, one.connection, "yes" if one.enabled else "no", _day(one.expires_on), _day(one.updated_at))
        for customer, one in sorted(found, key=lambda pair: (pair[0], pair[1].connection))
        if is_name(customer) and is_name(one.connection)
    ]
    if not rows:
        tell("The vault has no customers.")
        return 0
    show(table(("customer", "connection", "enabled", "expires", "updated"), rows))
    return 0


async def _list_one(asked: argparse.Namespace) -> int:
    customer = check_customer(asked.customer)
    async with opened_vault(asked) as services:
        names = sorted([facts.connection async for facts in vault_of(services).list(customer)])
        rows = [await _row(services, customer, name) for name in names]
    if not rows:
        raise Refused(f"Customer {customer} has no connection.")
    show(table(("connection", "version", "provider", "endpoint", "auth", "model", "expires", "fault"), rows))
    return 0


async def _row(services: Services, customer: str, name: str) -> tuple[str | None, ...]:
    try:
        found = await vault_of(services).look(customer, name)
        if found is None:
            return (name, *[None] * 6, "It has just been removed.")
        stored, facts = found
        connection = services.connections.open(stored, customer, name)
    except ConnectionFault as exc:
        return (name, *[None] * 6, f"{exc.code}: {exc}")
    fault = ""
    try:
        check_dates(stored, customer, name, now())
    except ConnectionFault as exc:
        fault = f"{exc.code}: {exc}"
    model = connection.endpoint.deployment or connection.default_model
    shown = (connection.endpoint.provider, connection.endpoint.base, _auth(connection), model)
    return (
        name,
        facts.version[:8],
        *(one and connection.without_key(one) for one in shown),
        _day(facts.expires_on),
        fault,
    )


@asynccontextmanager
async def opened_vault(asked: argparse.Namespace) -> AsyncIterator[Services]:
    """The services with Key Vault; what it forbids is told as what your login lacks."""
    async with opened(asked.settings, vault=True) as services:
        try:
            yield services
        except VaultForbids:
            raise Refused(
                "Key Vault does not allow this (403): your login needs the role Key Vault Secrets Officer on the "
                "vault, and its network must let this machine in."
            ) from None


def check_customer(name: str) -> str:
    """The name, if it is a customer's. Raises Refused."""
    if not is_name(name):
        raise Refused(f"The customer's name must be {NAME_RULE}.")
    return name


def _auth(connection: Connection) -> str:
    return "entra" if isinstance(connection.access, EntraAccess) else "api_key"


def _day(moment: datetime | None) -> str:
    return "" if moment is None else rfc3339(moment)[:10]
