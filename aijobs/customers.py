"""
Customers' connections in Key Vault: kept, tried, given a new key, removed.

A key goes through the decoder and the checks that jobs read it with, and is tried, before it is kept.
"""

from __future__ import annotations

import argparse

import msgspec

from aijobs.console import confirmed, plain, tell
from aijobs.diagnostics import Refused
from aijobs.key_input import read_key
from aijobs.settings import vault_of
from aijobs.vault_listing import check_customer, opened_vault
from shared.clock import now
from shared.connections.probe import Trials, refused
from shared.connections.resolver import FRESH_S, Connection, check_dates
from shared.connections.store import StoredCredential
from shared.contract.connection import ConnectionRecord, decode_connection
from shared.contract.documents import TrialDocument
from shared.contract.names import NAME_RULE, is_name
from shared.errors import ConnectionFault, ConnectionNotFound
from shared.secret import Secret
from shared.services import Services
from shared.upstream.messages import EntraAccess

_GOOD_ENOUGH = frozenset({"fine", "rate_limited"})
"""Verdicts of an endpoint that has taken the key."""
_WITHIN = f"{FRESH_S / 60:g} minutes"


async def add(asked: argparse.Namespace) -> int:
    """`customers add NAME`."""
    customer, name = _named(asked)
    async with opened_vault(asked) as services:
        vault = vault_of(services)
        before = await vault.look(customer, name)
        if before is not None and not asked.replace:
            raise Refused(
                f"Customer {customer} has a connection {name} already: `customers rotate` gives it a new key, "
                "--replace puts this one in its place, whole."
            )
        key = None if asked.auth == "entra" else read_key(asked.key_file, f"{customer}'s connection {name}")
        value = _record(asked, key)
        connection = services.connections.open(StoredCredential(value, ""), customer, name)
        if not await _stands_trial(services, connection, asked):
            return 1
        facts = await vault.put(customer, name, value)
    tell(f"Kept {customer}'s connection {name}, version {facts.version}: {_described(connection)}.")
    if before is not None:
        tell(f"Workers that know the one before use this one within {_WITHIN}.")
    return 0


async def rotate(asked: argparse.Namespace) -> int:
    """`customers rotate NAME`."""
    customer, name = _named(asked)
    async with opened_vault(asked) as services:
        vault, connections = vault_of(services), services.connections
        found = await vault.look(customer, name)
        if found is None:
            raise ConnectionNotFound(f"Customer {customer} has no connection named {name}: `customers add` keeps one.")
        old = found[0]
        record = decode_connection(old.value.reveal(), old.tags)
        if record.auth == "entra":
            raise Refused(f"{customer}'s connection {name} has no key: its `auth` is entra.")
        key = read_key(asked.key_file, f"{customer}'s connection {name}, the new one")
        if Secret(record.api_key or "") == key:
            raise Refused("This is the key that is kept already.")
        new = _with_key(old, record, key)
        connection = connections.open(new, customer, name)
        if not await _stands_trial(services, connection, asked):
            return 1
        facts = await vault.put(customer, name, new.value, tags=old.tags)
    tell(f"Rotated {customer}'s connection {name}, version {facts.version}.")
    if old.expires_on is not None or old.not_before is not None:
        tell("The version before had dates; the new one has none: set them in the vault, if they are wanted.")
    tell(
        f"Jobs in a call end with the key that they began with. Others use the new one within {_WITHIN}, and at once "
        f"where the old one is refused: leave the old key valid for {_WITHIN}, then revoke it, and no job is lost."
    )
    return 0


async def test(asked: argparse.Namespace) -> int:
    """`customers test NAME`: tries what is in the vault now."""
    customer, name = _named(asked)
    async with opened_vault(asked) as services:
        try:
            found = await vault_of(services).get(customer, name)
            if found is None:
                raise Refused(f"Customer {customer} has no connection named {name}.")
            connection = services.connections.open(found, customer, name)
            check_dates(found, customer, name, now())
        except ConnectionFault as exc:
            verdict = refused(exc)
        else:
            verdict = await _trials(services).run(connection, asked.model)
            if isinstance(connection.access, EntraAccess):
                tell("It has no key: it was tried as you, and not as the app, which needs a role of its own.")
    _tell_verdict(verdict)
    return 0 if verdict.ok else 1


