"""
Reads JSON over https, of a source of prices or of a provider's costs: from one host alone, without redirects, within
bounds of size and time.

The operator's proxy and certificates apply (`HTTPS_PROXY`, `SSL_CERT_FILE`). Nothing of the deployment is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from aijobs.price_sources.base import SourceError, parse_json

MAX_PAGE_BYTES = 32 * 1024 * 1024
MAX_BYTES = 128 * 1024 * 1024
MAX_PAGES = 2000
MAX_S = 900.0
_TIMEOUT_S = 60.0
_AGAIN = "Try again later."


async def download(
    url: str, next_page: Callable[[Any], str | None] | None = None, headers: Mapping[str, str] | None = None
) -> list[Any]:
    """
    Return the documents at a URL and, as far as `next_page` names another, those after it.

    Raises SourceError, whose message has nothing of the headers.
    """
    first = httpx.URL(url)
    pages: list[Any] = []
    size = 0
    try:
        async with (
            asyncio.timeout(MAX_S),
            httpx.AsyncClient(follow_redirects=False, timeout=_TIMEOUT_S, headers=headers) as client,
        ):
            address: str | None = url
            while address is not None:
                check_address(address, first)
                data = await _get(client, address, min(MAX_PAGE_BYTES, MAX_BYTES - size))
                size += len(data)
                page = parse_json(data, first.host)
                pages.append(page)
                address = next_page(page) if next_page else None
                if address is not None and len(pages) >= MAX_PAGES:
                    raise SourceError(f"{first.host} has more than {MAX_PAGES} pages.")
    except TimeoutError:
        raise SourceError(f"{first.host} did not send everything within {MAX_S:.0f} seconds. {_AGAIN}") from None
    except httpx.TimeoutException:
        raise SourceError(f"{first.host} did not answer within {_TIMEOUT_S:.0f} seconds. {_AGAIN}") from None
    except httpx.HTTPError as exc:
        raise SourceError(f"{first.host} can't be reached: {str(exc).rstrip('.') or type(exc).__name__}.") from None
    return pages


def check_address(address: str, first: httpx.URL) -> None:
    """Raise SourceError unless an address is https at the host of the first one."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        raise SourceError(f"{first.host} names a next page that is not a URL.") from None
    if (url.scheme, url.host, url.port) != ("https", first.host, first.port) or url.userinfo:
        raise SourceError(f"{first.host} names a next page at another host ({url.host}).")


async def _get(client: httpx.AsyncClient, address: str, limit: int) -> bytes:
    async with client.stream("GET", address, headers={"Accept": "application/json"}) as response:
        host = response.url.host
        if response.is_redirect:
            raise SourceError(f"{host} redirects to another address, which is not followed.")
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SourceError(f"{host} answered {response.status_code}: it does not accept the key for this.")
        if response.status_code != httpx.codes.OK:
            raise SourceError(f"{host} answered {response.status_code}. {_AGAIN}")
        data = bytearray()
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > limit:
                raise SourceError(f"{host} sent more than {limit:,} bytes.")
    return bytes(data)
