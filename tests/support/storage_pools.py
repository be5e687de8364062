"""Connections to the operator's services for tests: those that only record requests, and those that send none."""

from __future__ import annotations

import ssl

from shared.network.hosts import Host
from shared.network.pool import Pool
from shared.network.response import ExchangeFailed, Response


class RecordingPool(Pool):
    """Records requests, and answers each with the same status and body."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(ssl.create_default_context)
        self.requests: list[bytes] = []
        self.status, self.body = status, body

    async def exchange(self, _: Host, request: bytes) -> Response:
        """Record the request."""
        self.requests.append(request)
        return Response(self.status, {}, self.body)


class ClosedPool(Pool):
    """Sends nothing, so that the SDK sends every request."""

    def __init__(self) -> None:
        super().__init__(ssl.create_default_context)

    async def exchange(self, *_: object) -> Response:
        """Fail."""
        raise ExchangeFailed("Nothing was sent.")
