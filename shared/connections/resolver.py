"""
Customer and connection name to a whole Connection: endpoint and access from one secret, together.

What is read is kept for minutes, by customer, name and version, and read once however many jobs
ask at a time. The operator's static connection serves only customers who have none of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.clock import now
from shared.connections.endpoint import Endpoint, parse_endpoint
from shared.connections.store import CredentialStore, StoredCredential
from shared.contract.connection import ConnectionRecord, decode_connection
from shared.contract.result import ConnectionLabel
from shared.errors import (
    ConnectionDisabled,
    ConnectionExpired,
    ConnectionFault,
    ConnectionInvalid,
    ConnectionNotFound,
    InvalidJob,
    VaultUnavailable,
)
from shared.secret import Secret, redact
from shared.settings import Settings
from shared.upstream.egress_policy import DEFAULT_ALLOWED_SUFFIXES, check_allowed, check_scope
from shared.upstream.messages import Access, ApiKey, EntraAccess

FRESH_S = 300.0
"""How long a connection is used before it is read again."""
STALE_S = 3600.0
"""How long one that was read is used while the vault gives no answer."""
FAULT_S = 3.0
"""
How long one is remembered that is missing, faulty or outside its dates, or that a vault gave no answer for: a mended
one should serve at once, a flood of jobs not ask. For one connection and not for all, as a role may be given secret
by secret: a customer whose secret is forbidden should hold up nobody else.
"""
OUTAGE_S = 30.0
"""How long a vault that gave no answer is left alone by a connection that is known."""
REREAD_S = 5.0
"""How often a refused key has its secret read again at most."""
DEFAULT_CONCURRENCY = 16
"""Calls at once if the connection sets no `max_concurrency`."""
KEPT = 10_000
"""Connections kept in memory."""


class AddressNotAllowed(ConnectionInvalid):
    """The connection is well formed, but its endpoint is none that may be called."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One customer's way to one AI endpoint, whole from one source."""

    customer: str
    name: str
    source: Literal["key_vault", "static"]
    version: str
    endpoint: Endpoint
    access: Access
    organization: str | None = None
    project: str | None = None
    default_model: str | None = None
    max_concurrency: int | None = None
    monthly_budget: float | None = None

    @property
    def concurrency(self) -> int:
        """How many calls a worker makes at once on this connection."""
        return self.max_concurrency or DEFAULT_CONCURRENCY

    def label(self) -> ConnectionLabel:
        """What results and usage records say of it."""
        billed_to: Literal["customer", "operator"] = "customer" if self.source == "key_vault" else "operator"
        return ConnectionLabel(name=self.name, source=self.source, provider=self.endpoint.provider, billed_to=billed_to)

    def model_for(self, asked: str | None, *, needed: bool = True) -> str:
        """
        The model that a job runs on, which asked for `asked`. Raises InvalidJob.

        Where none is `needed`, the connection's default is not taken for one, and it may be empty.
        """
        deployment = self.endpoint.deployment
        if deployment and asked and asked != deployment:
            raise InvalidJob(
                f"`model` must be {deployment} or left out: the connection's endpoint names that deployment."
            )
        model = deployment or asked or (self.default_model if needed else "")
        if needed and not model:
            raise InvalidJob(f"`model` is missing, and the connection {self.name} has no `default_model`.")
        return model or ""

    def without_key(self, text: str) -> str:
        """A setting, or what is said of it, as it can be shown: the key may have been pasted there as well."""
        return redact(text, self.access.key) if isinstance(self.access, ApiKey) else text

    def headers(self) -> dict[str, str]:
        """The headers beyond authentication."""
        named = {"OpenAI-Organization": self.organization, "OpenAI-Project": self.project}
        return {header: value for header, value in named.items() if value}