async def remove(asked: argparse.Namespace) -> int:
    """`customers remove NAME`."""
    customer = check_customer(asked.customer)
    async with opened_vault(asked) as services:
        vault = vault_of(services)
        names = sorted([facts.connection async for facts in vault.list(customer)])
        if asked.connection is not None:
            names = [name for name in names if name == asked.connection]
        if not names:
            which = "no connection" if asked.connection is None else f"no connection named {asked.connection}"
            raise Refused(f"Customer {customer} has {which}.")
        if not asked.yes and not confirmed(f"This removes {customer}'s {_count(names)}.", customer):
            tell("Nothing was removed.")
            return 1
        for name in names:
            await vault.delete(customer, name)
    tell(f"Removed {customer}'s {_count(names)}.")
    tell(
        f"Workers that know it go on with it for up to {_WITHIN}; then jobs fail with connection_not_found. The vault "
        "keeps what was removed for as long as it is set to. What the customer's jobs left is there: "
        f"`export {customer}`, `erase {customer}`."
    )
    return 0


async def _stands_trial(services: Services, connection: Connection, asked: argparse.Namespace) -> bool:
    if asked.no_test:
        return True
    if isinstance(connection.access, EntraAccess):
        tell("It has no key, and is not tried: from here it would be tried as you, and not as the app.")
        return True
    verdict = await _trials(services).run(connection, asked.model)
    _tell_verdict(verdict)
    if verdict.verdict in _GOOD_ENOUGH:
        return True
    tell("Nothing was kept. Where the endpoint can only be reached from the app, --no-test keeps it untried.")
    return False


def _trials(services: Services) -> Trials:
    return Trials(services.client, services.capabilities, services.table)


def _tell_verdict(verdict: TrialDocument) -> None:
    took = "" if verdict.latency_ms is None else f" ({verdict.latency_ms} ms)"
    tell(f"{verdict.verdict}{took}: {verdict.message}")


def _record(asked: argparse.Namespace, key: Secret | None) -> Secret:
    given = {
        "endpoint": asked.endpoint,
        "api_key": None if key is None else key.reveal(),
        "provider": asked.provider,
        "auth": asked.auth,
        "scope": asked.scope,
        "tenant_id": asked.tenant_id,
        "api_version": asked.api_version,
        "organization": asked.organization,
        "project": asked.project,
        "default_model": asked.default_model,
        "max_concurrency": asked.max_concurrency,
        "monthly_budget": asked.monthly_budget,
    }
    members = {name: value for name, value in given.items() if value is not None}
    return Secret(_encoded(decode_connection(msgspec.json.encode(members).decode())))


def _with_key(old: StoredCredential, record: ConnectionRecord, key: Secret) -> StoredCredential:
    """The same connection with another key, in the same form: what rotates it by itself finds what it knows."""
    if not old.value.reveal().lstrip().startswith("{"):
        return StoredCredential(key, "", tags=old.tags)
    return StoredCredential(Secret(_encoded(msgspec.structs.replace(record, api_key=key.reveal()))), "", tags=old.tags)


def _encoded(record: ConnectionRecord) -> str:
    given = {name: value for name, value in msgspec.structs.asdict(record).items() if value is not None}
    return msgspec.json.encode(given).decode()


def _named(asked: argparse.Namespace) -> tuple[str, str]:
    customer = check_customer(asked.customer)
    if not is_name(asked.connection):
        raise Refused(f"The connection's name must be {NAME_RULE}.")
    return customer, asked.connection


def _described(connection: Connection) -> str:
    return connection.without_key(f"{connection.endpoint.provider}, {connection.endpoint.base}")


def _count(names: list[str]) -> str:
    return f"connection{'s' if len(names) > 1 else ''} {', '.join(map(plain, names))}"
