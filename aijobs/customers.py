"""
Customers' connections in Key Vault: add, bind, rotate, remove.

A new key passes the decoder and the checks that jobs use, and a test call, before it is stored.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import msgspec

from aijobs.confirmation import is_confirmed
from aijobs.connection_tests import probe, sentence_of
from aijobs.diagnostics import CommandError, Exists, InvalidArguments, NotFound
from aijobs.key_input import read_key
from aijobs.person import person
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import require_vault
from aijobs.vault_listing import describe_connection, open_vault
from aijobs.wrapping import printable
from shared.billing.audit import AuditTrail, differences
from shared.connections.connection import Connection
from shared.connections.entra_binding import EntraBinding, bound_tags, owners_tags
from shared.connections.key_vault import MAX_TAGS, KeyVaultCredentials
from shared.connections.secret_cache import FRESH_S
from shared.connections.store import SecretInfo, StoredCredential
from shared.contract.connection import ENTRA_TAGS, ConnectionRecord, decode_connection
from shared.contract.documents import ConnectionDocument, ConnectionTest
from shared.contract.names import NAME_RULE, is_name
from shared.errors import ConnectionNotFound, RateLimited
from shared.http.connection_documents import describe_stored, record_change
from shared.secret import Secret
from shared.services import Services
from shared.upstream.messages import EntraAccess

_CACHED = f"{FRESH_S / 60:g} minutes"
"""How long workers use a connection that they have read."""
_MEMBERS = (
    *("endpoint", "provider", "auth", "scope", "tenant_id", "api_version", "organization", "project"),
    *("default_model", "batch_model", "deployment_scope", "max_concurrency", "monthly_budget"),
)
"""Members of a connection that are options of `add`."""


async def add(args: argparse.Namespace) -> Report:
    """Run `customers add CUSTOMER`. The exit code is 1 if the test failed."""
    customer, name = _check_names(args)
    async with open_vault(args) as services:
        vault = require_vault(services)
        existing = await vault.get_with_info(customer, name)
        if existing is not None and not args.replace:
            raise Exists(
                f"Customer {customer} already has a connection named {name}. Use "
                f"{command(f'customers rotate {customer}')} to replace its key, or --replace to replace the whole "
                "connection."
            )
        key = None if args.auth == "entra" else read_key(args.key_file, f"{customer}'s connection {name}")
        value = _encode_new(args, key)
        connection = services.connections.open_unbound(StoredCredential(value, ""), customer, name)
        trial = await _try(services, connection, args)
        if not trial.accepted:
            return trial.refusal()
        await _check_unchanged(vault, customer, name, "" if existing is None else existing[1].version)
        audit = await _open_audit(services, customer)
        use = EntraBinding.of(connection)
        tags = owners_tags(existing[0]) if existing is not None else {}
        tags |= use.tags() if use is not None else {}
        facts = await vault.put(customer, name, value, tags=tags)
        stored = describe_stored(services.connections, customer, facts, StoredCredential(value, "", tags=tags))
        await record_change(audit, person(), _described(services, customer, existing), stored)
    address = connection.without_key(f"{connection.endpoint.provider}, {connection.endpoint.base}")
    text = [f"Stored {customer}'s connection {name}, version {facts.version}: {address}."]
    if use is not None:
        text.append(f"It may use the app's identity for {use}.")
    if existing is not None:
        text.append(f"Workers may use the previous version for up to {_CACHED}.")
    return Report({**trial.document(stored=True), "connection": stored}, [*trial.text, *text])


async def rotate(args: argparse.Namespace) -> Report:
    """Run `customers rotate CUSTOMER`. The exit code is 1 if the test failed."""
    customer, name = _check_names(args)
    async with open_vault(args) as services:
        vault = require_vault(services)
        old, facts = await _read_stored(vault, customer, name)
        record = decode_connection(old.value.reveal(), old.tags)
        if record.auth == "entra":
            raise CommandError(f"{customer}'s connection {name} has no key: its `auth` is entra.")
        key = read_key(args.key_file, f"{customer}'s connection {name}, the new one")
        if Secret(record.api_key or "") == key:
            raise CommandError("The new key is the same as the stored one.")
        new = _replace_key(old, record, key)
        connection = services.connections.open(new, customer, name)
        trial = await _try(services, connection, args)
        if not trial.accepted:
            return trial.refusal()
        await _check_unchanged(vault, customer, name, facts.version)
        audit, before = await _open_audit(services, customer), _described(services, customer, (old, facts))
        facts = await vault.put(customer, name, new.value, tags=old.tags)
        stored = describe_stored(services.connections, customer, facts, new)
        await record_change(audit, person(), before, stored)
    text = [f"Rotated the key of {customer}'s connection {name}, version {facts.version}."]
    if old.expires_on is not None or old.not_before is not None:
        text.append("The previous version had activation or expiry dates; the new one has none. Set them in the vault.")
    text.append(
        f"Calls in progress end with the old key. Other jobs use the new one within {_CACHED}, and at once if the "
        f"endpoint rejects the old one. Keep the old key valid for {_CACHED}, then revoke it; no job fails."
    )
    return Report({**trial.document(stored=True), "connection": stored}, [*trial.text, *text])


async def bind(args: argparse.Namespace) -> Report:
    """Run `customers bind CUSTOMER`: let a connection use the app's identity. The exit code is 1 if not confirmed."""
    customer, name = _check_names(args)
    async with open_vault(args) as services:
        vault = require_vault(services)
        secret, facts = await _read_stored(vault, customer, name)
        use = EntraBinding.of(services.connections.open_unbound(secret, customer, name))
        if use is None:
            raise CommandError(f"{customer}'s connection {name} has a key: its `auth` is not entra.")
        question = f"This lets {customer}'s connection {name} use the app's identity for {use}."
        if not is_confirmed(args, services.settings, question, customer):
            return Report({"bound": False}, ["Nothing was changed."], 1)
        await _check_unchanged(vault, customer, name, facts.version)
        tags = bound_tags(secret, use)
        if len(tags) > MAX_TAGS:
            raise CommandError(f"With these, the secret would have {len(tags)} tags; Key Vault allows {MAX_TAGS}.")
        audit = await _open_audit(services, customer)
        await vault.set_tags(customer, name, facts.version, tags)
        lower = [{tag.lower(): text for tag, text in each.items()} for each in (secret.tags, tags)]
        before, after = differences(*({tag: each.get(tag) for tag in ENTRA_TAGS} for each in lower))
        await audit.append(customer, by=person(), subject=f"connection {name}", before=before, after=after)
    summary = f"{customer}'s connection {name} may use the app's identity for {use}. Workers use it within seconds."
    return Report({"bound": True, "customer": customer, "connection": name, "tags": use.tags()}, [summary])


