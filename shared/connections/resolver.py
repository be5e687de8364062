"""
Finds a customer's connection by its name, in the vault or in memory.

The operator's static connection serves only customers who have no connection of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Literal

from shared.clock import now
from shared.connections.connection import Connection
from shared.connections.endpoint import Endpoint, parse_endpoint
from shared.connections.endpoint_shapes import CLAUDE, CLAUDE_STYLE, OPENAI_HOST
from shared.connections.entra_binding import check_bound
from shared.connections.secret_cache import Entry, SecretCache
from shared.connections.store import CredentialStore, StoredCredential
from shared.contract.connection import ConnectionRecord, decode_connection, is_object
from shared.errors import (
    ConnectionDisabled,
    ConnectionExpired,
    ConnectionFault,
    ConnectionInvalid,
    ConnectionNotFound,
    SettingInvalid,
    VaultUnavailable,
)
from shared.secret import Secret
from shared.setting_values import check_resolved
from shared.settings import Settings
from shared.upstream.egress_policy import DEFAULT_ALLOWED_SUFFIXES, check_allowed, check_entra_endpoint, check_scope
from shared.upstream.messages import Access, ApiKey, EntraAccess

_Resolved = Connection | ConnectionFault | None
"""What a secret describes, why it describes nothing, or None if there is none."""


class Connections:
    """The connections of all customers. `clock` returns monotonic seconds."""

    def __init__(
        self,
        settings: Settings,
        store: CredentialStore | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._cache = SecretCache[tuple[str, str], _Resolved](clock=clock)

    async def resolve(self, customer: str, name: str) -> Connection:
        """
        Return the customer's connection of that name.

        Raises ConnectionNotFound, ConnectionDisabled, ConnectionExpired or ConnectionInvalid, VaultUnavailable if the
        vault does not answer and no connection in memory may be used, and SettingInvalid if the operator's own
        connection, which the customer may use, is invalid.
        """
        try:
            entry = await self._cache.get((customer, name), partial(self._load, customer, name))
        except VaultUnavailable as exc:
            raise VaultUnavailable(
                f"{exc} The worker has no version of customer {customer}'s connection {name} that it may use instead.",
                exc.delay_s,
            ) from None
        return self._use(entry, customer, name)

    def forget(self, customer: str, name: str) -> None:
        """Have the connection read again when it is next resolved. A read that is under way is not kept."""
        self._cache.forget((customer, name))

    async def find_rotated(self, refused: Connection) -> Connection | None:
        """
        Return the connection with the key that has replaced a refused one; None if there is no other version.

        The secret is read again, every REFUSED_PAUSE_S at most, however many of its jobs are refused. Raises
        ConnectionNotFound, ConnectionDisabled, ConnectionExpired or ConnectionInvalid if that has become of it, and
        VaultUnavailable if the vault does not answer.
        """
        if refused.source == "static":
            return None
        customer, name = key = (refused.customer, refused.name)

        def is_refused(value: _Resolved) -> bool:
            return isinstance(value, Connection) and value.version == refused.version

        try:
            entry = await self._cache.reread(key, partial(self._load, customer, name), is_refused=is_refused)
        except VaultUnavailable as exc:
            raise VaultUnavailable(
                f"The endpoint refused the key of customer {customer}'s connection {name}, and Key Vault does not "
                f"give the current one: {exc}",
                exc.delay_s,
            ) from None
        connection = self._use(entry, customer, name)
        return None if connection.version == refused.version else connection

    def open(self, secret: StoredCredential, customer: str, name: str) -> Connection:
        """
        Return the connection that a secret describes, whatever its dates (see `check_dates`). Reads nothing.

        Raises ConnectionDisabled, ConnectionInvalid.
        """
        connection = self.open_unbound(secret, customer, name)
        check_bound(connection, secret.tags)
        return connection

    def open_unbound(self, secret: StoredCredential, customer: str, name: str) -> Connection:
        """
        Return the connection that a secret describes, even if its tags don't allow it the app's identity.

        To describe or bind it, never to use it. Raises ConnectionDisabled, ConnectionInvalid.
        """
        if not secret.enabled:
            raise ConnectionDisabled(f"The secret of customer {customer}'s connection {name} is disabled.")
        value = secret.value.reveal()
        record = decode_connection(value, secret.tags)
        return self._connect(record, customer, name, "key_vault", secret.version, is_tagged=not is_object(value))

    async def _load(self, customer: str, name: str) -> Entry[_Resolved]:
        secret: StoredCredential | None = None
        try:
            secret = await self._store.get(customer, name) if self._store else None
            value: _Resolved = None if secret is None else self.open(secret, customer, name)
        except ConnectionFault as exc:
            value = _copy(exc)
        return Entry(value, secret, is_usable=isinstance(value, Connection))

    def _use(self, entry: Entry[_Resolved], customer: str, name: str) -> Connection:
        if isinstance(entry.value, ConnectionFault):
            raise _copy(entry.value)
        if entry.value is None or entry.secret is None:
            return self._static(customer, name)
        check_dates(entry.secret, customer, name, now())
        return entry.value

    def _static(self, customer: str, name: str) -> Connection:
        text = self._settings.static_connection
        if name != "default" or not text or not self._settings.allows_static(customer):
            raise ConnectionNotFound(f"Customer {customer} has no connection named {name}.")
        check_resolved("STATIC_CONNECTION", text.reveal())
        try:
            return self._connect(decode_connection(text.reveal()), customer, name, "static", "static")
        except ConnectionInvalid as exc:
            raise SettingInvalid(f"STATIC_CONNECTION is not a valid connection. {exc}") from None

    def _connect(
        self,
        record: ConnectionRecord,
        customer: str,
        name: str,
        source: Literal["key_vault", "static"],
        version: str,
        *,
        is_tagged: bool = False,
    ) -> Connection:
        key = (record.api_key or "").strip()
        endpoint = parse_endpoint(
            record.endpoint,
            provider=record.provider,
            api_version=record.api_version,
            key_provider=CLAUDE if key.startswith("sk-ant-") else "openai" if key.startswith("sk-") else None,
        )
        suffixes = self._settings.allowed_endpoint_suffixes or DEFAULT_ALLOWED_SUFFIXES
        check_allowed(endpoint.base, suffixes=suffixes, allow_local=self._settings.allow_local_endpoints)
        if not is_tagged:  # a tag of such a name may be the vault owner's own, as `project` often is
            _check_useless_members(record, endpoint)
        is_openai = endpoint.provider == "openai"
        return Connection(
            customer=customer,
            name=name,
            source=source,
            version=version,
            endpoint=endpoint,
            access=_access(record, endpoint, key, self._settings),
            organization=record.organization if is_openai else None,
            project=record.project if is_openai else None,
            default_model=record.default_model,
            batch_model=record.batch_model,
            deployment_scope=record.deployment_scope,
            max_concurrency=record.max_concurrency,
            monthly_budget=record.monthly_budget,
            allowed_models=self._settings.static_models if source == "static" else (),
        )


def _copy(exc: ConnectionFault) -> ConnectionFault:
    return type(exc)(str(exc))  # an exception in a cache would keep and collect tracebacks


def _check_useless_members(record: ConnectionRecord, endpoint: Endpoint) -> None:
    """Raise ConnectionInvalid for a member that has no effect: whoever set it expects something else."""
    for name in ("scope", "tenant_id"):
        if getattr(record, name) and record.auth == "api_key":
            raise ConnectionInvalid(
                f"The connection's `{name}` is for `auth` entra, but its `auth` is api_key: correct one of the two."
            )
    if record.api_version and endpoint.host == OPENAI_HOST:
        raise ConnectionInvalid(
            "The connection's `api_version` is Azure's, but its `endpoint` is OpenAI's: leave it out."
        )
    if record.api_version and endpoint.style == CLAUDE_STYLE:
        raise ConnectionInvalid(
            "The connection's `api_version` is Azure's, but its `endpoint` is Claude's, whose version the app sends "
            "itself: leave it out."
        )
    if endpoint.provider == "openai":
        return
    if record.organization:
        raise ConnectionInvalid("The connection's `organization` is OpenAI's, but its `endpoint` is not: leave it out.")
    if record.project:
        raise ConnectionInvalid(
            "The connection's `project` is OpenAI's, but its `endpoint` is not: leave it out. A Foundry project is a "
            "part of the endpoint, as in https://RESOURCE.services.ai.azure.com/api/projects/PROJECT."
        )


def _access(record: ConnectionRecord, endpoint: Endpoint, key: str, settings: Settings) -> Access:
    if record.auth == "api_key":
        return ApiKey(endpoint.key_header, Secret(key))
    scope = record.scope or endpoint.scope
    if scope is None:
        raise ConnectionInvalid(
            "The connection's `auth` can't be entra, because its endpoint takes no Entra tokens; it needs an `api_key`."
        )
    check_entra_endpoint(endpoint.base, allowed=settings.allowed_entra_hosts)
    check_scope(scope, allowed=settings.allowed_scopes)
    return EntraAccess(scope, record.tenant_id or None)


def check_dates(secret: StoredCredential, customer: str, name: str, at: datetime) -> None:
    """Raise ConnectionExpired if the secret is outside its dates at that time."""
    if not secret.is_valid(at):
        problem = "is not valid yet" if secret.is_early(at) else "has expired"
        raise ConnectionExpired(f"The secret of customer {customer}'s connection {name} {problem}.")
