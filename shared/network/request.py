"""A request as it is sent."""

from __future__ import annotations

from collections.abc import Mapping

from shared.network.idle import Host
from shared.network.response import NotReached


def render_request(method: str, target: str, host: Host, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request. Raises NotReached if a line of it would not be one line, or not ASCII."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {host.header}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "\r\n"])
    if not head.isascii() or head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1:
        raise NotReached("A header can't be sent as it is.")
    return head.encode() + body
