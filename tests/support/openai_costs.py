"""A stand-in of OpenAI's costs endpoint, which behaves as its documentation says: keys, pages, days and groups."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from aijobs import openai_costs
from tests.support.loopback import serve

ADMIN_KEY = "sk-admin-0123456789abcdef0123456789abcdef"
PATH = "/v1/organization/costs"
_DAY = timedelta(days=1)


@dataclass
class CostServer:
    """Costs by day, line item and project."""

    costs: dict[tuple[date, str, str], Any] = field(default_factory=dict)
    currency: str = "usd"
    page_days: int = 180
    """Most days of a page, whatever its limit says."""
    answer_with: Callable[[], web.Response] | None = None
    queries: list[dict[str, list[str]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        query = {name: request.query.getall(name) for name in request.query}
        self.queries.append(query)
        if self.answer_with is not None:
            return self.answer_with()
        if request.path != PATH:
            return web.Response(status=404)
        if request.headers.get("Authorization") != f"Bearer {ADMIN_KEY}":
            return web.json_response({"error": {"message": "You have insufficient permissions."}}, status=401)
        first, end = (datetime.fromtimestamp(int(query[name][0]), UTC) for name in ("start_time", "end_time"))
        limit = min(int(query.get("limit", ["7"])[0]), self.page_days)
        start = max(first, datetime.fromisoformat(query["page"][0].removeprefix("page_"))) if "page" in query else first
        stop = start + min(limit * _DAY, end - start)
        buckets = [self._bucket(start + number * _DAY, query) for number in range((stop - start).days)]
        more = stop < end
        return web.json_response(
            {
                "object": "page",
                "data": buckets,
                "has_more": more,
                "next_page": f"page_{stop.isoformat()}" if more else None,
            }
        )

    def _bucket(self, start: datetime, query: dict[str, list[str]]) -> dict[str, Any]:
        is_grouped, projects = "line_item" in query.get("group_by", []), query.get("project_ids")
        results = [
            {
                "object": "organization.costs.result",
                "amount": {"value": value, "currency": self.currency},
                "line_item": item if is_grouped else None,
                "project_id": None,
            }
            for (day, item, project), value in self.costs.items()
            if day == start.date() and (not projects or project in projects)
        ]
        times = {"start_time": int(start.timestamp()), "end_time": int((start + _DAY).timestamp())}
        return {"object": "bucket", **times, "results": results}


def _tls(directory: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Issue a certificate that is trusted, beside those that are already."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    file, others = directory / "costs-ca.pem", os.environ.get("SSL_CERT_FILE")
    file.write_bytes((Path(others).read_bytes() if others else b"") + authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return tls


@asynccontextmanager
async def open_cost_server(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CostServer]:
    """Let the endpoint be on this machine, and trusted, until the block ends."""
    server = CostServer()
    async with serve(server.answer, tls=_tls(directory, monkeypatch)) as url:
        monkeypatch.setattr(openai_costs, "URL", f"{url}{PATH}")
        yield server
