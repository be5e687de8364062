"""
Signatures after the Standard Webhooks specification, with its authors' library: events that come in, callbacks
that go out.

A customer's signing secret is `webhook--{customer}` in Key Vault: `whsec_` and base64 of 24 to 64 random bytes,
several of them separated by spaces while one is being rotated. Anybody may send an event, so what is done for a
customer that has no secret is what is done for one that has: nobody can find out which customers there are.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import math
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from shared.clock import now
from shared.connections.store import StoredCredential
from shared.contract.names import is_name
from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.event_names import SIGNING_SECRET_INVALID

if TYPE_CHECKING:
    from standardwebhooks import Webhook

FRESH_S = 300.0
"""How long a secret is used before it is read again."""
STALE_S = 3600.0
"""How long one that was read is used while the vault gives no answer."""
REREAD_S = 5.0
"""How often a secret that did not serve is read again at most, so that a new one serves at once."""
READS_A_SECOND = 50
"""
Of the vault, at most: so many for customers that are known, and as many for callers whose signature does not verify.
Whoever sends made-up names must use up neither what the vault gives to jobs nor what customers need.
"""
KEPT = 10_000
"""Customers whose secrets are kept in memory."""
KEPT_ASKED = 1000
"""Names that callers have asked for: more than can come up within REREAD_S."""
_SIGNATURE = "webhook-signature"
_is_signature = re.compile(r"v1,[A-Za-z0-9+/]{43}=").fullmatch
"""The base64 of a HMAC-SHA256; other versions are others' to read."""
_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
"""The specification's (standardwebhooks.com, "Signature scheme")."""

T = TypeVar("T")

log = logging.getLogger("customer_ai_jobs")


class NoSigningSecret(Exception):
    """The customer has no secret to sign with; the message says why."""


class SigningStore(Protocol):
    """Where customers' signing secrets are kept."""

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """
        The newest version, or None where there is none.

        Raises ConnectionDisabled where it is switched off and can't be read, VaultUnavailable.
        """


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read of one customer's secret: its keys, or why there are none."""

    keys: tuple[Webhook, ...]
    why_none: str
    read_at: float
    read_on: datetime
    found: StoredCredential | None = None
    there: bool = False
    """There is a secret, whether it can be used or not."""

    def usable(self) -> tuple[Webhook, ...]:
        return () if self.why_not(now()) else self.keys

    def ended(self) -> bool:
        """It could be used when it was read, and its dates have ended since: there may be a new version."""
        return not self.why_not(self.read_on) and bool(self.why_not(now()))

    def why_not(self, at: datetime) -> str:
        # Key Vault gives a value outside its dates as well; enforcing them is left to who reads it.
        if self.found is not None and self.found.not_before is not None and at < self.found.not_before:
            return "The customer's signing secret is not valid yet."
        if self.found is not None and self.found.expires_on is not None and at >= self.found.expires_on:
            return "The customer's signing secret has expired."
        return self.why_none