async def remove(args: argparse.Namespace) -> Report:
    """Run `customers remove CUSTOMER`. The exit code is 1 if it was not confirmed."""
    customer = check_customer(args.customer)
    async with open_vault(args) as services:
        vault = require_vault(services)
        names = sorted([secret.connection async for secret in vault.list(customer)])
        if args.connection is not None:
            names = [name for name in names if name == args.connection]
        if not names:
            suffix = "" if args.connection is None else f" named {args.connection}"
            raise NotFound(f"Customer {customer} has no connection{suffix}.")
        connections = f"connection{'s' if len(names) > 1 else ''} {', '.join(map(printable, names))}"
        if not is_confirmed(args, services.settings, f"This removes {customer}'s {connections}.", customer):
            return Report({"customer": customer, "removed": []}, ["Nothing was removed."], 1)
        audit = await _open_audit(services, customer)
        for name in names:
            document = await describe_connection(services, customer, name)
            if await vault.delete(customer, name) and document is not None:
                await record_change(audit, person(), document, None)
    consequence = (
        f"Workers that have read it use it for up to {_CACHED}; after that, jobs fail with connection_not_found. The "
        "vault keeps deleted secrets for its own retention period. The customer's other data is still there: use "
        f"{command(f'export {customer} --to DIR')} and {command(f'erase {customer}')}."
    )
    return Report({"customer": customer, "removed": names}, [f"Removed {customer}'s {connections}.", consequence])


