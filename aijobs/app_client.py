"""
Requests to the app over HTTP, as a caller sends them: again, as long as the app has only just been deployed.

A key goes to the app's own address alone, over https unless the app is on this machine; redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from aijobs.diagnostics import CommandError, InvalidArguments

_TRY_S = 60.0
"""A cold start takes some seconds."""
_AGAIN_S = 2.0
_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_NOT_READY = (httpx.codes.NOT_FOUND, httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
"""With 5xx, what a host answers that has not loaded the functions, or that is busy."""


@dataclass(frozen=True, slots=True)
class AppClient:
    """The app at an address."""

    url: httpx.URL
    http: httpx.AsyncClient

    async def send(
        self,
        method: str,
        path: str,
        deadline: float,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str],
        refused: str,
    ) -> bytes:
        """
        Return the body of the response. An app that isn't ready is asked again until that time, by `time.monotonic`.

        Raises CommandError, which says what the app answered; `refused` completes it for 401 and 403.
        """
        json_type = {"content-type": "application/json"}
        while True:
            try:
                async with asyncio.timeout(_TRY_S):  # in all: the client's own limit is one of each read
                    response = await self.http.request(
                        method, self.url.copy_with(path=path), content=body, headers={**json_type, **headers}
                    )
            except TimeoutError:
                answer = f"gave no whole answer within {_TRY_S:g} s."
            except httpx.HTTPError as exc:
                answer = f"can't be reached: {str(exc).rstrip('.') or type(exc).__name__}."
            else:
                if response.is_success:
                    return response.content
                answer = f"answered {response.status_code}.{_detail(response)}"
                if response.status_code in _REFUSED:
                    raise CommandError(f"The app {answer} {refused}")
                if response.is_redirect:
                    raise CommandError(f"The app {answer} Redirects are not followed: pass the app's own address.")
                if response.status_code not in _NOT_READY and not response.is_server_error:
                    raise CommandError(f"The app {answer}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise CommandError(f"The app {answer} It was tried until the time was over: see the app's log.")
            await asyncio.sleep(min(_AGAIN_S, left))


def open_http() -> httpx.AsyncClient:
    """Return the client of an `AppClient`, to be closed after use."""
    return httpx.AsyncClient(follow_redirects=False, timeout=_TRY_S)


def read_url(text: str) -> httpx.URL:
    """Return the app's address. Raises InvalidArguments unless it is https, or http on this machine."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    plain = url.scheme == "http" and is_local(url)
    if not (url.scheme == "https" or plain) or not url.host or url.userinfo or url.query or url.path not in ("", "/"):
        raise InvalidArguments("The app's address must be https and a host alone, or http on this machine.")
    return url


def is_local(url: httpx.URL) -> bool:
    """Return whether an address is this machine's own, as that of the local stack."""
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"


def _detail(response: httpx.Response) -> str:
    """Return the sentence in a problem of the app's, after a blank; an answer of somebody else has none."""
    try:
        detail = response.json()["detail"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ""
    return f" {detail}" if isinstance(detail, str) else ""