class Signing:
    """The customers' signing secrets, out of a SigningStore."""

    def __init__(self, store: SigningStore | None, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._ticks = ticks
        self._known: OrderedDict[str, _Known] = OrderedDict()
        """Customers that have a secret, or that something is signed for: nobody gets here by a made-up name."""
        self._asked: OrderedDict[str, float] = OrderedDict()
        """Names for which the vault was asked because a signature did not verify, and when."""
        self._reading: dict[tuple[str, bool], asyncio.Task[_Known]] = {}
        self._reads = {own: deque[float](maxlen=READS_A_SECOND) for own in (True, False)}
        self._nobodys = secrets.token_bytes(_KEY_BYTES[-1])

    async def verify(self, customer: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """
        Whether one of the customer's secrets has signed this, within five minutes from now. `headers` in lower case.

        Raises VaultUnavailable where that can't be told.
        """
        if not is_name(customer):
            return self._verify((), body, headers)
        began = self._ticks()
        known = await self._fresh(customer) if customer in self._known else None
        if self._verify(known.usable() if known else (), body, headers):
            return True
        # From here on nothing depends on whether the customer is known: neither what is answered nor, when many
        # ask, who is told to come back later.
        asked_at = self._asked.get(customer)
        if asked_at is not None and self._ticks() - asked_at < REREAD_S:
            return False
        known = await self._read(customer, own=False, not_before=began)
        return self._verify(known.usable(), body, headers)

    async def sign(self, customer: str, message_id: str, body: bytes) -> dict[str, str]:
        """
        The headers that sign `body` with all of the customer's secrets. Raises NoSigningSecret, VaultUnavailable.

        `message_id` must bear no full stop: the specification joins what is signed with them.
        """
        known = await self._fresh(customer)
        if not known.usable() and (known.ended() or self._ticks() - known.read_at >= REREAD_S):
            known = await self._read(customer, own=True)
        if not known.usable():
            raise NoSigningSecret(known.why_not(now()))
        moment = now()
        signatures = (key.sign(message_id, moment, body.decode()) for key in known.usable())
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            _SIGNATURE: " ".join(signatures),
        }

    def _verify(self, keys: tuple[Webhook, ...], body: bytes, headers: Mapping[str, str]) -> bool:
        """Every key is tried; where there is none, one that nobody has, for the same work."""
        from standardwebhooks import Webhook, WebhookVerificationError  # noqa: PLC0415  # no job from a queue needs it

        # The library gives up at the first one that is malformed, whatever comes after it.
        given = " ".join(one for one in headers.get(_SIGNATURE, "").split() if _is_signature(one))
        verified = False
        for key in keys or (Webhook(self._nobodys),):
            try:
                key.verify(body, {**headers, _SIGNATURE: given}, json_parse=False)
            except (WebhookVerificationError, ValueError):  # a body that is no text is a plain ValueError
                continue
            verified = True
        return verified

    async def _fresh(self, customer: str) -> _Known:
        known = self._known.get(customer)
        if known is not None and self._ticks() - known.read_at < FRESH_S:
            self._known.move_to_end(customer)
            return known
        try:
            return await self._read(customer, own=True)
        except VaultUnavailable:
            if known is None or not known.keys or self._ticks() - known.read_at > STALE_S:
                raise
            return known

    async def _read(self, customer: str, *, own: bool, not_before: float = math.inf) -> _Known:
        """What the vault says now, or was said since `not_before`. `own`: for the customer itself, not for a caller."""
        task = self._reading.get((customer, own))
        if task is None:
            task = asyncio.create_task(self._read_now(customer, own=own, not_before=not_before))
            self._reading[customer, own] = task
            task.add_done_callback(lambda _: self._reading.pop((customer, own), None))
        # Shielded: one request that gives up does not take the reading from the others.
        return await asyncio.shield(task)

    async def _read_now(self, customer: str, *, own: bool, not_before: float) -> _Known:
        moment, reads = self._ticks(), self._reads[own]
        if len(reads) == READS_A_SECOND and moment - reads[0] < 1:
            raise VaultUnavailable("Too many signing secrets are asked for at a time.", 2)
        reads.append(moment)
        known = self._known.get(customer)
        if known is None or known.read_at < not_before:
            known = await self._ask(customer)
        if own or known.there or customer in self._known:
            _keep(self._known, customer, known, KEPT)
        if not own:
            _keep(self._asked, customer, self._ticks(), KEPT_ASKED)
        return known

    async def _ask(self, customer: str) -> _Known:
        keys: tuple[Webhook, ...] = ()
        found, there, why = None, False, "The customer has no signing secret."
        try:
            found = await self._store.signing_secret(customer) if self._store else None
        except ConnectionDisabled:
            why, there = "The customer's signing secret is disabled.", True
        if found is not None:
            given = found.value.reveal().split() if found.enabled else []
            keys, there = _keys(given), True
            why = "" if keys else "The customer's signing secret is not `whsec_` and base64 of 24 to 64 bytes."
            if len(keys) < max(len(given), 1):
                left_out = why or f"{len(given) - len(keys)} of {len(given)} are not `whsec_` and base64."
                log.warning("%s customer=%s: %s", SIGNING_SECRET_INVALID, customer, left_out)
        return _Known(keys, why, self._ticks(), now(), found, there)


def _keep(kept: OrderedDict[str, T], name: str, value: T, most: int) -> None:
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > most:
        kept.popitem(last=False)


def _keys(texts: Iterable[str]) -> tuple[Webhook, ...]:
    """The keys among these: one that is malformed, as while rotating, switches off no other."""
    from standardwebhooks import Webhook  # noqa: PLC0415

    return tuple(Webhook(key) for key in map(_key, texts) if key)


def _key(text: str) -> bytes:
    encoded = text.removeprefix(_PREFIX)
    try:
        # The library would take any text for base64, and leave out what is none.
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return key if text.startswith(_PREFIX) and len(key) in _KEY_BYTES else b""
