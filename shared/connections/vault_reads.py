"""
The read of a secret that nearly every cold start needs, without the SDK: docs/direct-requests.md says why.

One attempt. A secret, or the vault's word that there is none, is returned; everything else is left to the SDK.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from shared.connections.store import SecretInfo, StoredCredential
from shared.connections.vault_limit import MAX_SLEEP_S, TOO_MANY_REQUESTS, VaultLimit
from shared.network.credential import Credential
from shared.network.hosts import Host, render_request
from shared.network.pool import Pool
from shared.network.response import ExchangeFailed, Response
from shared.secret import Secret
from shared.upstream.error_body import read_refusal
from shared.upstream.server_wait import read_retry_after

_VERSION = "7.4"
_HTTPS = 443
_DOMAINS = ("vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net")
"""Of key vaults, each with tokens of its own (Azure's public cloud, China's, the US government's)."""
_is_name = re.compile(r"[0-9A-Za-z-]{1,127}").fullmatch
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404
_WAIT_S = 0.2
"""Seconds that the vault is left alone if it does not say how many, as the SDK has it."""


class VaultReads:
    """Reads secrets of one vault, with tokens for `scope`."""

    def __init__(self, host: Host, scope: str, credential: Credential, pool: Pool, limit: VaultLimit) -> None:
        self.host, self._scope = host, scope
        self._credential, self._pool, self._limit = credential, pool, limit

    @classmethod
    def of(cls, url: str, credential: Credential, pool: Pool, limit: VaultLimit, *, private_ca: bool) -> Self | None:
        """
        Return the reads of a vault, or None if they are left to the SDK.

        So they are if no token may be sent unasked, or if it depends on the tenant that the vault's challenge names.
        """
        if not credential.is_managed:
            return None
        parts = urlsplit(url)
        host = Host(parts.hostname or "", parts.port or _HTTPS, is_secure=True)
        scope = _scope(host, private_ca=private_ca)
        return None if scope is None or parts.scheme != "https" else cls(host, scope, credential, pool, limit)

    async def read(self, name: str) -> tuple[StoredCredential, SecretInfo] | None:
        """
        Return the newest version of a secret, or None if there is none. The info does not name the connection.

        Raises ExchangeFailed if that is not certain, VaultUnavailable if the vault limits the requests.
        """
        self._limit.check()
        if not _is_name(name):
            raise ExchangeFailed("The name is not one of a secret.")
        token = await self._credential.token(self._scope)
        headers = {
            "accept": "application/json",
            "authorization": f"Bearer {token.reveal()}",
            "x-ms-client-request-id": str(uuid4()),
        }
        target = f"/secrets/{name}/?api-version={_VERSION}"
        response = await self._pool.exchange(self.host, render_request("GET", target, self.host, headers))
        if response.status == _OK:
            return _secret(response.body, name)
        if response.status == _NOT_FOUND and "secretnotfound" in read_refusal(response.body).codes:
            return None
        await self._note(response)
        raise ExchangeFailed(f"Key Vault answered {response.status}.")

    async def _note(self, response: Response) -> None:
        if response.status == _UNAUTHORIZED:
            self._credential.forget(self._scope)
        elif response.status == TOO_MANY_REQUESTS:
            wait_s = read_retry_after(response.headers)
            if wait_s is not None and wait_s > MAX_SLEEP_S:
                raise self._limit.refusal(response.headers, response.body)
            await asyncio.sleep(_WAIT_S if wait_s is None else wait_s)


def _scope(host: Host, *, private_ca: bool) -> str | None:
    """
    Return the scope of the tokens for a host, or None if it could be anybody's.

    The SDK learns it from the vault's challenge, and only accepts one of the domain that the vault is in. A vault with
    a private certificate authority, which has no such name, is the operator's, and gets tokens of the public cloud's.
    """
    domains = (each for each in _DOMAINS if host.name.endswith(f".{each}") and host.port == _HTTPS)
    domain = next(domains, _DOMAINS[0] if private_ca else None)
    return None if domain is None else f"https://{domain}/.default"


class _Attributes(msgspec.Struct):
    enabled: bool | None = None
    nbf: int | None = None
    exp: int | None = None
    created: int | None = None
    updated: int | None = None


class _Bundle(msgspec.Struct):
    value: str
    id: str
    attributes: _Attributes
    tags: dict[str, str] | None = None

    def __repr__(self) -> str:
        return "***"


def _secret(body: bytes, name: str) -> tuple[StoredCredential, SecretInfo]:
    try:
        bundle = msgspec.json.decode(body, type=_Bundle)
        attributes = bundle.attributes
        not_before, expires_on = _time(attributes.nbf), _time(attributes.exp)
        created_at, updated_at = _time(attributes.created), _time(attributes.updated)
        _, kind, named, version = urlsplit(bundle.id).path.split("/")
    except (ValueError, OverflowError, OSError, RecursionError):  # msgspec's own, too
        raise ExchangeFailed("Key Vault sent no secret that can be read.") from None
    if kind != "secrets" or named.lower() != name.lower() or not version:
        raise ExchangeFailed("Key Vault sent another secret.")
    enabled, tags = attributes.enabled is not False, bundle.tags or {}
    return (
        StoredCredential(Secret(bundle.value), version, enabled, not_before, expires_on, tags),
        SecretInfo("", enabled, version, not_before, expires_on, created_at, updated_at, tags),
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
