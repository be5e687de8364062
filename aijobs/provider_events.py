"""
`provider-events` stores and removes the secrets that providers sign their events with.

The provider makes such a secret, and shows it once; here it is put into the vault for a connection.
"""

from __future__ import annotations

import argparse

from aijobs.confirmation import is_confirmed
from aijobs.diagnostics import CommandError, Exists, InvalidArguments, NotFound
from aijobs.key_input import read_key
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import require_vault
from aijobs.table import make_table
from aijobs.vault_listing import open_vault
from aijobs.verify import APP_URL
from shared.clock import rfc3339
from shared.connections.secret_cache import FRESH_S
from shared.contract.documents import API_PREFIX
from shared.contract.names import NAME_RULE, is_name
from shared.secret import Secret
from shared.webhooks.signing_keys import key_bytes, split_keys

_CACHED = f"{FRESH_S / 60:g} minutes"


async def store(args: argparse.Namespace) -> Report:
    """Run `provider-events set CUSTOMER`. Raises CommandError if there is a secret and no option says what for it."""
    customer, connection = _names(args)
    secret = read_key(args.key_file, f"{customer}'s connection {connection}, the events' signing secret")
    if not key_bytes(secret.reveal()):
        raise CommandError("That is not a signing secret: `whsec_` and base64 of 24 to 64 bytes.")
    async with open_vault(args) as services:
        vault = require_vault(services)
        stored = await vault.events_secret(customer, connection)
        old = [key for key in split_keys(stored.value.reveal()) if key_bytes(key)] if stored else []
        if stored is not None and not (args.beside or args.replace):
            raise Exists(
                f"The connection {connection} of {customer} has a secret for events. --beside keeps the old one valid, "
                "--replace does not."
            )
        keys = [secret.reveal(), *(key for key in old[:1] if args.beside and key != secret.reveal())]
        facts = await vault.put_events_secret(customer, connection, Secret(" ".join(keys)))
    path = f"{API_PREFIX}/provider-events/{customer}/{connection}"
    summary = f"Stored the secret of the events of {customer}'s connection {connection}, version {facts.version}."
    hint = f"The provider has to send them to {path} of the app, at {APP_URL} of a deployment by azd."
    rest = ["When the provider signs with the new one alone, store that once more, with --replace."][: len(keys) - 1]
    document = {"customer": customer, "connection": connection, "version": facts.version, "secrets": len(keys)}
    return Report(document, [summary, hint, *rest])


async def list_all(args: argparse.Namespace) -> Report:
    """Run `provider-events list`: the connections with such secrets, and their dates. Reads no secret."""
    async with open_vault(args) as services:
        secrets = [item async for item in require_vault(services).list_events_secrets()]
    secrets = sorted(
        (item for item in secrets if is_name(item[0]) and is_name(item[1].connection)),
        key=lambda item: (item[0], item[1].connection),
    )
    document = {
        "provider_events": [
            {"customer": customer, "connection": facts.connection, "enabled": facts.enabled}
            | ({"updated_at": rfc3339(facts.updated_at)} if facts.updated_at else {})
            for customer, facts in secrets
        ]
    }
    if not secrets:
        return Report(document, ["No connection has a secret for events."])
    rows = [
        (
            customer,
            facts.connection,
            "yes" if facts.enabled else "no",
            "" if facts.updated_at is None else f"{facts.updated_at:%Y-%m-%d}",
        )
        for customer, facts in secrets
    ]
    return Report(document, [make_table(("customer", "connection", "enabled", "updated"), rows)])


async def remove(args: argparse.Namespace) -> Report:
    """Run `provider-events remove CUSTOMER`. The exit code is 1 if it was not confirmed."""
    customer, connection = _names(args)
    document = {"customer": customer, "connection": connection}
    async with open_vault(args) as services:
        vault = require_vault(services)
        consequence = f"Events of {customer}'s connection {connection} will be refused; its batches are still polled."
        if not is_confirmed(args, services.settings, consequence, customer):
            return Report({**document, "removed": False}, ["Nothing was removed."], 1)
        if not await vault.delete_events_secret(customer, connection):
            first = command(f"provider-events set {customer}")
            raise NotFound(f"The connection {connection} of {customer} has no secret for events. {first} stores one.")
    summary = f"Removed the secret. Workers that have read it use it for up to {_CACHED}."
    return Report({**document, "removed": True}, [summary])


def _names(args: argparse.Namespace) -> tuple[str, str]:
    if not is_name(args.connection):
        raise InvalidArguments(f"The connection's name must be {NAME_RULE}.")
    return check_customer(args.customer), args.connection
