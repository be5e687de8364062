"""How requests are written: as httpx's client does. It is imported for forms, and for URLs that it might change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from shared.errors import ConnectionInvalid
from shared.network.hosts import Host, render_request
from shared.network.response import NotReached
from shared.upstream.messages import UpstreamRequest

MAX_PARSED_URLS = 128
"""More than a worker calls at a time. A raw job's may be 64 KiB long, so that a thousand would fill the memory."""
_INVALID = "The URL that follows from the connection's `endpoint` is not valid."
_PORTS = {"http": 80, "https": 443}
_MAX_PLAIN = 2048
_plain = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>(?!xn--)(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*|127\.0\.0\.1)(?::(?P<port>[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
    r"(?P<path>(?:/(?!\.)[A-Za-z0-9._~-]*)*)(?P<query>\?[A-Za-z0-9._~&=-]+)?"
).fullmatch
"""A usual URL, which httpx does not change: neither its case nor an encoding, a port out of range or a `..`."""
_HEADERS = {
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
    "user-agent": "customer-ai-jobs",
}
_CREDENTIAL_HEADERS = ("api-key", "x-api-key", "authorization")
"""A request's own, in whatever case, are not sent."""
_BODILESS = frozenset({"GET", "DELETE"})


class Target(NamedTuple):
    """Where a URL leads: the host, its name as people write it, and the path with its query."""

    host: Host
    name: str
    path: str


@lru_cache(maxsize=MAX_PARSED_URLS)
def read_target(url: str) -> Target:
    """Return the target of a URL, which calls with the same connection and model share. Raises ConnectionInvalid."""
    match = _plain(url) if len(url) <= _MAX_PLAIN else None
    if match is None:
        return _read_by_httpx(url)
    name, usual = match["host"], _PORTS[match["scheme"]]
    port = int(match["port"] or usual)
    host, path = Host(name, port, match["scheme"] == "https"), (match["path"] or "/") + (match["query"] or "")
    return Target(host, name, path)


def _read_by_httpx(url: str) -> Target:
    import httpx  # noqa: PLC0415  # few jobs need it

    try:
        parsed = httpx.URL(url)
        readable = parsed.host
    except (httpx.InvalidURL, UnicodeError) as exc:  # the latter if `xn--` begins no name
        raise ConnectionInvalid(_INVALID) from exc
    if parsed.scheme not in _PORTS or not readable:
        raise ConnectionInvalid(_INVALID)
    port = parsed.port or _PORTS[parsed.scheme]
    name = parsed.raw_host.decode("ascii")
    host = Host(name, port, parsed.scheme == "https")
    return Target(host, readable, parsed.raw_path.decode("ascii"))


def write_call(
    request: UpstreamRequest, target: Target, credential: tuple[str, str] | None, *, size: int | None = None
) -> bytes:
    """
    Return a request as it is sent, with the header `credential` and no other credential. Raises as below.

    With a `size`, it is the beginning of a request whose body of that size is sent later.
    """
    headers = {name.lower(): text for name, text in request.headers.items()}
    for name in _CREDENTIAL_HEADERS:
        headers.pop(name, None)
    body = request.content
    if request.form or request.files:
        import httpx  # noqa: PLC0415  # few jobs need it

        files = [(name, part) for name, parts in request.files.items() for part in parts]
        form = httpx.Request("POST", request.url, headers=headers, data=request.form or None, files=files or None)
        body, headers["content-type"] = form.read(), form.headers["content-type"]
    if credential is not None:
        headers[credential[0]] = credential[1]
    return write_request(request.method, target, headers, body, size=size)


def write_request(
    method: str, target: Target, headers: Mapping[str, str], body: bytes, *, size: int | None = None
) -> bytes:
    """
    Return a request as it is sent. Names of `headers` are lower case.

    No header is added but those that every request needs. Raises ConnectionInvalid if one is not a line of ASCII.
    """
    own = {**_HEADERS, **headers}
    if body or method not in _BODILESS:
        own["content-length"] = str(len(body) if size is None else size)
    try:
        return render_request(method, target.path, target.host, own, body)
    except NotReached:
        raise ConnectionInvalid("A header of the request is not one line of ASCII.") from None