async def _read_stored(vault: KeyVaultCredentials, customer: str, name: str) -> tuple[StoredCredential, SecretInfo]:
    stored = await vault.get_with_info(customer, name)
    if stored is None:
        raise ConnectionNotFound(
            f"Customer {customer} has no connection named {name}. Use {command('customers add')} to store one."
        )
    return stored


async def _open_audit(services: Services, customer: str) -> AuditTrail:
    """Return the audit trail. Raises StorageUnavailable before anything is changed that could not be recorded."""
    audit = AuditTrail(services.table)
    await audit.check(customer)
    return audit


def _described(
    services: Services, customer: str, stored: tuple[StoredCredential, SecretInfo] | None
) -> ConnectionDocument | None:
    return None if stored is None else describe_stored(services.connections, customer, stored[1], stored[0])


async def _check_unchanged(vault: KeyVaultCredentials, customer: str, name: str, version: str) -> None:
    """Raise CommandError if this version, empty for none, is not the current one: a person may take minutes to type."""
    current = await vault.get_with_info(customer, name)
    if ("" if current is None else current[1].version) != version:
        raise Exists(f"{customer}'s connection {name} was just changed. Run the command again.")


@dataclass(frozen=True, slots=True)
class _Trial:
    """Whether a connection may be stored, after its test if there was one."""

    accepted: bool
    text: list[str] = field(default_factory=list)
    result: ConnectionTest | None = None

    def document(self, *, stored: bool) -> dict[str, object]:
        """Return what the report's document says about it."""
        return {"stored": stored, **({} if self.result is None else {"test": self.result})}

    def refusal(self) -> Report:
        """Return the report of a connection that was not stored."""
        hint = "Nothing was stored. If only the app can reach the endpoint, use --no-test."
        return Report(self.document(stored=False), [*self.text, hint], 1)


async def _try(services: Services, connection: Connection, args: argparse.Namespace) -> _Trial:
    """Test a connection before it is stored."""
    if args.no_test:
        return _Trial(accepted=True)
    if isinstance(connection.access, EntraAccess):
        reason = "The connection has no key and is not tested: the test would use your login, not the app's identity."
        return _Trial(accepted=True, text=[reason])
    result = await probe(services).run(connection, args.model)
    # An endpoint says that a limit is reached only to a key that it accepts.
    accepted = result.ok or result.code == RateLimited.code
    return _Trial(accepted, [sentence_of(result)], result)


def _encode_new(args: argparse.Namespace, key: Secret | None) -> Secret:
    members = {name: getattr(args, name) for name in _MEMBERS} | {"api_key": None if key is None else key.reveal()}
    values = {name: value for name, value in members.items() if value is not None}
    return Secret(_encode(decode_connection(msgspec.json.encode(values).decode())))


def _replace_key(old: StoredCredential, record: ConnectionRecord, key: Secret) -> StoredCredential:
    """Return the same connection with another key. A bare key stays one, so that rotation functions still work."""
    if not old.value.reveal().lstrip().startswith("{"):
        return StoredCredential(key, "", tags=old.tags)
    return StoredCredential(Secret(_encode(msgspec.structs.replace(record, api_key=key.reveal()))), "", tags=old.tags)


def _encode(record: ConnectionRecord) -> str:
    members = {name: value for name, value in msgspec.structs.asdict(record).items() if value is not None}
    return msgspec.json.encode(members).decode()


def _check_names(args: argparse.Namespace) -> tuple[str, str]:
    customer = check_customer(args.customer)
    if not is_name(args.connection):
        raise InvalidArguments(f"The connection's name must be {NAME_RULE}.")
    return customer, args.connection
