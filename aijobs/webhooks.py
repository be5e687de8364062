"""
`webhooks` makes, rotates and removes customers' signing secrets.

A secret is printed once, when it is made. It signs webhooks, which come in, and callbacks, which go out.
"""

from __future__ import annotations

import argparse
from datetime import datetime

from aijobs.confirmation import is_confirmed
from aijobs.diagnostics import Exists, NotFound
from aijobs.program import command
from aijobs.report import Report, Verbatim
from aijobs.scope import check_customer
from aijobs.settings import require_vault
from aijobs.table import make_table
from aijobs.vault_listing import open_vault
from shared.clock import rfc3339
from shared.connections.key_vault import KeyVaultCredentials
from shared.connections.secret_cache import FRESH_S
from shared.connections.store import SecretInfo, StoredCredential
from shared.contract.names import is_name
from shared.secret import Secret
from shared.webhooks.signing_keys import key_bytes, new_key, split_keys

_CACHED = f"{FRESH_S / 60:g} minutes"


async def create(args: argparse.Namespace) -> Report:
    """Run `webhooks create CUSTOMER`. Raises CommandError if the customer has a signing secret."""
    customer = check_customer(args.customer)
    async with open_vault(args) as services:
        vault = require_vault(services)
        if await vault.signing_secret(customer) is not None:
            another = f"{command(f'webhooks rotate {customer}')} makes a new one."
            raise Exists(f"Customer {customer} already has a signing secret. {another}")
        secret = new_key()
        facts = await vault.put_signing_secret(customer, Secret(secret), tags={})
    summary = f"Stored the signing secret of {customer}, version {facts.version}. It is shown this once:"
    hint = f"Give it to whoever signs {customer}'s webhooks or verifies its callbacks."
    document = {"customer": customer, "version": facts.version, "secret": secret}
    return Report(document, [summary, Verbatim(f"{secret}\n"), hint])


async def rotate(args: argparse.Namespace) -> Report:
    """Run `webhooks rotate CUSTOMER`: begin a rotation or, with `--finish`, end it."""
    customer = check_customer(args.customer)
    async with open_vault(args) as services:
        vault = require_vault(services)
        stored = await vault.signing_secret(customer)
        if stored is None:
            another = f"{command(f'webhooks create {customer}')} makes one."
            raise NotFound(f"Customer {customer} has no signing secret. {another}")
        keys = [key for key in split_keys(stored.value.reveal()) if key_bytes(key)]
        if not args.finish:
            return await _begin(vault, customer, stored, keys)
        if len(keys) < 2:  # noqa: PLR2004
            raise Exists(f"No rotation is under way: {customer} has {len(keys) or 'no valid'} signing secret.")
        consequence = f"Webhooks of {customer} that are signed with the previous secret will be refused."
        if not is_confirmed(args, services.settings, consequence, customer):
            return Report({"customer": customer, "finished": False}, ["Nothing was changed."], 1)
        current = await vault.signing_secret(customer)
        if current is None or current.version != stored.version:  # it was shown to somebody: not to be lost
            raise Exists(f"The signing secret of {customer} was just changed. Run the command again.")
        facts = await vault.put_signing_secret(customer, Secret(keys[0]), tags=stored.tags)
    summary = (
        f"Finished the rotation of {customer}'s signing secret, version {facts.version}. Only the new one is valid."
    )
    return Report({"customer": customer, "finished": True, "version": facts.version}, [summary, *_dates(stored)])


async def list_all(args: argparse.Namespace) -> Report:
    """Run `webhooks list`: the customers with signing secrets, and their dates. Reads no secret."""
    async with open_vault(args) as services:
        secrets = [item async for item in require_vault(services).list_signing_secrets()]
    secrets = sorted((item for item in secrets if is_name(item[0])), key=lambda item: item[0])
    document = {"webhooks": [_document(customer, facts) for customer, facts in secrets]}
    if not secrets:
        return Report(document, ["No customer has a signing secret."])
    rows = [
        (customer, "yes" if facts.enabled else "no", _day(facts.expires_on), _day(facts.updated_at))
        for customer, facts in secrets
    ]
    return Report(document, [make_table(("customer", "enabled", "expires", "updated"), rows)])


async def remove(args: argparse.Namespace) -> Report:
    """Run `webhooks remove CUSTOMER`. The exit code is 1 if it was not confirmed."""
    customer = check_customer(args.customer)
    async with open_vault(args) as services:
        vault = require_vault(services)
        consequence = f"Webhooks of {customer} will be refused, and its callbacks will fail."
        if not is_confirmed(args, services.settings, consequence, customer):
            return Report({"customer": customer, "removed": False}, ["Nothing was removed."], 1)
        if not await vault.delete_signing_secret(customer):
            raise NotFound(f"Customer {customer} has no signing secret.")
    summary = (
        f"Removed the signing secret of {customer}. Workers that have read it use it for up to {_CACHED}. The vault "
        "keeps deleted secrets for its own retention period."
    )
    return Report({"customer": customer, "removed": True}, [summary])


async def _begin(vault: KeyVaultCredentials, customer: str, stored: StoredCredential, keys: list[str]) -> Report:
    if len(keys) > 1:
        raise Exists(f"A rotation of {customer}'s signing secret is under way. End it with --finish.")
    secret = new_key()
    facts = await vault.put_signing_secret(customer, Secret(" ".join([secret, *keys])), tags=stored.tags)
    how = "beside the old one" if keys else "in place of an invalid one"
    summary = f"Stored a new signing secret of {customer} {how}, version {facts.version}. It is shown this once:"
    hint = (
        f"Give it to {customer}. Webhooks are taken with either; callbacks are signed with both within {_CACHED}. When "
        f"the old one is not in use any more: {command(f'webhooks rotate {customer} --finish')}."
    )
    document = {"customer": customer, "version": facts.version, "secret": secret}
    return Report(document, [summary, Verbatim(f"{secret}\n"), hint, *_dates(stored)])


def _dates(stored: StoredCredential) -> list[str]:
    if stored.expires_on is None and stored.not_before is None:
        return []
    return ["The previous version had activation or expiry dates; the new one has none. Set them in the vault."]


def _document(customer: str, facts: SecretInfo) -> dict[str, object]:
    dates = {"not_before": facts.not_before, "expires_on": facts.expires_on, "updated_at": facts.updated_at}
    times = {name: rfc3339(time) for name, time in dates.items() if time is not None}
    return {"customer": customer, "enabled": facts.enabled, **times}


def _day(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d}"
