"""
Tokens of a managed identity, from the endpoint that App Service and Functions have for it, without the SDK.

One attempt each, of which only a token is a result: docs/direct-requests.md says why. The protocol:
learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self
from urllib.parse import urlencode, urlsplit

import msgspec

from shared.network.fallback import log_repeated
from shared.network.hosts import Host, render_request
from shared.network.pool import Pool
from shared.network.response import ExchangeFailed
from shared.network.token import Token, is_token, new_token
from shared.secret import Secret

_VERSION = "2019-08-01"
_DEFAULT_SCOPE = "/.default"
_OK = 200


class IdentityEndpoint:
    """Requests tokens of one identity: the app's own, or the one that is assigned to it with this id."""

    def __init__(self, url: str, header: Secret, client_id: str, pool: Pool) -> None:
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        self._host = Host(parts.hostname or "", parts.port or (443 if is_secure else 80), is_secure)
        self._path, self._header, self._client_id, self._pool = parts.path or "/", header, client_id, pool

    @classmethod
    def of(cls, environment: Mapping[str, str], client_id: str, pool: Pool) -> Self | None:
        """Return the endpoint of App Service, or None on any other platform, whose protocol the SDK knows."""
        url, header = environment.get("IDENTITY_ENDPOINT", ""), environment.get("IDENTITY_HEADER", "")
        is_fabric = environment.get("IDENTITY_SERVER_THUMBPRINT", "")
        return cls(url, Secret(header), client_id, pool) if _is_plain(url) and header and not is_fabric else None

    async def request(self, scope: str, now: float) -> Token | None:
        """Return a token for `scope`, or None if none came for certain: the caller then requests it by the SDK."""
        query = {"api-version": _VERSION, "resource": scope.removesuffix(_DEFAULT_SCOPE)}
        if self._client_id:
            query["client_id"] = self._client_id
        headers = {"accept": "application/json", "x-identity-header": self._header.reveal()}
        try:
            request = render_request("GET", f"{self._path}?{urlencode(query)}", self._host, headers)
            response = await self._pool.exchange(self._host, request)
            if response.status != _OK:
                raise ExchangeFailed(f"The identity's endpoint answered {response.status}.")
            return _read(response.body, now)
        except ExchangeFailed as exc:
            log_repeated(self._host, exc.reason)
            return None


def _is_plain(url: str) -> bool:
    """Whether a URL has a host, a port if any, and a path."""
    if not url.startswith(("http://", "https://")) or not (url.isascii() and url.isprintable()):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and not set("?#@\\ ") & set(url)
    except ValueError:  # no port, or no address in brackets
        return False


class _Body(msgspec.Struct):
    access_token: str
    expires_on: str | int


def _read(body: bytes, now: float) -> Token:
    try:
        issued = msgspec.json.decode(body, type=_Body)
        expires_on = float(int(issued.expires_on))
    except (ValueError, OverflowError, RecursionError):  # msgspec's own, too
        raise ExchangeFailed("The identity's endpoint sent no token.") from None
    text = issued.access_token
    if not is_token(text) or expires_on <= now:
        raise ExchangeFailed("The identity's endpoint sent a token that can't be used.")
    return new_token(text, expires_on, now)
