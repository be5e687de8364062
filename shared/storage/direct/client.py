"""
The requests that every job sends to Storage, without the SDK's pipeline.

One attempt each. A response is returned only if it is one that the adapters know; retries, throttling, redirects and
challenges are left to the SDK, to which the adapter then gives the same request. docs/direct-requests.md says why.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import urlencode

from shared.ids import new_id
from shared.network.credential import Credential
from shared.network.fallback import log_repeated
from shared.network.hosts import render_request
from shared.network.pool import Pool
from shared.network.response import ExchangeFailed, Response
from shared.storage.direct.authorization import Authorization, SharedKey, Tokens
from shared.storage.direct.endpoint import Endpoint

_VERSIONS = {"table": "2019-02-02", "queue": "2021-12-02", "blob": "2021-12-02"}
"""The version of each service's protocol: of tables the SDK's own, of the others any that knows tokens."""
_CERTAIN = frozenset({200, 201, 202, 204, 404, 409, 412})
"""Statuses that say what became of the request. The SDK's rules apply to all others."""
_BUSY = frozenset({429, 503})
_UNAUTHORIZED = 401
_WAIT_S, _MAX_WAIT_S = 0.3, 10.0
"""Seconds that a busy service is left alone if it does not say how many, and the most."""

_is_plain = re.compile(r"(?:/(?!\.)[A-Za-z0-9_.~()'=,$-]*)+").fullmatch
"""A usual path, which aiohttp does not change."""


class DirectClient:
    """Sends requests to one service. With a SAS, or a token but no TLS, it leaves all of them to the SDK."""

    def __init__(self, service: str, endpoint: Endpoint, pool: Pool, credential: Callable[[], Credential]) -> None:
        self.url = endpoint.url
        self._version = _VERSIONS[service]
        self._endpoint, self._pool = endpoint, pool
        self._is_left_to_sdk = endpoint.has_sas or not (endpoint.key or endpoint.host.is_secure)
        self._authorization: Authorization = (
            SharedKey(endpoint.account, endpoint.key, tables=service == "table") if endpoint.key else Tokens(credential)
        )

    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        query: Mapping[str, str] | None = None,
    ) -> Response | None:
        """
        Send a request once. `path` begins with `/` and follows the account's; names of `headers` are lower case.

        Return the response, or None if none came that says what became of the request: the caller then sends it by the
        SDK, although it may have been carried out.
        """
        if self._is_left_to_sdk:
            return None
        try:
            request = await self._render(method, path, headers, body, query or {})
            response = await self._pool.exchange(self._endpoint.host, request)
        except ExchangeFailed as exc:
            reason = exc.reason
        else:
            if response.status in _CERTAIN:
                return response
            reason = f"Storage answered {response.status}."
            if response.status == _UNAUTHORIZED:
                self._authorization.refused()
            elif response.status in _BUSY:
                await asyncio.sleep(_wait_s(response.headers))
        log_repeated(self._endpoint.host, reason)
        return None

    async def _render(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, str]
    ) -> bytes:
        path = _sent_path(self._endpoint.path + path)
        own = {
            **headers,
            "content-length": str(len(body)),
            "x-ms-client-request-id": new_id(),
            "x-ms-date": _date(int(time.time())),
            "x-ms-version": self._version,
        }
        own["authorization"] = await self._authorization.header(method, path, query, own)
        target = f"{path}?{urlencode(query)}" if query else path
        return render_request(method, target, self._endpoint.host, own, body)


@lru_cache(maxsize=64)
def _sent_path(path: str) -> str:
    """Return a path as aiohttp sends it for the SDK."""
    if _is_plain(path):
        return path
    from yarl import URL  # noqa: PLC0415  # few jobs need it

    return URL(f"https://host{path}").raw_path


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _wait_s(headers: Mapping[str, str]) -> float:
    seconds = headers.get("retry-after", "")
    return min(float(seconds), _MAX_WAIT_S) if seconds.isdecimal() else _WAIT_S
