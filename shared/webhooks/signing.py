"""
Signatures of webhooks, after the Standard Webhooks specification (standardwebhooks.com) and with its authors' library.

A customer's signing secret is `webhook--{customer}` in Key Vault: `whsec_` and base64 of 24 to 64 random bytes, or
several of them, separated by spaces, during a rotation. Anybody may send a webhook, so one for a customer without a
secret takes the same steps as one for a customer with a secret: nobody can find out which customers there are.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from shared.clock import now
from shared.connections import secret_cache
from shared.connections.secret_cache import Entry, SecretCache
from shared.contract.names import is_name
from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.event_names import NAMESPACE, SIGNING_SECRET_INVALID
from shared.lru import LRU
from shared.single_flight import SingleFlight
from shared.webhooks.signing_keys import KEY_BYTES, key_bytes, split_keys
from shared.webhooks.signing_reads import Prefetch, ReadLimits
from shared.webhooks.signing_store import SigningStore

if TYPE_CHECKING:
    from standardwebhooks import Webhook

MAX_KEYS = 3
"""
Secrets of a customer that are tried and signed with. As many are tried for every name, whether it has three, one or
none: the time that this takes says nothing about the customer.
"""
_MAX_SENDERS_NAMES = 1000
"""Names from senders that are remembered: more than can be read within REREAD_S."""
_ID, _SIGNATURE = "webhook-id", "webhook-signature"
_OUTGOING = "callback_"
"""
How the `webhook-id` of everything that the app signs begins. The id is signed too, and what begins so does not verify:
a secret is shared with the customer, so a result could otherwise come back as a webhook.
"""
_is_signature = re.compile(r"v1,[A-Za-z0-9+/]{43}=").fullmatch
"""Base64 of an HMAC-SHA256. Other versions of the signature are ignored."""

log = logging.getLogger(NAMESPACE)


class NoSigningSecret(Exception):
    """The customer has no secret to sign with; the message says why."""


@dataclass(frozen=True, slots=True)
class _SigningKeys:
    """A customer's signing keys, or why there are none."""

    keys: tuple[Webhook, ...] = ()
    problem: str = ""
    exists: bool = False
    """Whether there is a secret, usable or not."""


