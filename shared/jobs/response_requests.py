"""Requests about responses that exist: each costs nothing, and is sent once."""

from __future__ import annotations

from urllib.parse import quote

from shared.actions.respond import OPERATION
from shared.connections.connection import Connection
from shared.jobs.drain import Drain
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Response, UpstreamRequest

REQUEST_S = 30.0
NOT_FOUND_FOR_S = 300.0
"""As long may a provider not find what it has just created."""
NOT_FOUND = frozenset({404, 410})
FAULT_WAIT_S = 60.0
"""Between two looks through a connection that can't be used."""


async def send_request(
    client: UpstreamClient, drain: Drain, connection: Connection, model: str, name: str, *, path: str = ""
) -> Response:
    """Return a response by its id, or, with a `path`, do that to it. Raises UpstreamError, WorkerStopping."""
    url = connection.endpoint.url(f"{OPERATION}/{quote(name, safe='')}{path}", model)
    headers = {"content-type": "application/json", **connection.headers()}
    request = UpstreamRequest("POST" if path else "GET", url, b"{}" if path else b"", headers)
    async with drain.call() as call:
        with call.one_try():
            return await client.send(
                request, connection.access, customer=connection.customer, timeout_s=REQUEST_S, begin=call.begin
            )
