"""The sources of prices on this machine, over https: they answer what was recorded (tests/data/prices)."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from aijobs.price_sources.sources import URLS
from shared.contract.price_book import RATES, Price
from tests.support.loopback import serve

DATA = Path(__file__).parents[1] / "data" / "prices"
FILES = {"genai-prices": "genai_prices.json", "litellm": "litellm.json"}


def recorded(file: str) -> Any:
    """A recorded document, its numbers exact."""
    return json.loads((DATA / file).read_bytes(), parse_float=Decimal, parse_int=Decimal)


def rates(price: Price) -> dict[str, str]:
    """The amounts of a price."""
    return {name: f"{amount:f}" for name in RATES if (amount := getattr(price, name)) is not None}


@dataclass
class PriceServer:
    """Answers like the sources, or with `answers` of a path."""

    url: str = ""
    answers: dict[str, Callable[[], web.Response]] = field(default_factory=dict)
    queries: list[Mapping[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request. The first page of Azure's prices names the second, at this server."""
        self.queries.append(dict(request.query))
        if (answer := self.answers.get(request.path)) is not None:
            return answer()
        name = request.path.strip("/")
        if name != "azure":
            return web.Response(body=(DATA / FILES[name]).read_bytes(), content_type="text/plain")
        page = json.loads((DATA / f"azure-{2 if '$skip' in request.query else 1}.json").read_bytes())
        if page["NextPageLink"]:
            page["NextPageLink"] = f"{self.url}/azure?$skip=1000"
        return web.json_response(page)


@asynccontextmanager
async def open_price_sources(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PriceServer]:
    """Let the sources be on this machine, and trusted, until the block ends."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(directory / "sources-ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "sources-ca.pem"))
    server = PriceServer()
    async with serve(server.answer, tls=tls) as server.url:
        for name in list(URLS):
            monkeypatch.setitem(URLS, name, f"{server.url}/{name}")
        yield server