@dataclass(slots=True)
class _Known:
    """What was read of one connection; `found` is None where there is no secret, or no answer."""

    found: StoredCredential | None
    opened: Connection | None
    fault: ConnectionFault | VaultUnavailable | None
    read_at: float
    next_read: float
    in_dates: bool
    """When it was read."""
    reread_at: float = float("-inf")
    unanswered: bool = False
    """The vault was asked again since, and gave no answer."""


class Connections:
    """The customers' connections, out of a CredentialStore."""

    def __init__(
        self,
        settings: Settings,
        store: CredentialStore | None,
        *,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ticks = ticks
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._reading: dict[tuple[str, str], asyncio.Task[_Known]] = {}

    async def resolve(self, customer: str, name: str) -> Connection:
        """
        The customer's connection of that name.

        Raises ConnectionNotFound, ConnectionDisabled, ConnectionExpired or ConnectionInvalid as it is,
        and VaultUnavailable where the vault gives no answer and nothing known is young enough.
        """
        known = self._known.get((customer, name))
        if known is None or self._is_due(known):
            known = await self._read(customer, name)
        else:
            self._known.move_to_end((customer, name))
        return self._use(known, customer, name)

    def forget(self, customer: str, name: str) -> None:
        """Has the connection read anew when it is next asked for; what is being read just now is not kept."""
        self._known.pop((customer, name), None)
        self._reading.pop((customer, name), None)

    def open(self, found: StoredCredential, customer: str, name: str) -> Connection:
        """
        The connection that a secret describes, whatever its dates (see `check_dates`); nothing is read or kept.

        Raises ConnectionDisabled, ConnectionInvalid and, of the latter, AddressNotAllowed.
        """
        if not found.enabled:
            raise ConnectionDisabled(f"The secret of customer {customer}'s connection {name} is disabled.")
        record = decode_connection(found.value.reveal(), found.tags)
        return self._connect(record, customer, name, "key_vault", found.version)

    async def renewed(self, refused: Connection) -> Connection | None:
        """
        The connection read again, because the endpoint refused its key; None where it has not changed.

        A secret is read again at most every REREAD_S, however many of its jobs are refused.

        Raises ConnectionNotFound, ConnectionDisabled, ConnectionExpired or ConnectionInvalid where that is what
        has become of it, and VaultUnavailable where the vault does not say whether it has changed.
        """
        if refused.source == "static":
            return None
        key = (refused.customer, refused.name)
        known = self._known.get(key)
        if known is None or (known.opened is not None and known.opened.version == refused.version):
            just_read = known is not None and self._ticks() - known.reread_at < REREAD_S
            if known is None or not just_read:
                known = await self._read(*key)
                known.reread_at = self._ticks()
            if known.unanswered:
                raise VaultUnavailable(
                    f"The endpoint refused the key of customer {refused.customer}'s connection {refused.name}, and "
                    "Key Vault does not answer whether there is a new one."
                )
            if just_read:
                return None
        connection = self._use(known, *key)
        return None if connection.version == refused.version else connection

    def _is_due(self, known: _Known) -> bool:
        """Whether it is to be read again: after its time, and when its dates end, as there may be a new version."""
        ended = known.found is not None and known.in_dates and not _is_in_dates(known.found, now())
        return ended or self._ticks() >= known.next_read

    async def _read(self, customer: str, name: str) -> _Known:
        key = (customer, name)
        task = self._reading.get(key)
        if task is None:
            task = asyncio.create_task(self._read_now(customer, name))
            self._reading[key] = task
            task.add_done_callback(lambda done: self._reading.get(key) is done and self._reading.pop(key))
        # Shielded: one job that gives up does not take the reading from the others.
        return await asyncio.shield(task)

    async def _read_now(self, customer: str, name: str) -> _Known:
        found: StoredCredential | None = None
        opened: Connection | None = None
        fault: ConnectionFault | VaultUnavailable | None = None
        try:
            found = await self._store.get(customer, name) if self._store else None
            opened = None if found is None else self.open(found, customer, name)
        except ConnectionFault as exc:
            fault = exc
        except VaultUnavailable as exc:
            last = self._known.get((customer, name))
            if last is not None and self._bridges(last):
                last.unanswered, last.next_read = True, self._ticks() + OUTAGE_S
                return last
            fault = VaultUnavailable(f"{exc} Nothing that may serve is known of {customer}'s connection {name}.")
        in_dates = found is not None and _is_in_dates(found, now())
        life = FRESH_S if opened is not None and in_dates else FAULT_S
        known = _Known(found, opened, fault, self._ticks(), self._ticks() + life, in_dates)
        if self._reading.get((customer, name)) is not asyncio.current_task():  # it was forgotten meanwhile
            return known
        self._known[customer, name] = known
        self._known.move_to_end((customer, name))
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return known

    def _bridges(self, last: _Known) -> bool:
        """Whether what was last read may serve while the vault is down: usable, young enough, and within its dates."""
        young = self._ticks() - last.read_at <= STALE_S
        return last.opened is not None and last.found is not None and young and _is_in_dates(last.found, now())

    def _use(self, known: _Known, customer: str, name: str) -> Connection:
        if known.fault is not None:
            raise type(known.fault)(str(known.fault))  # anew: a kept exception would gather tracebacks
        if known.found is None or known.opened is None:
            return self._static(customer, name)
        check_dates(known.found, customer, name, now())
        return known.opened

    def _static(self, customer: str, name: str) -> Connection:
        text = self._settings.static_connection
        if name != "default" or not text or not self._settings.allows_static(customer):
            raise ConnectionNotFound(f"Customer {customer} has no connection named {name}.")
        return self._connect(decode_connection(text.reveal()), customer, name, "static", "static")

    def _connect(
        self,
        record: ConnectionRecord,
        customer: str,
        name: str,
        source: Literal["key_vault", "static"],
        version: str,
    ) -> Connection:
        key = (record.api_key or "").strip()
        endpoint = parse_endpoint(
            record.endpoint,
            provider=record.provider,
            api_version=record.api_version,
            scope=record.scope,
            api_key_prefix_is_openai=key.startswith("sk-"),
        )
        suffixes = self._settings.allowed_endpoint_suffixes or DEFAULT_ALLOWED_SUFFIXES
        try:
            check_allowed(endpoint.base, suffixes=suffixes, allow_local=self._settings.allow_local_endpoints)
        except ConnectionInvalid as exc:
            raise AddressNotAllowed(str(exc)) from None
        return Connection(
            customer=customer,
            name=name,
            source=source,
            version=version,
            endpoint=endpoint,
            access=_access(record, endpoint, key, self._settings.allowed_scopes),
            organization=record.organization,
            project=record.project,
            default_model=record.default_model,
            max_concurrency=record.max_concurrency,
            monthly_budget=record.monthly_budget,
        )


def _access(record: ConnectionRecord, endpoint: Endpoint, key: str, scopes: Sequence[str]) -> Access:
    if record.auth == "api_key":
        return ApiKey(endpoint.key_header, Secret(key))
    if endpoint.scope is None:
        raise ConnectionInvalid(
            "The connection's `auth` is entra, which its endpoint does not take; it needs an `api_key`."
        )
    check_scope(endpoint.scope, allowed=scopes)
    return EntraAccess(endpoint.scope, record.tenant_id)


def check_dates(found: StoredCredential, customer: str, name: str, moment: datetime) -> None:
    """Raises ConnectionExpired unless the secret holds at that moment."""
    if not _is_in_dates(found, moment):
        early = found.not_before is not None and moment < found.not_before
        why = "is not valid yet" if early else "has expired"
        raise ConnectionExpired(f"The secret of customer {customer}'s connection {name} {why}.")


def _is_in_dates(found: StoredCredential, moment: datetime) -> bool:
    # Key Vault gives a value outside its dates as well; enforcing them is left to who reads it.
    begun = found.not_before is None or moment >= found.not_before
    return begun and (found.expires_on is None or moment < found.expires_on)