class Signing:
    """
    The signing secrets of customers, or of other owners, which `is_owner` tells from names that nobody has.

    `limits` are those of reads, which may be another Signing's, too. `clock` returns monotonic seconds.
    """

    def __init__(
        self,
        store: SigningStore | None,
        *,
        owner: str = "customer",
        is_owner: Callable[[str], bool] = is_name,
        limits: ReadLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._owner, self._is_owner = owner, is_owner
        self._clock = clock
        self._cache = SecretCache[str, _SigningKeys](clock=clock)
        """Of customers that have a secret, or that something is signed for: no made-up name gets here."""
        self.limits = limits or ReadLimits.of(clock)
        self._senders_flights: SingleFlight[str, tuple[Webhook, ...]] = SingleFlight()
        self._senders_names = LRU[str, float](_MAX_SENDERS_NAMES)
        """Names whose secret was read because a signature did not verify, and when."""
        self._prefetch = Prefetch(store, self._prefetched, clock)
        self._random_keys = [secrets.token_bytes(KEY_BYTES[-1]) for _ in range(MAX_KEYS)]

    async def verify(self, customer: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """
        Return whether one of the customer's secrets signed this, with a timestamp within five minutes from now.

        What `sign` has signed does not verify. The names of `headers` are in lower case. Raises VaultUnavailable if
        the secret can't be read.
        """
        if not self._is_owner(customer) or headers.get(_ID, "").lstrip().startswith(_OUTGOING):
            return self._verify((), body, headers)
        began = self._clock()
        if self._verify(await self._known_keys(customer), body, headers):
            return True
        # From here on nothing depends on whether the worker knows the customer: neither the response, nor, in a
        # flood, whose sender has to come back later.
        read_at = self._senders_names.get(customer)
        if read_at is not None and self._clock() - read_at < secret_cache.REREAD_S:
            return False
        keys = await self._senders_flights.run(customer, partial(self._read_for_sender, customer, began))
        return self._verify(keys, body, headers)

    async def sign(self, customer: str, message_id: str, body: bytes) -> dict[str, str]:
        """
        Return the headers that sign `body` with all secrets of the customer. Raises NoSigningSecret, VaultUnavailable.

        The `webhook-id` is `callback_` and `message_id`, which must not contain a full stop: the specification joins
        the signed parts with them.
        """
        entry = await self._cache.get(customer, partial(self._load_known, customer))
        at = now()
        if problem := self._problem(entry, at):
            raise NoSigningSecret(problem)
        webhook_id = f"{_OUTGOING}{message_id}"
        signatures = (key.sign(webhook_id, at, body.decode()) for key in entry.value.keys)
        return {
            _ID: webhook_id,
            "webhook-timestamp": str(int(at.timestamp())),
            _SIGNATURE: " ".join(signatures),
        }

    def _verify(self, keys: tuple[Webhook, ...], body: bytes, headers: Mapping[str, str]) -> bool:
        """Try every key, and random ones to make them MAX_KEYS, so that timing doesn't reveal anything about them."""
        from standardwebhooks import Webhook, WebhookVerificationError  # noqa: PLC0415  # jobs do not need it

        # The library stops at the first malformed signature, whatever follows it.
        signatures = " ".join(text for text in headers.get(_SIGNATURE, "").split() if _is_signature(text))
        verified = False
        for key in (*keys, *map(Webhook, self._random_keys))[:MAX_KEYS]:
            try:
                key.verify(body, {**headers, _SIGNATURE: signatures}, json_parse=False)
            except (WebhookVerificationError, ValueError):  # ValueError: the body is not text
                continue
            verified = True
        return verified

    async def _known_keys(self, customer: str) -> tuple[Webhook, ...]:
        """Return the keys of a customer in the cache; none for every other name."""
        entry = self._cache.peek(customer)
        if entry is None or not entry.is_usable:
            return ()
        try:
            return _usable(await self._cache.get(customer, partial(self._load_known, customer)))
        except VaultUnavailable:  # the read for the sender meets it, too, as it does for every other name
            return ()

    async def _read_for_sender(self, customer: str, not_before: float) -> tuple[Webhook, ...]:
        """Return the keys as they were read since `not_before`, or as they are read now."""
        try:
            self.limits.senders.count()
        except VaultUnavailable:
            self._prefetch.begin()
            raise
        entry = self._cache.peek(customer)
        if entry is None or entry.read_at < not_before:
            is_known = entry is not None
            entry = await self._load(customer)
            if is_known or entry.value.exists:
                self._cache.put(customer, entry)
        self._senders_names.set(customer, self._clock())
        return _usable(entry)

    async def _prefetched(self, customer: str) -> None:
        if self._cache.peek(customer) is None:
            entry = await self._load(customer)
            if entry.value.exists:
                self._cache.put(customer, entry)

    async def _load_known(self, customer: str) -> Entry[_SigningKeys]:
        self.limits.owners.count()
        return await self._load(customer)

    async def _load(self, customer: str) -> Entry[_SigningKeys]:
        secret, value = None, _SigningKeys(problem=f"The {self._owner} has no signing secret.")
        try:
            secret = await self._store.signing_secret(customer) if self._store else None
        except ConnectionDisabled:
            value = _SigningKeys((), f"The {self._owner}'s signing secret is disabled.", exists=True)
        if secret is not None:
            texts = split_keys(secret.value.reveal()) if secret.enabled else []
            keys = _keys(texts)[:MAX_KEYS]
            invalid = f"The {self._owner}'s signing secret is not `whsec_` and base64 of 24 to 64 bytes."
            problem = "" if keys else invalid
            if len(keys) < max(len(texts), 1):
                count = f"{len(texts) - len(keys)} of {len(texts)}"
                invalid = problem or f"{count} are not `whsec_` and base64, or are beyond the first {MAX_KEYS}."
                log.warning("%s %s=%s: %s", SIGNING_SECRET_INVALID, self._owner, customer, invalid)
            value = _SigningKeys(keys, problem, exists=True)
        return Entry(value, secret, is_usable=bool(value.keys))

    def _problem(self, entry: Entry[_SigningKeys], at: datetime) -> str:
        """Return why the secret can't sign at that time; empty if it can."""
        if entry.secret is not None and not entry.secret.is_valid(at):
            problem = "is not valid yet" if entry.secret.is_early(at) else "has expired"
            return f"The {self._owner}'s signing secret {problem}."
        return entry.value.problem


def _usable(entry: Entry[_SigningKeys]) -> tuple[Webhook, ...]:
    return entry.value.keys if entry.is_valid() else ()


def _keys(texts: Iterable[str]) -> tuple[Webhook, ...]:
    """Return the valid keys among these: a malformed one, as during a rotation, does not disable the others."""
    from standardwebhooks import Webhook  # noqa: PLC0415

    return tuple(Webhook(key) for key in map(key_bytes, texts) if key)
